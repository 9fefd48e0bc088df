//! `tidegate fleet` as a person runs it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use redis::AsyncCommands as _;
use serde_json::{Value, json};
use tidegate::fleet::Pace;
use tidegate::net::redis::Endpoint;

use super::{Running, fleet_is, quick, settings};
use crate::support::deployment::{Cluster, Server};
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
async fn the_fleets_of_all_workloads_are_listed() {
    let redis = Redis::start();
    let url = redis.url();
    assert_eq!(fleet(url.expose(), &["--all"]), (0, "no instances\n".to_owned(), String::new()));
    let one = Running::quick(&url, "orders-a");
    one.registered().await;
    // What others keep there is none of ours; more keys than fit one page.
    let fill = "for i = 1, 3000 do redis.call('SET', 'x' .. i, '') end \
                redis.call('HSET', 'tidegate:{stock}:fleet:instances', 'i', '{\"pod\":\"stock-a\"}') \
                redis.call('HSET', 'other:{stock}:fleet:instances', 'i', '{\"pod\":\"foreign\"}')";
    let mut raw = redis.client().await;
    let _: () = redis::cmd("EVAL").arg(fill).arg(0).query_async(&mut raw).await.unwrap();
    let (code, table, error) = fleet(url.expose(), &["--all"]);
    assert_eq!((code, error.as_str()), (0, ""));
    let words = |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<_> = table.lines().map(words).collect();
    assert_eq!(lines, [["WORKLOAD", "POD"], ["orders", "orders-a"], ["stock", "stock-a"]], "{table}");
    let (_, text, _) = fleet(url.expose(), &["--all", "--output", "json"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    let of = |n: usize| (value["workloads"][n]["workload"].clone(), value["workloads"][n]["live"].clone());
    assert_eq!([of(0), of(1)], [(json!("orders"), json!(1)), (json!("stock"), json!(0))], "{text}");
    for wrong in [&["--all", "--watch"][..], &["--all", "--workload", "x"], &["--all", "evict", "x"]] {
        assert_eq!(fleet(url.expose(), wrong).0, 64, "{wrong:?}");
    }
    let rules = ["on", ">x", "~*", "+@all", "-scan"];
    let _: () = redis::cmd("ACL").arg("SETUSER").arg("some").arg(&rules).query_async(&mut raw).await.unwrap();
    let (code, _, error) = fleet(&format!("{}?user=some&pass=x", url.expose()), &["--all"]);
    assert_eq!((code, error.contains("grant +scan")), (1, true), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleets_of_all_workloads_are_found_on_every_master_of_a_cluster() {
    let cluster = Cluster::start().await;
    let url = cluster.url();
    let member = Running::quick(&url, "a");
    member.registered().await;
    let mut connection = Endpoint::new(&url).unwrap().connect(super::PATIENCE).await.unwrap();
    // Slots of each of the three.
    for workload in ["a", "b", "c", "d", "e", "f"] {
        let key = format!("tidegate:{{{workload}}}:fleet:instances");
        let _: u64 = connection.hset(key, "i", format!("{{\"pod\":\"{workload}\"}}")).await.unwrap();
    }
    let (code, text, error) = fleet(url.expose(), &["--all", "--output", "json"]);
    let value: Value = serde_json::from_str(&text).unwrap();
    let names: Vec<&str> =
        value["workloads"].as_array().unwrap().iter().map(|w| w["workload"].as_str().unwrap()).collect();
    assert_eq!((code, names.as_slice()), (0, &["a", "b", "c", "d", "e", "f", "orders"][..]), "{error}");
    // One of its nodes, taken for all there is: all but one keep other keys.
    let nodes: Vec<&str> = url.expose().strip_prefix("redis+cluster://").unwrap().split(',').collect();
    let said = nodes.iter().filter(|node| {
        let (_, _, error) = fleet(&format!("redis://{node}"), &[]);
        error.contains("redis is a node of a cluster here, and keeps a part of the keys: write redis+cluster://")
    });
    assert_eq!(said.count(), nodes.len() - 1);
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
async fn a_replica_is_listed_from_and_said_to_be_one() {
    let server = Server::start(&["--save", "", "--appendonly", "no"]);
    let url = server.url();
    let member = Running::quick(&url, "a");
    member.registered().await;
    assert_eq!(fleet(url.expose(), &[]).2, "");
    let nobody = Port::reserve().address().port().to_string();
    let _: Option<String> = server.ask(&["REPLICAOF", "127.0.0.1", &nobody]).await;
    let (code, text, error) = fleet(url.expose(), &[]);
    assert!(code == 0 && text.contains("live"), "{text}{error}");
    assert!(error.contains("redis is a read-only replica here: name its master"), "{error}");
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
