//! gRPC between its own client and server (grpcio), with the proxy between them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::port::Port;
use crate::support::sdk::{Language, Script};
use crate::support::sidecar::Sidecar;

const LONG: Duration = Duration::from_secs(60);

async fn app(address: &str, settings: Value) -> Script {
    let mut settings = settings;
    settings["address"] = address.into();
    let mut app = Script::start(Language::Python, "grpc_app", &settings);
    app.reaches("serving").await;
    app
}

fn calls(sidecar: &Sidecar, case: &str) -> Script {
    calls_that_take(sidecar, case, "0")
}

fn calls_that_take(sidecar: &Sidecar, case: &str, seconds: &str) -> Script {
    let settings = json!({ "address": sidecar.proxy().to_string(), "case": case, "sleep": seconds });
    Script::start(Language::Python, "grpc_calls", &settings)
}

fn sidecar(upstream: &str, more: &str) -> Sidecar {
    let drain = if more.contains("drain:") { "" } else { "drain: { delay: 0s, quiet: 200ms, deadline: 10s }" };
    Sidecar::start_with(&format!("proxy: [{{ listen: '127.0.0.1:0', upstream: '{upstream}' }}]\n{drain}\n{more}"))
}

#[tokio::test]
async fn calls_of_every_kind_pass_with_metadata_and_trailers() {
    let port = Port::reserve();
    let mut app = app(&port.address().to_string(), json!({})).await;
    let sidecar = sidecar(&format!("h2c://{}", port.address()), "");
    let calls = calls(&sidecar, "kinds");
    app.reaches("gone").await;
    assert_eq!(calls.passes().await, true);
    assert_eq!(sidecar.metric("tidegate_proxy_failures_total", "").await, 0.0);
    assert_eq!(sidecar.metric("tidegate_proxy_retries_total", "").await, 0.0);
}

#[tokio::test]
async fn an_app_on_a_unix_socket_that_takes_few_calls_at_once_serves_many() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let mut app = app(&format!("unix:{}", path.display()), json!({ "streams": 4 })).await;
    let sidecar = sidecar(&format!("h2c+unix:{}", path.display()), "");
    let calls = calls(&sidecar, "kinds");
    app.reaches("gone").await;
    assert_eq!(calls.passes().await, true);
    assert_eq!(sidecar.metric("tidegate_proxy_failures_total", "").await, 0.0);
}

#[tokio::test]
async fn the_sides_of_a_call_may_be_silent_for_longer_than_a_body_may_stall() {
    let port = Port::reserve();
    let _app = app(&port.address().to_string(), json!({})).await;
    let limits = "limits: { body_timeout: 100ms, send_timeout: 100ms, response_timeout: 5s }";
    let sidecar = sidecar(&format!("h2c://{}", port.address()), limits);
    assert_eq!(calls_that_take(&sidecar, "conversation", "1.8").passes().await, true);
}

#[tokio::test]
async fn failures_of_the_app_are_statuses_of_grpc() {
    let port = Port::reserve();
    let address = port.address().to_string();
    let mut impatient =
        sidecar(&format!("h2c://{address}"), "limits: { response_timeout: 100ms }\nhold: { max_requests: 0 }");
    let sidecar = sidecar(&format!("h2c://{address}"), "hold: { max_requests: 0 }");
    let mut calls = calls(&sidecar, "states");
    calls.go().await;
    calls.reaches("UNAVAILABLE").await;
    let serving = app(&address, json!({})).await;
    calls.go().await;
    calls.reaches("OK").await;
    let mut late = calls_that_take(&impatient, "states", "5");
    late.go().await;
    late.reaches("DEADLINE_EXCEEDED").await;
    drop(serving);
    calls.go().await;
    calls.reaches("UNAVAILABLE").await;
    let _serving = app(&address, json!({})).await;
    calls.go().await;
    calls.reaches("OK").await;
    drop((calls, late));
    impatient.signal("TERM");
    impatient.ended(LONG).await;
}

#[tokio::test]
async fn a_stream_at_the_deadline_of_a_drain_is_cancelled_and_not_left_hanging() {
    let port = Port::reserve();
    let mut app = app(&port.address().to_string(), json!({})).await;
    let mut sidecar = sidecar(&format!("h2c://{}", port.address()), "drain: { delay: 0s, quiet: 200ms, deadline: 2s }");
    let mut calls = calls(&sidecar, "stream");
    calls.reaches("streaming").await;
    sidecar.signal("TERM");
    calls.reaches("ended CANCELLED").await;
    app.reaches("gone").await;
    calls.passes().await;
    sidecar.ended(LONG).await;
}

#[tokio::test]
async fn a_stream_of_an_app_that_dies_ends_as_a_call_that_may_be_made_again() {
    let port = Port::reserve();
    let app = app(&port.address().to_string(), json!({})).await;
    let sidecar = sidecar(&format!("h2c://{}", port.address()), "");
    let mut calls = calls(&sidecar, "stream");
    calls.reaches("streaming").await;
    drop(app);
    calls.reaches("ended UNAVAILABLE").await;
    calls.passes().await;
}
