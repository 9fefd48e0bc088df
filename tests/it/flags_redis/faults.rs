//! Redis dying, losing its data, sending what cannot be used, or not sending what it should.

use std::time::Duration;

use redis::AsyncCommands as _;
use tidegate::flags::settings::{OnMissing, Settings};
use tidegate::flags::sources::Pace;
use tidegate::secret::Secret;

use crate::support::chaos::Chaos;
use crate::support::flags::{Flags, Writer, number, quick, settings};
use crate::support::redis::Redis;

/// A scope with flag `a` at 1, followed.
async fn followed(redis: &Redis, pace: Pace) -> (Writer, Flags) {
    let mut writer = Writer::to(&redis.url(), "orders").await;
    writer.set("a", 1).await;
    let flags = Flags::start(settings(&redis.url(), &["orders"]), pace);
    flags.until("the snapshot is applied", |flags| flags.value("a") == Some(1)).await;
    (writer, flags)
}

#[tokio::test]
async fn without_redis_a_start_waits_and_goes_on_when_it_comes() {
    let mut redis = Redis::start();
    redis.kill();
    let flags = Flags::start(settings(&redis.url(), &["orders"]), quick());
    flags.until("redis was found to be away", |flags| flags.state(0) == "stale").await;
    let status = flags.status();
    assert_eq!((status.ready, status.generation), (false, 0));
    let why = status.unready(std::time::SystemTime::now(), None).unwrap();
    assert!(why.starts_with("no flags yet from redis:orders: "), "{why}");
    redis.resume();
    Writer::to(&redis.url(), "orders").await.set("a", 1).await;
    flags.until("the flag is in force", |flags| flags.status().ready && flags.value("a") == Some(1)).await;
    assert_eq!((flags.state(0), flags.status().stale), ("fresh", false));
}

#[tokio::test]
async fn without_redis_a_start_that_may_be_empty_is_ready_and_says_that_it_is_stale() {
    let mut redis = Redis::start();
    redis.kill();
    let settings = Settings { on_missing: OnMissing::Empty, ..settings(&redis.url(), &["orders"]) };
    let flags = Flags::start(settings, quick());
    flags.until("the start went on", |flags| flags.status().ready).await;
    assert!(flags.status().stale && flags.store.load().is_empty());
}

#[tokio::test]
async fn flags_survive_a_redis_that_was_killed_and_comes_back_empty() {
    let mut redis = Redis::start();
    let (_, flags) = followed(&redis, quick()).await;
    redis.kill();
    flags.until("redis was found to be away", |flags| flags.state(0) == "stale").await;
    assert_eq!((flags.value("a"), flags.status().stale), (Some(1), true));
    redis.resume();
    flags.until("the loss is noticed", |flags| flags.state(0) == "missing").await;
    assert_eq!((flags.value("a"), flags.status().stale, flags.status().ready), (Some(1), true, true));
    assert!(flags.metrics().contains("tidegate_flags_source_up{source=\"redis:orders\"} 0"), "{}", flags.metrics());

    // Somebody writes again: that is another incarnation, and the truth.
    Writer::to(&redis.url(), "orders").await.set("b", 2).await;
    flags.until("the new scope is in force", |flags| flags.value("b") == Some(2)).await;
    assert_eq!((flags.value("a"), flags.state(0), flags.source(0).revision), (None, "fresh", Some(1)));
}

#[tokio::test]
async fn data_lost_under_a_living_connection_is_noticed_by_the_reconcile_and_by_the_next_event() {
    let redis = Redis::start();
    let (mut writer, flags) = followed(&redis, Pace { reconcile: Duration::from_millis(20), ..quick() }).await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut redis.client().await).await.unwrap();
    flags.until("the loss is noticed", |flags| flags.state(0) == "missing").await;
    assert_eq!(flags.value("a"), Some(1));
    writer.set("b", 2).await;
    flags.until("the new scope is in force", |flags| flags.value("b") == Some(2) && flags.value("a").is_none()).await;

    let (mut writer, flags) = followed(&redis, quick()).await;
    writer.set("a", 2).await;
    flags.until("the change is in force", |flags| flags.value("a") == Some(2)).await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut redis.client().await).await.unwrap();
    // Its revision 1 is older than what is held, and of another history.
    writer.set("c", 3).await;
    flags.until("the new scope is in force", |flags| flags.value("c") == Some(3) && flags.value("a").is_none()).await;
}

#[tokio::test]
async fn a_scope_restored_from_a_backup_is_the_truth_though_its_revision_is_lower() {
    let redis = Redis::start();
    let (mut writer, flags) = followed(&redis, quick()).await;
    let mut raw = redis.client().await;
    let backup: Vec<(String, Vec<u8>)> = {
        let mut saved = Vec::new();
        for key in [&writer.keys.flags, &writer.keys.meta, &writer.keys.revs] {
            saved.push((key.clone(), redis::cmd("DUMP").arg(key).query_async(&mut raw).await.unwrap()));
        }
        saved
    };
    for value in 2..5 {
        writer.set("a", value).await;
    }
    flags.until("the last change is in force", |flags| flags.value("a") == Some(4)).await;
    for (key, dump) in backup {
        let _: () = redis::cmd("RESTORE").arg(key).arg(0).arg(dump).arg("REPLACE").query_async(&mut raw).await.unwrap();
    }
    // The second life of revision 2, and then of 3: told to somebody who holds 4, they look old.
    writer.set("b", 2).await;
    writer.set("b", 3).await;
    writer.set("b", 4).await;
    writer.set("b", 5).await;
    flags.until("the restored scope is in force", |flags| flags.value("b") == Some(5)).await;
    assert_eq!(flags.value("a"), Some(1), "two histories never mix");
}

