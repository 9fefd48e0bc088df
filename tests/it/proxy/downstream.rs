//! What is between a client and the sidecar beside requests and answers: interim answers, 100, leaving, half-closes.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::faults::silent;
use super::passing::Script;
use crate::support::app::App;
use crate::support::eventually;
use crate::support::raw::Client;
use crate::support::sidecar::Sidecar;

const LIMIT: Duration = Duration::from_secs(30);

/// An app that says these things to the head of each request, and never reads a body.
async fn saying(answers: &'static [&'static str]) -> App {
    App::serve(move |stream| async move {
        let mut script = Script::new(stream);
        script.request().await;
        for answer in answers {
            script.send(answer).await;
        }
        script.request().await;
    })
    .await
}

#[tokio::test]
async fn interim_answers_reach_those_who_know_them() {
    let app = saying(&[
        "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n",
        "HTTP/1.1 102 Processing\r\nContent-Length: 3\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ])
    .await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    let hints = client.head().await.unwrap();
    assert_eq!((hints.status, hints.header("link")), (103, Some("</x>; rel=preload")));
    let processing = client.head().await.unwrap();
    assert_eq!((processing.status, processing.headers.len()), (102, 0), "no field that frames a body");
    assert_eq!(client.head().await.unwrap().status, 204, "100 is for those who wait for it");

    let mut old = Client::connect(sidecar.proxy()).await.unwrap();
    old.send("GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert_eq!(old.head().await.unwrap().status, 204, "HTTP/1.0 knows none");
}

#[tokio::test]
async fn the_app_decides_whether_a_body_that_is_asked_about_is_wanted() {
    let head = "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let app = saying(&["HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"]).await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send(head).await.unwrap();
    let answer = client.head().await.unwrap();
    assert_eq!((answer.status, answer.closes()), (401, true), "and no 100 before it");
    assert_eq!(client.take(2).await.unwrap(), b"no");

    let app = App::serve(|mut stream| async move {
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut read).await.unwrap();
        }
        assert!(read.windows(8).any(|name| name == b"expect: "), "the app is asked");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await.unwrap();
        stream.write_all(&body).await.unwrap();
        let _ = stream.read(&mut [0]).await;
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send(head).await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 100);
    client.send("body").await.unwrap();
    assert_eq!(client.answer().await.unwrap().text(), "body");
}

#[tokio::test]
async fn a_body_asked_about_is_called_for_when_the_app_does_not_say() {
    let app = App::serve(|mut stream| async move {
        let mut read = Vec::new();
        while !read.ends_with(b"body") {
            stream.read_buf(&mut read).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await.unwrap();
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    let head = "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send(head).await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 100);
    client.send("body").await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 204);
    client.send(format!("{head}body")).await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 204, "who did not wait is not told to go on");
}

#[tokio::test]
async fn a_client_that_leaves_with_requests_unread_is_noticed() {
    let (app, cancelled) = silent().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\nGET /next HTTP/1.1\r\nHost: t\r\n\r\nGET /par").await.unwrap();
    eventually(LIMIT, "it is at the app", async || app.accepted() == 1).await;
    drop(client);
    tokio::time::timeout(LIMIT, cancelled.notified()).await.expect("the app is told");
    eventually(LIMIT, "nothing in flight", async || sidecar.metric("tidegate_in_flight", "").await == 0.0).await;
}

/// Documented: a client that only closes its direction cannot be told from one that has left.
#[tokio::test]
async fn a_client_that_closes_its_direction_has_left() {
    let (app, cancelled) = silent().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    eventually(LIMIT, "it is at the app", async || app.accepted() == 1).await;
    client.finish().await.unwrap();
    tokio::time::timeout(LIMIT, cancelled.notified()).await.expect("the app is told");
    assert_eq!(client.rest().await.unwrap(), b"", "no answer");
    eventually(LIMIT, "counted", async || sidecar.metric("tidegate_proxy_abandoned_total", "").await == 1.0).await;
}

#[tokio::test]
async fn an_answer_broken_off_is_a_reset_where_its_end_is_that_of_the_connection() {
    let app = App::serve(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(client.answer().await.is_err(), "less than its length");

    let app = App::serve(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await.unwrap();
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(client.rest().await.is_err(), "a plain close would make it look whole");
}

#[tokio::test]
async fn what_a_client_sends_after_the_apps_half_close_of_a_tunnel_arrives() {
    let heard = Arc::new(Notify::new());
    let app = App::serve({
        let heard = heard.clone();
        move |mut stream| {
            let heard = heard.clone();
            async move {
                let mut read = Vec::new();
                while !read.ends_with(b"\r\n\r\n") {
                    stream.read_buf(&mut read).await.unwrap();
                }
                let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nlast";
                stream.write_all(answer).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.unwrap();
                assert_eq!(rest, b"after the end");
                heard.notify_one();
            }
        }
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n").await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 101);
    assert_eq!(client.rest().await.unwrap(), b"last");
    client.send("after ").await.unwrap();
    client.send("the end").await.unwrap();
    client.finish().await.unwrap();
    tokio::time::timeout(LIMIT, heard.notified()).await.expect("all of it");
}
