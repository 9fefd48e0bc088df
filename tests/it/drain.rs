//! The end of an instance: by hook, by signal, by both, by force.

use std::process::Command;
use std::time::Duration;

use crate::support::app::App;
use crate::support::balancer::Balancer;
use crate::support::eventually;
use crate::support::load::Load;
use crate::support::port::Port;
use crate::support::raw::{self, Client};
use crate::support::sidecar::{Sidecar, TIDEGATE};

const LONG: Duration = Duration::from_secs(30);

async fn phase(sidecar: &Sidecar) -> String {
    raw::get(sidecar.local, "/v1/status").await.unwrap().json()["phase"].as_str().unwrap().to_owned()
}

async fn reaches(sidecar: &Sidecar, wanted: &str) {
    eventually(LONG, wanted, async || phase(sidecar).await == wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_under_load_loses_no_request() {
    const SETTINGS: &str = "drain: { delay: 400ms, quiet: 300ms, deadline: 20s }";
    let mut app = App::start().await;
    let mut serving = Sidecar::start(app.address, SETTINGS);
    serving.ready().await;
    let balancer = Balancer::to(serving.proxy()).await;
    let load = Load::on(balancer.address, 16, 4);
    for round in 0..4 {
        let before = load.answered();
        eventually(LONG, "load flows", async || load.answered() > before + 200).await;

        // The new instance is up before the old one is told to leave, as with maxUnavailable: 0.
        let next_app = App::start().await;
        let next = Sidecar::start(next_app.address, SETTINGS);
        next.ready().await;

        let slow_ms = if round == 0 { 5_000 } else { 700 };
        let mut slow = Client::connect(serving.proxy()).await.unwrap();
        slow.send(format!("GET /slow?ms={slow_ms} HTTP/1.1\r\nHost: t\r\n\r\n")).await.unwrap();
        eventually(LONG, "the slow request is in flight", async || {
            serving.metric("tidegate_proxy_upstream_connects_total", "").await > 0.0
                && serving.metric("tidegate_in_flight", "kind=\"request\"").await >= 1.0
        })
        .await;

        // Both hooks, and some time later the endpoint's removal reaches the balancer.
        let drained = raw::post(serving.ops, "/drain", "");
        let mut own = Command::new(TIDEGATE);
        own.arg("--config").arg(serving.config()).args(["drain", "--self"]);
        let own = tokio::task::spawn_blocking(move || own.output().unwrap());
        let switched = async {
            reaches(&serving, "lame_duck").await;
            tokio::time::sleep(Duration::from_millis(150)).await;
            balancer.switch(next.proxy());
        };
        let (drained, slow, ()) = tokio::join!(drained, slow.answer(), switched);
        let drained = drained.unwrap();
        assert_eq!((drained.status, &drained.json()["outcome"]), (200, &"clean".into()));
        assert_eq!(slow.expect("completed").text(), "slow\n");
        assert!(own.await.unwrap().status.success());

        // The app goes first, then the sidecar gets its signal.
        drop(std::mem::replace(&mut app, next_app));
        serving.signal("TERM");
        assert!(serving.ended(LONG).await.success(), "round {round}");
        serving = next;
    }
    let before = load.answered();
    eventually(LONG, "load flows to the end", async || load.answered() > before + 200).await;
    let (answered, connections, failed) = load.stop().await;
    assert!(failed.is_empty(), "{} of {answered} requests failed: {:#?}", failed.len(), &failed[..failed.len().min(5)]);
    assert!(connections > 16 + 4, "clients have moved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_alone_drains_under_load() {
    let app = App::start().await;
    let mut old = Sidecar::start(app.address, "drain: { delay: 300ms, quiet: 200ms, deadline: 20s }");
    let new = Sidecar::start(app.address, "");
    old.ready().await;
    new.ready().await;
    let balancer = Balancer::to(old.proxy()).await;
    let load = Load::on(balancer.address, 8, 4);
    eventually(LONG, "load flows", async || load.answered() > 200).await;
    old.signal("TERM");
    reaches(&old, "lame_duck").await;
    balancer.switch(new.proxy());
    assert!(old.ended(LONG).await.success());
    let (_, _, failed) = load.stop().await;
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test]
async fn each_phase_answers_probes_as_it_should() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "drain: { delay: 1s, quiet: 200ms, deadline: 30s }");
    sidecar.ready().await;
    let probe = async |path: &str| raw::get(sidecar.ops, path).await.unwrap().status;
    assert_eq!((probe("/healthz").await, probe("/startupz").await), (200, 200));
    assert_eq!((probe("/readyz").await, probe("/lb-healthz").await), (200, 200));

    let mut held = Client::connect(sidecar.proxy()).await.unwrap();
    held.send("GET /slow?ms=3000 HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    let (code, said, _) = sidecar.cli(&["drain"]);
    assert_eq!((code, said.as_str()), (0, "draining\n"));

    reaches(&sidecar, "lame_duck").await;
    assert_eq!(probe("/healthz").await, 200);
    assert_eq!(probe("/readyz").await, 200, "kube-proxy may fall back to serving, terminating endpoints");
    assert_eq!(probe("/lb-healthz").await, 503, "at once for who probes the pod itself");
    let mut kept = Client::connect(sidecar.proxy()).await.unwrap();
    assert!(!kept.get("/").await.unwrap().closes(), "as ever");

    reaches(&sidecar, "shedding").await;
    assert_eq!((probe("/healthz").await, probe("/lb-healthz").await), (200, 503));
    eventually(LONG, "not ready", async || probe("/readyz").await == 503).await;
    assert!(raw::get(sidecar.ops, "/readyz").await.unwrap().text().contains("shutting down"));
    assert!(kept.get("/").await.unwrap().closes(), "asked to leave with its next answer");
    let fresh = raw::get(sidecar.proxy(), "/").await.unwrap();
    assert!(fresh.status == 200 && fresh.closes(), "new connections are served");

    assert_eq!(held.answer().await.unwrap().text(), "slow\n");
    reaches(&sidecar, "drained").await;
    assert_eq!(probe("/healthz").await, 200, "liveness never moves");
    assert_eq!(raw::get(sidecar.proxy(), "/").await.unwrap().status, 200, "still served");
    drop(app);
    let gone = raw::get(sidecar.proxy(), "/").await.unwrap();
    assert_eq!((gone.status, gone.closes(), gone.header("retry-after")), (503, true, Some("1")));
}

#[tokio::test]
async fn readiness_can_fail_from_the_start_of_a_drain() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "drain: { delay: 20s, quiet: 200ms, deadline: 30s, readiness: fail }");
    sidecar.ready().await;
    sidecar.cli(&["drain"]);
    eventually(LONG, "not ready", async || raw::get(sidecar.ops, "/readyz").await.unwrap().status == 503).await;
    assert_eq!(phase(&sidecar).await, "lame_duck");
}

