//! A thousand readers of the event streams: what each holds, what telling it of a change costs, when the last one has it.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::memory::SETTLE;
use crate::child::Running;
use crate::contender;
use crate::flags;
use crate::lab::{Cores, Lab};
use crate::readers::{Readers, Stream};
use crate::redis::{EVENTS, Redis};
use crate::report::{Row, Target};
use crate::series::Series;
use crate::tidegate::Setup;
use crate::usage::{self, Clock};

const READERS: usize = 1000;
const WRITES: usize = 20;
/// More than a quick run's tell nothing more.
const ROUNDS: usize = 5;

/// One kind of stream, and the server of its own that serves it.
struct Contender {
    name: &'static str,
    running: Running,
    address: SocketAddr,
    stream: Stream,
    /// What is told to everybody who connects; over gRPC that ends with the last of all flags, by name.
    greeting: &'static str,
    /// What of an event is waited for, if it is not the name of the flag.
    mark: Option<&'static str>,
    figures: Figures,
}

#[derive(Default)]
struct Figures {
    /// KiB for each reader, before the first event and after the last.
    memory: Series,
    memory_after: Series,
    /// Microseconds for each change and reader.
    cpu: Series,
    /// Milliseconds from before the write until the last reader has it.
    last: Series,
}

pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let origin = contender::origin(lab, Cores::Any)?;
    let mut redis = Redis::start(lab)?;
    redis.fill(&flags::all())?;
    let at = redis.address.to_string();
    let bare = contender::baseline(lab, Cores::One, "broadcast", "broadcast", &["--redis", &at, "--channel", EVENTS])?;
    let mut contenders = vec![Contender {
        name: "broadcast",
        running: bare.running,
        address: bare.address,
        stream: Stream::Http("/"),
        greeting: "here they come",
        mark: None,
        figures: Figures::default(),
    }];
    let own = [
        ("tidegate", Stream::Http("/v1/flags/events"), "event: ready", None),
        ("OFREP", Stream::Http("/ofrep/v1/events"), "refetchEvaluation", Some("refetchEvaluation")),
        ("gRPC", Stream::Grpc("/flagd.evaluation.v2.Service/EventStream"), "flag-999", None),
    ];
    for (name, stream, greeting, mark) in own {
        let setup = Setup { redis: Some(redis.address), ..Setup::new(Cores::One, 1, origin.address) };
        let Some(sidecar) = setup.start(lab)? else { continue };
        let (running, address) = (sidecar.running, sidecar.local);
        contenders.push(Contender { name, running, address, stream, greeting, mark, figures: Figures::default() });
    }
    redis.wait_for_subscribers(contenders.len())?;

    let mut written = 0;
    for round in lab.rounds().take(ROUNDS) {
        for turn in 0..contenders.len() {
            let at = (round + turn) % contenders.len();
            let contender = &mut contenders[at];
            contender.measure(&mut redis, round, &mut written).with_context(|| contender.name)?;
        }
    }
    Ok(rows(contenders))
}

impl Contender {
    fn measure(&mut self, redis: &mut Redis, round: usize, written: &mut usize) -> anyhow::Result<()> {
        let pids = self.running.pids()?;
        let before = usage::resident(&pids)?;
        let mut readers = Readers::connect(READERS, self.address, self.stream)?;
        readers.wait_for(self.greeting)?;
        // Once: later readers get the memory that the first ones left.
        if round == 0 {
            sleep(SETTLE);
            self.figures.memory.push(each(usage::resident(&pids)?.saturating_sub(before)));
        }
        let clock = Clock::read(&pids)?;
        let mut took = Vec::with_capacity(WRITES);
        for _ in 0..WRITES {
            took.push(self.tell(redis, &mut readers, written)?);
        }
        let spent = Clock::read(&pids)?.since(&clock);
        self.figures.cpu.push(each(spent.as_micros() as u64) / WRITES as f64);
        took.sort();
        self.figures.last.push(took[WRITES / 2].as_secs_f64() * 1e3);
        if round == 0 {
            sleep(SETTLE);
            self.figures.memory_after.push(each(usage::resident(&pids)?.saturating_sub(before)));
        }
        Ok(())
    }

    /// Changes a flag; how long until the last reader knows.
    fn tell(&self, redis: &mut Redis, readers: &mut Readers, written: &mut usize) -> anyhow::Result<Duration> {
        // Of three digits, so that no name is the beginning of another one.
        let key = format!("flag-{}", 100 + *written % 900);
        *written += 1;
        let begun = Instant::now();
        redis.write(&key, &changed(*written))?;
        readers.wait_for(self.mark.unwrap_or(&key))?;
        Ok(begun.elapsed())
    }
}

fn each(all: u64) -> f64 {
    all as f64 / READERS as f64
}

fn changed(number: usize) -> Value {
    json!({
        "state": "ENABLED",
        "variants": { "on": true, "off": false },
        "defaultVariant": "on",
        "metadata": { "change": number },
    })
}

fn rows(contenders: Vec<Contender>) -> Vec<Row> {
    let row = |what: &str, unit, pick: fn(&Figures) -> &Series| {
        let mut tidegate = None;
        let mut peers = Vec::new();
        for Contender { name, figures, .. } in &contenders {
            match *name {
                "tidegate" => tidegate = Some(pick(figures).clone()),
                name => peers.push((name.to_owned(), pick(figures).clone())),
            }
        }
        let what = format!("{READERS} readers of the event stream, {what}");
        Row { what, unit, tidegate, peers, target: Target::Beside("broadcast"), failed: 0 }
    };
    vec![
        row("memory each", "KiB", |figures| &figures.memory),
        row("memory each after changes", "KiB", |figures| &figures.memory_after),
        row("CPU per change and reader", "µs", |figures| &figures.cpu),
        row("write to the last reader", "ms", |figures| &figures.last),
    ]
}