#[tokio::test]
async fn an_event_that_never_came_is_healed_by_the_reconcile() {
    let redis = Redis::start();
    let (writer, flags) = followed(&redis, Pace { reconcile: Duration::from_millis(20), ..quick() }).await;
    let mut raw = redis.client().await;
    let _: () = raw.hset(&writer.keys.flags, "a", number(2)).await.unwrap();
    let _: () = raw.hincr(&writer.keys.meta, "rev", 1).await.unwrap();
    flags.until("the silent change is in force", |flags| flags.value("a") == Some(2)).await;
    assert!(flags.metrics().contains("reason=\"reconcile\""), "{}", flags.metrics());
}

#[tokio::test]
async fn a_gap_in_the_events_is_noticed_by_the_next_one() {
    let redis = Redis::start();
    let (mut writer, flags) = followed(&redis, quick()).await;
    let mut raw = redis.client().await;
    let _: () = raw.hset(&writer.keys.flags, "a", number(2)).await.unwrap();
    let _: () = raw.hincr(&writer.keys.meta, "rev", 1).await.unwrap();
    writer.set("b", 3).await;
    flags.until("both changes are in force", |flags| (flags.value("a"), flags.value("b")) == (Some(2), Some(3))).await;
    assert!(flags.metrics().contains("reason=\"gap\"} 1"), "{}", flags.metrics());
}

#[tokio::test]
async fn a_malformed_event_is_answered_by_a_snapshot_and_kills_nothing() {
    let redis = Redis::start();
    let (mut writer, flags) = followed(&redis, quick()).await;
    let mut raw = redis.client().await;
    let _: () = raw.hset(&writer.keys.flags, "a", number(2)).await.unwrap();
    let _: () = raw.hincr(&writer.keys.meta, "rev", 1).await.unwrap();
    let _: () = raw.publish(&writer.keys.events, b"\xff{".as_slice()).await.unwrap();
    flags.until("the snapshot is applied", |flags| flags.value("a") == Some(2)).await;
    for text in ["", "{}", "[[[[", r#"{"rev":9,"prev":9}"#, r#"{"rev":1e300,"prev":0}"#] {
        let _: () = raw.publish(&writer.keys.events, text).await.unwrap();
    }
    writer.set("a", 3).await;
    flags.until("events are followed still", |flags| flags.value("a") == Some(3)).await;
    assert_eq!(flags.state(0), "fresh");
}

