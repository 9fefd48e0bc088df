//! The sidecar itself as a process of the test's own, on ports the kernel chose.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::raw;

/// The binary under test.
pub(crate) const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// A running sidecar, killed on drop.
pub(crate) struct Sidecar {
    child: Child,
    directory: TempDir,
    log: Arc<Mutex<Vec<Value>>>,
    pub(crate) proxy: Vec<SocketAddr>,
    pub(crate) ops: SocketAddr,
    pub(crate) local: SocketAddr,
}

impl Sidecar {
    /// Starts a sidecar in front of `upstream`, with more settings in YAML, and waits until it listens. Its drain is
    /// quick unless the settings say otherwise.
    pub(crate) fn start(upstream: SocketAddr, more: &str) -> Self {
        Self::start_with(&in_front_of(upstream, more))
    }

    /// The same, with its standard output led elsewhere.
    pub(crate) fn start_writing_to(stdout: impl Into<Stdio>, upstream: SocketAddr, more: &str) -> Self {
        Self::launch(tempfile::tempdir().unwrap(), "", &in_front_of(upstream, more), stdout.into(), &[])
    }

    /// Starts a sidecar with these settings in YAML beside ephemeral ops and local listeners.
    pub(crate) fn start_with(settings: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings)
    }

    /// The same, with a directory whose state is kept from an earlier run.
    pub(crate) fn start_in(directory: TempDir, settings: &str) -> Self {
        Self::launch(directory, "", settings, Stdio::null(), &[])
    }

    /// The same, where names have the addresses that this file gives them, in the form of `/etc/hosts`.
    pub(crate) fn start_with_hosts(hosts: &Path, settings: &str) -> Self {
        let wrapper = "libnss_wrapper.so";
        let loads = Command::new("true").env("LD_PRELOAD", wrapper).output().unwrap();
        assert!(loads.stderr.is_empty(), "no {wrapper}; install it with: apt-get install -y libnss-wrapper");
        let environment = [("LD_PRELOAD", wrapper), ("NSS_WRAPPER_HOSTS", hosts.to_str().unwrap())];
        Self::launch(tempfile::tempdir().unwrap(), "", settings, Stdio::null(), &environment)
    }

    /// The same, where the clock is off by so much, as `+7h`.
    pub(crate) fn start_at(offset: &str, settings: &str) -> Self {
        let told = Command::new("faketime").args(["-f", "+0", "env"]).output();
        let told = told.expect("scripts/setup.sh test installs faketime");
        let told = String::from_utf8(told.stdout).unwrap();
        let library = told.lines().find_map(|line| line.strip_prefix("LD_PRELOAD=")).unwrap();
        // Only the time of day is another: limits are measured by the other clock.
        let environment = [("LD_PRELOAD", library), ("FAKETIME", offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        Self::start_where(&environment, settings)
    }

    /// The same, with these variables.
    pub(crate) fn start_where(environment: &[(&str, &str)], settings: &str) -> Self {
        Self::launch(tempfile::tempdir().unwrap(), "", settings, Stdio::null(), environment)
    }

    /// The same, with more settings of `local`.
    pub(crate) fn start_local(local: &str, settings: &str) -> Self {
        Self::launch(tempfile::tempdir().unwrap(), local, settings, Stdio::null(), &[])
    }

    fn launch(directory: TempDir, local: &str, settings: &str, stdout: Stdio, environment: &[(&str, &str)]) -> Self {
        let state = directory.path().join("state");
        std::fs::create_dir_all(&state).unwrap();
        let config = directory.path().join("tidegate.yaml");
        let ops = if settings.contains("\nops:") { "" } else { "ops: { listen: ['127.0.0.1:0'] }\n" };
        let socket = directory.path().join("tidegate.sock");
        let local = if settings.contains("\nlocal:") {
            String::new()
        } else {
            format!("local: {{ listen: ['127.0.0.1:0'], socket: '{}', {local} }}\n", socket.display())
        };
        let text = format!("{ops}{local}state_dir: '{}'\nworkload: test\n{settings}\n", state.display());
        std::fs::write(&config, &text).unwrap();
        let mut child = Command::new(TIDEGATE)
            .arg("--config")
            .arg(&config)
            .arg("run")
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (listening, heard) = std::sync::mpsc::sync_channel(1);
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn({
            let log = log.clone();
            move || {
                for line in stderr.lines().map_while(Result::ok) {
                    let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                    if line["message"] == "listening" {
                        listening.send(line.clone()).unwrap();
                    }
                    log.lock().unwrap().push(line);
                }
            }
        });
        let Ok(line) = heard.recv_timeout(Duration::from_secs(20)) else {
            let _ = child.kill();
            panic!("the sidecar does not listen; its configuration:\n{text}\nits log: {:#?}", log.lock().unwrap());
        };
        let addresses = |key: &str| -> Vec<SocketAddr> {
            let text = line[key].as_str().unwrap().trim_matches(['[', ']']);
            text.split(", ").filter(|part| !part.is_empty()).map(|part| part.parse().unwrap()).collect()
        };
        let (proxy, ops, local) = (addresses("proxy"), addresses("ops")[0], addresses("local")[0]);
        Self { child, directory, log, proxy, ops, local }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where clients connect.
    pub(crate) fn proxy(&self) -> SocketAddr {
        self.proxy[0]
    }

    /// A directory of its own.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its configuration file, for CLI commands that are to reach it.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory().join("tidegate.yaml")
    }

    /// Sends it a signal by name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end, which must come within `limit`.
    pub(crate) async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "still running after {limit:?}; its log: {:#?}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What it has logged so far, a value a line.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
    }

    /// Reads its log while it is in other hands.
    pub(crate) fn logger(&self) -> impl Fn() -> Vec<Value> + use<> {
        let log = self.log.clone();
        move || log.lock().unwrap().clone()
    }

    /// Waits until it has logged a line with this message; returns how many there are then. Lines leave it a moment
    /// after what they tell of.
    pub(crate) async fn logs(&self, message: &str) -> usize {
        let count = || self.log().iter().filter(|line| line["message"] == message).count();
        super::eventually(Duration::from_secs(20), message, async || count() > 0).await;
        count()
    }

    /// Waits until `/readyz` is 200.
    pub(crate) async fn ready(&self) {
        super::eventually(Duration::from_secs(20), "ready", async || {
            raw::get(self.ops, "/readyz").await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// One of its metrics, summed over its labels that contain `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = raw::get(self.ops, "/metrics").await.unwrap().text();
        text.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
            .filter(|line| line.contains(labels))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Runs a CLI command with its configuration: exit code, standard output, standard error.
    pub(crate) fn cli(&self, arguments: &[&str]) -> (i32, String, String) {
        let config = self.config();
        let mut all = vec!["--config", config.to_str().unwrap()];
        all.extend(arguments);
        cli(&all)
    }

    /// Kills it as `kill -9` does and hands its directory over.
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the sidecar: {:#?}", self.log().iter().rev().take(20).rev().collect::<Vec<_>>());
        }
    }
}

/// Settings of a sidecar in front of `upstream`.
fn in_front_of(upstream: SocketAddr, more: &str) -> String {
    let drain = "drain: { delay: 200ms, quiet: 200ms, deadline: 10s }";
    let drain = if more.lines().any(|line| line.starts_with("drain:")) { "" } else { drain };
    format!("proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://{upstream}' }}]\n{drain}\n{more}")
}

/// Runs a CLI command: exit code, standard output, standard error.
pub(crate) fn cli(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(TIDEGATE).args(arguments).env_clear().stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}
