//! The line for a place among the requests in flight, and the limit on a request as a whole.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::{LONG, get, head};
use crate::support::app::App;
use crate::support::eventually;
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;

async fn in_flight(sidecar: &Sidecar, kind: &str, count: f64) {
    let label = format!("kind=\"{kind}\"");
    eventually(LONG, kind, async || sidecar.metric("tidegate_in_flight", &label).await == count).await;
}

#[tokio::test]
async fn requests_beyond_the_limit_wait_for_a_place_in_their_order() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 1\nlimits: { requests: 1, queue: 2, queue_timeout: 20s }");
    let mut slow = Client::connect(sidecar.proxy()).await.unwrap();
    slow.send(get("/slow?ms=1000")).await.unwrap();
    in_flight(&sidecar, "request", 1.0).await;
    let mut second = Client::connect(sidecar.proxy()).await.unwrap();
    second.send(get("/slow?ms=300")).await.unwrap();
    in_flight(&sidecar, "waiting", 1.0).await;
    let mut third = Client::connect(sidecar.proxy()).await.unwrap();
    third.send(get("/")).await.unwrap();
    in_flight(&sidecar, "waiting", 2.0).await;
    let full = raw::get(sidecar.proxy(), "/").await.unwrap();
    assert_eq!((full.status, full.header("retry-after")), (503, Some("1")));
    let third_answered = async {
        let answer = third.answer().await.unwrap();
        (answer.status, std::time::Instant::now())
    };
    let second_answered = async {
        let answer = second.answer().await.unwrap();
        (answer.status, std::time::Instant::now())
    };
    let (slow, second, third) = tokio::join!(slow.answer(), second_answered, third_answered);
    assert_eq!((slow.unwrap().status, second.0, third.0), (200, 200, 200));
    assert!(second.1 <= third.1, "first come, first served");
    assert_eq!(sidecar.metric("tidegate_queue_ended_total", "end=\"passed\"").await, 2.0);
    assert_eq!(sidecar.metric("tidegate_queue_ended_total", "end=\"overflow\"").await, 1.0);
}

#[tokio::test]
async fn a_request_that_waits_for_too_long_is_503_and_one_whose_client_leaves_is_gone() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 1\nlimits: { requests: 1, queue_timeout: 500ms }");
    let mut slow = Client::connect(sidecar.proxy()).await.unwrap();
    slow.send(get("/slow?ms=3000")).await.unwrap();
    in_flight(&sidecar, "request", 1.0).await;
    let mut leaving = Client::connect(sidecar.proxy()).await.unwrap();
    leaving.send(get("/")).await.unwrap();
    in_flight(&sidecar, "waiting", 1.0).await;
    drop(leaving);
    in_flight(&sidecar, "waiting", 0.0).await;
    let late = raw::get(sidecar.proxy(), "/").await.unwrap();
    assert_eq!((late.status, late.header("retry-after")), (503, Some("1")));
    assert_eq!(late.header("proxy-status"), Some("tidegate; error=connection_limit_reached"));
    assert_eq!(slow.answer().await.unwrap().status, 200);
    assert_eq!(raw::get(sidecar.proxy(), "/").await.unwrap().status, 200, "no place was lost");
    for end in ["timeout", "left"] {
        assert_eq!(sidecar.metric("tidegate_queue_ended_total", &format!("end=\"{end}\"")).await, 1.0, "{end}");
    }
}

#[tokio::test]
async fn a_request_as_a_whole_has_a_limit_and_a_tunnel_has_none() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { request_timeout: 1s }");
    let mut tunnel = Client::connect(sidecar.proxy()).await.unwrap();
    tunnel.send("GET /upgrade HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await.unwrap();
    assert_eq!(tunnel.head().await.unwrap().status, 101);
    let mut slow = Client::connect(sidecar.proxy()).await.unwrap();
    let late = slow.get("/slow?ms=60000").await.unwrap();
    assert_eq!((late.status, late.text().as_str()), (504, "tidegate: the request took too long\n"));
    assert_eq!(slow.get("/").await.unwrap().status, 200, "the connection has no part in it");
    // Once its head is on the way, an answer can only be cut.
    let trickling = App::serve(|mut stream| async move {
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let other = Sidecar::start(trickling.address, "limits: { request_timeout: 1s }");
    assert!(raw::get(other.proxy(), "/").await.is_err(), "cut, and not a whole answer");
    tunnel.send("still here").await.unwrap();
    assert_eq!(tunnel.take(10).await.unwrap(), b"still here");
}
