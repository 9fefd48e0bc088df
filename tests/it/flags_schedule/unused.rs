//! Which flags the fleet evaluated when: reported, read and kept within bounds.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use redis::AsyncCommands as _;
use tidegate::flags::context::Context;
use tidegate::flags::contract::{report, seen};
use tidegate::flags::reporter::{Pace, Reporter};
use tidegate::net::redis::Endpoint;
use tidegate::secret::Secret;
use tokio::task::JoinSet;

use super::shell::{SEARCH, Shell, connect, keys};
use crate::support::eventually;
use crate::support::flags::{Flags, PATIENCE, quick, settings};
use crate::support::redis::Redis;

const HOUR: Duration = Duration::from_secs(3600);
const HASH: &str = "tidegate:{orders}:seen";

fn told(all: &[(&str, Duration)]) -> Vec<(String, Duration)> {
    all.iter().map(|(key, age)| ((*key).to_owned(), *age)).collect()
}

#[tokio::test]
async fn times_are_hours_that_only_rise_of_flags_that_exist() {
    let redis = Redis::start();
    let mut shell = Shell::to(&redis).await;
    shell.ok(&["set", "banner", SEARCH]).await;
    let mut connection = connect(&redis).await;
    assert_eq!(seen(&mut connection, &keys()).await.unwrap().since, None, "nobody reported");
    let evaluated = told(&[("search", 50 * HOUR), ("banner", Duration::ZERO), ("gone", HOUR), ("$since", HOUR)]);
    report(&mut connection, &keys(), &evaluated, 0).await.unwrap();
    let first = seen(&mut connection, &keys()).await.unwrap();
    let (since, search) = (first.since.unwrap(), first.flags["search"]);
    let whole = search.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!((whole % 3600, first.flags.len()), (0, 2), "{first:?}");
    let age = since.duration_since(search).unwrap();
    assert!(age >= 50 * HOUR && age < 51 * HOUR, "{age:?}");

    // Another instance saw it earlier: the later time stays. Another saw it later: it rises.
    report(&mut connection, &keys(), &told(&[("search", 90 * HOUR)]), 0).await.unwrap();
    assert_eq!(seen(&mut connection, &keys()).await.unwrap().flags["search"], search);
    report(&mut connection, &keys(), &told(&[("search", 10 * HOUR)]), 0).await.unwrap();
    let later = seen(&mut connection, &keys()).await.unwrap();
    assert!(later.flags["search"] > search && later.since == Some(since), "{later:?}");

    shell.ok(&["rm", "banner"]).await;
    report(&mut connection, &keys(), &[], 0).await.unwrap();
    assert!(!seen(&mut connection, &keys()).await.unwrap().flags.contains_key("banner"), "gone with its flag");
    let _: () = shell.raw.hset(HASH, "search", "yesterday").await.unwrap();
    assert_eq!(seen(&mut connection, &keys()).await.unwrap().flags.len(), 0, "no number is no time");
    report(&mut connection, &keys(), &told(&[("search", HOUR)]), 0).await.unwrap();
    assert_eq!(seen(&mut connection, &keys()).await.unwrap().flags.len(), 1, "and is healed");
}

#[tokio::test]
async fn ten_thousand_flags_come_and_go_in_pieces() {
    let redis = Redis::start();
    let mut shell = Shell::to(&redis).await;
    let mut connection = connect(&redis).await;
    let flags: Vec<String> = (0..10_000).map(|at| format!("flag-{at}")).collect();
    let mut many = redis::pipe();
    for key in &flags {
        many.hset("tidegate:{orders}:flags", key, SEARCH).ignore();
    }
    let _: () = many.query_async(&mut shell.raw).await.unwrap();
    let evaluated: Vec<(String, Duration)> = flags.iter().map(|key| (key.clone(), HOUR)).collect();
    let mut cursor = report(&mut connection, &keys(), &evaluated, 0).await.unwrap();
    assert_eq!(seen(&mut connection, &keys()).await.unwrap().flags.len(), 10_000);
    let _: () = shell.raw.del("tidegate:{orders}:flags").await.unwrap();
    for reports in 0.. {
        cursor = report(&mut connection, &keys(), &[], cursor).await.unwrap();
        if seen(&mut connection, &keys()).await.unwrap().flags.is_empty() {
            break;
        }
        assert!(reports < 100, "flags that are gone are forgotten in the end");
    }
}

