//! `grpc.health.v1.Health` on the ops listener, as kubelets and load balancers ask it, and the history in `status`.

use serde_json::{Value, json};

use super::*;
use crate::support::rpc::{FORMS, Rpc, call_as, post};
use crate::support::sidecar::Sidecar;
use crate::support::{chaos::Chaos, raw, redis::Redis};

const CHECK: &str = "grpc.health.v1.Health/Check";
const WATCH: &str = "grpc.health.v1.Health/Watch";

const PROXY: &str = "proxy: [{ listen: '127.0.0.1:0', upstream: '127.0.0.1:1' }]";

fn serving(holds: bool) -> Value {
    json!({ "status": if holds { "SERVING" } else { "NOT_SERVING" } })
}

#[tokio::test]
async fn grpc_probes_hear_what_http_probes_hear_and_watchers_are_told() {
    let redis = Redis::start();
    let chaos = Chaos::to(redis.upstream());
    let mut sidecar = Sidecar::start_with(&format!(
        "{PROXY}\nchecks: {{ cache: {{ redis: {{ url: 'redis://{}' }}, interval: 1s, fall: 1 }}, \
         gone: {{ tcp: {{ address: '127.0.0.1:1' }}, class: info }} }}",
        chaos.address()
    ));
    sidecar.ready().await;
    let rpc = Rpc::connect(sidecar.ops).await;
    for (service, holds) in
        [("", true), ("readiness", true), ("liveness", true), ("startup", true), ("cache", true), ("gone", false)]
    {
        let request = json!({ "service": service });
        assert_eq!(rpc.call(CHECK, request.clone()).await.unwrap(), serving(holds), "{service}");
        for form in FORMS {
            assert_eq!(call_as(sidecar.ops, form, CHECK, &request).await, Ok(serving(holds)), "{form} {service}");
        }
    }
    let unknown = rpc.call(CHECK, json!({ "service": "nope" })).await;
    assert_eq!(unknown.map_err(|status| status.code()), Err(tonic::Code::NotFound));
    let other = rpc.call("grpc.health.v1.Health/Check", json!({ "service": "lifecycle" })).await;
    assert_eq!(other.unwrap(), serving(true), "conditions have names, too");
    let listed = rpc.call("grpc.health.v1.Health/List", json!({})).await.unwrap();
    assert_eq!(listed["statuses"]["gone"], serving(false), "{listed}");

    let mut all = rpc.stream(WATCH, json!({})).await.unwrap();
    let mut cache = rpc.stream(WATCH, json!({ "service": "cache" })).await.unwrap();
    let mut unknown = rpc.stream(WATCH, json!({ "service": "nope" })).await.unwrap();
    assert_eq!((all.one().await, cache.one().await), (serving(true), serving(true)));
    assert_eq!(unknown.one().await, json!({"status":"SERVICE_UNKNOWN"}));
    chaos.refuse();
    chaos.reset();
    assert_eq!((all.one().await, cache.one().await), (serving(false), serving(false)));
    chaos.restore();
    assert_eq!((all.one().await, cache.one().await), (serving(true), serving(true)));

    let turned = history(&sidecar).await;
    let of = |name: &str| {
        let turns = turned.iter().filter(|turn| turn["name"] == name);
        turns.map(|turn| format!("{} {}", turn["from"], turn["to"]).replace('"', "")).collect::<Vec<_>>()
    };
    assert_eq!(of("cache"), ["pending ok", "ok failed", "failed ok"]);
    assert_eq!(of("readyz"), ["not ready ready", "ready not ready", "not ready ready"]);
    let why = turned.iter().rfind(|turn| turn["to"] == "not ready").unwrap()["why"].as_str().unwrap();
    assert!(why.starts_with("cache: "), "{why}");
    let (code, table, _) = sidecar.cli(&["status", "--history"]);
    assert!(code == 0 && table.contains("TURNED") && table.contains(why), "{table}");

    sidecar.signal("TERM");
    assert_eq!(all.one().await, serving(false), "drained is not ready");
    // Clients come again after an error, and take OK for the last word.
    for stream in [&mut all, &mut cache, &mut unknown] {
        let status = stream.next().await.unwrap_err();
        assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "the sidecar ends"));
    }
    drop((all, cache, unknown, rpc));
    assert!(sidecar.ended(PATIENCE).await.success());
}

#[tokio::test]
async fn a_start_without_checks_was_never_ready_before_it_was() {
    let sidecar = Sidecar::start_with(PROXY);
    sidecar.ready().await;
    let turned = history(&sidecar).await;
    let turns: Vec<_> = turned.iter().filter(|turn| turn["name"] == "readyz").collect();
    assert_eq!(turns.len(), 1, "{turned:?}");
    assert_eq!((&turns[0]["from"], &turns[0]["to"]), (&json!("not ready"), &json!("ready")));
}

async fn history(sidecar: &Sidecar) -> Vec<Value> {
    let status = raw::get(sidecar.local, "/v1/status").await.unwrap().json();
    status["history"].as_array().unwrap().clone()
}

#[tokio::test]
async fn watchers_are_bounded_and_leave_their_places_when_they_go() {
    let sidecar = Sidecar::start_with(PROXY);
    sidecar.ready().await;
    let rpc = Rpc::connect(sidecar.ops).await;
    let mut watching = Vec::new();
    for _ in 0..64 {
        let mut answers = rpc.stream(WATCH, json!({})).await.unwrap();
        answers.one().await;
        watching.push(answers);
    }
    let Err(refused) = rpc.stream(WATCH, json!({})).await else { panic!("there are 64 already") };
    assert_eq!((refused.code(), refused.message()), (tonic::Code::ResourceExhausted, "64 watch already"));
    assert_eq!(rpc.call(CHECK, json!({})).await.unwrap(), serving(true), "who asks once is answered");
    drop(watching);
    eventually(PATIENCE, "places are free again", async || rpc.stream(WATCH, json!({})).await.is_ok()).await;
}

#[tokio::test]
async fn what_is_no_call_is_refused_in_its_own_words() {
    let sidecar = Sidecar::start_with(PROXY);
    sidecar.ready().await;
    let get = raw::get(sidecar.ops, "/grpc.health.v1.Health/Check").await.unwrap();
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    for (path, form, status) in [
        ("grpc.health.v1.Health/Nope", "application/json", 501),
        ("grpc.health.v1.Health/Check", "application/connect+json", 415),
        ("grpc.health.v1.Health/Watch", "application/json", 415),
        ("grpc.health.v1.Health/Check", "text/plain", 415),
        ("grpc.health.v1.Health/Check", "application/grpc", 505),
    ] {
        let refused = post(sidecar.ops, path, &format!("Content-Type: {form}\r\n"), b"{}").await;
        assert_eq!(refused.status, status, "{path} {form}");
    }
    let malformed = post(sidecar.ops, CHECK, "Content-Type: application/json\r\n", b"{").await;
    assert_eq!((malformed.status, &malformed.json()["code"]), (400, &json!("invalid_argument")));
    assert_eq!(raw::get(sidecar.ops, "/readyz").await.unwrap().status, 200);
}
