//! What Redis does to its clients: limits, refusals, breaks in the middle of an answer, wrong types, clocks; and scopes
//! that are large.

use std::time::{Duration, SystemTime};

use redis::AsyncCommands as _;
use tidegate::flags::contract::{Change, Op, Place, WriteError, read, write};
use tidegate::secret::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::load;
use crate::support::chaos::Chaos;
use crate::support::flags::{Flags, Writer, number, quick, settings};
use crate::support::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_was_lost_is_made_exactly_once() {
    let redis = Redis::start();
    let mut writer = Writer::to(&redis.url(), "orders").await;
    writer.set("n", 0).await;
    let chaos = Chaos::to(redis.upstream());
    let load = load(&Secret::new(format!("redis://{}", chaos.address())), 3, 0);
    for _ in 0..30 {
        load.more(10).await;
        chaos.reset();
        chaos.restore();
    }
    load.more(10).await;
    assert!(chaos.accepted() > 30, "connections broke");
    load.stop().await.are_in_the_log_exactly_once(&mut writer).await;
}

#[tokio::test]
async fn the_same_write_sent_twice_is_answered_twice_and_made_once() {
    let redis = Redis::start();
    let mut writer = Writer::to(&redis.url(), "orders").await;
    writer.set("a", 1).await;
    let keys = writer.keys.clone();
    let mut raw = redis.client().await;
    let script = redis::Script::new(include_str!("../../../src/flags/contract/write.lua"));
    let send = async |raw: &mut redis::aio::MultiplexedConnection, name: &str, value: u64| -> Vec<String> {
        let op = serde_json::json!({ "in": "flags", "key": "a", "set": number(value) });
        let request = serde_json::json!({ "incarnation": "x", "actor": "a", "note": "", "ops": [op] });
        let mut call = script.prepare_invoke();
        call.key(&keys.flags).key(&keys.meta).key(&keys.revs).key(&keys.log).key(&keys.written);
        call.arg(&keys.events).arg(request.to_string()).arg(name).invoke_async(raw).await.unwrap()
    };
    let first = send(&mut raw, "one", 2).await;
    assert_eq!(first[..3], ["ok", "2", "1"]);
    assert_eq!(send(&mut raw, "two", 3).await[..3], ["ok", "3", "2"]);
    assert_eq!(send(&mut raw, "one", 2).await[..3], ["ok", "2", "1"], "late, and after another write");
    let remote = read(&mut writer.connection, &keys).await.unwrap();
    assert_eq!((remote.rev, remote.flags), (3, vec![("a".to_owned(), number(3))]));
    for n in 0..600 {
        send(&mut raw, &format!("n{n}"), n).await;
    }
    let remembered: u64 = raw.zcard(&keys.written).await.unwrap();
    assert_eq!(remembered, 512, "names of writes do not pile up");
}

#[tokio::test]
async fn keys_of_a_wrong_type_refuse_a_write_whole() {
    let redis = Redis::start();
    let mut raw = redis.client().await;
    let op = Op { place: Place::Flags, key: "a".to_owned(), set: Some(number(2)), expect: None };
    let change = Change { expect: None, create: true, actor: "test".to_owned(), note: String::new(), ops: vec![op] };
    for wrong in ["flags", "meta", "revs", "log", "written"] {
        let _: () = redis::cmd("FLUSHALL").query_async(&mut raw).await.unwrap();
        let mut writer = Writer::to(&redis.url(), "orders").await;
        writer.set("a", 1).await;
        let key = format!("tidegate:{{orders}}:{wrong}");
        let _: () = raw.del(&key).await.unwrap();
        let _: () = raw.set(&key, "x").await.unwrap();
        let refused = write(&mut writer.connection, &writer.keys, &change).await;
        assert!(matches!(refused, Err(WriteError::Redis(_))), "{wrong}: {refused:?}");
        if wrong != "flags" && wrong != "meta" {
            let remote = read(&mut writer.connection, &writer.keys).await.unwrap();
            assert_eq!((remote.rev, remote.flags), (1, vec![("a".to_owned(), number(1))]), "{wrong}");
        }
    }
}

#[tokio::test]
async fn a_subscriber_that_redis_cuts_off_misses_nothing() {
    let redis = Redis::start();
    let mut writer = Writer::to(&redis.url(), "orders").await;
    writer.set("a", 1).await;
    let flags = Flags::start(settings(&redis.url(), &["orders"]), quick());
    flags.until("the snapshot is applied", |flags| flags.value("a") == Some(1)).await;
    let mut raw = redis.client().await;
    // More messages at once than may wait for a reader end its connection.
    let limit = ["SET", "client-output-buffer-limit", "pubsub 65536 0 0"];
    let _: () = redis::cmd("CONFIG").arg(&limit).query_async(&mut raw).await.unwrap();
    let burst = r#"
        for i = 2, 2000 do
            local flag = '{"state":"ENABLED","variants":{"v":2},"defaultVariant":"v"}'
            redis.call('HSET', KEYS[1], 'a', flag)
            redis.call('HINCRBY', KEYS[2], 'rev', 1)
            redis.call('PUBLISH', ARGV[1], '{"rev":' .. i .. ',"prev":' .. (i - 1) .. ',"set":{"a":' .. flag .. '}}')
        end"#;
    let script = redis::Script::new(burst);
    let mut call = script.prepare_invoke();
    call.key(&writer.keys.flags).key(&writer.keys.meta).arg(&writer.keys.events);
    let _: () = call.invoke_async(&mut raw).await.unwrap();
    flags.until("it is read over a new connection", |flags| flags.source(0).revision == Some(2000)).await;
    assert!(flags.metrics().contains("reason=\"connected\"} 2"), "it was cut off: {}", flags.metrics());
    for value in 3..20 {
        let _: u64 = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).query_async(&mut raw).await.unwrap();
        writer.set("a", value).await;
        flags.until("the change is in force", |flags| flags.value("a") == Some(value)).await;
    }
}

