//! What is counted of requests, by listener.

use std::time::Duration;

use super::passing::Script;
use crate::support::app::App;
use crate::support::eventually;
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn requests_are_counted_by_listener_method_class_and_protocol() {
    let app = App::start().await;
    let route = format!("- {{ listen: '127.0.0.1:0', upstream: 'http://{}' }}", app.address);
    let sidecar = Sidecar::start_with(&format!("proxy:\n{route}\n{route}"));
    let (first, second) = (sidecar.proxy[0], sidecar.proxy[1]);
    let mut client = Client::connect(first).await.unwrap();
    client.get("/").await.unwrap();
    client.get("/none").await.unwrap();
    client.post("/echo", "twelve bytes").await.unwrap();
    client.send("BREW / HTTP/1.0\r\n\r\n").await.unwrap();
    client.rest().await.unwrap();
    let mut other = Client::connect(second).await.unwrap();
    other.get("/size?n=1000").await.unwrap();

    let of = |listener, rest: &str| format!("{{listener=\"{listener}\",{rest}}}");
    let count = async |name: &str, labels: String| sidecar.metric(name, &labels).await;
    // A request is counted when its answer is on its way.
    eventually(LONG, "all are counted", async || sidecar.metric("tidegate_proxy_requests_total", "").await == 5.0)
        .await;
    for (labels, expected) in [
        (of(first, "method=\"GET\",class=\"2xx\""), 1.0),
        (of(first, "method=\"GET\",class=\"4xx\""), 1.0),
        (of(first, "method=\"POST\",class=\"2xx\""), 1.0),
        (of(first, "method=\"other\",class=\"2xx\""), 1.0),
        (of(second, "method=\"GET\",class=\"2xx\""), 1.0),
        (of(second, "method=\"POST\",class=\"2xx\""), 0.0),
    ] {
        assert_eq!(count("tidegate_proxy_requests_total", labels.clone()).await, expected, "{labels}");
    }
    let durations = "tidegate_proxy_request_duration_seconds_count";
    assert_eq!(count(durations, of(first, "method=\"read\",class=\"2xx\"")).await, 1.0);
    assert_eq!(count(durations, of(first, "method=\"write\",class=\"2xx\"")).await, 1.0);
    assert_eq!(count(durations, of(second, "method=\"read\",class=\"2xx\"")).await, 1.0);
    let protocols = "tidegate_proxy_protocol_requests_total";
    assert_eq!(count(protocols, of(first, "protocol=\"http/1.0\"")).await, 1.0);
    assert_eq!(count(protocols, of(first, "protocol=\"http/1.1\"")).await, 3.0);

    let only = |listener| format!("{{listener=\"{listener}\"}}");
    assert_eq!(count("tidegate_proxy_request_body_bytes_total", only(first)).await, 12.0);
    assert_eq!(count("tidegate_proxy_response_body_bytes_total", only(second)).await, 1000.0);
    assert!(count("tidegate_proxy_upstream_connect_duration_seconds_count", only(first)).await >= 1.0);
    assert_eq!(count("tidegate_proxy_upstream_first_byte_duration_seconds_count", only(first)).await, 4.0);
}

#[tokio::test]
async fn the_apps_slowness_is_told_from_the_clients() {
    let app = App::serve(|stream| async move {
        let mut script = Script::new(stream);
        script.request().await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        script.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        script.send("lf").await;
        script.request().await;
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    raw::get(sidecar.proxy(), "/").await.unwrap();
    let sum = "tidegate_proxy_request_duration_seconds_sum";
    eventually(LONG, "it is counted", async || sidecar.metric(sum, "").await > 0.0).await;
    let first = sidecar.metric("tidegate_proxy_upstream_first_byte_duration_seconds_sum", "").await;
    let whole = sidecar.metric(sum, "").await;
    assert!(first >= 0.39 && whole >= first + 0.39, "first byte {first}, whole {whole}");
    assert_eq!(sidecar.metric("tidegate_proxy_upstream_connect_duration_seconds_count", "").await, 1.0);
}

#[tokio::test]
async fn the_age_of_the_oldest_request_is_told_and_a_tunnels_duration_is_not() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let age = async || sidecar.metric("tidegate_in_flight_oldest_request_seconds", "").await;
    assert_eq!(age().await, 0.0);
    let mut slow = Client::connect(sidecar.proxy()).await.unwrap();
    slow.send("GET /slow?ms=3000000 HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    eventually(LONG, "a request that lasts grows old", async || age().await > 1.0).await;
    drop(slow);
    eventually(LONG, "and is forgotten", async || age().await == 0.0).await;

    let mut tunnel = Client::connect(sidecar.proxy()).await.unwrap();
    tunnel.send("GET /upgrade HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").await.unwrap();
    assert_eq!(tunnel.head().await.unwrap().status, 101);
    assert_eq!(age().await, 0.0);
    tunnel.finish().await.unwrap();
    tunnel.rest().await.unwrap();
    eventually(LONG, "it ends", async || sidecar.metric("tidegate_proxy_requests_total", "class=\"1xx\"").await == 1.0)
        .await;
    assert_eq!(sidecar.metric("tidegate_proxy_request_duration_seconds_count", "").await, 0.0);
}
