//! Where measuring happens: the scratch directory, the programs, how much of each, and until when.

use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::child::Running;
use crate::role::LoadReport;
use crate::usage::Clock;

/// One run of the harness.
pub(crate) struct Lab {
    dir: TempDir,
    started: Cell<u32>,
    /// This binary, which is also origin, baselines and load.
    me: PathBuf,
    /// The binary to measure, if it is there.
    pub(crate) tidegate: Option<PathBuf>,
    pub(crate) rounds: usize,
    /// Requests of one load at full rate; the quick run has fewer.
    pub(crate) requests: u64,
    deadline: Instant,
}

/// Where processes may run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// Wherever the kernel puts them.
    Any,
    /// Server, app and load share one core, which they keep busy: how many events a server finds at each look is then
    /// settled by the load and not by what else the machine does, and CPU per request varies by 3 % instead of 40 %.
    One,
}

impl Cores {
    /// `command`, bound to these cores.
    ///
    /// # Errors
    /// When the kernel does not tell which cores there are.
    pub(crate) fn bind(self, command: &Command) -> anyhow::Result<Command> {
        let mut bound = match self {
            Cores::Any => Command::new(command.get_program()),
            Cores::One => {
                let mut bound = Command::new("taskset");
                bound.args(["-c", &last_core()?]).arg(command.get_program());
                bound
            }
        };
        bound.args(command.get_args());
        Ok(bound)
    }
}

/// The number of the last core that this process may use.
fn last_core() -> anyhow::Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).context("no list of cores")?;
    let last = list.trim().rsplit([',', '-']).next().context("an empty list of cores")?;
    Ok(last.to_owned())
}

/// A load, and the CPU that it cost the server.
pub(crate) struct Measured {
    pub(crate) report: LoadReport,
    /// Microseconds of CPU per request, over all processes of the server.
    pub(crate) cpu: f64,
}

/// One request, and what its answer must be.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) path: &'a str,
    /// A JSON body makes it a POST.
    pub(crate) body: Option<&'a str>,
    /// The entity tag of an answer that the client has.
    pub(crate) if_none_match: Option<&'a str>,
    /// Any other counts as failed.
    pub(crate) status: u16,
}

impl<'a> Ask<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Ask { path, body: None, if_none_match: None, status: 200 }
    }

    pub(crate) fn post(path: &'a str, json: &'a str) -> Self {
        Ask { body: Some(json), ..Ask::get(path) }
    }

    /// The same by a client that has the answer with this tag, to be told that it still holds.
    pub(crate) fn unchanged_since(self, tag: &'a str) -> Self {
        Ask { if_none_match: Some(tag), status: 304, ..self }
    }
}

/// One load to apply.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) connections: usize,
    pub(crate) requests: u64,
    pub(crate) ask: Ask<'a>,
    /// How long each connection rests after an answer; without a rest it keeps a core busy.
    pub(crate) rest: Duration,
    pub(crate) cores: Cores,
    pub(crate) over: Over<'a>,
}

/// What a load's connections are.
#[derive(Clone, Copy)]
pub(crate) enum Over<'a> {
    /// TCP, kept alive.
    Tcp,
    /// TLS by this authority, kept alive.
    Tls(&'a Path),
    /// The same, with a full handshake for each request.
    FreshTls(&'a Path),
}

impl<'a> Load<'a> {
    /// As fast as it goes.
    pub(crate) fn closed(connections: usize, requests: u64, ask: Ask<'a>, cores: Cores) -> Self {
        Load { connections, requests, ask, rest: Duration::ZERO, cores, over: Over::Tcp }
    }
}

/// gRPC calls to make, as fast as it goes.
#[derive(Clone, Copy)]
pub(crate) struct Calls<'a> {
    pub(crate) connections: usize,
    /// Under way on each connection.
    pub(crate) streams: usize,
    pub(crate) requests: u64,
    pub(crate) method: &'a str,
    pub(crate) key: &'a str,
    /// Of an OFREP request, whose context is asked with.
    pub(crate) body: &'a str,
}

impl Lab {
    /// # Errors
    /// When there is no room for a scratch directory.
    pub(crate) fn new(
        tidegate: Option<PathBuf>,
        rounds: usize,
        requests: u64,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        Ok(Lab {
            dir: TempDir::with_prefix("tidegate-bench-")?,
            started: Cell::new(0),
            me: std::env::current_exe()?,
            tidegate,
            rounds,
            requests,
            deadline: Instant::now() + limit,
        })
    }

