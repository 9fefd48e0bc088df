//! Who is in the fleet: heartbeats, goodbyes, suspects, places taken over, and a Redis that goes away.

use std::time::Duration;

use redis::AsyncCommands as _;
use tidegate::fleet::{Evicted, Heartbeat, MOST, Pace, evict};
use tidegate::net::redis::Endpoint;
use tidegate::secret::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{PATIENCE, Running, fleet_is, keys, listed, pods, quick, settings};
use crate::support::chaos::Chaos;
use crate::support::deployment::Server;
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::redis::Redis;

async fn evicted(url: &Secret, id: &str) -> Evicted {
    let mut connection = Endpoint::new(url).unwrap().connect(PATIENCE).await.unwrap();
    evict(&mut connection, &keys(), id).await.unwrap()
}

#[tokio::test]
async fn an_instance_is_known_by_what_it_says_until_its_goodbye() {
    let redis = Redis::start();
    let url = redis.url();
    let a = Running::quick(&url, "a");
    let b = Running::quick(&url, "b");
    fleet_is(&url, &["a", "b"]).await;
    let all = listed(&url).await;
    assert_eq!((all[0].id.as_str(), all[0].says.version.as_deref()), ("uid-of-a", Some("1.4.2")));
    assert!(all[0].says.ready && all[0].joined.is_some());
    assert!(matches!(all[0].heard, Heartbeat::Live(_)), "{all:?}");
    {
        let mut says = a.says.lock().unwrap();
        says.ready = false;
        says.failing = vec!["db".to_owned()];
        says.flags.insert("orders".to_owned(), 42);
    }
    eventually(PATIENCE, "what changed is known", async || {
        let says = &listed(&url).await[0].says;
        !says.ready && says.failing == ["db"] && says.flags.get("orders") == Some(&42)
    })
    .await;
    a.handle.leave(PATIENCE).await;
    assert_eq!(pods(&url).await, ["b"]);
    b.handle.leave(PATIENCE).await;
    let left: Vec<String> = redis.client().await.keys("*").await.unwrap();
    let expires = |key: &String| key.ends_with(":young") || key.contains(":left:");
    assert!(left.iter().all(expires), "nothing stays but what expires: {left:?}");
}

#[tokio::test]
async fn an_instance_that_is_gone_without_a_word_is_suspect_until_somebody_says_that_it_is_gone() {
    let redis = Redis::start();
    let url = redis.url();
    let short = Pace { good: Duration::from_millis(400), ..quick() };
    let killed = Running::start(&settings(&url, "a"), short);
    let other = Running::quick(&url, "b");
    fleet_is(&url, &["a", "b"]).await;
    drop(killed);
    fleet_is(&url, &["a?", "b"]).await;
    other.beats("ok", 20).await;
    assert_eq!(pods(&url).await, ["a?", "b"], "it does not go away by itself");
    assert!(matches!(evicted(&url, "uid-of-b").await, Evicted::Live(_)));
    assert_eq!(evicted(&url, "nobody").await, Evicted::Absent);
    assert_eq!(evicted(&url, "uid-of-a").await, Evicted::Done);
    assert_eq!(pods(&url).await, ["b"]);
}

#[tokio::test]
async fn the_next_boot_of_a_pod_takes_the_place_of_the_one_before() {
    let redis = Redis::start();
    let url = redis.url();
    let short = Pace { good: Duration::from_millis(400), ..quick() };
    drop({
        let killed = Running::start(&settings(&url, "a"), short);
        killed.registered().await;
        killed
    });
    fleet_is(&url, &["a?"]).await;
    let next = Running::quick(&url, "a");
    next.registered().await;
    assert_eq!(pods(&url).await, ["a"]);
    // One that comes before the last heartbeat of the one before it has expired is no different.
    drop(next);
    let _next = Running::quick(&url, "a");
    fleet_is(&url, &["a"]).await;
}

