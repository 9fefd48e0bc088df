//! Load balancers that others wrote, as processes of the test's own in front of something that listens.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::port::Port;

/// A running load balancer, killed on drop.
pub(crate) struct Front {
    process: Child,
    port: Port,
    _directory: TempDir,
}

impl Front {
    /// HAProxy passing TCP connections to `target`; `options` are of its `server` line, such as `send-proxy`.
    pub(crate) fn haproxy(target: SocketAddr, options: &str) -> Self {
        Self::start("haproxy", |port, _| {
            format!(
                "global\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n\
                 listen front\n  bind {port}\n  server app {target} {options}\n"
            )
        })
    }

    /// nginx passing TCP connections to `target` behind a PROXY header of version 1.
    pub(crate) fn nginx(target: SocketAddr) -> Self {
        Self::start("nginx", |port, directory| {
            let directory = directory.display();
            format!(
                "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nmaster_process off;\n\
                 error_log stderr;\npid {directory}/pid;\nevents {{}}\n\
                 stream {{ server {{ listen {port}; proxy_pass {target}; proxy_protocol on; }} }}\n"
            )
        })
    }

    fn start(name: &str, config: impl Fn(SocketAddr, &Path) -> String) -> Self {
        let (port, directory) = (Port::reserve(), tempfile::tempdir().unwrap());
        let file = directory.path().join("front.conf");
        std::fs::write(&file, config(port.address(), directory.path())).unwrap();
        let mut command = Command::new(format!("/usr/sbin/{name}"));
        match name {
            "haproxy" => command.arg("-db").arg("-f").arg(&file),
            _ => command.arg("-p").arg(directory.path()).arg("-c").arg(&file),
        };
        let packages = "apt-get install -y haproxy nginx libnginx-mod-stream";
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap_or_else(|e| panic!("{name}: {e}; install it with: {packages}"));
        let mut front = Self { process, port, _directory: directory };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(front.port.address()).is_err() {
            let ended = front.process.try_wait().unwrap();
            let log = || std::fs::read_to_string(file.with_file_name("log")).unwrap_or_default();
            assert!(ended.is_none(), "{name} ended by itself ({packages}?): {}", log());
            assert!(Instant::now() < deadline, "{name} does not listen: {}", log());
            std::thread::yield_now();
        }
        front
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
