//! A thousand instances at one Redis: what their heartbeats cost it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{PATIENCE, Pace, Running, listed, settings};
use crate::support::eventually;
use crate::support::redis::Redis;

const INSTANCES: usize = 1000;

/// Calls of each command so far, and the time they took, in microseconds.
async fn statistics(redis: &Redis) -> BTreeMap<String, (u64, u64)> {
    let mut raw = redis.client().await;
    let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut raw).await.unwrap();
    let field = |rest: &str, name: &str| {
        let value = rest.split(',').find_map(|field| field.strip_prefix(name)).unwrap();
        value.parse::<u64>().unwrap()
    };
    let lines = info.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(':'));
    lines.map(|(name, rest)| (name.to_owned(), (field(rest, "calls="), field(rest, "usec=")))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_instances_cost_five_commands_a_heartbeat() {
    let redis = Redis::start();
    let url = redis.url();
    // Good for long: a busy machine must not make suspects.
    let pace = Pace { good: Duration::from_secs(60), answer: Duration::from_secs(20), ..Pace::default() };
    let members: Vec<Running> =
        (0..INSTANCES).map(|n| Running::start(&settings(&url, &format!("r{n}")), pace.clone())).collect();
    eventually(PATIENCE * 3, "all are registered", async || listed(&url).await.len() == INSTANCES).await;
    for member in &members {
        member.registered().await;
    }
    let (before, began) = (statistics(&redis).await, Instant::now());
    let beaten = |at: &BTreeMap<String, (u64, u64)>| at.get("evalsha").map_or(0, |(calls, _)| *calls);
    let (goal, mut after) = (beaten(&before) + 3 * INSTANCES as u64, BTreeMap::new());
    eventually(PATIENCE * 3, "each has sent three heartbeats, more or less", async || {
        after = statistics(&redis).await;
        beaten(&after) >= goal
    })
    .await;
    let took = began.elapsed();
    let calls = |name: &str| {
        let of = |at: &BTreeMap<String, (u64, u64)>| at.get(name).map_or(0, |(calls, _)| *calls);
        of(&after) - of(&before)
    };
    let busy = after.get("evalsha").unwrap().1 - before.get("evalsha").unwrap().1;
    let beats = calls("evalsha");
    let all: u64 = ["evalsha", "time", "hget", "hset", "zcount", "zadd", "set"].map(calls).iter().sum();
    let second = took.as_secs_f64();
    eprintln!(
        "{INSTANCES} instances: {:.0} heartbeats/s, {:.0} commands/s in all, {:.1} us each, {:.2} % of one CPU of redis",
        beats as f64 / second,
        all as f64 / second,
        busy as f64 / beats as f64,
        busy as f64 / 1e4 / second
    );
    assert!(beats > 0);
    assert_eq!(calls("hset") + calls("set") + calls("eval"), 0, "nothing is said twice");
    for name in ["time", "hget", "zcount", "zadd"] {
        // One that was under way at either end counts in part.
        assert!(calls(name).abs_diff(beats) <= 2, "{name}: {} for {beats} heartbeats", calls(name));
    }
    let known: Vec<&String> = after.keys().filter(|name| calls(name) >= beats).collect();
    assert_eq!(known, ["evalsha", "hget", "time", "zadd", "zcount"], "and no other command grows with them");
}
