//! A large set in Redis: how soon it is ready, what it holds, and what a change of all of it does to those who ask meanwhile.

use std::net::SocketAddr;
use std::thread::{self, sleep};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{anyhow, ensure};

use super::memory;
use crate::contender::{self, Server};
use crate::flags;
use crate::lab::{Ask, Cores, Lab, Load};
use crate::readers::{Readers, Stream};
use crate::redis::Redis;
use crate::report::{Row, Target};
use crate::role::LoadReport;
use crate::series::Series;
use crate::tidegate::{Setup, Sidecar};
use crate::wire;

const FLAGS: usize = 10_000;
/// Of one definition: 5 MB in all.
const BYTES: usize = 500;
/// More would take longer than they tell: each round has a change in it for which readers wait up to a second.
const ROUNDS: usize = 3;

/// Those who ask meanwhile: few enough to leave the cores to the change, often enough that none of it goes unseen.
const CONNECTIONS: usize = 4;
const REST: Duration = Duration::from_millis(1);
/// Changes of one flag; even, so that the last leaves the first flag as it was.
const SINGLES: usize = 20;

/// About a second's worth.
const CALM_REQUESTS: u64 = 1750;
/// About two, because readers wait up to one before they read.
const REQUESTS: u64 = 3500;

/// What was seen in all rounds; times in milliseconds.
#[derive(Default)]
struct Seen {
    ready: Series,
    memory: Series,
    changed_memory: Series,
    written: Series,
    applied: Series,
    /// Of a client that only reads all definitions.
    read: Series,
    /// One flag changed, the others not.
    single: Series,
    calm: Latencies,
    busy: Latencies,
    /// While event streams are open, whose readers are told of every flag that changed.
    streamed: Latencies,
    /// Of a service that knows no flags, asked while the change goes on: what the machine does by itself.
    bystander: Latencies,
    failed: u64,
}

#[derive(Default)]
struct Latencies {
    p999: Series,
    longest: Series,
}

impl Latencies {
    fn take(&mut self, report: &LoadReport) {
        self.p999.push(report.p999 / 1e3);
        self.longest.push(report.longest / 1e3);
    }
}

pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let origin = contender::origin(lab, Cores::Any)?;
    let parse = contender::baseline(lab, Cores::Any, "parse", "parse", &[])?;
    let mut redis = Redis::start(lab)?;
    redis.fill(&flags::large(FLAGS, BYTES, 0))?;
    let mut seen = Seen::default();
    let setup = Setup { redis: Some(redis.address), ..Setup::new(Cores::Any, 1, origin.address) };
    for round in lab.rounds().take(ROUNDS) {
        // Anew in each round: memory after one change is a figure that means something, after any number it is not.
        let Some(sidecar) = setup.start(lab)? else { return Ok(Vec::new()) };
        seen.ready.push(sidecar.ready_after.as_secs_f64() * 1e3);
        sleep(memory::SETTLE);
        seen.memory.push(memory::resident(&sidecar.running)?);
        let edition = 2 * round + 1;
        calm(lab, &sidecar, &mut seen)?;
        single(&mut redis, &sidecar, edition, &mut seen)?;
        let begun = Instant::now();
        ensure!(redis.read_all()?.len() == FLAGS, "not all flags are in Redis");
        seen.read.push(begun.elapsed().as_secs_f64() * 1e3);
        let place = Place { lab, sidecar: &sidecar, parse: &parse };
        let changed = place.change(&mut redis, edition, &mut [])?;
        sleep(memory::SETTLE);
        seen.changed_memory.push(memory::resident(&sidecar.running)?);
        seen.written.push(changed.written);
        seen.applied.push(changed.applied);
        seen.busy.take(&changed.asked);
        seen.bystander.take(&changed.beside);
        seen.failed += changed.asked.failed + changed.beside.failed;

        let mut streams = streams(&sidecar)?;
        let changed = place.change(&mut redis, edition + 1, &mut streams)?;
        seen.streamed.take(&changed.asked);
        seen.failed += changed.asked.failed + changed.beside.failed;
    }
    Ok(seen.rows())
}

impl Seen {
    fn rows(self) -> Vec<Row> {
        let failed = self.failed;
        let row = |what: &str, unit, tidegate, peers: Vec<(&str, Series)>, target| Row {
            what: format!("10 000 flags of 5 MB in Redis, {what}"),
            unit,
            tidegate: Some(tidegate),
            peers: peers.into_iter().map(|(name, series)| (name.to_owned(), series)).collect(),
            target,
            failed,
        };
        vec![
            row("start to ready", "ms", self.ready, vec![], Target::Context),
            row("memory", "MiB resident", self.memory, vec![], Target::Context),
            row("memory after all changed", "MiB resident", self.changed_memory, vec![], Target::Context),
            row("one changed, write to served, p50", "ms", self.single, vec![], Target::Context),
            row(
                "all changed, read to served",
                "ms",
                self.applied,
                vec![("HGETALL alone", self.read)],
                Target::Below(50.0),
            ),
            row("all changed, write to served", "ms", self.written, vec![], Target::Context),
            row(
                "longest evaluation meanwhile",
                "ms",
                self.busy.longest,
                vec![
                    ("at rest", self.calm.longest),
                    ("with streams open", self.streamed.longest),
                    ("parse meanwhile", self.bystander.longest),
                ],
                Target::Below(1.0),
            ),
            row(
                "p99.9 of evaluations meanwhile",
                "ms",
                self.busy.p999,
                vec![
                    ("at rest", self.calm.p999),
                    ("with streams open", self.streamed.p999),
                    ("parse meanwhile", self.bystander.p999),
                ],
                Target::Beside("at rest"),
            ),
        ]
    }
}

