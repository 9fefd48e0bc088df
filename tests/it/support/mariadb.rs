//! A real MariaDB server of a test's own, on a unix socket and a reserved TCP port.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::port::Port;
use super::process::{Process, run_directory, tail};

/// The user of the tests, with every privilege, and its password.
pub(crate) const USER: &str = "app";
pub(crate) const PASSWORD: &str = "s3cr3t-of-the-fixture";

/// A running server. Dropping it kills it and removes its files.
pub(crate) struct Mariadb {
    /// Ends before its directory does.
    server: Option<Process>,
    directory: TempDir,
    port: Port,
    settings: Vec<String>,
}

impl Mariadb {
    /// A fresh server that answers, with more options. Blocks until it does.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("mariadb").tempdir().unwrap();
        run(Command::new("cp").arg("-a").arg(template().join("data")).arg(directory.path()));
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut mariadb = Self { directory, port: Port::reserve(), settings, server: None };
        mariadb.resume();
        mariadb
    }

    /// Starts it, or starts it again at the same addresses and with the same data.
    pub(crate) fn resume(&mut self) {
        assert!(self.server.is_none(), "it runs already");
        let mut command = server(self.directory.path());
        command.arg(format!("--socket={}", self.socket().display()));
        command.args(["--bind-address=127.0.0.1", &format!("--port={}", self.port.address().port())]);
        command.args(&self.settings);
        let mut server = Process::start("mariadbd", INSTALL, &mut command, self.log());
        server.wait_until(|| self.try_sql("SELECT 1").is_some());
        self.server = Some(server);
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.server.take().expect("it runs").kill();
    }

    /// Suspends it: connections are accepted by the kernel and nothing ever answers.
    pub(crate) fn freeze(&self) {
        self.server.as_ref().expect("it runs").freeze();
    }

    /// Undoes [`Self::freeze`].
    pub(crate) fn thaw(&self) {
        self.server.as_ref().expect("it runs").thaw();
    }

    /// What the server's own client gets for a statement, run as its superuser; it must not fail.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|| panic!("{sql}\n{}", tail(&self.log())))
    }

    fn try_sql(&self, sql: &str) -> Option<String> {
        let output = Command::new("mariadb")
            .args(["--no-defaults", "--batch", "--skip-column-names", "--user=root"])
            .arg(format!("--socket={}", self.socket().display()))
            .args(["--execute", sql])
            .output()
            .unwrap_or_else(|e| panic!("mariadb: {e}; {INSTALL}"));
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Sessions of others than the fixture, as the server counts them. Its list of them is not asked for: MariaDB 10.11 may
    /// crash over it while sessions come and go.
    pub(crate) fn sessions(&self) -> usize {
        let answer = self.sql("SHOW GLOBAL STATUS LIKE 'Threads_connected'");
        let count: usize = answer.split_whitespace().nth(1).unwrap().parse().unwrap();
        count - 1
    }

    /// Has it follow `primary`, from where that is now.
    pub(crate) fn follow(&self, primary: &Mariadb) {
        self.sql(&format!(
            "CHANGE MASTER TO master_host='127.0.0.1', master_port={}, master_user='{USER}', master_password='{PASSWORD}', \
             master_connect_retry=1, master_use_gtid=slave_pos; START SLAVE",
            primary.address().port()
        ));
    }

    /// Where it listens on TCP.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.port.address()
    }

    /// A URL over TCP, with the right password, which may have options.
    pub(crate) fn url(&self) -> String {
        self.url_at(self.address(), PASSWORD)
    }

    /// A URL to somewhere else that leads here (a chaos proxy), or with another password.
    pub(crate) fn url_at(&self, address: std::net::SocketAddr, password: &str) -> String {
        format!("mysql://{USER}:{password}@{address}/test")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

const INSTALL: &str = "install it with: apt-get install -y mariadb-server";

/// The server over the data of `directory`, small, and with nothing waiting for a disk.
fn server(directory: &Path) -> Command {
    let program = ["/usr/sbin/mariadbd", "/usr/libexec/mariadbd"].into_iter().find(|path| Path::new(path).exists());
    let mut command = Command::new(program.unwrap_or("mariadbd"));
    // Without this word it refuses root.
    command.args([
        "--no-defaults",
        "--user=root",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=8M",
    ]);
    command.args(["--innodb-fast-shutdown=2", "--performance-schema=OFF", "--key-buffer-size=1M", "--skip-log-error"]);
    command.arg(format!("--datadir={}", directory.join("data").display()));
    command.arg(format!("--pid-file={}", directory.join("pid").display()));
    command.arg(format!("--plugin-dir={}", plugins()));
    command
}

fn plugins() -> &'static str {
    ["/usr/lib/mysql/plugin", "/usr/lib64/mariadb/plugin"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("")
}

/// A data directory made once per run and copied for each server.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let directory = run_directory("mariadb");
        let data = directory.join("data");
        run(Command::new("mariadb-install-db")
            .args(["--no-defaults", "--user=root", "--auth-root-authentication-method=normal", "--skip-name-resolve"])
            .arg(format!("--datadir={}", data.display())));
        let mut bootstrap = server(&directory);
        // Nobody's accounts on localhost would stand before ours.
        let statements = format!(
            "FLUSH PRIVILEGES;\nDELETE FROM mysql.global_priv WHERE user = '';\nFLUSH PRIVILEGES;\nCREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT ALL ON *.* TO {USER}@'%' WITH GRANT OPTION;\nCREATE DATABASE IF NOT EXISTS test;\n"
        );
        let input = directory.join("bootstrap.sql");
        fs::write(&input, statements).unwrap();
        run(bootstrap.arg("--bootstrap").stdin(fs::File::open(&input).unwrap()));
        directory
    })
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; {INSTALL}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
