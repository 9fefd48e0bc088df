//! When the brake does not hold though a check fails everywhere, as far as it looks: nothing is braked by silence, by what
//! is old, or before it is known.

use std::time::Duration;

use redis::AsyncCommands as _;
use tidegate::fleet::Pace;
use tidegate::readiness::Patience;
use tidegate::readiness::settings::{Check, Kind, Redis as Asked};

use super::{Database, INTERVAL, Replica, complete, ever_left, fleet, grown};
use crate::fleet::{PATIENCE, keys, quick, settings};
use crate::support::deployment::Server;
use crate::support::port::Port;
use crate::support::redis::Redis;

const UNASKED: &str = "off, redis cannot be asked how many fail db";

#[tokio::test]
async fn one_instance_alone_cannot_tell_its_own_fault_from_everybodys() {
    let (redis, mut database) = (Redis::start(), Database::start());
    let replicas = fleet(&redis, &database, 1).await;
    database.stop();
    replicas[0].says(503, Some("off, db failing on 1 of 1 instances, too few to tell")).await;
}

#[tokio::test]
async fn when_redis_cannot_be_asked_the_checks_own_class_applies() {
    let (mut redis, mut database) = (Redis::start(), Database::start());
    let url = redis.url();
    let impatient = Pace { answer: Duration::from_millis(200), ..quick() };
    let replica = |n: usize| Replica::start(&url, &format!("r{n}"), database.check(INTERVAL), impatient.clone());
    let replicas: Vec<Replica> = (0..3).map(replica).collect();
    complete(&redis, &replicas).await;
    redis.freeze();
    replicas[0].member.beats("failed", 2).await;
    database.stop();
    for replica in &replicas {
        replica.says(503, Some(UNASKED)).await;
    }
    redis.thaw();
    for replica in &replicas {
        replica.says(200, Some("db failing on 3 of 3 instances")).await;
    }
    redis.kill();
    redis.resume();
    // It knows nothing any more: what was said before is believed for a while, by when the fleet is known again.
    for replica in &replicas {
        replica.member.beats("ok", 2).await;
    }
    grown(&redis).await;
    for replica in &replicas {
        replica.member.beats("ok", 2).await;
        replica.says(200, Some("db failing on 3 of 3 instances")).await;
    }
}

#[tokio::test]
async fn a_brake_that_is_off_by_configuration_says_so_also_when_nobody_counts() {
    let (mut redis, mut database) = (Redis::start(), Database::start());
    let mut settings = settings(&redis.url(), "r");
    settings.brake.panic_threshold = None;
    let replica = Replica::with(&settings, database.check(INTERVAL), quick());
    complete(&redis, std::slice::from_ref(&replica)).await;
    database.stop();
    replica.says(503, Some("off by panic_threshold, db failing on 1 of 1 instances")).await;
    redis.kill();
    replica.says(503, Some("off by panic_threshold, how many fail db is not known")).await;
    redis.resume();
    // It has just begun to hear of the fleet.
    replica.member.beats("ok", 2).await;
    replica.says(503, Some("off by panic_threshold, how many fail db is not known")).await;
}

#[tokio::test]
async fn a_redis_that_is_a_replica_is_said_to_be_one() {
    let (server, mut database) = (Server::start(&["--save", "", "--appendonly", "no"]), Database::start());
    let replica = Replica::start(&server.url(), "r", database.check(INTERVAL), quick());
    replica.member.registered().await;
    replica.says(200, None).await;
    let nobody = Port::reserve().address().port().to_string();
    let _: Option<String> = server.ask(&["REPLICAOF", "127.0.0.1", &nobody]).await;
    database.stop();
    replica.says(503, Some("off, redis is a read-only replica: how many fail db is not known")).await;
}

#[tokio::test]
async fn something_is_said_of_the_brake_before_redis_is_given_up() {
    let (redis, mut database) = (Redis::start(), Database::start());
    let replica = Replica::start(&redis.url(), "r", database.check(INTERVAL), Pace { answer: PATIENCE, ..quick() });
    complete(&redis, std::slice::from_ref(&replica)).await;
    replica.board.ask(Patience { word: Duration::from_millis(100), report: Duration::from_millis(500) });
    redis.freeze();
    database.stop();
    replica.says(503, Some("off, nobody told in time how many fail db")).await;
    redis.thaw();
}

#[tokio::test]
async fn what_was_said_of_the_fleet_is_not_believed_for_long() {
    let (redis, mut database) = (Redis::start(), Database::start());
    let url = redis.url();
    let brief = Pace { answer: Duration::from_millis(300), keep: Duration::from_secs(1), ..quick() };
    let replica = |n: usize| Replica::start(&url, &format!("r{n}"), database.check(INTERVAL), brief.clone());
    let replicas: Vec<Replica> = (0..3).map(replica).collect();
    complete(&redis, &replicas).await;
    database.stop();
    for replica in &replicas {
        replica.says(200, Some("db failing on 3 of 3 instances")).await;
    }
    redis.freeze();
    for replica in &replicas {
        replica.says(503, Some(UNASKED)).await;
    }
}

