//! A server's process: its log, whether it still runs, how it is stopped and suspended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to start on a busy machine before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of a log that a failed test shows.
const TAIL: usize = 30;

/// A running process. Dropping it kills it, and shows the end of its log when the test has failed.
pub(crate) struct Process {
    child: Child,
    name: &'static str,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, which adds to the file `log`. `install` says how to get the program.
    pub(crate) fn start(name: &'static str, install: &str, command: &mut Command, log: PathBuf) -> Self {
        let file = fs::File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|e| panic!("{name}: {e}; {install}"));
        Self { child, name, log }
    }

    /// Blocks until it answers.
    pub(crate) fn wait_until(&mut self, mut answers: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !answers() {
            let exited = self.child.try_wait().unwrap();
            assert!(exited.is_none(), "{} ended by itself: {exited:?}\n{}", self.name, tail(&self.log));
            let late = Instant::now() > deadline;
            assert!(!late, "{} did not answer within {PATIENCE:?}\n{}", self.name, tail(&self.log));
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// `kill -9`: its clients are cut off.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Suspends it: connections are accepted by the kernel and nothing ever answers.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Undoes [`Self::freeze`].
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success(), "kill -{name}: {status}");
    }

    fn end(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "read by whoever looks at the failed test")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the log of {} ends with:\n{}", self.name, tail(&self.log));
        }
        self.end();
    }
}

/// The end of a log.
pub(crate) fn tail(log: &Path) -> String {
    let log = fs::read_to_string(log).unwrap_or_else(|e| format!("no log: {e}"));
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

/// A directory for what the tests of this process share. A static is never dropped, so a run removes what the finished runs
/// before it left of the same.
pub(crate) fn run_directory(of: &str) -> PathBuf {
    let prefix = format!("tidegate-it-{of}-");
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            fs::remove_dir_all(entry.path()).unwrap_or_default();
        }
    }
    let directory = std::env::temp_dir().join(format!("{prefix}{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    directory
}
