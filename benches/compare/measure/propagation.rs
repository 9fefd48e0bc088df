//! From the moment before a flag is written to Redis until the sidecar serves the new value.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::contender;
use crate::flags;
use crate::lab::{Cores, Lab};
use crate::redis::Redis;
use crate::report::{Row, Target};
use crate::series::Series;
use crate::tidegate::{Setup, Sidecar};
use crate::wire;

const WRITES: usize = 100;
const KEY: &str = "flag-0";

pub(super) fn run(lab: &Lab) -> anyhow::Result<Vec<Row>> {
    let at = contender::origin(lab, Cores::Any)?;
    let mut redis = Redis::start(lab)?;
    redis.fill(&flags::all())?;
    let sidecar = Setup { redis: Some(redis.address), ..Setup::new(Cores::Any, 1, at.address) }.start(lab)?;
    let (mut p50, mut p99) = (None::<Series>, None::<Series>);
    let (mut floor_p50, mut floor_p99) = (Series::default(), Series::default());
    for _ in lab.rounds() {
        let (middle, high) = quantiles(heard(&mut redis)?);
        floor_p50.push(middle);
        floor_p99.push(high);
        if let Some(sidecar) = &sidecar {
            let (middle, high) = quantiles(served(&mut redis, sidecar)?);
            p50.get_or_insert_default().push(middle);
            p99.get_or_insert_default().push(high);
        }
    }
    let row = |what: &str, tidegate, floor, target| {
        let peers = vec![("bare subscriber".to_owned(), floor)];
        Row { what: what.to_owned(), unit: "ms", tidegate, peers, target, failed: 0 }
    };
    Ok(vec![
        row("Redis write to served, p50", p50, floor_p50, Target::Context),
        row("Redis write to served, p99", p99, floor_p99, Target::Below(5.0)),
    ])
}

/// The floor: until a subscriber that does nothing else has the event.
fn heard(redis: &mut Redis) -> anyhow::Result<Vec<Duration>> {
    let (mut connection, channel) = redis.subscriber()?;
    let mut events = connection.as_pubsub();
    events.subscribe(channel)?;
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
    let request = wire::request(sidecar.local, &format!("/v1/flags/{KEY}/enabled?targetingKey=u1"), None);
    let mut took = Vec::with_capacity(WRITES);
    for number in 0..WRITES {
        let wanted = number.is_multiple_of(2).to_string();
        let begun = Instant::now();
        redis.write(KEY, &toggled(number))?;
        loop {
            let (status, body) = wire::ask(&mut stream, &request)?;
            ensure!(status == 200, "the flag is answered with {status}");
            if body.trim_ascii() == wanted.as_bytes() {
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

/// Median and 99th percentile in milliseconds.
fn quantiles(mut took: Vec<Duration>) -> (f64, f64) {
    took.sort();
    let at = |share: usize| took[WRITES * share / 100].as_secs_f64();
    (at(50) * 1e3, at(99) * 1e3)
}
