//! From the moment before a flag is written to Redis until the sidecar serves the new value, alone and in a fleet.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::child::Running;
use crate::contender;
use crate::flags;
use crate::lab::{Cores, Lab};
use crate::redis::{EVENTS, Redis};
use crate::report::{Row, Target};
use crate::series::Series;
use crate::tidegate::{Setup, Sidecar};
use crate::wire;

const WRITES: usize = 100;
const KEY: &str = "flag-0";

/// How many sidecars follow the same Redis, the measured one among them.
const FLEETS: [usize; 2] = [1, 200];

/// Medians and high percentiles in milliseconds, round by round.
#[derive(Default)]
struct Figures {
    p50: Series,
    p99: Series,
}

pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let at = contender::origin(lab, Cores::Any)?;
    let mut redis = Redis::start(lab)?;
    redis.fill(&flags::all())?;
    let sidecar = Setup { redis: Some(redis.address), ..Setup::new(Cores::Any, 1, at.address) }.start(lab)?;
    let mut rows = Vec::new();
    for fleet in FLEETS {
        let _others = crowd(lab, &mut redis, fleet - 1, usize::from(sidecar.is_some()))?;
        let (mut own, mut floor) = (None::<Figures>, Figures::default());
        for _ in lab.rounds() {
            floor.take(heard(&mut redis)?);
            if let Some(sidecar) = &sidecar {
                own.get_or_insert_default().take(served(&mut redis, sidecar)?);
            }
        }
        let (p50, p99) = own.map_or((None, None), |own| (Some(own.p50), Some(own.p99)));
        let row = |what: &str, tidegate, floor, target| {
            let peers = vec![("bare subscriber".to_owned(), floor)];
            let place = if fleet == 1 { "alone".to_owned() } else { format!("one of {fleet}") };
            let what = format!("Redis write to served, {place}, {what}");
            Row { what, unit: "ms", tidegate, peers, target, failed: 0 }
        };
        rows.push(row("p50", p50, floor.p50, Target::Context));
        rows.push(row("p99", p99, floor.p99, Target::Below(5.0)));
    }
    Ok(rows)
}

/// This many others that follow the same events, beside `there` who do already.
fn crowd(lab: &Lab, redis: &mut Redis, others: usize, there: usize) -> anyhow::Result<Option<Running>> {
    if others == 0 {
        return Ok(None);
    }
    let mut command = lab.role("subscribers");
    command.args(["--redis", &redis.address.to_string(), "--channel", EVENTS, "--count", &others.to_string()]);
    let running = Running::start("subscribers", &lab.scratch("subscribers")?, command)?;
    redis.wait_for_subscribers(others + there)?;
    Ok(Some(running))
}

impl Figures {
    fn take(&mut self, mut took: Vec<Duration>) {
        took.sort();
        let at = |share: usize| took[WRITES * share / 100].as_secs_f64() * 1e3;
        self.p50.push(at(50));
        self.p99.push(at(99));
    }
}

/// The floor: until a subscriber that does nothing else has the event.
fn heard(redis: &mut Redis) -> anyhow::Result<Vec<Duration>> {
    let mut connection = redis.subscriber()?;
    let mut events = connection.as_pubsub();
    events.subscribe(EVENTS)?;
    let mut took = Vec::with_capacity(WRITES);
    for number in 0..WRITES {
        let begun = Instant::now();
        redis.write(KEY, &toggled(number))?;
        events.get_message()?;
        took.push(begun.elapsed());
    }
    Ok(took)
}

/// Until the app, asking again and again over one connection, gets the new value.
fn served(redis: &mut Redis, sidecar: &Sidecar) -> anyhow::Result<Vec<Duration>> {
    let mut stream = wire::connect(sidecar.local)?;
    let request = wire::request(sidecar.local, &format!("/v1/flags/{KEY}/enabled?targetingKey=u1"), None, None);
    let mut took = Vec::with_capacity(WRITES);
    for number in 0..WRITES {
        let wanted = number.is_multiple_of(2).to_string();
        let begun = Instant::now();
        redis.write(KEY, &toggled(number))?;
        loop {
            let reply = wire::ask(&mut stream, &request)?;
            ensure!(reply.status == 200, "the flag is answered with {}", reply.status);
            if reply.body.trim_ascii() == wanted.as_bytes() {
                break;
            }
            ensure!(begun.elapsed() < Duration::from_secs(5), "a write was not served within 5 s");
        }
        took.push(begun.elapsed());
    }
    Ok(took)
}

/// The flag with its default variant on and off in turn; on first, which [`flags::all`] has off.
fn toggled(number: usize) -> Value {
    let variant = if number.is_multiple_of(2) { "on" } else { "off" };
    json!({ "state": "ENABLED", "variants": { "on": true, "off": false }, "defaultVariant": variant })
}
