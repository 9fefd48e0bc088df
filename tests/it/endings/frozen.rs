//! An app that is frozen: it has its connections and its port, and does nothing.

use std::time::Duration;

use crate::support::eventually;
use crate::support::h2::Client;
use crate::support::port::Port;
use crate::support::raw;
use crate::support::sidecar::Sidecar;

use super::app::App;

/// Half a minute of silence, and then a ping without an answer; and a busy machine.
const BOUND: Duration = Duration::from_secs(120);

#[tokio::test]
async fn what_is_with_a_frozen_app_fails_in_bounded_time_and_readiness_sees_it() {
    let port = Port::reserve();
    let app = App::start(&port).await;
    let address = port.address();
    let sidecar = Sidecar::start_with(&format!(
        "proxy: [{{ listen: '127.0.0.1:0', upstream: 'h2c://{address}' }}]\n\
         limits: {{ response_timeout: 10m }}\n\
         checks: {{ app: {{ http: {{ url: 'http://{address}/work?name=a' }}, interval: 500ms, timeout: 400ms }} }}"
    ));
    sidecar.ready().await;
    let client = Client::connect(sidecar.proxy()).await;
    let request = Client::request("GET", "/events").body(()).unwrap();
    let (answer, _) = client.sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
    let mut events = answer.await.unwrap().into_body();
    assert_eq!(events.data().await.unwrap().unwrap(), "data: 0\n\n");
    app.signal("STOP");
    eventually(BOUND, "readiness sees it", async || raw::get(sidecar.ops, "/readyz").await.unwrap().status == 503)
        .await;
    let request = Client::request("GET", "/work?name=b").body(()).unwrap();
    let (answer, _) = client.sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
    let begun = async {
        loop {
            match events.data().await.expect("never a clean end") {
                Ok(event) => events.flow_control().release_capacity(event.len()).unwrap(),
                Err(error) => return error,
            }
        }
    };
    let (begun, waiting) = tokio::time::timeout(BOUND, async { tokio::join!(begun, answer) }).await.expect("in time");
    assert!(begun.is_reset(), "{begun}");
    let waiting = waiting.unwrap();
    assert_eq!(waiting.status(), 502);
    assert_eq!(waiting.headers()["proxy-status"], "tidegate; error=connection_terminated");
    sidecar.logs("an app that owes answers gives no sign of life; its connection is closed").await;
    let answer = client.get("/work?name=c").await.unwrap();
    assert_eq!((answer.status(), answer.header("proxy-status")), (504, Some("tidegate; error=connection_timeout")));
    app.signal("CONT");
    eventually(BOUND, "it is served again", async || client.get("/work?name=d").await.unwrap().status() == 200).await;
    sidecar.ready().await;
}