#[tokio::test]
async fn a_reporter_reports_again_and_again_and_stops_where_it_may_not() {
    let redis = Redis::start();
    let mut shell = Shell::to(&redis).await;
    let pace = Pace { first: Duration::ZERO, every: Duration::from_millis(20), refused: 24 * HOUR };
    let evaluated = Arc::new(Mutex::new(vec![]));
    let mut tasks = JoinSet::new();
    let start = |url: &Secret| Reporter::new(Endpoint::new(url).unwrap(), &[keys()]).paced(pace.clone());
    let shared = evaluated.clone();
    tasks.spawn(start(&redis.url()).run(move |scope| {
        assert_eq!(scope, "orders");
        shared.lock().unwrap().clone()
    }));
    let mut connection = connect(&redis).await;
    eventually(PATIENCE, "nothing was evaluated, which is told too", async || {
        seen(&mut connection, &keys()).await.unwrap().since.is_some()
    })
    .await;
    // A clock that was set back makes it young, not a failure.
    evaluated.lock().unwrap().push(("search".to_owned(), SystemTime::now() + HOUR));
    eventually(PATIENCE, "the flag is told", async || {
        seen(&mut connection, &keys()).await.unwrap().flags.contains_key("search")
    })
    .await;
    tasks.shutdown().await;

    let _: () = shell.raw.del(HASH).await.unwrap();
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg("reader").arg("on").arg(">s3cret").arg("~*").arg("+@all").arg("-@write");
    let _: () = user.query_async(&mut shell.raw).await.unwrap();
    let url = Secret::new(format!("{}?user=reader&pass=s3cret", redis.url().expose()));
    let second = start(&url).run(|_| vec![("search".to_owned(), SystemTime::now())]);
    let _: () = redis::cmd("CONFIG").arg("RESETSTAT").query_async(&mut shell.raw).await.unwrap();
    tasks.spawn(second);
    let mut raw = shell.raw.clone();
    let tried = async || {
        let counts: String = redis::cmd("INFO").arg("commandstats").query_async(&mut raw).await.unwrap();
        counts.contains("cmdstat_evalsha")
    };
    eventually(PATIENCE, "it tried", tried).await;
    assert_eq!(seen(&mut connection, &keys()).await.unwrap().since, None);
}

#[tokio::test]
async fn unused_flags_are_listed_as_far_as_the_reports_reach() {
    let redis = Redis::start();
    let mut shell = Shell::to(&redis).await;
    let mut raw = redis.client().await;
    let hour = |ago: Duration| (SystemTime::now() - ago).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let list = async |shell: &Shell| shell.json(&["ls"]).await[0]["last_evaluated"].clone();
    assert_eq!(list(&shell).await, serde_json::Value::Null);
    assert!(shell.ok(&["ls"]).await.contains("no reports"));
    let (code, text) = shell.fails(&["ls", "--unused", "30d"]).await;
    assert_eq!((code, text.contains("no sidecar reported")), (1, true), "{text}");

    let fields = [("$since", hour(10 * 24 * HOUR)), ("$last", hour(Duration::ZERO))];
    let _: () = raw.hset_multiple(HASH, &fields).await.unwrap();
    assert!(shell.ok(&["ls"]).await.contains("never seen since 2"));
    let (code, text) = shell.fails(&["ls", "--unused", "30d"]).await;
    assert_eq!((code, text.contains("nothing is known of so long ago: sidecars report since 2")), (1, true), "{text}");

    // Written just now, so it may be new; and so it is left out until it has had its time.
    assert_eq!(shell.ok(&["ls", "--unused", "7d"]).await, "every flag was evaluated since then, or written\n");
    for (key, at) in [("used", Some(hour(HOUR))), ("old", Some(hour(8 * 24 * HOUR))), ("never", None)] {
        let _: () = raw.hset("tidegate:{orders}:flags", key, SEARCH).await.unwrap();
        let _: () = raw.hset("tidegate:{orders}:revs", key, "1 1000 ann@ci").await.unwrap();
        if let Some(at) = at {
            let _: () = raw.hset(HASH, key, at).await.unwrap();
        }
    }
    let unused = shell.json(&["ls", "--unused", "7d"]).await;
    let keys: Vec<&str> = unused.as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["never", "old"]);
    assert!(unused[1]["last_evaluated"].as_str().unwrap().ends_with('Z'), "{unused}");
    let table = shell.ok(&["ls", "--unused", "9d"]).await;
    assert!(table.contains("never seen since") && !table.contains("old"), "{table}");

    let _: () = raw.hset(HASH, "$last", hour(24 * HOUR)).await.unwrap();
    let (code, text) = shell.fails(&["ls", "--unused", "7d"]).await;
    assert_eq!((code, text.contains("do not report any more")), (1, true), "{text}");
    let _: () = shell.raw.del(HASH).await.unwrap();
    let _: () = shell.raw.set(HASH, "a text").await.unwrap();
    assert_eq!(shell.fails(&["ls"]).await.0, 1);
}

#[tokio::test]
async fn a_running_sidecar_knows_which_flags_of_a_scope_were_evaluated() {
    let redis = Redis::start();
    let shell = Shell::to(&redis).await;
    shell.ok(&["set", "banner", SEARCH]).await;
    let flags = Flags::start(settings(&redis.url(), &["orders"]), quick());
    flags.until("both flags are there", |flags| flags.store.load().len() == 2).await;
    let now = SystemTime::UNIX_EPOCH + 1_000_000 * HOUR;
    let evaluated = |scope: &str| tidegate::flags::reporter::evaluated(&flags.store.load(), scope);
    assert_eq!(evaluated("orders"), []);
    tidegate::flags::usage::evaluate(&flags.store.load(), "search", &Context::default(), now).unwrap();
    assert_eq!(evaluated("orders"), [("search".to_owned(), now)]);
    assert_eq!(evaluated("elsewhere"), [], "of another scope");
    tidegate::flags::usage::fetched(&flags.store.load(), tidegate::flags::usage::Fetch::Bulk, now);
    let mut connection = connect(&redis).await;
    let ages: Vec<_> = evaluated("orders").into_iter().map(|(key, _)| (key, HOUR)).collect();
    report(&mut connection, &keys(), &ages, 0).await.unwrap();
    let seen = seen(&mut connection, &keys()).await.unwrap();
    assert!(seen.bulk.is_some() && seen.definitions.is_none() && seen.flags.len() == 1, "{seen:?}");
}
