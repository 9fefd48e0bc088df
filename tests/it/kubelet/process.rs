//! A container's process, and others that are run beside it.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// What is run in a container: a command, an environment, and where it writes.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) argv: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) log: PathBuf,
}

impl Run {
    /// Another command in the same container.
    pub(super) fn other(&self, argv: Vec<String>) -> Self {
        Self { argv, ..self.clone() }
    }

    /// The command, which dies with what holds it.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.argv[0]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.args(&self.argv[1..]).env_clear().env("PATH", path).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        status.code().map_or_else(|| Self::Signal(status.signal().unwrap_or_default()), Self::Code)
    }
}

/// A running process, killed on drop.
pub(super) struct Process {
    child: Child,
    pub(super) pid: u32,
}

impl Process {
    /// Starts it; both of its outputs go to its log.
    pub(super) fn start(run: &Run) -> Self {
        let log = File::options().create(true).append(true).open(&run.log).unwrap();
        let child = run.command().stdout(log.try_clone().unwrap()).stderr(log).spawn();
        let child = child.unwrap_or_else(|error| panic!("{:?}: {error}", run.argv));
        let pid = child.id().unwrap();
        Self { child, pid }
    }

    pub(super) async fn ended(&mut self) -> Exit {
        self.child.wait().await.unwrap().into()
    }

    /// Sends it a signal, unless it is gone.
    pub(super) fn signal(&mut self, signal: Signal) {
        if let Ok(None) = self.child.try_wait() {
            send(self.pid, signal);
        }
    }
}

/// Sends a signal to a process that may be gone.
pub(super) fn send(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
}
