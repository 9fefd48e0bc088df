//! Which flags the fleet evaluated when: reported, read and kept within bounds.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use redis::AsyncCommands as _;
use tidegate::flags::contract::{report, seen};
use tidegate::flags::reporter::{Pace, Reporter};
use tidegate::net::redis::Endpoint;
use tidegate::secret::Secret;
use tokio::task::JoinSet;

use super::shell::{SEARCH, Shell, connect, keys};
use crate::support::eventually;
use crate::support::flags::PATIENCE;
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
