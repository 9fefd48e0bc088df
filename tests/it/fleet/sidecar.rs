//! The running binary as a member of its fleet.

use std::time::Duration;

use super::PATIENCE;
use crate::support::app::App;
use crate::support::deployment::Server;
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::raw;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;

fn settings(redis: &Redis, pod: &str) -> String {
    format!("redis: {{ url: '{}' }}\nfleet: {{ pod: {pod}, pod_uid: uid-{pod}, version: '7' }}", redis.url().expose())
}

fn instances(sidecar: &Sidecar) -> Vec<serde_json::Value> {
    let (code, text, error) = sidecar.cli(&["fleet", "--output", "json"]);
    assert_eq!(code, 0, "{error}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["instances"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_sidecar_is_in_the_fleet_from_its_start_to_its_end() {
    let (app, redis) = (App::start().await, Redis::start());
    let mut first = Sidecar::start(app.address, &settings(&redis, "a"));
    let second = Sidecar::start(app.address, &settings(&redis, "b"));
    first.ready().await;
    second.ready().await;
    eventually(PATIENCE, "both are known as they are", async || {
        let all = instances(&second);
        let serving = all.iter().filter(|i| i["phase"] == "serving" && i["ready"] == true && i["state"] == "live");
        serving.count() == 2
    })
    .await;
    let all = instances(&second);
    assert_eq!((&all[0]["pod"], &all[0]["id"], &all[0]["version"]), (&"a".into(), &"uid-a".into(), &"7".into()));
    assert_eq!(first.metric("tidegate_fleet_registered", "").await, 1.0);
    first.signal("TERM");
    assert!(first.ended(PATIENCE).await.success());
    let pods: Vec<String> = instances(&second).iter().map(|i| i["pod"].as_str().unwrap().to_owned()).collect();
    assert_eq!(pods, ["b"], "it said goodbye");
    // `kill -9`, and the next boot of the same pod.
    let directory = second.kill();
    drop(directory);
    let again = Sidecar::start(app.address, &settings(&redis, "b"));
    again.ready().await;
    eventually(PATIENCE, "the new boot is registered", async || {
        again.metric("tidegate_fleet_registered", "").await == 1.0
    })
    .await;
    assert_eq!(instances(&again).len(), 1);
}

#[tokio::test]
async fn a_check_without_a_result_is_not_said_to_fail_and_a_replica_is_said_to_be_one_once() {
    let app = App::start().await;
    let server = Server::start(&["--save", "", "--appendonly", "no"]);
    // The kernel accepts, and nobody answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = format!(
        "redis: {{ url: '{}' }}\nfleet: {{ pod: a }}\nchecks: {{ mute: {{ http: {{ url: 'http://{}/' }}, interval: 60s, timeout: 60s }} }}",
        server.url().expose(),
        mute.local_addr().unwrap()
    );
    let sidecar = Sidecar::start(app.address, &settings);
    eventually(PATIENCE, "it is listed", async || !instances(&sidecar).is_empty()).await;
    let instance = &instances(&sidecar)[0];
    assert_eq!(instance["ready"], false);
    assert!(!instance["failing"].as_array().unwrap().contains(&"mute".into()), "{instance}");
    let nobody = Port::reserve().address().port().to_string();
    let _: Option<String> = server.ask(&["REPLICAOF", "127.0.0.1", &nobody]).await;
    eventually(PATIENCE, "heartbeats are refused", async || {
        sidecar.metric("tidegate_fleet_heartbeats_total", "refused").await >= 3.0
    })
    .await;
    let log = sidecar.log();
    let said = |line: &&serde_json::Value| line.to_string().contains("redis is a read-only replica here");
    let told: Vec<_> = log.iter().filter(said).collect();
    assert_eq!(told.len(), 1, "{log:?}");
    assert_eq!(told[0]["level"], "WARN", "{}", told[0]);
}

#[tokio::test]
async fn clocks_that_are_hours_apart_make_no_suspects() {
    let (app, redis) = (App::start().await, Redis::start());
    let settings = |pod: &str| {
        format!("proxy: [{{ listen: '127.0.0.1:0', upstream: '{}' }}]\n{}", app.address, settings(&redis, pod))
    };
    let ahead = Sidecar::start_at("+7h", &settings("ahead"));
    let behind = Sidecar::start_at("-5h", &settings("behind"));
    let right = Sidecar::start_with(&settings("right"));
    for sidecar in [&ahead, &behind, &right] {
        eventually(PATIENCE, "it has told twice that it lives", async || {
            sidecar.metric("tidegate_fleet_heartbeats_total", "ok").await >= 2.0
        })
        .await;
    }
    let hour = |time: &str| humantime::parse_rfc3339_weak(time).unwrap();
    let began = |sidecar: &Sidecar| hour(sidecar.log()[0]["timestamp"].as_str().unwrap());
    let apart = began(&ahead).duration_since(began(&behind)).unwrap();
    assert!(apart > Duration::from_secs(11 * 3600), "their clocks are {apart:?} apart");
    let all = instances(&right);
    let live: Vec<&str> = all.iter().filter(|i| i["state"] == "live").map(|i| i["pod"].as_str().unwrap()).collect();
    assert_eq!(live, ["ahead", "behind", "right"]);
    for instance in &all {
        let joined = hour(instance["joined"].as_str().unwrap());
        let age = std::time::SystemTime::now().duration_since(joined).unwrap_or_default();
        assert!(age < Duration::from_secs(3600), "by the clock of Redis: {instance}");
    }
}

#[tokio::test]
async fn nothing_of_a_sidecar_waits_for_a_redis_that_hangs_or_is_away() {
    let (app, mut redis) = (App::start().await, Redis::start());
    let mut sidecar = Sidecar::start(app.address, &settings(&redis, "a"));
    sidecar.ready().await;
    redis.freeze();
    eventually(PATIENCE, "a heartbeat failed", async || {
        sidecar.metric("tidegate_fleet_heartbeats_total", "failed").await >= 1.0
    })
    .await;
    for path in ["/readyz", "/healthz", "/startupz"] {
        assert_eq!(raw::get(sidecar.ops, path).await.unwrap().status, 200, "{path}");
    }
    assert_eq!(raw::get(sidecar.proxy(), "/").await.unwrap().status, 200);
    redis.thaw();
    redis.kill();
    assert_eq!(raw::get(sidecar.ops, "/readyz").await.unwrap().status, 200);
    sidecar.signal("TERM");
    assert!(sidecar.ended(Duration::from_secs(30)).await.success());
}

#[tokio::test]
async fn an_instance_that_is_not_to_register_does_not() {
    let (app, redis) = (App::start().await, Redis::start());
    let url = redis.url();
    let sidecar =
        Sidecar::start(app.address, &format!("redis: {{ url: '{}' }}\nfleet: {{ register: off }}", url.expose()));
    sidecar.ready().await;
    assert!(instances(&sidecar).is_empty());
    assert_eq!(sidecar.metric("tidegate_fleet_heartbeats_total", "").await, 0.0);
}
