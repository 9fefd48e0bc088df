//! Flags forced in one sidecar, over the local API of the running binary.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::flags::PATIENCE;
use crate::support::raw::{self, Answer, Client};
use crate::support::sidecar::Sidecar;

const FLAGS: &str = r#"{"metadata":{"team":"x"},"flags":{
  "search":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",
            "targeting":{"if":[{"==":[{"var":"plan"},"premium"]},"on"]},"metadata":{"owner":"ann"}},
  "price":{"state":"ENABLED","variants":{"low":1.0,"high":2.5},"defaultVariant":"low"}
}}"#;

fn settings(directory: &Path, mode: &str) -> String {
    let file = directory.join("flags.json");
    std::fs::write(&file, FLAGS).unwrap();
    format!(
        "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }}]\n\
         flags: {{ files: ['{}'], overrides: {mode} }}",
        file.display()
    )
}

async fn sidecar(mode: &str) -> Sidecar {
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(directory.path(), mode);
    let sidecar = Sidecar::start_in(directory, &settings);
    sidecar.ready().await;
    sidecar
}

const MEANT: &str = "Tidegate-Override: allow\r\n";

async fn send(address: SocketAddr, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    let mut client = Client::connect(address).await.unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: t\r\n{fields}Content-Length: {length}\r\n\r\n{body}");
    client.send(head).await.unwrap();
    client.answer().await.unwrap()
}

