//! A restart of the app told from the end of its pod: both begin with the app's hook.

use super::{LONG, get, held, holds, phase, reaches, status};
use crate::support::app::App;
use crate::support::eventually;
use crate::support::load::Load;
use crate::support::port::Port;
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;

const QUICK: &str = "drain: { delay: 300ms, quiet: 200ms, deadline: 20s, restart_after: 500ms }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_restarts_under_load_loses_no_request() {
    let port = Port::reserve();
    let mut app = App::on(port.address()).await;
    let sidecar = Sidecar::start(port.address(), QUICK);
    sidecar.ready().await;
    let load = Load::on(sidecar.proxy(), 12, 6);
    for _ in 0..3 {
        let before = load.answered();
        eventually(LONG, "load flows", async || load.answered() > before + 200).await;
        let hook = raw::post(sidecar.ops, "/drain", "").await.unwrap();
        assert_eq!(
            (hook.status, &hook.json()["status"], &hook.json()["outcome"]),
            (200, &"held".into(), &"restart".into())
        );
        assert_eq!(
            status(&sidecar).await["in_flight"]["requests"],
            0,
            "nothing is with the app when it is told to stop"
        );
        drop(app);
        // All clients wait for its return.
        holds(&sidecar, 18).await;
        reaches(&sidecar, "serving").await;
        assert_eq!(raw::get(sidecar.ops, "/readyz").await.unwrap().status, 200);
        app = App::on(port.address()).await;
        holds(&sidecar, 0).await;
    }
    let before = load.answered();
    eventually(LONG, "load flows to the end", async || load.answered() > before + 200).await;
    let (answered, _, failed) = load.stop().await;
    assert!(failed.is_empty(), "{} of {answered}: {:#?}", failed.len(), &failed[..failed.len().min(5)]);
    assert_eq!(sidecar.metric("tidegate_proxy_failures_total", "").await, 0.0);
}

#[tokio::test]
async fn the_phases_of_a_restart_are_told() {
    let port = Port::reserve();
    let app = App::on(port.address()).await;
    let sidecar = Sidecar::start(
        port.address(),
        "drain: { delay: 10s, quiet: 200ms, deadline: 20s, restart_after: 300ms, app_stop: 60s }",
    );
    sidecar.ready().await;
    let mut slow = Client::connect(sidecar.proxy()).await.unwrap();
    slow.send(get("/slow?ms=1500")).await.unwrap();
    eventually(LONG, "in flight", async || sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 1.0).await;
    let first = tokio::spawn(raw::post(sidecar.ops, "/drain", ""));
    // A kubelet may call twice.
    let second = tokio::spawn(raw::get(sidecar.ops, "/drain"));
    reaches(&sidecar, "restarting").await;
    assert_eq!(sidecar.metric("tidegate_phase", "phase=\"restarting\"").await, 1.0);
    assert_eq!(sidecar.metric("tidegate_hold_closed", "reason=\"restart\"").await, 1.0);
    let mut waits = held(&sidecar, &get("/"), 1).await;
    assert!(!first.is_finished(), "what is under way is waited for");
    for path in ["/readyz", "/lb-healthz", "/healthz"] {
        assert_eq!(raw::get(sidecar.ops, path).await.unwrap().status, 200, "{path}");
    }
    assert_eq!(slow.answer().await.unwrap().text(), "slow\n");
    for hook in [first, second] {
        assert_eq!(hook.await.unwrap().unwrap().json()["outcome"], "restart");
    }
    assert_eq!(phase(&sidecar).await, "restarting", "the app has not stopped yet");
    drop(app);
    reaches(&sidecar, "serving").await;
    holds(&sidecar, 1).await;
    let _app = App::on(port.address()).await;
    let answer = waits.answer().await.unwrap();
    assert!(answer.status == 200 && !answer.closes());
    sidecar.logs("the app has stopped; its return is awaited").await;
}

