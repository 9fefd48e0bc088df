//! The brake in running binaries.

use serde_json::json;

use super::{Database, PATIENCE, grown};
use crate::support::app::App;
use crate::support::eventually;
use crate::support::raw;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;

#[tokio::test]
async fn sidecars_of_one_database_stay_in_service_together_and_one_alone_leaves() {
    let (app, redis, mut database) = (App::start().await, Redis::start(), Database::start());
    let (url, port) = (redis.url(), database.port.address());
    let settings = |pod: &str, threshold: &str| {
        format!(
            "redis: {{ url: '{}' }}\n\
             fleet: {{ pod: {pod}, pod_uid: uid-{pod}, brake: {{ panic_threshold: {threshold} }} }}\n\
             checks: {{ db: {{ tcp: {{ address: '{port}' }}, shared: true, interval: 200ms }} }}",
            url.expose()
        )
    };
    let braked: Vec<Sidecar> = ["a", "b"].map(|pod| Sidecar::start(app.address, &settings(pod, "0.5"))).into();
    let unbraked = Sidecar::start(app.address, &settings("c", "off"));
    for sidecar in braked.iter().chain([&unbraked]) {
        sidecar.ready().await;
        eventually(PATIENCE, "registered", async || sidecar.metric("tidegate_fleet_registered", "").await == 1.0).await;
    }
    grown(&redis).await;
    database.stop();
    let says = "db failing on 3 of 3 instances";
    for sidecar in &braked {
        eventually(PATIENCE, "it is ready, and says why", async || {
            let answer = raw::get(sidecar.ops, "/readyz").await.unwrap();
            answer.status == 200 && answer.json()["brake"] == says
        })
        .await;
        assert_eq!(sidecar.metric("tidegate_ready", "").await, 1.0);
        assert_eq!(sidecar.metric("tidegate_brake_holds", "db").await, 1.0);
        sidecar.logs("the brake holds: a shared check that fails counts as degraded").await;
        let status = raw::get(sidecar.local, "/v1/status").await.unwrap().json();
        assert_eq!(status["checks"]["db"]["brake"], says, "{status}");
        assert_eq!((&status["ready"], &status["checks"]["db"]["class"]), (&json!(true), &json!("degraded")));
    }
    let (code, table, error) = braked[0].cli(&["status", "--history"]);
    assert_eq!(code, 0, "{error}");
    assert!(table.lines().any(|line| line == format!("brake      {says}")), "{table}");
    let turn = |line: &str| line.contains("brake of db") && line.contains("holds") && line.contains("db failing on ");
    assert!(table.lines().any(turn), "{table}");
    eventually(PATIENCE, "without a brake it leaves", async || {
        let answer = raw::get(unbraked.ops, "/readyz").await.unwrap();
        answer.status == 503 && answer.json()["brake"] == format!("off by panic_threshold, {says}")
    })
    .await;
    database.resume();
    for sidecar in braked.iter().chain([&unbraked]) {
        sidecar.ready().await;
    }
    eventually(PATIENCE, "the brake is off", async || braked[0].metric("tidegate_brake_holds", "db").await == 0.0)
        .await;
    let told = |line: &serde_json::Value| line["message"] == "the brake is off" && line["said"] == "db passes again";
    eventually(PATIENCE, "and why is told", async || braked[0].log().iter().any(told)).await;
}