#[tokio::test]
async fn a_brake_that_holds_outlives_a_redis_that_stalls_or_loses_what_it_knew() {
    let (mut redis, mut database) = (Redis::start(), Database::start());
    let url = redis.url();
    let good = Duration::from_secs(2);
    let brief = Pace { answer: Duration::from_millis(300), good, ..quick() };
    let replica = |n: usize| Replica::start(&url, &format!("r{n}"), database.check(INTERVAL), brief.clone());
    let replicas: Vec<Replica> = (0..3).map(replica).collect();
    complete(&redis, &replicas).await;
    database.stop();
    let (holds, kept) = ("db failing on 3 of 3 instances", "db failing on 3 of 3 instances when last told");
    for replica in &replicas {
        replica.says(200, Some(holds)).await;
    }
    redis.freeze();
    for replica in &replicas {
        replica.says(200, Some(kept)).await;
    }
    // What Redis knows expires by its own clock.
    tokio::time::sleep(good + Duration::from_millis(500)).await;
    redis.thaw();
    for replica in &replicas {
        replica.says(200, Some(holds)).await;
    }
    let young: bool = redis.client().await.exists(keys().young).await.unwrap();
    assert!(!young, "those that went silent are remembered");
    redis.kill();
    redis.resume();
    for replica in &replicas {
        replica.member.beats("ok", 2).await;
        replica.says(200, Some(kept)).await;
    }
    grown(&redis).await;
    for replica in &replicas {
        replica.says(200, Some(holds)).await;
    }
    assert!(!replicas.iter().any(ever_left), "{:?}", replicas[0].board.history());
}

#[tokio::test]
async fn redis_that_is_itself_what_failed_brakes_nothing() {
    let mut redis = Redis::start();
    let url = redis.url();
    let check = |url: &tidegate::secret::Secret| Check {
        interval: INTERVAL,
        timeout: Duration::from_secs(5),
        max_staleness: Duration::from_secs(600),
        ..Check::new("db", Kind::Redis(Asked::new(url.clone())))
    };
    assert!(check(&url).shared, "as it is by default");
    let replicas: Vec<Replica> = (0..3).map(|n| Replica::start(&url, &format!("r{n}"), check(&url), quick())).collect();
    complete(&redis, &replicas).await;
    redis.kill();
    for replica in &replicas {
        replica.says(503, Some(UNASKED)).await;
    }
    redis.resume();
    for replica in &replicas {
        replica.says(200, None).await;
    }
}

#[tokio::test]
async fn an_instance_on_which_it_never_passed_is_not_ready_whatever_fails_elsewhere() {
    let (redis, mut database) = (Redis::start(), Database::start());
    let replicas = fleet(&redis, &database, 3).await;
    database.stop();
    for replica in &replicas {
        replica.says(200, Some("db failing on 3 of 3 instances")).await;
    }
    let newcomer = Replica::start(&redis.url(), "new", database.check(INTERVAL), quick());
    newcomer.says(503, Some("off, db has not passed since the start")).await;
    replicas[0].says(200, Some("db failing on 4 of 4 instances")).await;
    database.resume();
    newcomer.says(200, None).await;
}

#[tokio::test]
async fn a_fleet_that_has_just_begun_to_be_heard_of_is_not_braked() {
    let (redis, mut database) = (Redis::start(), Database::start());
    let url = redis.url();
    let replica = |n: usize| Replica::start(&url, &format!("r{n}"), database.check(INTERVAL), quick());
    let replicas: Vec<Replica> = (0..2).map(replica).collect();
    for replica in &replicas {
        replica.says(200, None).await;
        replica.member.registered().await;
    }
    database.stop();
    for replica in &replicas {
        replica.says(503, Some("off, how many fail db is not known yet")).await;
    }
    grown(&redis).await;
    for replica in &replicas {
        replica.says(200, Some("db failing on 2 of 2 instances")).await;
    }
}

#[tokio::test]
async fn what_is_old_counts_for_nothing_and_who_went_silent_lately_counts_as_not_failing() {
    let redis = Redis::start();
    let url = redis.url();
    let mut ways: Vec<Database> = (0..3).map(|_| Database::start()).collect();
    let replica = |n: usize| Replica::start(&url, &format!("r{n}"), ways[n].check(INTERVAL), quick());
    let replicas: Vec<Replica> = (0..3).map(replica).collect();
    complete(&redis, &replicas).await;
    let mut raw = redis.client().await;
    let (seconds, _): (i64, i64) = redis::cmd("TIME").query_async(&mut raw).await.unwrap();
    let now = seconds * 1000;
    // Registrations that expired, of instances that are long gone.
    for ghost in 0..5 {
        let _: u64 = raw.zadd(keys().failing("db"), format!("ghost{ghost}"), now - 1).await.unwrap();
        let _: u64 = raw.zadd(keys().alive, format!("ghost{ghost}"), now - 3_600_000).await.unwrap();
    }
    ways[0].stop();
    replicas[0].says(503, Some("off, db failing on 1 of 3 instances")).await;
    // Two more that fell silent a minute ago.
    for silent in 0..2 {
        let _: u64 = raw.zadd(keys().alive, format!("silent{silent}"), now - 60_000).await.unwrap();
    }
    replicas[0].says(503, Some("off, db failing on 1 of 5 instances")).await;
    ways[1].stop();
    replicas[1].says(503, Some("off, db failing on 2 of 5 instances")).await;
    ways[2].stop();
    replicas[2].says(200, Some("db failing on 3 of 5 instances")).await;
}