fn load(path: &str, requests: u64) -> Load<'_> {
    let ask = Ask::post(path, flags::CONTEXT);
    Load { rest: REST, ..Load::closed(CONNECTIONS, requests, ask, Cores::Any) }
}

fn path() -> String {
    format!("/ofrep/v1/evaluate/flags/{}", flags::ASKED)
}

/// Nothing changes.
fn calm(lab: &Lab, sidecar: &Sidecar, seen: &mut Seen) -> anyhow::Result<()> {
    let report = lab.load(sidecar.local, load(&path(), CALM_REQUESTS))?;
    seen.calm.take(&report);
    seen.failed += report.failed;
    Ok(())
}

/// One flag changes, again and again, to what it is in the next edition and back.
fn single(redis: &mut Redis, sidecar: &Sidecar, edition: usize, seen: &mut Seen) -> anyhow::Result<()> {
    let mut took = Vec::with_capacity(SINGLES);
    for number in 0..SINGLES {
        let edition = edition + number;
        let flag = &flags::large(1, BYTES, edition)["flag-0"];
        let begun = Instant::now();
        redis.write("flag-0", flag)?;
        served(sidecar.local, !edition.is_multiple_of(2))?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    seen.single.push(took[SINGLES / 2]);
    Ok(())
}

/// One of each stream, past its greeting, and what its reader waits for once everything changes.
fn streams(sidecar: &Sidecar) -> anyhow::Result<Vec<(Readers, &'static str)>> {
    let open = |stream, greeting, mark| {
        let mut readers = Readers::connect(1, sidecar.local, stream)?;
        readers.wait_for(greeting)?;
        anyhow::Ok((readers, mark))
    };
    // Of the flags' names the last, which is no other's beginning. gRPC's greeting ends with it, too.
    Ok(vec![
        open(Stream::Http("/v1/flags/events"), "event: ready", "flag-9999")?,
        open(Stream::Http("/ofrep/v1/events"), "refetchEvaluation", "refetchEvaluation")?,
        open(Stream::Grpc("/flagd.evaluation.v2.Service/EventStream"), "flag-9999", "flag-9999")?,
    ])
}

/// Who is asked while everything changes.
struct Place<'p> {
    lab: &'p Lab,
    sidecar: &'p Sidecar,
    parse: &'p Server,
}

/// What a change of everything came to; times in milliseconds.
struct Changed {
    written: f64,
    applied: f64,
    asked: LoadReport,
    beside: LoadReport,
}

impl Place<'_> {
    /// Everything changes while the sidecar, and beside it a service without flags, is asked.
    fn change(
        &self,
        redis: &mut Redis,
        edition: usize,
        streams: &mut [(Readers, &'static str)],
    ) -> anyhow::Result<Changed> {
        let all = flags::large(FLAGS, BYTES, edition);
        let path = path();
        let mut watch = redis.watch()?;
        let begun = Instant::now();
        let asked = self.lab.begin_load(self.sidecar.local, load(&path, REQUESTS))?;
        let beside = self.lab.begin_load(self.parse.address, load(&path, REQUESTS))?;
        sleep(Duration::from_millis(100));

        let (written, served) = thread::scope(|scope| {
            let readers = scope.spawn(|| {
                streams.iter_mut().try_for_each(|(readers, mark)| {
                    // One after the other: what is told to the later ones waits in their sockets.
                    readers.wait_for(mark)
                })
            });
            let written = Instant::now();
            redis.rewrite(&all)?;
            let served = served(self.sidecar.local, !edition.is_multiple_of(2))?;
            let written = written.elapsed();
            readers.join().map_err(|_| anyhow!("a reader panicked"))??;
            anyhow::Ok((written, served))
        })?;
        let changed = begun.elapsed().as_secs_f64();

        let (asked, beside) = (asked.report()?, beside.report()?);
        ensure!(asked.seconds > changed, "the load of {} s ended before the change, {changed} s", asked.seconds);
        let read = watch.read_after_event()?;
        let applied = served.duration_since(read)?.as_secs_f64() * 1e3;
        Ok(Changed { written: written.as_secs_f64() * 1e3, applied, asked, beside })
    }
}

/// When the first flag is first answered with `wanted`.
fn served(local: SocketAddr, wanted: bool) -> anyhow::Result<SystemTime> {
    let mut stream = wire::connect(local)?;
    let request = wire::request(local, "/v1/flags/flag-0/enabled?targetingKey=u1", None, None);
    let limit = Instant::now() + Duration::from_secs(5);
    loop {
        let reply = wire::ask(&mut stream, &request)?;
        ensure!(reply.status == 200, "the flag is answered with {}", reply.status);
        if reply.body.trim_ascii() == wanted.to_string().as_bytes() {
            return Ok(SystemTime::now());
        }
        ensure!(Instant::now() < limit, "the change was not served within 5 s");
        // Asked without a pause it would take the core from what is measured.
        sleep(Duration::from_micros(300));
    }
}
