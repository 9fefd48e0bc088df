//! The app refuses, hangs, breaks off; the client leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::passing::Script;
use crate::support::app::App;
use crate::support::eventually;
use crate::support::raw::{self, Client};
use crate::support::sidecar::{Sidecar, cli};

#[tokio::test]
async fn an_app_that_refuses_is_502_said_once_and_served_again_when_it_is_back() {
    let app = App::start().await;
    let address = app.address;
    drop(app);
    let sidecar = Sidecar::start(address, "workers: 1\nhold: { max_requests: 0 }");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    for _ in 0..3 {
        let answer = client.get("/").await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (502, "tidegate: the app refuses connections\n"));
        assert_eq!(answer.header("proxy-status"), Some("tidegate; error=connection_refused"));
        assert!(!answer.closes(), "the client's connection is not at fault");
    }
    assert_eq!(sidecar.logs("a request got no answer from the app").await, 1, "once, not once a request");
    assert_eq!(sidecar.metric("tidegate_proxy_failures_total", "app_refuses").await, 3.0);

    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let answered = tokio::spawn(async move {
        let mut script = Script::new(listener.accept().await.unwrap().0);
        script.request().await;
        script.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nback").await;
    });
    assert_eq!(client.get("/").await.unwrap().text(), "back");
    answered.await.unwrap();
    sidecar.logs("the app answers again").await;
    assert_eq!(sidecar.logs("a request got no answer from the app").await, 1);
}

#[tokio::test]
async fn an_app_that_hangs_is_504_and_its_connection_is_not_used_again() {
    let app = App::serve(|stream| async move {
        let mut script = Script::new(stream);
        script.request().await;
        // Until the proxy closes.
        script.request().await;
    })
    .await;
    let sidecar = Sidecar::start(app.address, "limits: { response_timeout: 1s }");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    for round in 1..=2 {
        let answer = client.get("/").await.unwrap();
        assert_eq!(answer.status, 504);
        assert_eq!(answer.header("proxy-status"), Some("tidegate; error=http_response_timeout"));
        assert_eq!(app.accepted(), round);
    }
}

#[tokio::test]
async fn an_app_that_takes_no_connection_is_504() {
    // A listener whose backlog is full drops further SYNs: connecting hangs.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let filler = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        let _ = filler.connect(&address.into());
        waiting.push(filler);
    }
    let sidecar = Sidecar::start(address, "limits: { connect_timeout: 300ms }");
    let answer = raw::get(sidecar.proxy(), "/").await.unwrap();
    assert_eq!((answer.status, answer.header("proxy-status")), (504, Some("tidegate; error=connection_timeout")));
}

