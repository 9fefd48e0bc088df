//! The programs to compare with, each started as its users would run it for the same job.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

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
    if matches!(role, "parse" | "broadcast" | "grpc" | "frames" | "echo") {
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

/// What a proxy offers its clients.
#[derive(Clone, Copy)]
pub(crate) enum Face<'a> {
    /// HTTP/1.1.
    Plain,
    /// HTTP/1.1 over TLS.
    Tls(&'a Certificate),
    /// HTTP/2 without TLS.
    Http2,
    /// HTTP/1.1, upgrades passed on.
    Upgrades,
    /// HTTP/1.1, to ten thousand clients at once.
    Crowd,
}

/// An authority, and a certificate of it for `localhost` with its key, all in PEM.
pub(crate) struct Certificate {
    pub(crate) authority: PathBuf,
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// Chain and key in one file, as HAProxy wants them.
    both: PathBuf,
}

impl Certificate {
    /// A new one, on the curve that everybody uses.
    ///
    /// # Errors
    /// When openssl is not there or refuses.
    pub(crate) fn new(lab: &Lab) -> anyhow::Result<Self> {
        let dir = lab.scratch("certificate")?;
        let [authority, chain, key, both] = ["ca.pem", "tls.crt", "tls.key", "both.pem"].map(|name| dir.join(name));
        let script = "set -e
            new='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
            openssl req -x509 -days 2 -subj /CN=bench $new -keyout ca.key -out ca.pem
            openssl req -subj /CN=localhost -addext subjectAltName=DNS:localhost $new -keyout tls.key -out tls.csr
            openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -copy_extensions copy -days 2 -out tls.crt
            cat tls.crt tls.key > both.pem";
        let made = Command::new("sh").args(["-c", script]).current_dir(&dir).output()?;
        ensure!(made.status.success(), "no certificate: {}", String::from_utf8_lossy(&made.stderr));
        Ok(Certificate { authority, chain, key, both })
    }
}

/// nginx as a reverse proxy with upstream keep-alive and no access log.
pub(crate) fn nginx(lab: &Lab, cores: Cores, workers: usize, origin: SocketAddr) -> anyhow::Result<Server> {
    nginx_with(lab, cores, workers, origin, Face::Plain)
}

/// The same, offering `face`.
pub(crate) fn nginx_with(
    lab: &Lab,
    cores: Cores,
    workers: usize,
    origin: SocketAddr,
    face: Face<'_>,
) -> anyhow::Result<Server> {
    let (listen, more, connection) = match face {
        Face::Plain | Face::Crowd => ("", String::new(), "Connection \"\""),
        Face::Http2 => ("http2", String::new(), "Connection \"\""),
        Face::Upgrades => ("", "proxy_set_header Upgrade $http_upgrade;".to_owned(), "Connection upgrade"),
        Face::Tls(files) => {
            let (chain, key) = (files.chain.display(), files.key.display());
            let more = format!(
                "ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3; \
                 ssl_session_cache off; ssl_session_tickets on;"
            );
            ("ssl", more, "Connection \"\"")
        }
    };
    // Both keep room for as many as they may have.
    let (files, connections) = if matches!(face, Face::Crowd) { (20_000, 20_000) } else { (8192, 4096) };
    let address = free_address()?;
    let dir = lab.scratch("nginx")?;
    let at = dir.display();
    let file = dir.join("nginx.conf");
    let config = format!(
        "daemon off;
        user root;
        worker_processes {workers};
        worker_rlimit_nofile {files};
        pid {at}/nginx.pid;
        error_log stderr warn;
        events {{ worker_connections {connections}; }}
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
            listen {address} {listen} backlog=1024;
            {more}
            location / {{
              proxy_pass http://app;
              proxy_http_version 1.1;
              proxy_set_header {connection};
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
    started("nginx", lab, cores.bind(&command)?, address, face)
}

/// HAProxy as a reverse proxy with upstream keep-alive and no log.
pub(crate) fn haproxy(lab: &Lab, cores: Cores, workers: usize, origin: SocketAddr) -> anyhow::Result<Server> {
    haproxy_with(lab, cores, workers, origin, Face::Plain)
}

/// The same, offering `face`.
pub(crate) fn haproxy_with(
    lab: &Lab,
    cores: Cores,
    workers: usize,
    origin: SocketAddr,
    face: Face<'_>,
) -> anyhow::Result<Server> {
    let bind = match face {
        Face::Plain | Face::Upgrades | Face::Crowd => String::new(),
        Face::Http2 => "proto h2".to_owned(),
        Face::Tls(files) => format!("ssl crt {}", files.both.display()),
    };
    let connections = if matches!(face, Face::Crowd) { 9_950 } else { 4096 };
    let address = free_address()?;
    let dir = lab.scratch("haproxy")?;
    let file = dir.join("haproxy.cfg");
    let config = format!(
        "global
    nbthread {workers}
    maxconn {connections}
    tune.ssl.cachesize 0
defaults
    mode http
    option http-keep-alive
    option forwardfor
    http-reuse always
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
    timeout tunnel 300s
frontend clients
    bind {address} backlog 1024 {bind}
    http-request set-header X-Forwarded-Proto http
    default_backend app
backend app
    server app {origin}
"
    );
    fs::write(&file, config)?;
    let mut command = Command::new(program("haproxy")?);
    command.arg("-db").arg("-f").arg(&file);
    started("haproxy", lab, cores.bind(&command)?, address, face)
}

fn started(name: &str, lab: &Lab, command: Command, address: SocketAddr, face: Face<'_>) -> anyhow::Result<Server> {
    let mut running = Running::start(name, &lab.scratch(name)?, command)?;
    match face {
        Face::Plain | Face::Crowd => running.answers(address, "/", STEP)?,
        // What they offer is not spoken here.
        Face::Tls(_) | Face::Http2 | Face::Upgrades => running.listens(address, STEP)?,
    }
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
