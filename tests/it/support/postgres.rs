//! A real PostgreSQL server of a test's own, on a unix socket and a reserved TCP port.

mod replication;
mod secured;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use super::port::Port;
use super::process::{run_directory, tail};

/// The superuser, and its password over TCP (`scram-sha-256`); over the unix socket nothing is asked.
pub(crate) const USER: &str = "app";
pub(crate) const PASSWORD: &str = "s3cr3t-of-the-fixture";

/// How long the server may take to start or stop on a busy machine before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. Dropping it stops it at once and removes its files.
pub(crate) struct Postgres {
    directory: PathBuf,
    port: Port,
    settings: Vec<String>,
    server: Option<Child>,
}

impl Postgres {
    /// A fresh server that answers. Blocks until it does.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Self::start`], with a certificate that nobody has reason to trust.
    pub(crate) fn start_with_tls() -> Self {
        Self::start_with(&["ssl=on", "ssl_cert_file=self-signed.pem", "ssl_key_file=self-signed.key"])
    }

    /// As [`Self::start`], with more of `postgresql.conf`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let mut postgres = Self::at_rest(settings);
        run(Command::new("cp").arg("-a").arg(template()).arg(&postgres.directory));
        postgres.resume();
        postgres
    }

    /// One without data yet.
    fn at_rest(settings: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let directory = template().with_file_name(format!("server-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Self { directory, port: Port::reserve(), settings, server: None }
    }

    /// Starts it again after [`Self::stop`] or [`Self::kill`], at the same addresses and with the same data.
    pub(crate) fn resume(&mut self) {
        assert!(self.server.is_none(), "it runs already");
        let log = fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let server = as_postgres(binary("postgres"))
            .arg("-D")
            .arg(&self.directory)
            .arg("-k")
            .arg(&self.directory)
            .args(["-p", &self.port.address().port().to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=20"])
            .args(["-c", "shared_buffers=1MB", "-c", "superuser_reserved_connections=0"])
            .args(self.settings.iter().flat_map(|setting| ["-c", setting]))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("postgres did not start: {e}"));
        self.server = Some(server);
        let deadline = Instant::now() + PATIENCE;
        while !self.accepts() {
            let exited = self.server.as_mut().and_then(|server| server.try_wait().unwrap());
            assert!(exited.is_none(), "postgres ended by itself: {exited:?}\n{}", self.log_tail());
            assert!(Instant::now() < deadline, "postgres did not answer within {PATIENCE:?}\n{}", self.log_tail());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops it in order, cutting its clients off ("fast shutdown").
    pub(crate) fn stop(&mut self) {
        self.end("INT");
    }

    /// Stops it as a crash does ("immediate shutdown"): clients are cut off, the next start recovers.
    pub(crate) fn kill(&mut self) {
        self.end("QUIT");
    }

    /// Suspends every process of the server: connections are accepted by the kernel and nothing ever answers.
    pub(crate) fn freeze(&self) {
        self.signal_all("STOP");
    }

    /// Lets a frozen server go on.
    pub(crate) fn thaw(&self) {
        self.signal_all("CONT");
    }

    /// A URL over TCP, with the right password.
    pub(crate) fn url(&self) -> String {
        self.url_at(self.port.address(), PASSWORD)
    }

    /// A URL to somewhere else that leads here (a chaos proxy), or with another password.
    pub(crate) fn url_at(&self, address: std::net::SocketAddr, password: &str) -> String {
        format!("postgres://{USER}:{password}@{address}/postgres")
    }

    /// Where it listens on TCP.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.port.address()
    }

    /// A connection string over the unix socket, without a password.
    pub(crate) fn socket_url(&self) -> String {
        format!("host={} port={} user={USER} dbname=postgres", self.directory.display(), self.port.address().port())
    }

    /// The unix socket, for a chaos proxy.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join(format!(".s.PGSQL.{}", self.port.address().port()))
    }

    /// A connection for the test itself; it lives as long as the returned tasks.
    pub(crate) async fn client(&self) -> (Client, JoinSet<()>) {
        let (client, connection) = tokio_postgres::connect(&self.socket_url(), NoTls).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { connection.await.unwrap_or_default() });
        (client, tasks)
    }

    /// The end of the server's log.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log())
    }

    fn log(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    fn accepts(&self) -> bool {
        let socket = Command::new(binary("pg_isready"))
            .arg("-q")
            .arg("-h")
            .arg(&self.directory)
            .args(["-p", &self.port.address().port().to_string()])
            .status();
        socket.is_ok_and(|status| status.success())
    }

    fn end(&mut self, signal_name: &str) {
        let Some(mut server) = self.server.take() else { return };
        signal(signal_name, &[server.id()]);
        let deadline = Instant::now() + PATIENCE;
        while server.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                server.kill().unwrap();
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn signal_all(&self, name: &str) {
        let postmaster = self.server.as_ref().expect("it runs").id();
        // The postmaster first: it must not fork a process that the list below does not have.
        signal(name, &[postmaster]);
        signal(name, &children(postmaster));
    }
}

impl Drop for Postgres {
    #[expect(clippy::print_stderr, reason = "a failing test shows what its server said")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- end of the log of {}\n{}", self.directory.display(), self.log_tail());
        }
        if self.server.is_some() {
            self.thaw();
        }
        self.end("QUIT");
        fs::remove_dir_all(&self.directory).unwrap_or_default();
    }
}

