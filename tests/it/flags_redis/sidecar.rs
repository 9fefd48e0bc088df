//! The whole way: `tidegate flags` → Redis → a running sidecar → the app.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::eventually;
use crate::support::flags::PATIENCE;
use crate::support::raw::{self, Client};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;

const SEARCH: &str = r#"{"state":"ENABLED","variants":{"yes":true,"no":false},"defaultVariant":"no"}"#;
const EVALUATE: &str = "/ofrep/v1/evaluate/flags/search";

fn settings(redis: &Redis) -> String {
    // Nothing is proxied here.
    let proxy = "proxy: [{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }]";
    format!("{proxy}\nredis: {{ url: '{}' }}\nflags: {{ scopes: [orders] }}", redis.url().expose())
}

#[tokio::test]
async fn a_flag_set_from_the_command_line_is_served_at_once_under_load_and_survives_redis() {
    let mut redis = Redis::start();
    let sidecar = Sidecar::start_with(&settings(&redis));
    let (code, said, error) = sidecar.cli(&["flags", "set", "--create", "search", SEARCH]);
    assert_eq!(code, 0, "{said}{error}");
    sidecar.ready().await;
    let local = sidecar.local;
    let value = async || raw::post(local, EVALUATE, "{}").await.ok().map(|answer| answer.json()["value"].clone());
    eventually(PATIENCE, "the flag is served", async || value().await == Some(json!(false))).await;

    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut apps = JoinSet::new();
    for _ in 0..4 {
        let (stop, served) = (stop.clone(), served.clone());
        apps.spawn(async move {
            let mut client = Client::connect(local).await.unwrap();
            while !stop.load(Ordering::Relaxed) {
                let answer = client.post(EVALUATE, "{}").await.unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
                let (value, variant) = (&answer.json()["value"], &answer.json()["variant"]);
                assert!(
                    [(json!(true), json!("yes")), (json!(false), json!("no"))]
                        .contains(&(value.clone(), variant.clone()))
                );
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for round in 0..20 {
        let command = if round % 2 == 0 { "on" } else { "off" };
        let config = sidecar.config();
        let switched = tokio::task::spawn_blocking(move || {
            crate::support::sidecar::cli(&["--config", config.to_str().unwrap(), "flags", command, "search"])
        });
        let (code, _, error) = switched.await.unwrap();
        assert_eq!(code, 0, "{error}");
        eventually(PATIENCE, "the new value is served", async || value().await == Some(json!(round % 2 == 0))).await;
    }
    // The first write may have been part of the first snapshot.
    let told = sidecar.metric("tidegate_flags_propagation_seconds_count", "").await;
    assert!((20.0..=21.0).contains(&told), "{told} events applied");

    // Killed and started again empty, under the same load.
    redis.kill();
    eventually(PATIENCE, "redis was found to be away", async || sidecar.metric("tidegate_flags_stale", "").await > 0.0)
        .await;
    redis.resume();
    let missing = async || {
        let status = raw::get(local, "/v1/status").await.unwrap().json();
        status["flags"]["sources"][0]["state"] == "missing"
    };
    eventually(PATIENCE, "the loss is noticed", missing).await;
    assert_eq!(value().await, Some(json!(false)));
    stop.store(true, Ordering::Relaxed);
    while let Some(app) = apps.join_next().await {
        app.expect("every answer was whole");
    }
    assert!(served.load(Ordering::Relaxed) > 20);
    assert_eq!(raw::get(sidecar.ops, "/readyz").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_sidecar_killed_and_started_without_redis_serves_what_it_last_knew() {
    let mut redis = Redis::start();
    let settings = settings(&redis);
    let sidecar = Sidecar::start_with(&settings);
    assert_eq!(sidecar.cli(&["flags", "set", "--create", "search", SEARCH]).0, 0);
    let kept = sidecar.directory().join("state/flags");
    eventually(PATIENCE, "the flag is on disk", async || {
        std::fs::read_dir(&kept).is_ok_and(|mut files| {
            files.any(|file| file.is_ok_and(|file| file.path().extension().is_some_and(|e| e == "kept")))
        })
    })
    .await;
    let directory = sidecar.kill();
    redis.kill();
    let sidecar = Sidecar::start_in(directory, &settings);
    sidecar.ready().await;
    let answer = raw::post(sidecar.local, EVALUATE, "{}").await.unwrap();
    assert_eq!((answer.status, &answer.json()["value"]), (200, &json!(false)), "{}", answer.text());
    let status = raw::get(sidecar.local, "/v1/status").await.unwrap().json();
    assert_eq!((&status["flags"]["stale"], &status["flags"]["sources"][0]["from_disk"]), (&json!(true), &json!(true)));
    let (code, _, error) = sidecar.cli(&["flags", "on", "search"]);
    assert_eq!(code, 69, "{error}");
}