#[tokio::test]
async fn two_processes_of_one_pod_are_two_instances() {
    let redis = Redis::start();
    let url = redis.url();
    let first = Running::quick(&url, "a");
    first.registered().await;
    let second = Running::quick(&url, "a");
    fleet_is(&url, &["a", "a"]).await;
    first.beats("ok", 10).await;
    second.beats("ok", 10).await;
    let ids: Vec<String> = listed(&url).await.into_iter().map(|instance| instance.id).collect();
    assert!(
        ids.len() == 2 && ids.contains(&"uid-of-a".to_owned()) && ids.iter().any(|id| id.starts_with("a/")),
        "{ids:?}"
    );
    first.handle.leave(PATIENCE).await;
    second.handle.leave(PATIENCE).await;
    assert!(pods(&url).await.is_empty());
}

#[tokio::test]
async fn a_heartbeat_is_one_round_trip_and_says_only_what_changed() {
    let redis = Redis::start();
    let url = redis.url();
    let member = Running::quick(&url, "a");
    member.beats("ok", 5).await;
    let mut raw = redis.client().await;
    let calls = async |raw: &mut redis::aio::MultiplexedConnection, name: &str| {
        let info: String = redis::cmd("INFO").arg("commandstats").query_async(raw).await.unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    let (hset, zadd) = (calls(&mut raw, "hset").await, calls(&mut raw, "zadd").await);
    member.beats("ok", 30).await;
    assert_eq!(calls(&mut raw, "hset").await, hset, "nothing changed");
    assert!(calls(&mut raw, "zadd").await >= zadd + 29);
    // Heartbeats, and what reads the statistics: no other command.
    assert_eq!(calls(&mut raw, "eval").await, 1, "the script is sent once");
    member.says.lock().unwrap().phase = "lame_duck".to_owned();
    member.beats("ok", 5).await;
    assert_eq!(calls(&mut raw, "hset").await, hset + 1);
}

#[tokio::test]
async fn a_redis_that_lost_everything_is_told_anew() {
    let mut redis = Redis::start();
    let url = redis.url();
    let member = Running::quick(&url, "a");
    member.registered().await;
    let mut raw = redis.client().await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut raw).await.unwrap();
    fleet_is(&url, &["a"]).await;
    redis.kill();
    member.beats("failed", 2).await;
    assert_eq!(member.metric("tidegate_fleet_registered"), 0.0);
    redis.resume();
    fleet_is(&url, &["a"]).await;
    member.registered().await;
}

#[tokio::test]
async fn a_redis_that_hangs_or_is_cut_off_costs_a_metric_and_no_connection() {
    let redis = Redis::start();
    let chaos = Chaos::to(redis.upstream());
    let url = Secret::new(format!("redis://{}", chaos.address()));
    let impatient = Pace { answer: Duration::from_millis(200), ..quick() };
    let member = Running::start(&settings(&url, "a"), impatient);
    member.registered().await;
    assert_eq!(chaos.open(), 1, "one connection");
    redis.freeze();
    member.beats("failed", 3).await;
    redis.thaw();
    member.registered().await;
    eventually(PATIENCE, "one connection again", async || chaos.open() == 1).await;
    chaos.stall();
    member.beats("failed", 3).await;
    chaos.reset();
    member.beats("failed", 3).await;
    chaos.restore();
    member.registered().await;
    eventually(PATIENCE, "one connection again", async || chaos.open() == 1).await;
    // A goodbye that nobody hears ends in time all the same.
    redis.freeze();
    let began = std::time::Instant::now();
    member.handle.leave(Duration::from_millis(100)).await;
    assert!(began.elapsed() < PATIENCE);
    redis.thaw();
}

#[tokio::test]
async fn a_redis_that_becomes_a_replica_refuses_heartbeats_until_it_is_promoted() {
    let server = Server::start(&["--save", "", "--appendonly", "no"]);
    let url = server.url();
    let member = Running::quick(&url, "a");
    member.registered().await;
    let nobody = Port::reserve().address().port().to_string();
    let _: Option<String> = server.ask(&["REPLICAOF", "127.0.0.1", &nobody]).await;
    member.beats("refused", 3).await;
    assert_eq!(member.metric("tidegate_fleet_registered"), 0.0);
    let _: Option<String> = server.ask(&["REPLICAOF", "NO", "ONE"]).await;
    member.registered().await;
}

