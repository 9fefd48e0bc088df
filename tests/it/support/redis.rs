//! A real Redis server of a test's own, on a unix socket in a temporary directory, keeping nothing on disk: started
//! again it is empty.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tidegate::secret::Secret;

use super::chaos::Upstream;

/// How long the server may take to start on a busy machine before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. Dropping it kills it and removes its files.
pub(crate) struct Redis {
    directory: TempDir,
    arguments: Vec<String>,
    server: Option<Child>,
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
        let log = fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let server = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(self.socket())
            .arg("--dir")
            .arg(self.directory.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("redis-server: {e}; install it with: apt-get install -y redis-server"));
        self.server = Some(server);
        let deadline = Instant::now() + PATIENCE;
        while !self.answers() {
            let exited = self.server.as_mut().and_then(|server| server.try_wait().unwrap());
            assert!(exited.is_none(), "redis-server ended by itself: {exited:?}\n{}", self.log_tail());
            assert!(Instant::now() < deadline, "redis-server did not answer within {PATIENCE:?}\n{}", self.log_tail());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// `kill -9`: clients are cut off and what it held is gone.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().expect("it runs");
        server.kill().unwrap();
        server.wait().unwrap();
        fs::remove_file(self.socket()).unwrap();
    }

    /// Suspends the server: connections are accepted by the kernel and nothing ever answers.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Undoes [`Self::freeze`].
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
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

    fn signal(&self, name: &str) {
        let server = self.server.as_ref().expect("it runs");
        let status = Command::new("kill").arg(format!("-{name}")).arg(server.id().to_string()).status().unwrap();
        assert!(status.success(), "kill -{name}: {status}");
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Redis {
    #[expect(clippy::print_stderr, reason = "read by whoever looks at the failed test")]
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            if thread::panicking() {
                eprintln!("redis-server's log ends with:\n{}", self.log_tail());
            }
            server.kill().unwrap_or_default();
            server.wait().map(drop).unwrap_or_default();
        }
    }
}