#[tokio::test]
async fn an_idle_connection_is_closed_gently_while_shedding() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "drain: { delay: 0s, quiet: 200ms, deadline: 30s, restart_after: none }");
    sidecar.ready().await;
    let mut idle = Client::connect(sidecar.proxy()).await.unwrap();
    assert!(!idle.get("/").await.unwrap().closes());
    let drained = raw::post(sidecar.ops, "/drain", "");
    let closed = async {
        assert_eq!(idle.rest().await.unwrap(), b"", "an orderly end");
        assert_ne!(phase(&sidecar).await, "drained", "drained waits for the connection to be gone");
        drop(idle);
    };
    let (drained, ()) = tokio::join!(drained, closed);
    assert_eq!(drained.unwrap().json()["outcome"], "clean");
}

#[tokio::test]
async fn a_stuck_request_is_cut_at_the_deadline_and_the_exit_code_says_so() {
    let app = App::start().await;
    let mut sidecar = Sidecar::start(app.address, "drain: { delay: 100ms, quiet: 100ms, deadline: 1s }");
    sidecar.ready().await;
    let mut stuck = Client::connect(sidecar.proxy()).await.unwrap();
    stuck.send("GET /slow?ms=60000 HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    eventually(LONG, "in flight", async || sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 1.0).await;
    sidecar.signal("TERM");
    assert_eq!(sidecar.ended(LONG).await.code(), Some(1));
    assert!(stuck.answer().await.is_err());
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let app = App::start().await;
    let mut sidecar = Sidecar::start(app.address, "drain: { delay: 60s, quiet: 1s, deadline: 120s }");
    sidecar.ready().await;
    sidecar.signal("TERM");
    reaches(&sidecar, "lame_duck").await;
    sidecar.signal("INT");
    assert_eq!(sidecar.ended(LONG).await.code(), Some(1));
    sidecar.logs("second signal: ending at once").await;
}

#[tokio::test]
async fn a_terminal_that_closes_asks_for_a_drain_as_other_signals_do() {
    let app = App::start().await;
    let mut sidecar = Sidecar::start(app.address, "drain: { delay: 0s, quiet: 100ms, deadline: 10s }");
    sidecar.ready().await;
    let mut slow = Client::connect(sidecar.proxy()).await.unwrap();
    slow.send("GET /slow?ms=500 HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    eventually(LONG, "in flight", async || sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 1.0).await;
    sidecar.signal("HUP");
    assert_eq!(slow.answer().await.unwrap().status, 200);
    assert_eq!(sidecar.ended(LONG).await.code(), Some(0));
}

#[tokio::test]
async fn hooks_that_come_twice_share_one_drain() {
    let app = App::start().await;
    let mut sidecar =
        Sidecar::start(app.address, "drain: { delay: 500ms, quiet: 100ms, deadline: 10s, restart_after: none }");
    sidecar.ready().await;
    let (first, second) = tokio::join!(raw::post(sidecar.ops, "/drain", ""), raw::get(sidecar.ops, "/drain"));
    assert_eq!((first.unwrap().status, second.unwrap().status), (200, 200));
    assert_eq!(raw::get(sidecar.ops, "/drain").await.unwrap().json()["took_ms"], 0, "a third finds it done");
    let (code, said, _) = sidecar.cli(&["drain", "--wait"]);
    assert_eq!((code, said.as_str()), (0, "drained: clean\n"));
    sidecar.signal("TERM");
    assert!(sidecar.ended(LONG).await.success());
    sidecar.logs("stopped").await;
    let changes = sidecar.log().iter().filter(|line| line["to"] == "lame_duck").count();
    assert_eq!(changes, 1);
    assert!(!sidecar.directory().join("tidegate.sock").exists(), "nothing is left that looks like a sidecar");
    let (code, _, said) = sidecar.cli(&["drain"]);
    assert_eq!(code, 69);
    assert!(said.contains("no sidecar answers on"), "{said}");
}

#[tokio::test]
async fn a_hook_that_goes_away_does_not_stop_the_drain() {
    let app = App::start().await;
    let sidecar =
        Sidecar::start(app.address, "drain: { delay: 300ms, quiet: 100ms, deadline: 10s, restart_after: none }");
    sidecar.ready().await;
    let mut hook = Client::connect(sidecar.ops).await.unwrap();
    hook.send("GET /drain HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    reaches(&sidecar, "lame_duck").await;
    drop(hook);
    reaches(&sidecar, "drained").await;
}

#[tokio::test]
async fn declared_work_is_waited_for_and_expires() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "drain: { delay: 0s, quiet: 100ms, deadline: 30s }");
    sidecar.ready().await;
    let lease = raw::post(sidecar.local, "/v1/work", "").await.unwrap();
    assert_eq!(lease.status, 201);
    let id = lease.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(raw::post(sidecar.local, "/v1/work?ttl=1s", "").await.unwrap().status, 201);
    assert_eq!(raw::post(sidecar.local, "/v1/work?ttl=soon", "").await.unwrap().status, 400);
    assert_eq!(sidecar.metric("tidegate_in_flight", "kind=\"work\"").await, 2.0);
    sidecar.cli(&["drain"]);
    eventually(LONG, "expired", async || sidecar.metric("tidegate_in_flight", "kind=\"work\"").await == 1.0).await;
    assert_eq!(phase(&sidecar).await, "shedding");
    let mut client = Client::connect(sidecar.local).await.unwrap();
    for status in [204, 404] {
        client.send(format!("DELETE /v1/work/{id} HTTP/1.1\r\nHost: t\r\n\r\n")).await.unwrap();
        assert_eq!(client.answer().await.unwrap().status, status);
    }
    reaches(&sidecar, "drained").await;
}

#[tokio::test]
async fn an_app_that_restarts_after_a_drain_is_served_again() {
    let port = Port::reserve();
    let app = App::on(port.address()).await;
    let mut sidecar =
        Sidecar::start(port.address(), "drain: { delay: 100ms, quiet: 100ms, deadline: 10s, restart_after: none }");
    sidecar.ready().await;
    // Nobody asked whether it was a restart.
    assert_eq!(raw::post(sidecar.ops, "/drain", "").await.unwrap().status, 200);
    assert_eq!(raw::get(sidecar.ops, "/readyz").await.unwrap().status, 503);
    drop(app);
    assert_eq!(raw::get(sidecar.proxy(), "/").await.unwrap().status, 503);
    sidecar.logs("the app is gone; watching whether it comes back").await;
    let _app = App::on(port.address()).await;
    reaches(&sidecar, "serving").await;
    sidecar.ready().await;
    let answer = raw::get(sidecar.proxy(), "/").await.unwrap();
    assert!(answer.status == 200 && !answer.closes());
    sidecar.signal("TERM");
    assert!(sidecar.ended(LONG).await.success());
}

#[tokio::test]
async fn a_drain_before_the_start_is_complete_never_looks_ready() {
    let app = App::start().await;
    // Redis does not answer, so that no flags are applied.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let redis = silent.local_addr().unwrap();
    let settings = format!("redis: {{ url: 'redis://{redis}' }}\ndrain: {{ delay: 2s, quiet: 100ms, deadline: 10s }}");
    let sidecar = Sidecar::start(app.address, &settings);
    assert_eq!(phase(&sidecar).await, "starting");
    sidecar.cli(&["drain"]);
    reaches(&sidecar, "lame_duck").await;
    for path in ["/readyz", "/startupz", "/lb-healthz"] {
        assert_eq!(raw::get(sidecar.ops, path).await.unwrap().status, 503, "{path}");
    }
    assert_eq!(raw::get(sidecar.ops, "/healthz").await.unwrap().status, 200);
}

#[tokio::test]
async fn connections_without_a_request_do_not_hold_a_drain() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "drain: { delay: 0s, quiet: 500ms, deadline: 60s, restart_after: none }");
    sidecar.ready().await;
    let proxy = sidecar.proxy();
    // A load balancer that looks whether somebody listens.
    let mut prober = tokio::task::JoinSet::new();
    prober.spawn(async move {
        loop {
            drop(tokio::net::TcpStream::connect(proxy).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let drained = raw::post(sidecar.ops, "/drain", "").await.unwrap().json();
    assert_eq!(drained["outcome"], "clean");
    assert!(drained["took_ms"].as_u64().unwrap() < 50_000, "not by the deadline: {drained}");
}

#[tokio::test]
async fn the_app_cannot_drain_over_tcp() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    sidecar.ready().await;
    assert_eq!(raw::post(sidecar.local, "/v1/drain", "").await.unwrap().status, 403);
    assert_eq!(phase(&sidecar).await, "serving");
}

#[tokio::test]
async fn an_open_tunnel_holds_the_drain_until_it_ends() {
    let app = App::start().await;
    let mut sidecar = Sidecar::start(app.address, "drain: { delay: 0s, quiet: 100ms, deadline: 60s }");
    sidecar.ready().await;
    let mut tunnel = Client::connect(sidecar.proxy()).await.unwrap();
    tunnel.send("GET /upgrade HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await.unwrap();
    assert_eq!(tunnel.head().await.unwrap().status, 101);
    sidecar.signal("TERM");
    reaches(&sidecar, "shedding").await;
    tunnel.send("still here").await.unwrap();
    assert_eq!(tunnel.take(10).await.unwrap(), b"still here");
    assert_eq!(phase(&sidecar).await, "shedding");
    tunnel.finish().await.unwrap();
    tunnel.rest().await.unwrap();
    assert!(sidecar.ended(LONG).await.success());
}
