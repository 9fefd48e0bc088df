//! A started process: its log, when it answers, and its certain end.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::usage;
use crate::wire;

/// A child process that does not outlive this value, nor do its own children.
pub(crate) struct Running {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Running {
    /// Starts `command` with its output in a log in `dir`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(crate) fn start(name: &str, dir: &Path, mut command: Command) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log)?;
        // A setting left in the environment must not change what is measured.
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("TIDEGATE_")) {
            command.env_remove(key);
        }
        let child = command
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Running { child, name: name.to_owned(), log })
    }

    /// The processes that make it up: itself and its children.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn pids(&self) -> anyhow::Result<Vec<u32>> {
        usage::tree(self.child.id()).with_context(|| self.last_words())
    }

    /// Waits until `address` answers `path` with 200, looking every `step`.
    ///
    /// # Errors
    /// When it has not within ten seconds, or the process ended; with the end of its log.
    pub(crate) fn answers(&mut self, address: SocketAddr, path: &str, step: Duration) -> anyhow::Result<()> {
        let request = wire::request(address, path, None, None);
        self.wait_for(step, || {
            let asked = wire::connect(address).and_then(|mut stream| wire::ask(&mut stream, &request));
            asked.is_ok_and(|reply| reply.status == 200)
        })
        .with_context(|| format!("no 200 for {path} on {address}"))
    }

    /// Waits until `address` accepts a connection, looking every `step`.
    ///
    /// # Errors
    /// As [`Running::answers`].
    pub(crate) fn listens(&mut self, address: SocketAddr, step: Duration) -> anyhow::Result<()> {
        self.wait_for(step, || wire::connect(address).is_ok()).with_context(|| format!("nobody listens on {address}"))
    }

    fn wait_for(&mut self, step: Duration, is_there: impl Fn() -> bool) -> anyhow::Result<()> {
        let limit = Instant::now() + Duration::from_secs(10);
        while !is_there() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}: {}", self.name, self.last_words());
            }
            if Instant::now() > limit {
                bail!("{} is not there after 10 s: {}", self.name, self.last_words());
            }
            sleep(step);
        }
        Ok(())
    }

    /// Sends it, and not its children, a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        signal(name, &[self.child.id()]);
    }

    /// Waits for its end, calling `meanwhile` every `step`; whether it came within `limit`.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(crate) fn ended(
        &mut self,
        limit: Duration,
        step: Duration,
        mut meanwhile: impl FnMut(),
    ) -> anyhow::Result<bool> {
        let limit = Instant::now() + limit;
        while Instant::now() < limit {
            if self.child.try_wait()?.is_some() {
                return Ok(true);
            }
            meanwhile();
            sleep(step);
        }
        Ok(false)
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Running {
    /// Asks politely first, because a master that is killed leaves its workers behind; then kills each that is left.
    fn drop(&mut self) {
        let pids = usage::tree(self.child.id()).unwrap_or_default();
        signal("TERM", &[self.child.id()]);
        // Twice: Tidegate drains at the first signal, which is not what a bench waits for.
        signal("TERM", &[self.child.id()]);
        let limit = Instant::now() + Duration::from_secs(2);
        while Instant::now() < limit && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(5));
        }
        let left: Vec<u32> = pids.into_iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
        if !left.is_empty() {
            signal("KILL", &left);
        }
        drop(self.child.wait());
    }
}

/// Through `kill(1)`, since signals need `unsafe` otherwise; that a process is gone already is no failure.
fn signal(name: &str, pids: &[u32]) {
    let mut command = Command::new("kill");
    command.arg(format!("-{name}")).args(pids.iter().map(u32::to_string));
    drop(command.stdout(Stdio::null()).stderr(Stdio::null()).status());
}

/// A loopback address that nobody listened on a moment ago.
///
/// # Errors
/// When the machine has no port left.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
