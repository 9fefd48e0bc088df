//! The programs to compare with, each started as its users would run it for the same job.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::child::{Running, free_address};
use crate::lab::{Cores, Lab};

const STEP: Duration = Duration::from_millis(5);

/// A server that answers on one address.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) running: Running,
    pub(crate) address: SocketAddr,
}

/// The app: 1 KB for each request.
pub(crate) fn origin(lab: &Lab, cores: Cores) -> anyhow::Result<Server> {
    baseline(lab, cores, "origin", "origin", &[])
}

/// A role of this binary, shown as `name`.
pub(crate) fn baseline(lab: &Lab, cores: Cores, name: &str, role: &str, more: &[&str]) -> anyhow::Result<Server> {
    let address = free_address()?;
    let mut command = lab.role(role);
    command.args(["--listen", &address.to_string()]).args(more);
    let mut running = Running::start(name, &lab.scratch(name)?, cores.bind(&command)?)?;
    if matches!(role, "parse" | "broadcast" | "grpc" | "frames") {
        // They have no end of an answer to a bare GET, or no answer; all are ready as soon as they listen.
        running.listens(address, STEP)?;
    } else {
        running.answers(address, "/", STEP)?;
    }
    Ok(Server { name: name.to_owned(), running, address })
}

/// The bare proxy on hyper.
pub(crate) fn bare(lab: &Lab, cores: Cores, workers: usize, origin: SocketAddr) -> anyhow::Result<Server> {
    let more = ["--upstream", &origin.to_string(), "--threads", &workers.to_string()];
    baseline(lab, cores, "bare", "proxy", &more)
}

/// The relay of bytes, which no proxy on tokio can undercut.
pub(crate) fn relay(lab: &Lab, cores: Cores, workers: usize, origin: SocketAddr) -> anyhow::Result<Server> {
    let more = ["--upstream", &origin.to_string(), "--threads", &workers.to_string()];
    baseline(lab, cores, "relay", "relay", &more)
}

/// nginx as a reverse proxy with upstream keep-alive and no access log.
pub(crate) fn nginx(lab: &Lab, cores: Cores, workers: usize, origin: SocketAddr) -> anyhow::Result<Server> {
    let address = free_address()?;
    let dir = lab.scratch("nginx")?;
    let at = dir.display();
    let file = dir.join("nginx.conf");
    let config = format!(
        "daemon off;
        user root;
        worker_processes {workers};
        worker_rlimit_nofile 8192;
        pid {at}/nginx.pid;
        error_log stderr warn;
        events {{ worker_connections 4096; }}
        http {{
          access_log off;
          server_tokens off;
          keepalive_timeout 300s;
          keepalive_requests 1000000000;
          client_body_temp_path {at}/body;
          proxy_temp_path {at}/proxy;
          fastcgi_temp_path {at}/fastcgi;
          uwsgi_temp_path {at}/uwsgi;
          scgi_temp_path {at}/scgi;
          upstream app {{
            server {origin};
            keepalive 128;
            keepalive_requests 1000000000;
            keepalive_timeout 300s;
          }}
          server {{
            listen {address} backlog=1024;
            location / {{
              proxy_pass http://app;
              proxy_http_version 1.1;
              proxy_set_header Connection \"\";
              proxy_set_header Host $host;
              proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
              proxy_set_header X-Forwarded-Proto $scheme;
            }}
          }}
        }}"
    );
    fs::write(&file, config)?;
    let mut command = Command::new(program("nginx")?);
    command.arg("-p").arg(&dir).arg("-c").arg(&file).args(["-e", "stderr"]);
    started("nginx", lab, cores.bind(&command)?, address)
}

/// HAProxy as a reverse proxy with upstream keep-alive and no log.
pub(crate) fn haproxy(lab: &Lab, cores: Cores, workers: usize, origin: SocketAddr) -> anyhow::Result<Server> {
    let address = free_address()?;
    let dir = lab.scratch("haproxy")?;
    let file = dir.join("haproxy.cfg");
    let config = format!(
        "global
    nbthread {workers}
    maxconn 4096
defaults
    mode http
    option http-keep-alive
    option forwardfor
    http-reuse always
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
frontend clients
    bind {address} backlog 1024
    http-request set-header X-Forwarded-Proto http
    default_backend app
backend app
    server app {origin}
"
    );
    fs::write(&file, config)?;
    let mut command = Command::new(program("haproxy")?);
    command.arg("-db").arg("-f").arg(&file);
    started("haproxy", lab, cores.bind(&command)?, address)
}

fn started(name: &str, lab: &Lab, command: Command, address: SocketAddr) -> anyhow::Result<Server> {
    let mut running = Running::start(name, &lab.scratch(name)?, command)?;
    running.answers(address, "/", STEP)?;
    Ok(Server { name: name.to_owned(), running, address })
}

/// The peer's binary, also where Debian puts it for root alone.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").context("no PATH")?;
    let mut places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    match places.find_map(|dir| Some(dir.join(name)).filter(|file| file.is_file())) {
        Some(file) => Ok(file),
        None => bail!("{name} is not installed: apt install {name}"),
    }
}
