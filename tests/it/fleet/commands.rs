//! `tidegate fleet` as a person runs it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::fleet::Pace;

use super::{Running, fleet_is, quick, settings};
use crate::support::port::Port;
use crate::support::redis::Redis;
use crate::support::sidecar::TIDEGATE;

/// Runs the command against `url`: exit code, standard output, standard error.
fn fleet(url: &str, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(TIDEGATE)
        .arg("fleet")
        .args(arguments)
        .env_clear()
        .env("TIDEGATE_REDIS__URL", url)
        .env("TIDEGATE_WORKLOAD", "orders")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn the_fleet_is_listed_and_suspects_are_evicted() {
    let redis = Redis::start();
    let url = redis.url();
    let at = url.expose();
    assert_eq!(fleet(at, &[]), (0, "no instances\n".to_owned(), String::new()));
    let short = Pace { good: Duration::from_millis(400), ..quick() };
    let killed = Running::start(&settings(&url, "orders-a"), short);
    let live = Running::quick(&url, "orders-b");
    live.says.lock().unwrap().flags.insert("orders".to_owned(), 42);
    fleet_is(&url, &["orders-a", "orders-b"]).await;
    drop(killed);
    fleet_is(&url, &["orders-a?", "orders-b"]).await;
    live.beats("ok", 5).await;

    let (code, table, error) = fleet(at, &[]);
    assert_eq!((code, error.as_str()), (0, ""), "{table}");
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("POD"), "{table}");
    assert!(lines[1].starts_with("orders-a") && lines[1].contains("suspect for"), "{table}");
    let words: Vec<&str> = lines[2].split_whitespace().collect();
    let expected = ["orders-b", "1.4.2", "live", "serving", "ready", "orders@42", "0", "uid-of-orders-b"];
    assert_eq!(words, expected, "{table}");

    let (code, text, _) = fleet(at, &["--output", "json"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &value["live"], &value["suspect"]), (0, &json!(1), &json!(1)), "{text}");
    assert_eq!(value["instances"][0]["state"], "suspect", "{text}");
    assert!(value["instances"][0]["suspect_ms"].is_u64(), "{text}");
    assert_eq!(value["instances"][1]["flags"], json!({"orders": 42}), "{text}");
    let (code, text, _) = fleet(at, &["--output", "yaml", "--workload", "other"]);
    let value: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!((code, &value["instances"]), (0, &json!([])), "{text}");

    let (code, out, error) = fleet(at, &["evict", "uid-of-orders-b"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(error.contains("is live: its heartbeat is good for another") && error.contains("only suspects"), "{error}");
    let (code, _, error) = fleet(at, &["evict", "nobody"]);
    assert_eq!((code, error.contains("orders has no instance \"nobody\"")), (1, true), "{error}");
    let (code, out, error) = fleet(at, &["evict", "orders-a"]);
    let said = "orders-a (uid-of-orders-a) is out of the fleet of orders\n";
    assert_eq!((code, out.as_str(), error.as_str()), (0, said, ""));
    fleet_is(&url, &["orders-b"]).await;
}

#[tokio::test]
async fn bad_usage_and_a_redis_that_is_away_are_told_apart() {
    let redis = Redis::start();
    let url = redis.url();
    let (code, _, error) = fleet(url.expose(), &["--workload", "a}b"]);
    assert_eq!(code, 64, "{error}");
    assert!(error.contains("\"a}b\" is not a workload's name"), "{error}");
    assert_eq!(fleet(url.expose(), &["--watch", "evict", "x"]).0, 64);
    assert_eq!(fleet(url.expose(), &["--watch", "--output", "yaml"]).0, 64);
    assert_eq!(fleet(url.expose(), &["evict"]).0, 64);
    let output = Command::new(TIDEGATE).arg("fleet").env_clear().output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), error.contains("no Redis is configured")), (Some(64), true), "{error}");
    let nobody = Port::reserve();
    let (code, _, error) = fleet(&format!("redis://:s3cret@{}", nobody.address()), &[]);
    assert_eq!(code, 69, "{error}");
    assert!(error.contains("redis is not available") && !error.contains("s3cret"), "{error}");
}

#[tokio::test]
async fn watching_tells_each_change_in_a_line() {
    let redis = Redis::start();
    let url = redis.url();
    let member = Running::quick(&url, "a");
    member.registered().await;
    let mut watching = Command::new(TIDEGATE)
        .args(["fleet", "--watch", "--output", "json"])
        .env_clear()
        .env("TIDEGATE_REDIS__URL", url.expose())
        .env("TIDEGATE_WORKLOAD", "orders")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| tell.send(line).unwrap_or_default()));
    let next = async || loop {
        if let Ok(line) = told.try_recv() {
            return serde_json::from_str::<Value>(&line).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let next = async || tokio::time::timeout(super::PATIENCE, next()).await.expect("a change is told");
    let line = next().await;
    assert_eq!((&line["pod"], &line["ready"]), (&json!("a"), &json!(true)));
    member.says.lock().unwrap().ready = false;
    assert_eq!(next().await["ready"], json!(false));
    let other = Running::quick(&url, "b");
    assert_eq!(next().await["pod"], "b");
    member.handle.leave(super::PATIENCE).await;
    let line = next().await;
    assert_eq!((&line["pod"], &line["state"]), (&json!("a"), &json!("gone")));
    // Redis loses everything, and whoever is alive is heard of again.
    drop(other);
    let lost: () = redis::cmd("FLUSHALL").query_async(&mut redis.client().await).await.unwrap();
    let line = next().await;
    assert_eq!((&line["pod"], &line["state"]), (&json!("b"), &json!("unknown")), "{lost:?}");
    let _again = Running::quick(&url, "b");
    assert_eq!(next().await["state"], "live");
    watching.kill().unwrap();
    watching.wait().unwrap();
}
