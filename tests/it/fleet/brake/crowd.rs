//! Fifty instances of one database, and what a load balancer makes of their verdicts while it is away.

use std::time::Duration;

use tidegate::fleet::Pace;
use tokio::time::{Instant, sleep};

use super::{Database, Replica, complete};
use crate::fleet::settings;
use crate::support::eventually;
use crate::support::redis::Redis;

const INSTANCES: usize = 50;

/// A fifth of the default times, but for how long a heartbeat is good: a busy machine must not make suspects.
const INTERVAL: Duration = Duration::from_secs(1);

fn pace() -> Pace {
    Pace {
        every: Duration::from_millis(600),
        failing: Duration::from_millis(200),
        spread: Duration::from_millis(40),
        good: Duration::from_secs(20),
        ..Pace::default()
    }
}

/// What became of the requests of one phase.
#[derive(Debug, Default)]
struct Tally {
    served: u32,
    refused: u32,
    fewest: usize,
}

/// Sends requests to the ready ones in turn, at an even rate, until `over`.
async fn balance(replicas: &[Replica], mut over: impl FnMut(&Tally) -> bool) -> Tally {
    let mut tally = Tally { fewest: INSTANCES, ..Tally::default() };
    while !over(&tally) {
        let now = Instant::now();
        let ready = replicas.iter().filter(|replica| replica.board.snapshot().answer(now).0).count();
        tally.fewest = tally.fewest.min(ready);
        if ready > 0 {
            tally.served += 10
        } else {
            tally.refused += 10
        }
        sleep(Duration::from_millis(10)).await;
    }
    tally
}

async fn outage(threshold: Option<f64>) -> (Tally, Tally) {
    let (redis, mut database) = (Redis::start(), Database::start());
    let url = redis.url();
    let replica = |n: usize| {
        let mut settings = settings(&url, &format!("r{n}"));
        settings.brake.panic_threshold = threshold;
        Replica::with(&settings, database.check(INTERVAL), pace())
    };
    let replicas: Vec<Replica> = (0..INSTANCES).map(replica).collect();
    complete(&redis, &replicas).await;
    database.stop();
    let ended = Instant::now() + Duration::from_secs(8);
    let failing = |replica: &Replica| replica.readyz().1["checks"]["db"] == "failed";
    // At least so long, and until everybody has seen it.
    let away = balance(&replicas, |_| Instant::now() > ended && replicas.iter().all(failing)).await;
    database.resume();
    let back = balance(&replicas, |_| replicas.iter().all(|replica| replica.readyz().1["checks"]["db"] == "ok")).await;
    (away, back)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_loses_its_database_goes_on_with_the_brake_and_is_gone_without() {
    let (away, back) = outage(Some(0.5)).await;
    eprintln!("{INSTANCES} instances, brake on: away {away:?}, back {back:?}");
    assert_eq!((away.refused, back.refused), (0, 0));
    assert!(away.fewest > 0 && away.served > 0);
    let (away, back) = outage(None).await;
    eprintln!("{INSTANCES} instances, brake off: away {away:?}, back {back:?}");
    assert_eq!(away.fewest, 0);
    assert!(away.refused > 0, "{away:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_large_fleet_one_instances_fault_takes_out_that_one() {
    let redis = Redis::start();
    let url = redis.url();
    let (database, mut own) = (Database::start(), Database::start());
    let replica = |n: usize| {
        let check = if n == 0 { own.check(INTERVAL) } else { database.check(INTERVAL) };
        Replica::start(&url, &format!("r{n}"), check, pace())
    };
    let replicas: Vec<Replica> = (0..INSTANCES).map(replica).collect();
    complete(&redis, &replicas).await;
    own.stop();
    let ended = Instant::now() + Duration::from_secs(3);
    let tally = balance(&replicas, |tally| Instant::now() > ended && tally.fewest < INSTANCES).await;
    assert_eq!(replicas[0].readyz().0, 503);
    eprintln!("{INSTANCES} instances, one with a fault of its own: {tally:?}");
    assert_eq!((tally.fewest, tally.refused), (INSTANCES - 1, 0));
    let said = format!("off, db failing on 1 of {INSTANCES} instances");
    replicas[0].says(503, Some(&said)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_that_do_not_recover_leave_one_by_one() {
    const BROKEN: usize = 10;
    let redis = Redis::start();
    let url = redis.url();
    let (mut database, mut broken) = (Database::start(), Database::start());
    let replica = |n: usize| {
        let mut settings = settings(&url, &format!("r{n}"));
        // A third of it is longer than any instance waits to hear of the others.
        settings.brake.hold = Duration::from_secs(24);
        let way = if n < BROKEN { &broken } else { &database };
        Replica::with(&settings, way.check(INTERVAL), pace())
    };
    let replicas: Vec<Replica> = (0..INSTANCES).map(replica).collect();
    complete(&redis, &replicas).await;
    database.stop();
    broken.stop();
    for replica in &replicas {
        replica.says(200, Some("db failing on 50 of 50 instances")).await;
    }
    database.resume();
    let mut left = [None; BROKEN];
    let began = Instant::now();
    eventually(crate::fleet::PATIENCE, "all that are broken have left", async || {
        for (left, replica) in left.iter_mut().zip(&replicas) {
            if left.is_none() && replica.readyz().0 == 503 {
                *left = Some(began.elapsed());
            }
        }
        left.iter().all(Option::is_some)
    })
    .await;
    let moments: Vec<u128> = left.iter().flatten().map(Duration::as_millis).collect();
    eprintln!("{BROKEN} of {INSTANCES} did not recover; they left after these ms: {moments:?}");
    let (first, last) = (moments.iter().min().unwrap(), moments.iter().max().unwrap());
    assert!(last - first > 1000, "of 16 s over which chance spreads them: {moments:?}");
    assert!(replicas[BROKEN..].iter().all(|replica| replica.readyz().0 == 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_that_swings_around_the_threshold_turns_the_brake_once() {
    let redis = Redis::start();
    let url = redis.url();
    let mut ways: Vec<Database> = (0..10).map(|_| Database::start()).collect();
    let replica = |n: usize| Replica::start(&url, &format!("r{n}"), ways[n].check(INTERVAL / 5), pace());
    let replicas: Vec<Replica> = (0..10).map(replica).collect();
    complete(&redis, &replicas).await;
    ways[..4].iter_mut().for_each(Database::stop);
    for _ in 0..4 {
        ways[4..6].iter_mut().for_each(Database::stop);
        replicas[0].says(200, Some("db failing on 6 of 10 instances")).await;
        ways[4..6].iter_mut().for_each(Database::resume);
        replicas[0].says(200, Some("db failing on 4 of 10 instances")).await;
    }
    for replica in &replicas[..4] {
        replica.says(200, Some("db failing on 4 of 10 instances")).await;
        let turns = replica.member.metric("tidegate_brake_turns_total{check=\"db\"}");
        assert_eq!(turns, 1.0, "it turned once");
    }
    eventually(crate::fleet::PATIENCE, "the others are ready", async || {
        replicas.iter().all(|replica| replica.readyz().0 == 200)
    })
    .await;
}