#[tokio::test]
async fn a_redis_without_room_is_said_to_be_full_and_tried_again() {
    let redis = Redis::start();
    Writer::to(&redis.url(), "orders").await.set("a", 1).await;
    let mut raw = redis.client().await;
    let _: () = redis::cmd("CONFIG").arg(&["SET", "maxclients", "1"]).query_async(&mut raw).await.unwrap();
    let flags = Flags::start(settings(&redis.url(), &["orders"]), quick());
    flags.until("it is said", |flags| flags.why(0).contains("max number of clients")).await;
    let _: () = redis::cmd("CONFIG").arg(&["SET", "maxclients", "100"]).query_async(&mut raw).await.unwrap();
    flags.until("there is room", |flags| flags.value("a") == Some(1)).await;
}

#[tokio::test]
async fn a_server_that_knows_no_resp3_is_told_from_one_that_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Secret::new(format!("redis://{}", listener.local_addr().unwrap()));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut commands = [0; 1024];
            while let Ok(length @ 1..) = stream.read(&mut commands).await {
                for _ in commands[..length].iter().filter(|byte| **byte == b'*') {
                    drop(stream.write_all(b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n").await);
                }
            }
        }
    });
    let flags = Flags::start(settings(&url, &["orders"]), quick());
    flags.until("it is said", |flags| flags.why(0).contains("does not speak RESP3")).await;
    assert!(flags.why(0).contains("Redis 6 or later"), "{}", flags.why(0));
}

#[tokio::test]
async fn a_host_name_that_is_gone_is_said() {
    let url = Secret::new("redis://:s3cret@no-such-host.invalid:6379");
    let flags = Flags::start(settings(&url, &["orders"]), quick());
    flags.until("it is said", |flags| flags.why(0).contains("no-such-host.invalid")).await;
    assert!(!flags.why(0).contains("s3cret"));
}

#[tokio::test]
async fn clocks_that_jump_change_nothing_but_what_is_shown() {
    let redis = Redis::start();
    let mut writer = Writer::to(&redis.url(), "orders").await;
    writer.set("a", 1).await;
    let flags = Flags::start(settings(&redis.url(), &["orders"]), quick());
    flags.until("the snapshot is applied", |flags| flags.value("a") == Some(1)).await;
    let mut raw = redis.client().await;
    let year = Duration::from_secs(365 * 24 * 3600);
    let ms = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis().to_string();
    let now = SystemTime::now();
    let times = ["0".to_owned(), ms(now + 50 * year), ms(now - 50 * year), u64::MAX.to_string(), ms(now)];
    for (rev, at) in (2..).zip(times) {
        let _: () = raw.hset(&writer.keys.flags, "a", number(rev)).await.unwrap();
        let _: () = raw.hincr(&writer.keys.meta, "rev", 1).await.unwrap();
        let prev = rev - 1;
        let event = format!(r#"{{"rev":{rev},"prev":{prev},"at":{at},"set":{{"a":{}}}}}"#, number(rev));
        let _: () = raw.publish(&writer.keys.events, event).await.unwrap();
        flags.until("it is applied as ever", |flags| flags.value("a") == Some(rev)).await;
    }
    assert_eq!((flags.state(0), flags.status().stale), ("fresh", false));
    assert!(!flags.metrics().contains("reason=\"gap\""), "{}", flags.metrics());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_flags_are_read_in_pieces_whole_even_while_they_change() {
    const FLAGS: u64 = 10_000;
    let redis = Redis::start();
    let mut raw = redis.client().await;
    let mut writer = Writer::to(&redis.url(), "orders").await;
    writer.set("n", 0).await;
    // 5 MB of definitions, by hand: as many by the script would be one call that holds Redis up.
    let padding = "x".repeat(430);
    let mut fill = redis::pipe();
    for n in 0..FLAGS {
        let text = number(n).replace(r#""state""#, &format!(r#""metadata":{{"about":"{padding}"}},"state""#));
        fill.hset(&writer.keys.flags, format!("flag-{n}"), text).ignore();
    }
    let _: () = fill.hincr(&writer.keys.meta, "rev", 1).ignore().query_async(&mut raw).await.unwrap();
    let _: () = redis::cmd("CONFIG").arg(&["RESETSTAT"]).query_async(&mut raw).await.unwrap();
    let _: () =
        redis::cmd("CONFIG").arg(&["SET", "slowlog-log-slower-than", "5000"]).query_async(&mut raw).await.unwrap();
    let flags = Flags::start(settings(&redis.url(), &["orders"]), quick());
    flags.until("all are in force", |flags| flags.value("flag-9999") == Some(9999)).await;
    assert_eq!(flags.status().flags as u64, FLAGS + 1);
    let calls: String = redis::cmd("INFO").arg("commandstats").query_async(&mut raw).await.unwrap();
    assert!(calls.contains("cmdstat_hscan") && !calls.contains("cmdstat_hgetall"), "in pieces: {calls}");

    // Changes go on while it is read again and again: what is in force is always of one revision.
    let load = load(&redis.url(), 1, 0);
    for _ in 0..5 {
        load.more(20).await;
        let _: u64 = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).query_async(&mut raw).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    load.stop().await;
    let last = writer.set("n", 7).await.rev;
    flags.until("the last write is in force", |flags| flags.source(0).revision == Some(last)).await;
    assert_eq!((flags.value("n"), flags.status().flags as u64), (Some(7), FLAGS + 2));
}