/// The status and the text of an answer over the sidecar's own socket.
fn over_socket(sidecar: &Sidecar, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(sidecar.directory().join("tidegate.sock")).unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {length}");
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

async fn evaluated(sidecar: &Sidecar, key: &str) -> Value {
    raw::post(sidecar.local, &format!("/ofrep/v1/evaluate/flags/{key}"), "{}").await.unwrap().json()
}

#[tokio::test]
async fn a_forced_flag_is_served_at_once_and_what_lay_beneath_comes_back() {
    let sidecar = sidecar("local").await;
    let before = evaluated(&sidecar, "search").await;
    assert_eq!((&before["value"], &before["reason"]), (&json!(false), &json!("DEFAULT")));
    let body = r#"{"variant":"on","ttl":"10m","by":"ann","note":"incident 7"}"#;
    let made = send(sidecar.local, "PUT", "/v1/override/search", MEANT, body).await;
    assert_eq!((made.status, made.header("tidegate-revision")), (200, Some("2")), "{}", made.text());
    let told = made.json();
    assert_eq!((&told["variant"], &told["by"]), (&json!("on"), &json!("ann (127.0.0.1)")));
    assert_eq!(told["expires_at"].as_u64().unwrap() - told["set_at"].as_u64().unwrap(), 600_000);

    // In force when the answer is there, and said wherever one may look.
    let metadata = json!({"owner": "ann", "source": "override", "team": "x"});
    let forced = json!({"key":"search","reason":"STATIC","variant":"on","value":true,"metadata":metadata});
    assert_eq!(evaluated(&sidecar, "search").await, forced);
    let list = raw::get(sidecar.local, "/v1/override").await.unwrap().json();
    assert_eq!((&list["mode"], &list["overrides"][0]["note"]), (&json!("local"), &json!("incident 7")));
    assert_eq!(raw::get(sidecar.local, "/v1/override/search").await.unwrap().json()["variant"], "on");
    let status = raw::get(sidecar.local, "/v1/status").await.unwrap().json();
    assert_eq!(status["flags"]["overrides"][0]["key"], "search");
    assert_eq!(sidecar.metric("tidegate_flags_overrides", "").await, 1.0);
    sidecar.logs("override set").await;
    let line = sidecar.log().into_iter().find(|line| line["message"] == "override set").unwrap();
    assert_eq!((&line["key"], &line["forced"], &line["by"]), (&told["key"], &json!("variant on"), &told["by"]));

    let removed = send(sidecar.local, "DELETE", "/v1/override/search", MEANT, "").await;
    assert_eq!((removed.status, removed.header("tidegate-revision")), (204, Some("3")));
    assert_eq!(evaluated(&sidecar, "search").await, before);
    assert_eq!(send(sidecar.local, "DELETE", "/v1/override/search", MEANT, "").await.status, 404);
    assert_eq!(raw::get(sidecar.local, "/v1/override/search").await.unwrap().status, 404);
}

#[tokio::test]
async fn an_override_ends_by_itself_and_with_its_process() {
    let sidecar = sidecar("local").await;
    let put = async |key: &str, body: &str| {
        let answer = send(sidecar.local, "PUT", &format!("/v1/override/{key}"), MEANT, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    put("search", r#"{"value":true,"ttl":"1s"}"#).await;
    put("price", r#"{"value":9.0,"ttl":"24h"}"#).await;
    put("new%2Fflag", r#"{"definition":{"state":"ENABLED","variants":{"v":"x"},"defaultVariant":"v"},"ttl":"1h"}"#)
        .await;
    assert_eq!(evaluated(&sidecar, "price").await["value"], json!(9.0));
    assert_eq!(evaluated(&sidecar, "new%2Fflag").await["value"], "x");
    eventually(PATIENCE, "it ends", async || evaluated(&sidecar, "search").await["value"] == json!(false)).await;
    sidecar.logs("override expired").await;
    assert_eq!(sidecar.metric("tidegate_flags_overrides", "").await, 2.0);
    let directory = sidecar.kill();
    let settings = settings(directory.path(), "local");
    let sidecar = Sidecar::start_in(directory, &settings);
    sidecar.ready().await;
    assert_eq!(evaluated(&sidecar, "price").await["value"], json!(1.0));
    assert_eq!(evaluated(&sidecar, "new%2Fflag").await["errorCode"], "FLAG_NOT_FOUND");
}

#[tokio::test]
async fn a_forced_variant_follows_its_definition_and_says_when_it_is_gone() {
    let sidecar = sidecar("local").await;
    let put = send(sidecar.local, "PUT", "/v1/override/price", MEANT, r#"{"variant":"high","ttl":"1h"}"#).await;
    assert_eq!(put.status, 200);
    let write = |from: &str, to: &str| {
        let draft = sidecar.directory().join("draft.json");
        std::fs::write(&draft, FLAGS.replace(from, to)).unwrap();
        std::fs::rename(draft, sidecar.directory().join("flags.json")).unwrap();
    };
    write("2.5", "3.5");
    eventually(PATIENCE, "its new value", async || evaluated(&sidecar, "price").await["value"] == json!(3.5)).await;
    write(r#","high":2.5"#, "");
    eventually(PATIENCE, "without it", async || evaluated(&sidecar, "price").await["value"] == json!(1.0)).await;
    let why = raw::get(sidecar.local, "/v1/override/price").await.unwrap().json()["why"].clone();
    assert_eq!(why, "the flag has no variant \"high\"; it has low");
}

#[tokio::test]
async fn only_who_may_forces_flags() {
    let (path, body) = ("/v1/override/search", r#"{"variant":"on","ttl":"1m"}"#);
    let off = sidecar("off").await;
    let refused = send(off.local, "PUT", path, MEANT, body).await;
    assert_eq!(
        (refused.status, refused.json()),
        (403, json!({"error": "overrides are off; set flags.overrides to socket or local"}))
    );
    assert_eq!(over_socket(&off, "PUT", path, body).0, 403);
    assert_eq!(over_socket(&off, "DELETE", path, "").0, 403);
    assert_eq!(raw::get(off.local, "/v1/override").await.unwrap().json(), json!({"mode": "off", "overrides": []}));

    let socket = sidecar("socket").await;
    let refused = send(socket.local, "PUT", path, MEANT, body).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("flags.overrides to local"), "{}", refused.text());
    let (status, answer) = over_socket(&socket, "PUT", path, body);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains(r#""by":"local socket""#), "{answer}");
    assert_eq!(evaluated(&socket, "search").await["value"], true);
    assert_eq!(send(socket.local, "DELETE", path, MEANT, "").await.status, 403);

    let local = sidecar("local").await;
    for (fields, said) in [
        ("", "Tidegate-Override: allow"),
        ("Tidegate-Override: yes\r\n", "Tidegate-Override: allow"),
        ("Tidegate-Override: allow\r\nOrigin: http://t\r\n", "web pages"),
        ("Tidegate-Override: allow\r\nSec-Fetch-Site: same-origin\r\n", "web pages"),
    ] {
        let refused = send(local.local, "PUT", path, fields, body).await;
        assert_eq!(refused.status, 403, "{fields}");
        assert!(refused.text().contains(said), "{}", refused.text());
    }
    assert_eq!(evaluated(&local, "search").await["value"], false);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_the_reason() {
    let sidecar = sidecar("local").await;
    let long = format!(r#"{{"variant":"on","ttl":"1m","note":"{}"}}"#, "x".repeat(257));
    let large = format!(r#"{{"value":"{}","ttl":"1m"}}"#, "x".repeat(64 * 1024));
    let huge = format!(r#"{{"value":"{}","ttl":"1m"}}"#, "x".repeat(1024 * 1024));
    for (key, body, status, said) in [
        ("search", r#"{"variant":"on"}"#, 400, "missing field `ttl`"),
        ("search", r#"{"variant":"on","ttl":"0s"}"#, 400, "at least 1s and at most 24h"),
        ("search", r#"{"variant":"on","ttl":"25h"}"#, 400, "at least 1s and at most 24h"),
        ("search", r#"{"variant":"on","ttl":"soon"}"#, 400, "such as 15m"),
        ("search", r#"{"ttl":"1m"}"#, 400, "say one of variant, value and definition"),
        ("search", r#"{"variant":"on","value":true,"ttl":"1m"}"#, 400, "say one of"),
        ("search", r#"{"variant":"on","ttl":"1m","who":"x"}"#, 400, "unknown field `who`"),
        ("search", "{", 400, "the body is no override"),
        ("search", r#"{"variant":"x","ttl":"1m"}"#, 400, "the flag has no variant"),
        ("search", r#"{"value":1,"ttl":"1m"}"#, 400, "the flag is of type boolean, not integer"),
        ("search", r#"{"definition":{"state":"ON"},"ttl":"1m"}"#, 400, "state"),
        ("search", &long, 400, "longer than 256"),
        ("search", &large, 413, "64 KiB"),
        ("search", &huge, 413, "1 MiB"),
        ("none", r#"{"variant":"on","ttl":"1m"}"#, 404, "does not exist"),
        ("a/b", r#"{"variant":"on","ttl":"1m"}"#, 404, "nothing is served"),
        ("%ff", r#"{"variant":"on","ttl":"1m"}"#, 400, "UTF-8"),
    ] {
        let answer = send(sidecar.local, "PUT", &format!("/v1/override/{key}"), MEANT, body).await;
        assert_eq!(answer.status, status, "{key}: {}", answer.text());
        assert!(answer.json()["error"].as_str().unwrap().contains(said), "{}", answer.text());
        assert!(answer.header("tidegate-revision").is_some());
    }
    assert_eq!(send(sidecar.local, "POST", "/v1/override/search", MEANT, "").await.status, 405);
    assert_eq!(send(sidecar.local, "PUT", "/v1/override", MEANT, "").await.status, 405);
    assert_eq!(raw::get(sidecar.local, "/v1/override").await.unwrap().json()["overrides"], json!([]));
}