#[tokio::test]
async fn an_answer_broken_off_is_never_taken_for_a_whole_one() {
    let app = App::serve(|stream| async move {
        let mut script = Script::new(stream);
        script.request().await;
        script.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    let error = raw::get(sidecar.proxy(), "/").await.expect_err("no last chunk");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);

    let app = App::serve(|stream| async move {
        let mut script = Script::new(stream);
        script.request().await;
        script.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    let error = raw::get(sidecar.proxy(), "/").await.expect_err("too short");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(sidecar.metric("tidegate_proxy_broken_answers_total", "").await, 1.0);
}

#[tokio::test]
async fn what_came_before_a_break_reaches_the_client() {
    for broken in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ] {
        let app = App::serve(move |stream| async move {
            let mut script = Script::new(stream);
            script.request().await;
            script.send(broken).await;
        })
        .await;
        let sidecar = Sidecar::start(app.address, "");
        for _ in 0..20 {
            let mut client = Client::connect(sidecar.proxy()).await.unwrap();
            client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\nx").await.unwrap();
            let head = client.head().await.expect("a client that gets nothing would send its POST again");
            assert_eq!(head.status, 200);
            let rest = String::from_utf8(client.rest().await.unwrap()).unwrap();
            assert!(rest.contains("hello") == broken.contains("hello") && !rest.contains("nonsense"), "{rest:?}");
            assert!(!rest.ends_with("0\r\n\r\n"), "not taken for a whole one");
        }
    }
}

#[tokio::test]
async fn an_app_that_closes_or_talks_nonsense_is_502() {
    for (said, error) in [
        ("", "connection_terminated"),
        ("SMTP ready\r\n\r\n", "http_protocol_error"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "http_upgrade_failed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "http_protocol_error"),
    ] {
        let app = App::serve(move |stream| async move {
            let mut script = Script::new(stream);
            script.request().await;
            script.send(said).await;
        })
        .await;
        let sidecar = Sidecar::start(app.address, "");
        let answer = raw::get(sidecar.proxy(), "/").await.unwrap();
        let status = answer.header("proxy-status").unwrap_or("none");
        assert_eq!((answer.status, status), (502, format!("tidegate; error={error}").as_str()), "for {said:?}");
    }
}

/// An app that answers one request on each connection and closes only when it has read the next: the race of every
/// keep-alive server that stops.
async fn closes_on_the_second(seen: Arc<AtomicUsize>) -> App {
    App::serve(move |stream| {
        let seen = seen.clone();
        async move {
            let mut script = Script::new(stream);
            script.request().await;
            seen.fetch_add(1, Ordering::SeqCst);
            script.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            if script.request().await {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_request_that_met_a_closing_connection_is_sent_again_if_that_is_safe() {
    let seen = Arc::new(AtomicUsize::new(0));
    let app = closes_on_the_second(seen.clone()).await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    for _ in 0..5 {
        assert_eq!(client.get("/").await.unwrap().status, 200);
    }
    assert!(sidecar.metric("tidegate_proxy_retries_total", "").await >= 4.0);
}

#[tokio::test]
async fn a_request_that_may_have_been_processed_is_not_sent_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let app = closes_on_the_second(seen.clone()).await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    assert_eq!(client.get("/").await.unwrap().status, 200);
    assert_eq!(client.post("/", "order").await.unwrap().status, 502);
    assert_eq!(seen.load(Ordering::SeqCst), 2, "the POST reached the app once");
    assert_eq!(sidecar.metric("tidegate_proxy_retries_total", "").await, 0.0);
}

/// An app that never answers, and tells when a connection with a request ends.
pub(super) async fn silent() -> (App, Arc<Notify>) {
    let cancelled = Arc::new(Notify::new());
    let app = App::serve({
        let cancelled = cancelled.clone();
        move |stream| {
            let cancelled = cancelled.clone();
            async move {
                let mut script = Script::new(stream);
                script.request().await;
                // No answer; the next thing that happens is the end of the connection.
                if !script.request().await {
                    cancelled.notify_one();
                }
            }
        }
    })
    .await;
    (app, cancelled)
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request_to_the_app() {
    let (app, cancelled) = silent().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    eventually(Duration::from_secs(5), "in flight", async || {
        sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 1.0
    })
    .await;
    drop(client);
    tokio::time::timeout(Duration::from_secs(10), cancelled.notified()).await.expect("the app is told");
    eventually(Duration::from_secs(5), "nothing in flight", async || {
        sidecar.metric("tidegate_in_flight", "").await == 0.0
    })
    .await;
    assert_eq!(sidecar.metric("tidegate_proxy_abandoned_total", "").await, 1.0);
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let app = App::serve(|stream| async move {
        let mut script = Script::new(stream);
        script.request().await;
        script.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
        script.request().await;
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\nstart").await.unwrap();
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
    assert!(answer.closes(), "the rest of the request is not read");
    assert_eq!(client.rest().await.unwrap(), b"");
}

#[tokio::test]
async fn a_port_in_use_is_a_clear_end() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let taken = sidecar.proxy().to_string();
    let (code, _, said) = cli(&["run", "--listen", &taken, "--ops", "127.0.0.1:0", "--local", "127.0.0.1:0"]);
    assert_eq!(code, 69);
    assert!(said.contains(&format!("cannot listen on {taken}: the address is in use")), "{said}");
}
