//! A real Redis server of a test's own, on a unix socket in a temporary directory, keeping nothing on disk: started
//! again it is empty.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tidegate::secret::Secret;

use super::chaos::Upstream;
use super::process::Process;

pub(super) const INSTALL: &str = "install it with: apt-get install -y redis-server";

/// How long an answer may take on a busy machine before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. Dropping it kills it and removes its files.
pub(crate) struct Redis {
    /// Ends before its directory does.
    server: Option<Process>,
    directory: TempDir,
    arguments: Vec<String>,
}

impl Redis {
    /// A fresh server that answers. Blocks until it does.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Self::start`], with more arguments.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("redis").tempdir().unwrap();
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let mut redis = Self { directory, arguments, server: None };
        redis.resume();
        redis
    }

    /// Starts it again after [`Self::kill`], at the same address and empty.
    pub(crate) fn resume(&mut self) {
        assert!(self.server.is_none(), "it runs already");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(self.socket());
        command.arg("--dir").arg(self.directory.path()).args(&self.arguments);
        let mut server = Process::start("redis-server", INSTALL, &mut command, self.log());
        server.wait_until(|| self.answers());
        self.server = Some(server);
    }

    /// `kill -9`: clients are cut off and what it held is gone.
    pub(crate) fn kill(&mut self) {
        self.server.take().expect("it runs").kill();
        fs::remove_file(self.socket()).unwrap();
    }

    /// Suspends the server: connections are accepted by the kernel and nothing ever answers.
    pub(crate) fn freeze(&self) {
        self.server.as_ref().expect("it runs").freeze();
    }

    /// Undoes [`Self::freeze`].
    pub(crate) fn thaw(&self) {
        self.server.as_ref().expect("it runs").thaw();
    }

    /// Its URL.
    pub(crate) fn url(&self) -> Secret {
        Secret::new(format!("redis+unix://{}", self.socket().display()))
    }

    /// Where a forwarder finds it.
    pub(crate) fn upstream(&self) -> Upstream {
        Upstream::Unix(self.socket())
    }

    /// A client of the test's own, knowing nothing of the code under test.
    pub(crate) async fn client(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url().expose()).unwrap();
        let mut client = client.get_multiplexed_async_connection().await.unwrap();
        client.set_response_timeout(PATIENCE);
        client
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Whether it answers at all: `PING` with `PONG`, or with a demand for a password.
    fn answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.socket()) else { return false };
        let mut first = [0];
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut first).is_ok()
    }
}