#[tokio::test]
async fn a_definition_that_does_not_validate_leaves_the_whole_scope_as_it_was() {
    let redis = Redis::start();
    let (mut writer, flags) = followed(&redis, quick()).await;
    writer.write(&[("bad", Some(r#"{"state":"ENABLED"}"#)), ("good", Some(&number(2)))]).await;
    flags.until("it is refused", |flags| flags.state(0) == "rejected").await;
    assert!(flags.why(0).contains("flags.bad"), "{}", flags.why(0));
    assert_eq!((flags.value("a"), flags.value("good"), flags.source(0).revision), (Some(1), None, Some(1)));
    assert!(flags.status().stale && flags.status().ready);

    // Later changes of other flags do not come into force past it, for the document is refused whole.
    let refused = |flags: &Flags| {
        let metrics = flags.metrics();
        let line = metrics.lines().find(|line| line.starts_with("tidegate_flags_rejected_total{")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = refused(&flags);
    writer.set("a", 2).await;
    flags.until("the next change was looked at", |flags| refused(flags) > before).await;
    assert_eq!((flags.value("a"), flags.state(0)), (Some(1), "rejected"));

    writer.write(&[("bad", None)]).await;
    flags.until("what is valid again is in force", |flags| flags.state(0) == "fresh").await;
    assert_eq!((flags.value("a"), flags.value("good"), flags.source(0).revision), (Some(2), Some(2), Some(4)));
}

#[tokio::test]
async fn a_malformed_scope_is_no_answer_at_start_and_no_fault_of_the_others() {
    let redis = Redis::start();
    let mut raw = redis.client().await;
    Writer::to(&redis.url(), "shared").await.set("s", 1).await;
    let _: () = raw.set("tidegate:{orders}:meta", "not a hash").await.unwrap();
    let flags = Flags::start(settings(&redis.url(), &["orders", "shared"]), quick());
    flags.until("it is refused", |flags| flags.state(0) == "rejected" && flags.state(1) == "fresh").await;
    assert!(!flags.status().ready, "one of the scopes gave nothing yet");
    let _: () = raw.del("tidegate:{orders}:meta").await.unwrap();
    Writer::to(&redis.url(), "orders").await.set("a", 1).await;
    flags.until("both are in force", |flags| flags.status().ready && flags.value("a") == Some(1)).await;
    assert_eq!(flags.value("s"), Some(1));
}

#[tokio::test]
async fn a_scope_refused_without_a_new_revision_does_not_turn_fresh_by_itself() {
    let redis = Redis::start();
    let mut writer = Writer::to(&redis.url(), "orders").await;
    writer.set("a", 1).await;
    let chaos = Chaos::to(redis.upstream());
    let url = Secret::new(format!("redis://{}", chaos.address()));
    let flags = Flags::start(settings(&url, &["orders"]), Pace { reconcile: Duration::from_millis(20), ..quick() });
    flags.until("the snapshot is applied", |flags| flags.value("a") == Some(1)).await;
    let mut raw = redis.client().await;
    let _: () = raw.hset(&writer.keys.flags, "a", "{}").await.unwrap();
    chaos.reset();
    chaos.restore();
    flags.until("it is refused", |flags| flags.state(0) == "rejected").await;
    let rejected = |flags: &Flags| flags.metrics().matches("reason=\"reconcile\"} ").count();
    flags.until("reconciles went by", |flags| rejected(flags) > 0).await;
    assert_eq!((flags.state(0), flags.value("a")), ("rejected", Some(1)));
}

#[tokio::test]
async fn a_redis_that_hangs_is_a_timeout_and_heals() {
    let redis = Redis::start();
    let pace = Pace { answer: Duration::from_millis(300), reconcile: Duration::from_millis(20), ..quick() };
    let (mut writer, flags) = followed(&redis, pace).await;
    redis.freeze();
    flags.until("the hang is noticed", |flags| flags.state(0) == "stale").await;
    assert_eq!(flags.value("a"), Some(1));
    redis.thaw();
    writer.set("a", 2).await;
    flags.until("the change is in force", |flags| flags.value("a") == Some(2) && flags.state(0) == "fresh").await;
    assert!(!flags.status().stale);
}

#[tokio::test]
async fn a_broken_connection_is_replaced_and_what_was_written_meanwhile_is_read() {
    let redis = Redis::start_with(&["--requirepass", "s3cret"]);
    let chaos = Chaos::to(redis.upstream());
    let url = Secret::new(format!("redis://:s3cret@{}", chaos.address()));
    let mut writer = Writer::to(&Secret::new(format!("{}?pass=s3cret", redis.url().expose())), "orders").await;
    writer.set("a", 1).await;
    let flags = Flags::start(settings(&url, &["orders"]), quick());
    flags.until("the snapshot is applied", |flags| flags.value("a") == Some(1)).await;
    for round in 2..12 {
        chaos.reset();
        writer.set("a", round).await;
        chaos.restore();
        flags.until("the change is in force", |flags| flags.value("a") == Some(round)).await;
    }
    chaos.refuse();
    flags.until("redis was found to be away", |flags| flags.state(0) == "stale").await;
    assert!(flags.why(0).contains("refused") && !flags.why(0).contains("s3cret"), "{}", flags.why(0));
    chaos.restore();
    flags.until("it is back", |flags| flags.state(0) == "fresh").await;
}

#[tokio::test]
async fn a_wrong_password_is_said_without_saying_it() {
    let redis = Redis::start_with(&["--requirepass", "s3cret"]);
    let url = Secret::new(format!("{}?pass=wr0ng", redis.url().expose()));
    let flags = Flags::start(settings(&url, &["orders"]), quick());
    flags.until("redis refused", |flags| flags.state(0) == "stale").await;
    let why = flags.why(0);
    assert!(why.contains("WRONGPASS") && !why.contains("wr0ng"), "{why}");
}

#[tokio::test]
async fn a_burst_larger_than_what_may_wait_ends_in_the_last_of_it() {
    let redis = Redis::start();
    let (writer, flags) = followed(&redis, quick()).await;
    // All at once: one script, as nobody should write, by the contract all the same.
    let burst = r#"
        for i = 2, 5000 do
            local flag = '{"state":"ENABLED","variants":{"v":' .. i .. '},"defaultVariant":"v"}'
            redis.call('HSET', KEYS[1], 'a', flag)
            redis.call('HINCRBY', KEYS[2], 'rev', 1)
            redis.call('PUBLISH', ARGV[1], '{"rev":' .. i .. ',"prev":' .. (i - 1) .. ',"set":{"a":' .. flag .. '}}')
        end"#;
    let mut raw = redis.client().await;
    let script = redis::Script::new(burst);
    let mut burst = script.prepare_invoke();
    let _: () = burst
        .key(&writer.keys.flags)
        .key(&writer.keys.meta)
        .arg(&writer.keys.events)
        .invoke_async(&mut raw)
        .await
        .unwrap();
    flags.until("the last change is in force", |flags| flags.value("a") == Some(5000)).await;
    assert_eq!((flags.source(0).revision, flags.state(0)), (Some(5000), "fresh"));
}