/// A data directory made once per run and copied for each server.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let run_directory = run_directory("postgres");
        if is_root() {
            run(Command::new("chown").arg("postgres:postgres").arg(&run_directory));
        }
        let password_file = run_directory.join("password");
        fs::write(&password_file, PASSWORD).unwrap();
        let template = run_directory.join("template");
        run(as_postgres(binary("initdb"))
            .arg("-D")
            .arg(&template)
            .arg(format!("--pwfile={}", password_file.display()))
            .args(["-U", USER, "--auth-local=trust", "--auth-host=scram-sha-256"])
            .args(["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]));
        run(as_postgres("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=nobody"])
            .arg("-keyout")
            .arg(template.join("self-signed.key"))
            .arg("-out")
            .arg(template.join("self-signed.pem")));
        template
    })
}

/// A command run by the server's own user when we are root (the server refuses root).
fn as_postgres(program: impl AsRef<OsStr>) -> Command {
    let mut command;
    if is_root() {
        command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    } else {
        command = Command::new(program);
    }
    command.current_dir("/").env("LC_ALL", "C");
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The newest installed one: Debian keeps them out of `PATH`.
fn binary(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|version| Some((version.file_name().to_str()?.parse::<u32>().ok()?, version.path())))
        .max_by_key(|(version, _)| *version);
    let (_, directory) = newest.expect("PostgreSQL is not installed: apt-get install postgresql");
    directory.join("bin").join(name)
}

fn children(parent: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        // `PID (name) STATE PPID …`, proc(5); the name may hold spaces and parentheses.
        let Ok(stat) = fs::read_to_string(process.path().join("stat")) else { continue };
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let parent_of = after_name.split(' ').nth(1).and_then(|pid| pid.parse().ok());
        if parent_of == Some(parent)
            && let Some(pid) = process.file_name().to_str().and_then(|pid| pid.parse().ok())
        {
            children.push(pid);
        }
    }
    children
}

/// Sends a signal through the shell: the crate forbids unsafe code. A process that has ended is none of our business.
fn signal(name: &str, pids: &[u32]) {
    for pid in pids {
        Command::new("sh").args(["-c", &format!("kill -s {name} {pid} 2>/dev/null || true")]).status().unwrap();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_stopped_crashed_or_frozen_postgres_comes_back_with_its_data() {
    let mut postgres = Postgres::start();
    let (client, _tasks) = postgres.client().await;
    client.batch_execute("create table kept (n int)").await.unwrap();
    postgres.stop();
    assert!(client.batch_execute("select 1").await.is_err());
    assert!(tokio_postgres::connect(&postgres.url(), NoTls).await.is_err());
    postgres.resume();
    postgres.kill();
    postgres.resume();

    let (client, _tasks) = postgres.client().await;
    postgres.freeze();
    let answer = tokio::time::timeout(Duration::from_millis(50), client.batch_execute("table kept")).await;
    assert!(answer.is_err(), "a frozen server answered {answer:?}");
    postgres.thaw();
    client.batch_execute("table kept").await.unwrap();
    tokio_postgres::connect(&postgres.url(), NoTls).await.map(drop).unwrap();
}