#[tokio::test]
async fn an_instance_counts_itself_from_its_first_heartbeat_on() {
    let redis = Redis::start();
    let url = redis.url();
    let slow = Pace { every: PATIENCE, ..quick() };
    for (count, pod) in [(1.0, "a"), (2.0, "b")] {
        let member = Running::start(&settings(&url, pod), slow.clone());
        member.registered().await;
        assert_eq!(member.metric("tidegate_fleet_instances"), count, "{pod}");
    }
}

/// A server that answers whatever comes with the same bytes.
async fn parrot(answer: &'static [u8]) -> (Secret, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Secret::new(format!("redis://{}", listener.local_addr().unwrap()));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut commands = [0; 4096];
                while let Ok(1..) = stream.read(&mut commands).await {
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (url, tasks)
}

#[tokio::test]
async fn a_server_that_lies_costs_a_metric() {
    for answer in [
        &b"+OK\r\n+OK\r\n+OK\r\n"[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"*1\r\n$2\r\nok\r\n",
        b"*5\r\n$2\r\nok\r\n$1\r\n1\r\n$2\r\n-1\r\n$1\r\n0\r\n$1\r\n0\r\n",
        b"*2\r\n$4\r\nfull\r\n$1\r\nx\r\n",
    ] {
        let (url, _tasks) = parrot(answer).await;
        let impatient = Pace { answer: Duration::from_millis(500), ..quick() };
        let member = Running::start(&settings(&url, "a"), impatient);
        member.beats("failed", 2).await;
        assert_eq!(member.metric("tidegate_fleet_registered"), 0.0);
        member.handle.leave(PATIENCE).await;
    }
}

#[tokio::test]
async fn beyond_the_bound_newcomers_are_refused_and_nobody_is_dropped() {
    let redis = Redis::start();
    let url = redis.url();
    let known = Running::quick(&url, "known");
    known.registered().await;
    let mut raw = redis.client().await;
    let fill = "for i = 1, tonumber(ARGV[1]) do redis.call('HSET', KEYS[1], 'i' .. i, '{\"pod\":\"x\"}') end";
    let _: () =
        redis::cmd("EVAL").arg(fill).arg(1).arg(keys().instances).arg(MOST - 1).query_async(&mut raw).await.unwrap();
    let newcomer = Running::quick(&url, "newcomer");
    newcomer.beats("refused", 2).await;
    known.says.lock().unwrap().phase = "lame_duck".to_owned();
    known.beats("ok", 5).await;
    let all = listed(&url).await;
    assert_eq!(all.len(), MOST);
    assert!(all.iter().any(|instance| instance.says.phase == "lame_duck"));
    let _: u64 = raw.hdel(keys().instances, "i1").await.unwrap();
    newcomer.registered().await;
}

#[tokio::test]
async fn what_others_left_in_its_keys_stops_nobody_from_listing() {
    let redis = Redis::start();
    let url = redis.url();
    let mut raw = redis.client().await;
    for (id, text) in [("x", "no JSON"), ("y", "[1]"), ("z", r#"{"pod":7}"#), ("w", r#"{"pod":"w","later":{"a":1}}"#)] {
        let _: () = raw.hset(keys().instances, id, text).await.unwrap();
    }
    let _: () = raw.zadd(keys().alive, "z", "inf").await.unwrap();
    let _: () = raw.hset(keys().instances, "uid-of-a", "not of any boot").await.unwrap();
    let member = Running::quick(&url, "a");
    member.registered().await;
    let all = listed(&url).await;
    let ids: Vec<&str> = all.iter().map(|instance| instance.id.as_str()).collect();
    assert_eq!(ids, ["x", "y", "z", "uid-of-a", "w"]);
    assert_eq!(evicted(&url, "x").await, Evicted::Done);
}

#[tokio::test]
async fn a_key_of_another_type_is_refused_and_tried_again_until_it_is_gone() {
    let redis = Redis::start();
    let url = redis.url();
    let mut raw = redis.client().await;
    let _: () = raw.set(keys().instances, "a text").await.unwrap();
    let member = Running::quick(&url, "a");
    member.beats("refused", 2).await;
    let _: () = raw.del(keys().instances).await.unwrap();
    member.registered().await;
    fleet_is(&url, &["a"]).await;
}
