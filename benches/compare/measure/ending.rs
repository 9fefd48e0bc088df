//! The end of a server whose clients are at rest: how long it takes, what it costs, and whether every connection was
//! closed in order. And what they held before.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::memory::SETTLE;
use crate::child::Running;
use crate::contender::{self, Face};
use crate::lab::{Cores, Lab};
use crate::report::{Row, Target};
use crate::role::CrowdReport;
use crate::series::Series;
use crate::tidegate::Setup;
use crate::usage::{self, Clock};

/// As many as a process with 20 000 file descriptors may have as clients, nearly.
const CONNECTIONS: usize = 9_500;
/// For the whole end.
const LIMIT: Duration = Duration::from_secs(40);

#[derive(Default)]
struct Figures {
    /// Seconds from the signal to the process's end.
    took: Series,
    /// Milliseconds of CPU in that time, looked at every few of them.
    cpu: Series,
    /// KiB of each connection at rest.
    held: Series,
    broken: u64,
}

pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let origin = contender::origin(lab, Cores::Any)?;
    let (mut nginx, mut haproxy, mut own) = (Figures::default(), Figures::default(), None::<Figures>);
    for _ in lab.rounds().take(3) {
        let server = contender::nginx_with(lab, Cores::Any, 1, origin.address, Face::Crowd)?;
        nginx.take(lab, server.running, server.address, "QUIT")?;
        let server = contender::haproxy_with(lab, Cores::Any, 1, origin.address, Face::Crowd)?;
        haproxy.take(lab, server.running, server.address, "USR1")?;
        let more = vec!["drain: { delay: 1ms, quiet: 100ms, deadline: 30s }".to_owned()];
        if let Some(sidecar) = (Setup { more, ..Setup::new(Cores::Any, 1, origin.address) }).start(lab)? {
            own.get_or_insert_default().take(lab, sidecar.running, sidecar.proxy, "TERM")?;
        }
    }
    let broken = own.as_ref().map_or(0, |own| own.broken);
    let row = |what: &str, unit, target, pick: fn(&Figures) -> &Series| Row {
        what: what.to_owned(),
        unit,
        tidegate: own.as_ref().map(|own| pick(own).clone()),
        peers: vec![("nginx".to_owned(), pick(&nginx).clone()), ("haproxy".to_owned(), pick(&haproxy).clone())],
        target,
        // Theirs are told beside ours, and void nothing of it.
        failed: broken,
    };
    Ok(vec![
        row("drain of 9 500 connections at rest, signal to end", "s", Target::Beside("nginx"), |f| &f.took),
        row("drain of 9 500 connections at rest, CPU", "ms", Target::Beside("nginx"), |f| &f.cpu),
        row("memory, each of 9 500 connections at rest", "KiB", Target::Below(16.0), |f| &f.held),
    ])
}

impl Figures {
    /// A crowd comes, rests, and is led away by `signal`.
    fn take(&mut self, lab: &Lab, mut running: Running, address: SocketAddr, signal: &str) -> anyhow::Result<()> {
        let pids = running.pids()?;
        let before = usage::resident(&pids)?;
        let mut command = lab.role("crowd");
        command.args(["--address", &address.to_string(), "--connections", &CONNECTIONS.to_string()]);
        let mut crowd = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut told = BufReader::new(crowd.stdout.take().context("no pipe from the crowd")?).lines();
        let ready = told.next().context("the crowd did not come")??;
        ensure!(ready == "ready", "the crowd says {ready}");
        sleep(SETTLE);
        let rest = usage::resident(&pids)?;
        let (begun, at_rest) = (Instant::now(), Clock::read(&pids)?);
        let mut spent = Duration::ZERO;
        running.signal(signal);
        let ended = running.ended(LIMIT, Duration::from_millis(2), || {
            // The last look before the end is what can be had of it.
            if let Ok(clock) = Clock::read(&pids) {
                spent = spent.max(clock.since(&at_rest));
            }
        })?;
        ensure!(ended, "not ended after {LIMIT:?}");
        self.took.push(begun.elapsed().as_secs_f64());
        self.cpu.push(spent.as_secs_f64() * 1e3);
        self.held.push(rest.saturating_sub(before) as f64 / CONNECTIONS as f64);
        let report: CrowdReport = serde_json::from_str(&told.next().context("no report of the crowd")??)?;
        self.broken += report.broken;
        ensure!(crowd.wait()?.success(), "the crowd ended badly");
        Ok(())
    }
}
