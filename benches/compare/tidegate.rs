//! Tidegate itself, started from its binary with a configuration as a user would write it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::child::{Running, free_address};
use crate::lab::{Cores, Lab};

/// A sidecar that is ready.
pub(crate) struct Sidecar {
    pub(crate) running: Running,
    pub(crate) proxy: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) local: SocketAddr,
    /// From the start of the process to the first 200 on `/readyz`.
    pub(crate) ready_after: Duration,
}

/// What to run it with.
pub(crate) struct Setup {
    pub(crate) cores: Cores,
    pub(crate) workers: usize,
    pub(crate) origin: SocketAddr,
    pub(crate) flags_file: Option<PathBuf>,
    /// The address of a Redis whose scope `bench` holds flags.
    pub(crate) redis: Option<SocketAddr>,
    /// More keys of the listener, a line each; and of the whole.
    pub(crate) listener: Vec<String>,
    pub(crate) more: Vec<String>,
}

impl Setup {
    pub(crate) fn new(cores: Cores, workers: usize, origin: SocketAddr) -> Self {
        Setup { cores, workers, origin, flags_file: None, redis: None, listener: Vec::new(), more: Vec::new() }
    }

    /// Starts it; nothing when there is no binary.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(crate) fn start(&self, lab: &Lab) -> anyhow::Result<Option<Sidecar>> {
        let Some(binary) = &lab.tidegate else { return Ok(None) };
        let (proxy, ops, local) = (free_address()?, free_address()?, free_address()?);
        // As many as are open by default.
        let (second, third) = (free_address()?, free_address()?);
        let dir = lab.scratch("tidegate")?;
        let at = dir.display();
        let files = self.flags_file.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
        let redis = self.redis.map_or_else(String::new, |address| format!("redis: {{ url: \"redis://{address}\" }}\n"));
        let scopes = self.redis.map_or("", |_| "scopes: [bench], ");
        let listener: String = self.listener.iter().map(|line| format!("    {line}\n")).collect();
        let more: String = self.more.iter().map(|line| format!("{line}\n")).collect();
        let config = format!(
            "workload: bench
proxy:
  - listen: {proxy}
    upstream: http://{origin}
{listener}ops: {{ listen: [\"{ops}\"] }}
local: {{ listen: [\"{local}\", \"{second}\", \"{third}\"], socket: {at}/tidegate.sock }}
flags: {{ {scopes}files: [{files}] }}
state_dir: {at}
workers: {workers}
{redis}{more}",
            origin = self.origin,
            workers = self.workers,
        );
        let file = dir.join("tidegate.yaml");
        fs::write(&file, config)?;
        let mut command = Command::new(binary);
        command.arg("--config").arg(&file).arg("run");
        let begun = Instant::now();
        let mut running = Running::start("tidegate", &dir, self.cores.bind(&command)?)?;
        running.answers(ops, "/readyz", Duration::from_micros(200)).context("the sidecar did not get ready")?;
        Ok(Some(Sidecar { running, proxy, ops, local, ready_after: begun.elapsed() }))
    }
}