#[tokio::test]
async fn an_app_that_does_not_stop_after_its_hook_is_served_again() {
    let app = App::start().await;
    let sidecar = Sidecar::start(
        app.address,
        "drain: { delay: 0s, quiet: 200ms, deadline: 20s, restart_after: 200ms, app_stop: 1s }",
    );
    sidecar.ready().await;
    // A person who knows only of `/drain`.
    assert_eq!(raw::post(sidecar.ops, "/drain", "").await.unwrap().json()["outcome"], "restart");
    let mut waits = held(&sidecar, &get("/"), 1).await;
    reaches(&sidecar, "serving").await;
    assert_eq!(waits.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_release_ends_a_restart() {
    let app = App::start().await;
    let sidecar = Sidecar::start(
        app.address,
        "drain: { delay: 0s, quiet: 200ms, deadline: 20s, restart_after: 200ms, app_stop: 60s }",
    );
    sidecar.ready().await;
    raw::post(sidecar.ops, "/drain", "").await.unwrap();
    let mut waits = held(&sidecar, &get("/"), 1).await;
    let (code, _, said) = sidecar.cli(&["hold"]);
    assert!(code == 75 && said.contains("the phase is restarting"), "{said}");
    assert_eq!(sidecar.cli(&["release"]).1, "released\n");
    assert_eq!(waits.answer().await.unwrap().status, 200);
    assert_eq!(phase(&sidecar).await, "serving");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sidecars_own_hook_confirms_that_the_pod_ends_before_or_after_the_apps() {
    for confirmed_first in [true, false] {
        let app = App::start().await;
        let mut sidecar = Sidecar::start(app.address, QUICK);
        sidecar.ready().await;
        let config = sidecar.config();
        let own = move || {
            let mut command = std::process::Command::new(crate::support::sidecar::TIDEGATE);
            command.arg("--config").arg(&config).args(["drain", "--self"]).output().unwrap()
        };
        let hook = raw::post(sidecar.ops, "/drain", "");
        let (own, hook) = if confirmed_first {
            let own = tokio::task::spawn_blocking(own);
            reaches(&sidecar, "lame_duck").await;
            tokio::join!(own, hook)
        } else {
            let hook = tokio::spawn(hook);
            reaches(&sidecar, "lame_duck").await;
            let (own, hook) = tokio::join!(tokio::task::spawn_blocking(own), hook);
            (own, hook.unwrap())
        };
        let own = own.unwrap();
        assert_eq!((own.status.code(), String::from_utf8(own.stdout).unwrap().as_str()), (Some(0), "drained: clean\n"));
        assert_eq!(hook.unwrap().json()["outcome"], "clean");
        assert_eq!(phase(&sidecar).await, "drained");
        drop(app);
        sidecar.signal("TERM");
        assert!(sidecar.ended(LONG).await.success());
        assert!(!sidecar.log().iter().any(|line| line["to"] == "restarting"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_of_the_pod_that_is_confirmed_late_goes_on_as_a_drain() {
    // The app still answers: what was held is served. It has gone: what was held is told so, and to go elsewhere.
    for app_gone in [false, true] {
        let port = Port::reserve();
        let mut app = Some(App::on(port.address()).await);
        let mut sidecar = Sidecar::start(
            port.address(),
            "drain: { delay: 0s, quiet: 200ms, deadline: 20s, restart_after: 200ms, app_stop: 60s }\nhold: { max_wait: 60s }",
        );
        sidecar.ready().await;
        assert_eq!(raw::post(sidecar.ops, "/drain", "").await.unwrap().json()["outcome"], "restart");
        let mut waits = held(&sidecar, &get("/"), 1).await;
        if app_gone {
            drop(app.take());
            reaches(&sidecar, "serving").await;
            holds(&sidecar, 1).await;
        }
        sidecar.signal("TERM");
        let answer = waits.answer().await.unwrap();
        if app_gone {
            assert_eq!((answer.status, answer.header("retry-after"), answer.closes()), (503, Some("1"), true));
        } else {
            assert_eq!(answer.status, 200);
        }
        assert!(sidecar.ended(LONG).await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_to_the_sidecar_first_waits_for_what_the_app_still_serves() {
    let app = App::start().await;
    let mut sidecar = Sidecar::start(app.address, QUICK);
    sidecar.ready().await;
    let mut slow = Client::connect(sidecar.proxy()).await.unwrap();
    slow.send(get("/slow?ms=2500")).await.unwrap();
    eventually(LONG, "in flight", async || sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 1.0).await;
    sidecar.signal("TERM");
    // The app's hook at the same moment, or a little later, joins.
    let hook = raw::post(sidecar.ops, "/drain", "").await.unwrap();
    assert_eq!(hook.json()["outcome"], "clean");
    assert_eq!(slow.answer().await.unwrap().text(), "slow\n");
    assert!(sidecar.ended(LONG).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_stops_first_in_a_drain_is_not_waited_for() {
    let app = App::start().await;
    let address = app.address;
    let mut sidecar =
        Sidecar::start(address, "drain: { delay: 2s, quiet: 200ms, deadline: 20s }\nhold: { max_wait: 60s }");
    sidecar.ready().await;
    sidecar.signal("TERM");
    reaches(&sidecar, "lame_duck").await;
    drop(app);
    let answer = raw::get(sidecar.proxy(), "/").await.unwrap();
    assert_eq!((answer.status, answer.header("retry-after"), answer.closes()), (503, Some("1"), true));
    assert!(sidecar.ended(LONG).await.success());
}

#[tokio::test]
async fn a_restart_does_not_wait_for_ever_for_what_is_under_way() {
    let app = App::start().await;
    let sidecar = Sidecar::start(
        app.address,
        "drain: { delay: 0s, quiet: 200ms, deadline: 20s, restart_after: 200ms }\nhold: { max_wait: 2s }",
    );
    sidecar.ready().await;
    // A stuck app, which is why the kubelet restarts it.
    let mut stuck = Client::connect(sidecar.proxy()).await.unwrap();
    stuck.send(get("/slow?ms=60000")).await.unwrap();
    eventually(LONG, "in flight", async || sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 1.0).await;
    let hook = raw::post(sidecar.ops, "/drain", "").await.unwrap().json();
    assert_eq!(hook["outcome"], "restart");
    assert!(hook["took_ms"].as_u64().unwrap() < 15_000, "{hook}");
}

#[tokio::test]
async fn restarts_may_be_left_undetected() {
    let app = App::start().await;
    for settings in [
        "drain: { delay: 0s, quiet: 100ms, deadline: 20s, restart_after: none }",
        "drain: { delay: 0s, quiet: 100ms, deadline: 20s, restart_after: 100ms }\nhold: { max_requests: 0 }",
    ] {
        let sidecar = Sidecar::start(app.address, settings);
        sidecar.ready().await;
        assert_eq!(raw::post(sidecar.ops, "/drain", "").await.unwrap().json()["outcome"], "clean");
        assert_eq!(phase(&sidecar).await, "drained");
    }
}
