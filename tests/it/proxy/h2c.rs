//! Apps that speak HTTP/2 with prior knowledge: what they are sent, and what happens when they refuse, leave or break off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::support::app::App;
use crate::support::eventually;
use crate::support::h2::{
    CANCEL, Client, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM,
    RST_STREAM, Wire, literals,
};
use crate::support::port::Port;
use crate::support::raw;
use crate::support::sidecar::Sidecar;

const LONG: Duration = Duration::from_secs(20);

fn sidecar(upstream: std::net::SocketAddr, more: &str) -> Sidecar {
    let drain = "drain: { delay: 200ms, quiet: 200ms, deadline: 10s }";
    Sidecar::start_with(&format!("proxy: [{{ listen: '127.0.0.1:0', upstream: 'h2c://{upstream}' }}]\n{drain}\n{more}"))
}

#[tokio::test]
async fn clients_of_both_protocols_are_served_over_one_connection_to_the_app() {
    let app = App::start_http2(100).await;
    let sidecar = sidecar(app.address, "workers: 1");
    let mut one = raw::Client::connect(sidecar.proxy()).await.unwrap();
    one.send(
        "POST /echo?q=1 HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\nConnection: te, x-hop\r\n\
         TE: trailers\r\nX-Hop: 1\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await
    .unwrap();
    let told = one.answer().await.unwrap().json();
    assert_eq!((&told["target"], &told["length"]), (&"http://shop.example/echo?q=1".into(), &5.into()));
    let fields = told["headers"].to_string();
    for gone in ["connection", "transfer-encoding", "x-hop", "host"] {
        assert!(!fields.contains(&format!("[\"{gone}\"")), "{fields}");
    }
    assert!(
        fields.contains(r#"["te","trailers"]"#) && fields.contains(r#"["x-forwarded-for","127.0.0.1"]"#),
        "{fields}"
    );

    let two = Client::connect(sidecar.proxy()).await;
    join_all((0..50).map(async |at: usize| {
        assert_eq!(two.post("/echo", &vec![b'a'; at]).await.unwrap().json()["length"], at);
    }))
    .await;
    let told = one.post("/echo", &"a".repeat(3_000_000)).await.unwrap().json();
    assert_eq!(told["length"], 3_000_000);
    assert_eq!(one.get("/size?n=5000000").await.unwrap().body.len(), 5_000_000);
    assert_eq!(two.get("/size?n=5000000").await.unwrap().body.len(), 5_000_000);
    one.send("HEAD /size?n=7 HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    let head = one.head().await.unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("7")));
    assert_eq!(one.get("/").await.unwrap().text(), "hello\n");
    assert_eq!(app.accepted(), 1);
}

#[tokio::test]
async fn an_app_that_takes_few_requests_at_once_gets_more_connections_within_bounds() {
    let app = App::start_http2(2).await;
    let sidecar = sidecar(app.address, "workers: 1");
    let client = Client::connect(sidecar.proxy()).await;
    let asked = (0..100).map(|_| client.get("/slow?ms=50"));
    for answer in join_all(asked).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert!((2..=16).contains(&app.accepted()), "{} connections", app.accepted());
    assert_eq!(sidecar.metric("tidegate_proxy_retries_total", "").await, 0.0);
}

/// An app that does what `script` does with the first connections, by number, and says on later ones that it is there.
async fn scripted<F>(script: impl Fn(usize, Wire) -> F + Send + Sync + 'static) -> App
where
    F: Future<Output = ()> + Send + 'static,
{
    let (script, opened) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
    App::serve(move |stream| {
        let (script, at) = (script.clone(), opened.fetch_add(1, Ordering::SeqCst));
        async move { script(at, Wire::accepted(stream).await).await }
    })
    .await
}

/// Serves all requests with the number of the connection.
async fn serve(at: usize, mut wire: Wire) {
    while let Some(head) = wire.request().await {
        if !head.ends_stream() {
            while !wire.until(DATA).await.ends_stream() {}
        }
        wire.answer(head.stream, &format!("by {at}")).await;
    }
}

#[tokio::test]
async fn a_request_that_the_app_has_not_looked_at_is_sent_again_with_its_body() {
    let app = scripted(|at, mut wire| async move {
        match at {
            0 => {
                let head = wire.request().await.unwrap();
                wire.until(DATA).await;
                wire.send(RST_STREAM, 0, head.stream, REFUSED_STREAM.to_be_bytes()).await;
                let again = wire.request().await.unwrap();
                assert_eq!(wire.until(DATA).await.payload, b"body");
                // RFC 9113 section 6.8: nothing beyond the stream before was looked at, nor will be.
                let last = [head.stream.to_be_bytes(), NO_ERROR.to_be_bytes()].concat();
                assert!(again.stream > head.stream);
                wire.send(GOAWAY, 0, 0, last).await;
                while wire.next().await.is_some() {}
            }
            at => serve(at, wire).await,
        }
    })
    .await;
    let sidecar = sidecar(app.address, "workers: 1");
    let client = Client::connect(sidecar.proxy()).await;
    assert_eq!(client.post("/", b"body").await.unwrap().text(), "by 1");
    assert_eq!(sidecar.metric("tidegate_proxy_retries_total", "").await, 2.0);
    let mut client = raw::Client::connect(sidecar.proxy()).await.unwrap();
    assert_eq!(client.post("/", "body").await.unwrap().text(), "by 1");
}

#[tokio::test]
async fn an_app_that_refuses_for_a_moment_is_asked_again_and_one_that_always_does_is_given_up() {
    let app = scripted(|_, mut wire| async move {
        let mut refused = 0;
        while let Some(head) = wire.request().await {
            refused += 1;
            if refused == 8 {
                wire.answer(head.stream, "at last").await;
            } else {
                wire.send(RST_STREAM, 0, head.stream, REFUSED_STREAM.to_be_bytes()).await;
            }
        }
    })
    .await;
    let sidecar = sidecar(app.address, "workers: 1");
    let client = Client::connect(sidecar.proxy()).await;
    assert_eq!(client.get("/").await.unwrap().text(), "at last");
    assert_eq!(sidecar.metric("tidegate_proxy_retries_total", "").await, 7.0);
    assert_eq!(client.get("/").await.unwrap().status(), 502);
    assert_eq!(sidecar.metric("tidegate_proxy_retries_total", "").await, 14.0);
}

#[tokio::test]
async fn requests_at_or_below_the_last_stream_of_a_goaway_are_finished_and_later_ones_go_elsewhere() {
    let app = scripted(|at, mut wire| async move {
        match at {
            0 => {
                let head = wire.request().await.unwrap();
                wire.send(GOAWAY, 0, 0, [head.stream.to_be_bytes(), NO_ERROR.to_be_bytes()].concat()).await;
                wire.send(HEADERS, END_HEADERS, head.stream, [0x88]).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                wire.send(DATA, END_STREAM, head.stream, "finished").await;
                while wire.next().await.is_some() {}
            }
            at => serve(at, wire).await,
        }
    })
    .await;
    let sidecar = sidecar(app.address, "workers: 1");
    let client = Client::connect(sidecar.proxy()).await;
    let request = Client::request("GET", "/").body(()).unwrap();
    let (answer, _) = client.sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(client.get("/").await.unwrap().text(), "by 1");
    assert_eq!(crate::support::h2::Answer::read(answer).await.unwrap().text(), "finished");
}

#[tokio::test]
async fn a_request_that_the_app_may_have_looked_at_is_sent_once() {
    let seen = Arc::new(AtomicUsize::new(0));
    for reset in [true, false] {
        let seen = seen.clone();
        let app = scripted(move |_, mut wire| {
            let seen = seen.clone();
            async move {
                while let Some(head) = wire.request().await {
                    seen.fetch_add(1, Ordering::SeqCst);
                    if !reset {
                        // The connection breaks.
                        return;
                    }
                    wire.send(RST_STREAM, 0, head.stream, INTERNAL_ERROR.to_be_bytes()).await;
                }
            }
        })
        .await;
        let sidecar = sidecar(app.address, "workers: 1");
        let answer = raw::get(sidecar.proxy(), "/").await.unwrap();
        let status = answer.header("proxy-status");
        assert_eq!((answer.status, status), (502, Some("tidegate; error=connection_terminated")));
        assert_eq!(sidecar.metric("tidegate_proxy_retries_total", "").await, 0.0);
    }
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_app_that_speaks_something_else_is_502_and_said_to() {
    for said in ["HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "SMTP ready\r\n"] {
        let app = App::serve(move |mut stream| async move {
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1024]).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, said.as_bytes()).await;
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await;
        })
        .await;
        let sidecar = sidecar(app.address, "limits: { connect_timeout: 10s }");
        let answer = raw::get(sidecar.proxy(), "/").await.unwrap();
        let status = answer.header("proxy-status");
        assert_eq!((answer.status, status), (502, Some("tidegate; error=http_protocol_error")), "{said:?}");
        assert_eq!(answer.text(), "tidegate: the app's answer is not valid HTTP/2\n");
        sidecar.logs("a request got no answer from the app").await;
    }
}

#[tokio::test]
async fn an_app_that_accepts_and_says_nothing_is_504() {
    let app = App::serve(|stream| async move {
        let mut stream = stream;
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await;
    })
    .await;
    let sidecar = sidecar(app.address, "limits: { connect_timeout: 300ms }");
    let answers = join_all((0..5).map(|_| raw::get(sidecar.proxy(), "/"))).await;
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.header("proxy-status")), (504, Some("tidegate; error=connection_timeout")));
    }
}

