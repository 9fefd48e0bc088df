//! Secrets that a running sidecar is given stay with it, whatever goes wrong and whoever asks.

use std::time::Duration;

use serde_json::json;

use crate::support::chaos::Chaos;
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::postgres::Postgres;
use crate::support::raw::{self, Client};
use crate::support::redis::Redis;
use crate::support::sidecar::{self, Sidecar};

const PATIENCE: Duration = Duration::from_secs(30);

const FLAGS_PASSWORD: &str = "flags-pa55word";
const CACHE_PASSWORD: &str = "cache-pa55word";
const DB_PASSWORD: &str = "db-pa55word";
const TOKEN: &str = "drain-t0ken-right";
/// Nobody's secret, but one character away from one.
const NEAR_MISS: &str = "drain-t0ken-wrong";

#[tokio::test]
async fn no_secret_leaves_a_sidecar_whose_servers_refuse_it() {
    let (postgres, redis, nobody) = (Postgres::start(), Redis::start(), Port::reserve());
    let cache = Chaos::to(redis.upstream());
    let sidecar = Sidecar::start_with(&format!(
        "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }}]
ops: {{ listen: ['127.0.0.1:0'], drain_token: '{TOKEN}' }}
log: {{ level: debug }}
redis: {{ url: 'redis://:{FLAGS_PASSWORD}@{nobody}' }}
flags: {{ scopes: [orders] }}
checks:
  db: {{ postgres: {{ url: '{db}' }}, interval: 50ms }}
  cache: {{ redis: {{ url: 'redis://app:{CACHE_PASSWORD}@{cache}' }}, interval: 50ms }}
  flag-store: {{ redis: {{}}, interval: 50ms }}",
        nobody = nobody.address(),
        db = postgres.url_at(postgres.address(), DB_PASSWORD),
        cache = cache.address(),
    ));
    let ops = sidecar.ops;
    eventually(PATIENCE, "everything has failed", async || {
        let status = raw::get(sidecar.local, "/v1/status").await.unwrap().json();
        let failed = |check: &str| status["checks"][check]["status"] == "failed";
        failed("db") && failed("cache") && failed("flag-store") && status["flags"]["sources"][0]["state"] == "stale"
    })
    .await;

    // The local listener drains for nobody, whatever they know.
    let mut app = Client::connect(sidecar.local).await.unwrap();
    app.send(format!("POST /v1/drain HTTP/1.1\r\nHost: a\r\nTidegate-Drain-Token: {TOKEN}{NEAR_MISS}\r\n\r\n"))
        .await
        .unwrap();
    let refused = app.answer().await.unwrap();
    assert_eq!(refused.status, 403, "{}", refused.text());

    let mut said = vec![("refused drain", format!("{:?} {}", refused.headers, refused.text()))];
    for (address, path) in [
        (sidecar.local, "/v1/status"),
        (ops, "/readyz"),
        (ops, "/readyz?verbose"),
        (ops, "/readyz/db"),
        (ops, "/lb-healthz"),
        (ops, "/startupz"),
        (ops, "/metrics"),
    ] {
        let answer = raw::get(address, path).await.unwrap();
        said.push((path, format!("{:?} {}", answer.headers, answer.text())));
    }
    for (name, arguments, expected) in [
        ("status", &["status", "--output", "json"][..], 1),
        ("status as YAML", &["status", "--output", "yaml"], 1),
        ("status as a table", &["status"], 1),
        ("config show", &["config", "show"], 0),
        ("check", &["check"], 1),
        ("check as JSON", &["check", "--output", "json"], 1),
        ("flags ls", &["flags", "ls"], 69),
    ] {
        let config = sidecar.config();
        let run = move || sidecar::cli(&[&["--config", config.to_str().unwrap()], arguments].concat());
        // The forwarder to the cache lives on this thread.
        let (code, out, error) = tokio::task::spawn_blocking(run).await.unwrap();
        assert_eq!(code, expected, "{name}: {out}{error}");
        said.push((name, out + &error));
    }
    let logged = |message: &str| {
        sidecar.log().iter().any(|line| line["message"].as_str().is_some_and(|said| said.starts_with(message)))
    };
    assert!(logged("a check fails"), "{:#?}", sidecar.log());
    said.push(("log", json!(sidecar.log()).to_string()));

    for (place, text) in &said {
        assert!(!text.trim().is_empty(), "{place} says nothing");
        for secret in [FLAGS_PASSWORD, CACHE_PASSWORD, DB_PASSWORD, TOKEN, NEAR_MISS] {
            assert!(!text.contains(secret), "{place} tells {secret}:\n{text}");
        }
    }
}