    /// A new directory of its own for something about to be started.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn scratch(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.started.set(self.started.get() + 1);
        let dir = self.path().join(format!("{name}-{}", self.started.get()));
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// This binary in another role.
    pub(crate) fn role(&self, role: &str) -> Command {
        let mut command = Command::new(&self.me);
        command.args(["--role", role]);
        command
    }

    /// Whether the time for the whole run is used up.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// The rounds, of which those that no time is left for do not happen; the first always does.
    pub(crate) fn rounds(&self) -> impl Iterator<Item = usize> + '_ {
        self.many_rounds(1)
    }

    /// As [`Lab::rounds`], but `times` as many, for what varies more than it costs.
    pub(crate) fn many_rounds(&self, times: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.rounds * times).take_while(|round| *round == 0 || !self.is_over())
    }

    /// Applies `load` to `address` from a process of its own.
    ///
    /// # Errors
    /// When the load could not be run; requests that fail are counted in the report.
    pub(crate) fn load(&self, address: SocketAddr, load: Load<'_>) -> anyhow::Result<LoadReport> {
        self.begin_load(address, load)?.report()
    }

    /// As [`Lab::load`], while the caller does something else.
    ///
    /// # Errors
    /// When the load could not be started.
    pub(crate) fn begin_load(&self, address: SocketAddr, load: Load<'_>) -> anyhow::Result<LoadUnderWay> {
        let mut command = self.role("load");
        command.args(["--address", &address.to_string()]);
        command.args(["--connections", &load.connections.to_string()]);
        command.args(["--requests", &load.requests.to_string()]);
        command.args(["--path", load.ask.path, "--status", &load.ask.status.to_string(), "--limit-secs", "20"]);
        command.args(["--rest-us", &load.rest.as_micros().to_string()]);
        if let Over::Tls(ca) | Over::FreshTls(ca) = load.over {
            command.arg("--ca").arg(ca);
        }
        if matches!(load.over, Over::FreshTls(_)) {
            command.arg("--fresh");
        }
        if let Some(body) = load.ask.body {
            command.args(["--body", body]);
        }
        if let Some(tag) = load.ask.if_none_match {
            command.args(["--if-none-match", tag]);
        }
        LoadUnderWay::begin(load.cores.bind(&command)?)
    }

    /// As [`Lab::load`], with the CPU that `server` used meanwhile.
    ///
    /// # Errors
    /// When the load could not be run, or the server ended under it.
    pub(crate) fn measure(&self, server: &Running, address: SocketAddr, load: Load<'_>) -> anyhow::Result<Measured> {
        cpu_of(server, || self.load(address, load))
    }

    /// As [`Lab::measure`], of gRPC calls.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn measure_calls(
        &self,
        server: &Running,
        address: SocketAddr,
        calls: Calls<'_>,
    ) -> anyhow::Result<Measured> {
        let mut command = self.role("calls");
        command.args(["--address", &address.to_string(), "--method", calls.method]);
        command.args(["--connections", &calls.connections.to_string(), "--streams", &calls.streams.to_string()]);
        command.args(["--requests", &calls.requests.to_string(), "--key", calls.key, "--body", calls.body]);
        let command = Cores::One.bind(&command)?;
        cpu_of(server, || LoadUnderWay::begin(command)?.report())
    }
}

/// A load that was begun; it ends by itself, within its limit at the latest.
pub(crate) struct LoadUnderWay(Child);

/// `load`, and the CPU that `server` used while it lasted.
pub(crate) fn cpu_of(server: &Running, load: impl FnOnce() -> anyhow::Result<LoadReport>) -> anyhow::Result<Measured> {
    let pids = server.pids()?;
    let before = Clock::read(&pids)?;
    let report = load()?;
    let used = Clock::read(&pids)?.since(&before);
    Ok(Measured { cpu: used.as_secs_f64() * 1e6 / report.requests as f64, report })
}

impl LoadUnderWay {
    /// Starts a role that reports as the load does.
    ///
    /// # Errors
    /// When it could not be started.
    pub(crate) fn begin(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(LoadUnderWay(command.spawn()?))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it ended badly.
    pub(crate) fn report(self) -> anyhow::Result<LoadReport> {
        let output = self.0.wait_with_output()?;
        ensure!(output.status.success(), "the load ended badly: {}", String::from_utf8_lossy(&output.stderr).trim());
        serde_json::from_slice(&output.stdout).context("the load's report")
    }
}