#[tokio::test]
async fn an_app_that_does_not_answer_in_time_is_504() {
    let app = App::start_http2(100).await;
    let sidecar = sidecar(app.address, "limits: { response_timeout: 100ms }");
    let client = Client::connect(sidecar.proxy()).await;
    let status = Some("tidegate; error=http_response_timeout");
    let answer = client.get("/slow?ms=20000").await.unwrap();
    assert_eq!((answer.status(), answer.header("proxy-status")), (504, status));
    let answer = client.post("/slow?ms=20000", b"body").await.unwrap();
    assert_eq!((answer.status(), answer.header("proxy-status")), (504, status));
    let answer = raw::post(sidecar.proxy(), "/slow?ms=20000", "body").await.unwrap();
    assert_eq!((answer.status, answer.header("proxy-status")), (504, status));
}

#[tokio::test]
async fn an_app_that_restarts_is_found_again() {
    let port = Port::reserve();
    let app = App::http2_on(port.address(), 100).await;
    let sidecar = sidecar(port.address(), "workers: 1");
    let mut client = raw::Client::connect(sidecar.proxy()).await.unwrap();
    let mut app = Some(app);
    for _ in 0..5 {
        assert_eq!(client.post("/echo", "x").await.unwrap().status, 200);
        drop(app.take());
        // Its connections end when their tasks have their turn.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        eventually(LONG, "its port is free", async || tokio::net::TcpListener::bind(port.address()).await.is_ok())
            .await;
        app = Some(App::http2_on(port.address(), 100).await);
        // A connection that the app has closed is not used again, whatever the request.
        assert_eq!(client.post("/echo", "x").await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn an_answer_broken_off_by_the_app_is_broken_off_for_its_client() {
    let app = scripted(|_, mut wire| async move {
        while let Some(head) = wire.request().await {
            wire.send(HEADERS, END_HEADERS, head.stream, [0x88]).await;
            wire.send(DATA, 0, head.stream, "half").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            wire.send(RST_STREAM, 0, head.stream, CANCEL.to_be_bytes()).await;
        }
    })
    .await;
    let sidecar = sidecar(app.address, "");
    let error = raw::get(sidecar.proxy(), "/").await.expect_err("no last chunk");
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    let client = Client::connect(sidecar.proxy()).await;
    let error = client.get("/").await.expect_err("reset");
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "the app's own reason");
}

#[tokio::test]
async fn trailers_and_early_hints_pass_to_clients_of_both_protocols() {
    let app = scripted(|_, mut wire| async move {
        while let Some(head) = wire.request().await {
            let hint = literals(&[(":status", "103"), ("link", "</a.css>")]);
            wire.send(HEADERS, END_HEADERS, head.stream, hint).await;
            wire.send(HEADERS, END_HEADERS, head.stream, [0x88]).await;
            wire.send(DATA, 0, head.stream, "body").await;
            wire.send(HEADERS, END_HEADERS | END_STREAM, head.stream, literals(&[("x-sum", "7")])).await;
        }
    })
    .await;
    let sidecar = sidecar(app.address, "");
    let client = Client::connect(sidecar.proxy()).await;
    let request = Client::request("GET", "/").body(()).unwrap();
    let (mut answer, _) = client.sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
    let hint = std::future::poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
    assert_eq!((hint.status().as_u16(), &hint.headers()["link"]), (103, &"</a.css>".parse().unwrap()));
    let answer = crate::support::h2::Answer::read(answer.await.unwrap()).await.unwrap();
    assert_eq!((answer.text().as_str(), &answer.trailers.unwrap()["x-sum"]), ("body", &"7".parse().unwrap()));

    let mut client = raw::Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: t\r\nTE: trailers\r\nConnection: te, close\r\n\r\n").await.unwrap();
    let said = String::from_utf8(client.rest().await.unwrap()).unwrap();
    assert!(said.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n"), "{said}");
    assert!(said.ends_with("4\r\nbody\r\n0\r\nx-sum: 7\r\n\r\n"), "{said}");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_back_from_the_app() {
    let (sender, mut told) = tokio::sync::mpsc::channel(4);
    let app = scripted(move |_, mut wire| {
        let sender = sender.clone();
        async move {
            while wire.request().await.is_some() {
                sender.send(None).await.unwrap();
                let reset = wire.until(RST_STREAM).await;
                sender.send(Some(reset.code())).await.unwrap();
            }
        }
    })
    .await;
    let sidecar = sidecar(app.address, "workers: 1");
    for ends in [true, false] {
        let client = Client::connect(sidecar.proxy()).await;
        let request = Client::request("POST", "/").body(()).unwrap();
        let (answer, mut stream) = client.sender.clone().ready().await.unwrap().send_request(request, ends).unwrap();
        if !ends {
            stream.send_data(Bytes::from_static(b"part"), false).unwrap();
        }
        assert_eq!(told.recv().await, Some(None));
        drop((answer, stream));
        let reset = tokio::time::timeout(LONG, told.recv()).await.expect("the app is told");
        assert_eq!(reset, Some(Some(CANCEL)));
    }
    let mut client = raw::Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    assert_eq!(told.recv().await, Some(None));
    drop(client);
    assert_eq!(tokio::time::timeout(LONG, told.recv()).await.unwrap(), Some(Some(CANCEL)));
    eventually(LONG, "nothing in flight", async || {
        sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn slow_clients_do_not_slow_others_of_the_same_connection_to_the_app() {
    let app = App::start_http2(1000).await;
    let sidecar = sidecar(app.address, "workers: 1");
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut client = raw::Client::connect(sidecar.proxy()).await.unwrap();
        client.send("GET /size?n=20000000 HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
        slow.push(client);
    }
    eventually(LONG, "they are in flight", async || {
        sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 100.0
    })
    .await;
    let client = Client::connect(sidecar.proxy()).await;
    for _ in 0..20 {
        assert_eq!(client.get("/size?n=100000").await.unwrap().body.len(), 100_000);
    }
    assert_eq!(app.accepted(), 1);
}
