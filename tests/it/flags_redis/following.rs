//! What is written to Redis comes into force, whole and in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tidegate::flags::contract::{Change, Op, Place, entries, write};
use tidegate::flags::settings::Settings;
use tidegate::flags::sources::Pace;

use crate::support::flags::{Flags, Writer, number, quick, settings};
use crate::support::redis::Redis;

#[tokio::test]
async fn a_redis_in_reach_confirms_between_two_reconciles() {
    let redis = Redis::start();
    Writer::to(&redis.url(), "orders").await.set("a", 1).await;
    let hour = Duration::from_secs(3600);
    let pace = Pace { reconcile: hour, heartbeat: Duration::from_millis(20), ..quick() };
    let flags = Flags::start(settings(&redis.url(), &["orders"]), pace);
    flags.until("the snapshot is applied", |flags| flags.value("a") == Some(1)).await;
    let applied = flags.source(0).confirmed_at;
    flags.until("a heartbeat confirms", |flags| flags.source(0).confirmed_at > applied).await;
    assert_eq!(flags.source(0).revision, Some(1));
}

#[tokio::test]
async fn a_write_comes_into_force_at_once_and_its_way_is_measured() {
    let redis = Redis::start();
    let mut writer = Writer::to(&redis.url(), "orders").await;
    writer.set("a", 1).await;
    let flags = Flags::start(settings(&redis.url(), &["orders"]), Pace::default());
    flags.until("the snapshot is applied", |flags| flags.status().ready && flags.value("a") == Some(1)).await;

    // Neither a reconcile (30 s) nor a resync is needed.
    writer.write(&[("a", Some(&number(2))), ("b", Some(&number(7)))]).await;
    flags.until("both flags change", |flags| flags.value("a") == Some(2) && flags.value("b") == Some(7)).await;
    writer.write(&[("a", None)]).await;
    flags.until("the removed flag is gone", |flags| flags.value("a").is_none()).await;
    assert_eq!((flags.value("b"), flags.source(0).revision, flags.state(0)), (Some(7), Some(3), "fresh"));

    let metrics = flags.metrics();
    for line in [
        "tidegate_flags_propagation_seconds_count 2",
        "tidegate_flags_resyncs_total{source=\"redis:orders\",reason=\"connected\"} 1",
        "tidegate_flags_source_up{source=\"redis:orders\"} 1",
        "tidegate_flags_source_revision{source=\"redis:orders\"} 3",
        "tidegate_flags_in_force 1",
        "tidegate_flags_stale 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("reason=\"gap\""), "{metrics}");
}

#[tokio::test]
async fn a_scope_that_nobody_wrote_yet_is_no_reason_to_wait() {
    let redis = Redis::start();
    let flags = Flags::start(settings(&redis.url(), &["orders"]), quick());
    flags.until("redis answered that there is nothing", |flags| flags.status().ready).await;
    assert_eq!((flags.state(0), flags.status().stale, flags.status().flags), ("missing", false, 0));
    let mut writer = Writer::to(&redis.url(), "orders").await;
    writer.set("a", 1).await;
    flags.until("the first flag comes into force", |flags| flags.value("a") == Some(1)).await;
    assert_eq!(flags.state(0), "fresh");
}

