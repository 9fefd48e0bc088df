//! What clients may not do.

use std::time::Duration;

use crate::support::app::App;
use crate::support::eventually;
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;

/// Sends bytes on a fresh connection and returns the answer's status and whether it closes.
async fn refused(sidecar: &Sidecar, bytes: &str) -> (u16, bool) {
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send(bytes).await.unwrap();
    let answer = client.answer().await.unwrap_or_else(|e| panic!("no answer to {bytes:.60}: {e}"));
    let closed = client.rest().await.is_ok();
    (answer.status, closed)
}

#[tokio::test]
async fn malformed_and_ambiguous_requests_are_refused_and_closed() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    for bytes in [
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(refused(&sidecar, bytes).await, (400, true), "for {bytes:?}");
    }
    assert_eq!(
        refused(&sidecar, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n").await.0,
        501
    );
    assert_eq!(refused(&sidecar, "GET / HTTP/1.2\r\nHost: a\r\n\r\n").await, (505, true));
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(9_000));
    assert_eq!(refused(&sidecar, &long).await, (414, true));
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("nonsense\r\n\r\n").await.unwrap();
    assert_eq!(client.answer().await.unwrap().text(), "tidegate: the request is malformed\n");
    assert_eq!(refused(&sidecar, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").await.0, 405);
    assert_eq!(raw::get(sidecar.proxy(), "/").await.unwrap().status, 200, "others are served on");
}

#[tokio::test]
async fn oversized_heads_are_431() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { header_bytes: 16KiB }");
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
    assert_eq!(refused(&sidecar, &long).await, (431, true));
    let fits = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(15_000));
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send(fits).await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 200);
    let many: String = (0..150).map(|i| format!("X-{i}: 1\r\n")).collect();
    assert_eq!(refused(&sidecar, &format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")).await, (431, true));
}

#[tokio::test]
async fn a_client_that_stalls_in_its_head_is_408_and_an_idle_one_is_closed_later() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { header_timeout: 500ms, idle_timeout: 4s }");
    let mut idle = Client::connect(sidecar.proxy()).await.unwrap();
    assert_eq!(idle.get("/").await.unwrap().status, 200);
    let mut stalled = Client::connect(sidecar.proxy()).await.unwrap();
    stalled.send("GET / HTTP/1.1\r\nHo").await.unwrap();
    let mut trickling = Client::connect(sidecar.proxy()).await.unwrap();
    let trickle = async {
        for byte in "GET / HTTP/1.1\r\nX: ".bytes().chain(std::iter::repeat_n(b'x', 1_000)) {
            if trickling.send([byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("a byte at a time was accepted for 50 s");
    };
    let (cut, ()) = tokio::join!(stalled.rest(), trickle);
    let cut = String::from_utf8(cut.unwrap()).unwrap();
    assert!(cut.starts_with("HTTP/1.1 408 ") && cut.contains("\r\nconnection: close\r\n"), "{cut}");
    assert_eq!(idle.get("/").await.unwrap().status, 200, "an idle connection is not a stalled head");
    assert_eq!(idle.rest().await.unwrap(), b"", "closed in the end");
}

#[tokio::test]
async fn a_client_that_stalls_in_its_body_is_408() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { body_timeout: 500ms }");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nonly this").await.unwrap();
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.closes()), (408, true));
    eventually(Duration::from_secs(5), "nothing in flight", async || {
        sidecar.metric("tidegate_in_flight", "").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { send_timeout: 500ms }");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET /size?n=50000000 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    eventually(Duration::from_secs(5), "in flight", async || {
        sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 1.0
    })
    .await;
    eventually(Duration::from_secs(10), "cut", async || sidecar.metric("tidegate_in_flight", "").await == 0.0).await;
    assert!(client.answer().await.is_err(), "the answer is not complete");
}

#[tokio::test]
async fn a_body_beyond_its_limit_is_413_however_it_is_framed() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { body_bytes: 1KiB }");
    assert_eq!(raw::post(sidecar.proxy(), "/echo", &"x".repeat(1024)).await.unwrap().status, 200);
    let answer = raw::post(sidecar.proxy(), "/echo", &"x".repeat(1025)).await.unwrap();
    assert_eq!((answer.status, answer.closes()), (413, true));
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    client.send([chunk.as_str(), chunk.as_str(), "0\r\n\r\n"].concat()).await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 413);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { connections: 2 }");
    let mut first = Client::connect(sidecar.proxy()).await.unwrap();
    let mut second = Client::connect(sidecar.proxy()).await.unwrap();
    assert_eq!(first.get("/").await.unwrap().status, 200);
    assert_eq!(second.get("/").await.unwrap().status, 200);
    let mut third = Client::connect(sidecar.proxy()).await.unwrap();
    let waits = third.get("/");
    tokio::pin!(waits);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut waits).await.is_err(), "no place yet");
    drop(first);
    assert_eq!(waits.await.unwrap().status, 200);
}

#[tokio::test]
async fn requests_beyond_the_limit_are_503_and_told_when_to_come_again() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 1\nlimits: { requests: 1, queue: 0 }");
    let slow = raw::get(sidecar.proxy(), "/slow?ms=1500");
    let refused = async {
        eventually(Duration::from_secs(5), "in flight", async || {
            sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 1.0
        })
        .await;
        raw::get(sidecar.proxy(), "/").await.unwrap()
    };
    let (slow, refused) = tokio::join!(slow, refused);
    assert_eq!(slow.unwrap().status, 200);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
}
