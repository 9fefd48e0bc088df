//! The proxied request: its CPU, its latency, how many fit into two cores.

use std::net::SocketAddr;

use crate::child::Running;
use crate::contender::{self, Server};
use crate::lab::{Ask, Cores, Lab, Load, Measured};
use crate::report::{Row, Target};
use crate::series::Series;
use crate::tidegate::{Setup, Sidecar};

/// Everything that stands before the same app.
pub(super) struct Field {
    pub(super) origin: Server,
    pub(super) peers: Vec<Server>,
    pub(super) sidecar: Option<Sidecar>,
}

/// The figures of one contender, round by round.
#[derive(Default, Clone)]
pub(super) struct Figures {
    pub(super) cpu: Series,
    pub(super) rate: Series,
    pub(super) p50: Series,
    pub(super) p99: Series,
}

impl Field {
    fn start(lab: &Lab, cores: Cores, workers: usize) -> anyhow::Result<Self> {
        let origin = contender::origin(lab, cores)?;
        let peers = vec![
            contender::nginx(lab, cores, workers, origin.address)?,
            contender::haproxy(lab, cores, workers, origin.address)?,
            contender::bare(lab, cores, workers, origin.address)?,
            contender::relay(lab, cores, workers, origin.address)?,
        ];
        let sidecar = Setup::new(cores, workers, origin.address).start(lab)?;
        Ok(Field { origin, peers, sidecar })
    }

    /// Asking the app directly, then the peers, Tidegate last if it is there.
    fn all(&self) -> Vec<(&Running, SocketAddr)> {
        let servers = std::iter::once(&self.origin).chain(&self.peers);
        let servers = servers.map(|server| (&server.running, server.address));
        servers.chain(self.sidecar.iter().map(|sidecar| (&sidecar.running, sidecar.proxy))).collect()
    }

    /// Applies `load` to each in turn, round after round, each round beginning with another one.
    fn measure(
        &self,
        lab: &Lab,
        rounds: impl Iterator<Item = usize>,
        load: Load<'_>,
    ) -> anyhow::Result<(Vec<Figures>, u64)> {
        let all = self.all();
        for (_, address) in &all {
            lab.load(*address, Load { requests: load.requests.min(2000), ..load })?;
        }
        in_turn(&all, rounds, |running, address| lab.measure(running, address, load))
    }

    /// As [`Field::measure`], of the proxies alone and of whatever `measure` does with one.
    pub(super) fn proxies(
        &self,
        rounds: impl Iterator<Item = usize>,
        measure: impl Fn(&Running, SocketAddr) -> anyhow::Result<Measured>,
    ) -> anyhow::Result<(Vec<Figures>, u64)> {
        let all = &self.all()[1..];
        for (running, address) in all {
            measure(running, *address)?;
        }
        in_turn(all, rounds, measure)
    }

    /// A row of `figures`, which are those of [`Field::all`] without the first.
    pub(super) fn row(
        &self,
        (what, unit): (&str, &'static str),
        target: Target,
        failed: u64,
        figures: &[Figures],
        pick: impl Fn(&Figures) -> Series,
    ) -> Row {
        let mut all = figures.iter().map(pick);
        let peers = self.peers.iter().map(|peer| peer.name.clone()).zip(all.by_ref()).collect();
        Row { what: what.to_owned(), unit, tidegate: all.next(), peers, target, failed }
    }
}

/// Measures each in turn, round after round, each round beginning with another one.
fn in_turn(
    all: &[(&Running, SocketAddr)],
    rounds: impl Iterator<Item = usize>,
    measure: impl Fn(&Running, SocketAddr) -> anyhow::Result<Measured>,
) -> anyhow::Result<(Vec<Figures>, u64)> {
    let mut figures = vec![Figures::default(); all.len()];
    let mut failed = 0;
    for round in rounds {
        for turn in 0..all.len() {
            let at = (round + turn) % all.len();
            let (running, address) = all[at];
            let measured = measure(running, address)?;
            figures[at].cpu.push(measured.cpu);
            figures[at].rate.push(measured.report.requests as f64 / measured.report.seconds);
            figures[at].p50.push(measured.report.p50);
            figures[at].p99.push(measured.report.p99);
            failed += measured.report.failed;
        }
    }
    Ok((figures, failed))
}

/// CPU per request at full rate, one worker.
pub(super) fn cpu(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let field = Field::start(lab, Cores::One, 1)?;
    let load = Load::closed(32, lab.requests, Ask::get("/"), Cores::One);
    let (mut figures, failed) = field.measure(lab, lab.rounds(), load)?;
    figures.remove(0);
    Ok(vec![
        field.row(("proxy, CPU per request", "µs"), Target::AtMost(0.9, "nginx"), failed, &figures, |f| f.cpu.clone()),
        field.row(("proxy, one worker", "requests/s"), Target::Context, failed, &figures, |f| f.rate.clone()),
    ])
}

/// CPU per answer of 1 MB: what it costs to pass bytes on.
pub(super) fn large(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let mut field = Field::start(lab, Cores::One, 1)?;
    // It takes what it reads at once for all of an answer.
    field.peers.retain(|peer| peer.name != "relay");
    let load = Load::closed(8, lab.requests / 20, Ask::get("/large"), Cores::One);
    let (mut figures, failed) = field.measure(lab, lab.rounds(), load)?;
    figures.remove(0);
    Ok(vec![
        field.row(("proxy, CPU per answer of 1 MB", "µs"), Target::AtMost(1.0, "nginx"), failed, &figures, |f| {
            f.cpu.clone()
        }),
        field.row(("proxy, answers of 1 MB", "requests/s"), Target::Context, failed, &figures, |f| f.rate.clone()),
    ])
}

/// Latency of one connection with one request at a time, less that of asking the app directly in the same round.
pub(super) fn latency(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let field = Field::start(lab, Cores::One, 1)?;
    let load = Load::closed(1, lab.requests / 10, Ask::get("/"), Cores::One);
    let (mut figures, failed) = field.measure(lab, lab.many_rounds(2), load)?;
    let direct = figures.remove(0);
    let mut rows = vec![
        field.row(("proxy, added p50 at 1 connection", "µs"), Target::AtMost(1.0, "nginx"), failed, &figures, |f| {
            f.p50.less(&direct.p50)
        }),
        field.row(("proxy, added p99 at 1 connection", "µs"), Target::Context, failed, &figures, |f| {
            f.p99.less(&direct.p99)
        }),
    ];
    rows[0].peers.push(("direct, whole".to_owned(), direct.p50));
    rows[1].peers.push(("direct, whole".to_owned(), direct.p99));
    Ok(rows)
}

/// Requests per second with two workers, sharing the machine's cores with app and load.
pub(super) fn throughput(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let field = Field::start(lab, Cores::Any, 2)?;
    let load = Load::closed(64, lab.requests, Ask::get("/"), Cores::Any);
    let (mut figures, failed) = field.measure(lab, lab.rounds(), load)?;
    figures.remove(0);
    Ok(vec![
        field.row(("proxy, two workers", "requests/s"), Target::AtLeast(1.0, "haproxy"), failed, &figures, |f| {
            f.rate.clone()
        }),
        field.row(("proxy, two workers, CPU per request", "µs"), Target::Context, failed, &figures, |f| f.cpu.clone()),
        field.row(("proxy, two workers, p99", "µs"), Target::Context, failed, &figures, |f| f.p99.clone()),
    ])
}
