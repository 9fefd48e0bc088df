//! A gRPC server with the official health service in Python.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::sdk::{installed, root};

/// A running server, killed on drop.
pub(crate) struct Health {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Health {
    /// Starts it; `settings` are those of the script.
    pub(crate) fn start(settings: &Value) -> Self {
        let mut child = Command::new(installed("python/bin/python"))
            .arg("-B")
            .arg(root().join("tests/sdk/python/health_app.py"))
            .arg(settings.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut health = Self { child, stdin, stdout: BufReader::new(stdout), address: ([127, 0, 0, 1], 0).into() };
        let port = health.line().parse().unwrap_or_else(|e| panic!("{e}: scripts/setup.sh sdk installs what it needs"));
        health.address.set_port(port);
        health
    }

    /// Says how a service is, as `SERVING`; the empty name is the server's own.
    pub(crate) fn set(&mut self, service: &str, status: &str) {
        writeln!(self.stdin, "{service} {status}").unwrap();
        assert_eq!(self.line(), "done");
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