#[tokio::test]
async fn scopes_rank_in_order_and_what_is_removed_above_shows_what_is_beneath() {
    let redis = Redis::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flags.json");
    std::fs::write(&file, format!(r#"{{"flags":{{"a":{0},"f":{0}}}}}"#, number(1))).unwrap();
    let (mut orders, mut shared) = (Writer::to(&redis.url(), "orders").await, Writer::to(&redis.url(), "shared").await);
    orders.set("a", 3).await;
    shared.write(&[("a", Some(&number(2))), ("s", Some(&number(2)))]).await;
    let settings = Settings { files: vec![file], ..settings(&redis.url(), &["orders", "shared"]) };
    let flags = Flags::start(settings, quick());
    flags.until("all are applied", |flags| flags.status().ready).await;
    assert_eq!(["a", "s", "f"].map(|key| flags.value(key)), [Some(3), Some(2), Some(1)]);
    orders.write(&[("a", None)]).await;
    flags.until("the next scope shows", |flags| flags.value("a") == Some(2)).await;
    shared.write(&[("a", None)]).await;
    flags.until("the file shows", |flags| flags.value("a") == Some(1)).await;
    orders.set("a", 4).await;
    flags.until("the first scope covers both", |flags| flags.value("a") == Some(4)).await;
}

#[tokio::test]
async fn a_change_too_large_to_be_told_is_read() {
    let redis = Redis::start();
    let mut writer = Writer::to(&redis.url(), "orders").await;
    writer.set("a", 1).await;
    let flags = Flags::start(settings(&redis.url(), &["orders"]), quick());
    flags.until("the snapshot is applied", |flags| flags.value("a") == Some(1)).await;
    let definition = format!(
        r#"{{"state":"ENABLED","variants":{{"v":2,"w":3}},"defaultVariant":"v","metadata":{{"x":"{}"}}}}"#,
        "x".repeat(70_000)
    );
    writer.write(&[("a", Some(&definition))]).await;
    flags.until("the large flag is in force", |flags| flags.value("a") == Some(2)).await;
    assert!(flags.metrics().contains("reason=\"untold\"} 1"), "{}", flags.metrics());
}

#[tokio::test]
async fn rules_that_flags_share_are_in_force_with_the_flags_that_use_them() {
    let redis = Redis::start();
    let mut writer = Writer::to(&redis.url(), "orders").await;
    let flags = Flags::start(settings(&redis.url(), &["orders"]), quick());
    let rule = r#"{"state":"ENABLED","variants":{"v":1,"w":2},"defaultVariant":"v","targeting":{"if":[{"$ref":"staff"},"w"]}}"#;
    let op = |place, key: &str, text: &str| Op { place, key: key.to_owned(), set: Some(text.to_owned()), expect: None };
    let ops = vec![
        op(Place::Flags, "a", rule),
        op(Place::Meta, "evaluators", r#"{"staff":{"==":[{"var":"group"},"staff"]}}"#),
        op(Place::Meta, "metadata", r#"{"team":"search"}"#),
    ];
    let change = Change { expect: Some(0), create: true, actor: "test".to_owned(), note: String::new(), ops };
    write(&mut writer.connection, &writer.keys, &change).await.unwrap();
    flags.until("the flag is in force", |flags| flags.value("a") == Some(1)).await;
    let store = flags.store.load();
    assert_eq!(store.get("a").unwrap().metadata().get("team"), Some("\"search\""));
    // A flag that comes by event is compiled with the rules held.
    writer.write(&[("b", Some(rule))]).await;
    flags.until("the second flag is in force", |flags| flags.value("b") == Some(1)).await;
    assert_eq!(flags.source(0).revision, Some(2));
}

#[tokio::test]
async fn a_meta_without_flags_empties_the_scope() {
    let redis = Redis::start();
    let mut writer = Writer::to(&redis.url(), "orders").await;
    writer.set("a", 1).await;
    let flags = Flags::start(settings(&redis.url(), &["orders"]), quick());
    flags.until("the snapshot is applied", |flags| flags.value("a") == Some(1)).await;
    writer.write(&[("a", None)]).await;
    flags.until("no flag is left", |flags| flags.value("a").is_none()).await;
    assert_eq!((flags.state(0), flags.status().stale), ("fresh", false));
}

/// Every change sets `n` and one of ten others to its own number, so that a snapshot shows by itself whether it is
/// the whole of some prefix of the changes.
#[tokio::test]
async fn under_a_storm_of_writes_every_snapshot_is_a_whole_prefix_of_them() {
    const WRITES: u64 = 500;
    let redis = Redis::start();
    let mut writer = Writer::to(&redis.url(), "orders").await;
    let all: Vec<String> = (0..10).map(|k| format!("k{k}")).collect();
    let zero = number(0);
    let mut first: Vec<(&str, Option<&str>)> = all.iter().map(|key| (key.as_str(), Some(zero.as_str()))).collect();
    first.push(("n", Some(&zero)));
    writer.write(&first).await;
    let flags = Flags::start(settings(&redis.url(), &["orders"]), quick());
    flags.until("the snapshot is applied", |flags| flags.value("n") == Some(0)).await;

    let done = Arc::new(AtomicBool::new(false));
    let (store, stop) = (flags.store.clone(), done.clone());
    let reader = thread::spawn(move || {
        let (mut last, mut seen) = (0, 0u64);
        while !stop.load(Ordering::Relaxed) {
            let snapshot = store.load();
            let values: BTreeMap<&str, u64> = snapshot
                .iter()
                .map(|entry| (entry.flag().key(), entry.flag().variant("v").unwrap().value_json().parse().unwrap()))
                .collect();
            assert_eq!(values.len(), 11, "never torn, never empty");
            let n = values["n"];
            assert!(n >= last, "{n} after {last}");
            for k in 0..10 {
                // The last change up to n that set k, or the first write.
                let expected = if n % 10 >= k { n - n % 10 + k } else { (n - n % 10 + k).saturating_sub(10) };
                let expected = if expected == 0 || n < k { 0 } else { expected };
                assert_eq!(values[format!("k{k}").as_str()], expected, "k{k} at {n}");
            }
            seen += u64::from(n != last);
            last = n;
        }
        seen
    });
    for i in 1..=WRITES {
        let (key, value) = (format!("k{}", i % 10), number(i));
        writer.write(&[("n", Some(&value)), (&key, Some(&value))]).await;
    }
    flags.until("the last write is in force", |flags| flags.value("n") == Some(WRITES)).await;
    done.store(true, Ordering::Relaxed);
    let seen = reader.join().expect("no snapshot was torn");
    assert!(seen > 1, "the reader saw {seen} changes");

    let log = entries(&mut writer.connection, &writer.keys, Some("n"), 1000).await.unwrap();
    let revisions: Vec<u64> = log.iter().rev().map(|entry| entry.rev).collect();
    assert_eq!(revisions, (1..=WRITES + 1).collect::<Vec<_>>(), "each revision once");
    let subscribers: BTreeMap<String, u64> = redis::cmd("PUBSUB")
        .arg("NUMSUB")
        .arg(&writer.keys.events)
        .query_async(&mut redis.client().await)
        .await
        .unwrap();
    assert_eq!(subscribers[&writer.keys.events], 1);
}
