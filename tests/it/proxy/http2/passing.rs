//! What passes from HTTP/2 to an app that speaks HTTP/1.1, and back.

use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::HeaderMap;
use tokio::io::AsyncReadExt as _;

use crate::support::app::App;
use crate::support::h2::{Answer, Client};
use crate::support::raw;
use crate::support::sidecar::Sidecar;

#[tokio::test]
async fn one_connection_carries_many_requests_at_once() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let client = Client::connect(sidecar.proxy()).await;
    let asked = (0..200).map(|at| {
        let (client, body) = (&client, vec![b'a'; at]);
        async move {
            let answer = client.post("/echo", &body).await.unwrap();
            assert_eq!(answer.json()["length"], at, "each answer is of its own request");
        }
    });
    join_all(asked).await;
    assert_eq!(sidecar.metric("tidegate_proxy_http2_connections_total", "").await, 1.0);
    assert_eq!(sidecar.metric("tidegate_proxy_http2_streams_total", "").await, 200.0);
    assert_eq!(sidecar.metric("tidegate_proxy_requests_total", "2xx").await, 200.0);
    assert_eq!(raw::get(sidecar.proxy(), "/").await.unwrap().text(), "hello\n", "HTTP/1.1 on the same port");
}

#[tokio::test]
async fn the_app_sees_a_request_of_http1() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let client = Client::connect(sidecar.proxy()).await;
    let request = Client::request("POST", "/echo?q=1")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .header("x-forwarded-for", "203.0.113.9");
    let told = client.ask(request.body(&b"hello"[..]).unwrap()).await.unwrap().json();
    let value = |name: &str| -> Vec<&str> {
        let fields = told["headers"].as_array().unwrap().iter();
        fields.filter(|field| field[0] == name).map(|field| field[1].as_str().unwrap()).collect()
    };
    assert_eq!((&told["target"], &told["length"]), (&"/echo?q=1".into(), &5.into()));
    assert_eq!(value("host"), ["test"]);
    assert_eq!(value("cookie"), ["a=1; b=2"]);
    assert_eq!((value("te"), value("connection")), (vec!["trailers"], vec!["te"]));
    assert_eq!(value("x-forwarded-for"), ["203.0.113.9, 127.0.0.1"]);
    assert_eq!(value("x-forwarded-proto"), ["http"]);
    assert_eq!((value("transfer-encoding"), value("content-length")), (vec!["chunked"], vec![]));

    let told = client.post("/echo", b"").await.unwrap().json();
    assert!(told["headers"].to_string().contains(r#"["content-length","0"]"#), "{told}");
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let client = Client::connect(sidecar.proxy()).await;
    let told = client.post("/echo", &vec![b'a'; 5_000_000]).await.unwrap().json();
    assert_eq!((&told["length"], &told["sum"]), (&5_000_000.into(), &(5_000_000_u64 * 97).into()));
    let answer = client.get("/size?n=20000000").await.unwrap();
    assert_eq!((answer.body.len(), answer.header("content-length")), (20_000_000, Some("20000000")));
}

#[tokio::test]
async fn an_answer_keeps_its_framing_and_loses_what_is_of_one_connection() {
    let app = App::serve(|mut stream| async move {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        ] {
            read_head(&mut stream).await;
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let client = Client::connect(sidecar.proxy()).await;
    let head = client.ask(Client::request("HEAD", "/").body(&b""[..]).unwrap()).await.unwrap();
    assert_eq!((head.status(), head.header("content-length"), head.body.len()), (200, Some("5000"), 0));
    for name in ["connection", "keep-alive", "x-hop"] {
        assert_eq!(head.header(name), None);
    }
    assert!(head.header("date").is_some(), "RFC 9110 section 6.6.1");
    let not_modified = client.get("/").await.unwrap();
    assert_eq!((not_modified.status(), not_modified.header("etag")), (304, Some("\"1\"")));
    assert_eq!(client.get("/").await.unwrap().status(), 204);
    let chunked = client.get("/").await.unwrap();
    assert_eq!((chunked.text().as_str(), chunked.header("transfer-encoding")), ("hello", None));
    assert_eq!(chunked.trailers.unwrap()["x-sum"], "7");
    assert_eq!(client.get("/").await.unwrap().text(), "until the end");
}

/// Reads up to the end of a request's head.
async fn read_head(stream: &mut tokio::net::TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_app() {
    let (sender, mut heard) = tokio::sync::mpsc::channel(1);
    let app = App::serve(move |mut stream| {
        let sender = sender.clone();
        async move {
            read_head(&mut stream).await;
            let mut body = String::new();
            while !body.ends_with("\r\n\r\n") {
                body.push(char::from(stream.read_u8().await.unwrap()));
            }
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await
                .unwrap();
            sender.send(body).await.unwrap();
        }
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    let client = Client::connect(sidecar.proxy()).await;
    let request = Client::request("POST", "/").body(()).unwrap();
    let (answer, mut stream) = client.sender.clone().ready().await.unwrap().send_request(request, false).unwrap();
    stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
    // What an app may take for the word of this hop stays behind.
    let names = ["x-forwarded-for", "x_forwarded_for", "x.forwarded.proto", "x_request_id", "x.request-id", "x-sum"];
    let trailers = names.map(|name| (name.parse().unwrap(), "7".parse().unwrap()));
    stream.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    assert_eq!(heard.recv().await.unwrap(), "5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n");
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_once_before_it_sends() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let client = Client::connect(sidecar.proxy()).await;
    let request = Client::request("POST", "/echo").header("expect", "100-continue").body(()).unwrap();
    let (mut answer, mut stream) = client.sender.clone().ready().await.unwrap().send_request(request, false).unwrap();
    let interim = std::future::poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
    assert_eq!(interim.status(), 100);
    stream.send_data(Bytes::from_static(b"bo"), false).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.send_data(Bytes::from_static(b"dy"), true).unwrap();
    let answer = Answer::read((&mut answer).await.unwrap()).await.unwrap();
    assert_eq!(answer.json()["length"], 4);
}

#[tokio::test]
async fn early_hints_of_an_app_of_http1_reach_the_client_before_the_answer() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let app = App::serve(move |mut stream| {
        let mut gone = gone.clone();
        async move {
            read_head(&mut stream).await;
            let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, hints).await.unwrap();
            gone.wait_for(|gone| *gone).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        }
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    let client = Client::connect(sidecar.proxy()).await;
    let request = Client::request("GET", "/").body(()).unwrap();
    let (mut answer, _) = client.sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
    let hints = std::future::poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
    assert_eq!((hints.status().as_u16(), &hints.headers()["link"]), (103, &"</a.css>".parse().unwrap()));
    let names: Vec<&str> = hints.headers().keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["link"], "what is of one connection is not passed on");
    go.send_replace(true);
    assert_eq!(Answer::read(answer.await.unwrap()).await.unwrap().text(), "body");
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_has_ended() {
    let app = App::serve(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    let client = Client::connect(sidecar.proxy()).await;
    let request = Client::request("POST", "/").body(()).unwrap();
    let (answer, mut stream) = client.sender.clone().ready().await.unwrap().send_request(request, false).unwrap();
    stream.send_data(Bytes::from_static(b"half"), false).unwrap();
    let answer = Answer::read(answer.await.unwrap()).await.unwrap();
    assert_eq!(answer.text(), "early");
    let reset = std::future::poll_fn(|cx| stream.poll_reset(cx)).await.unwrap();
    assert_eq!(reset, h2::Reason::NO_ERROR, "RFC 9113 section 8.1: the rest of the request is not wanted");
}

#[tokio::test]
async fn curl_is_served_over_http2() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let url = format!("http://{}/echo", sidecar.proxy());
    let output = tokio::task::spawn_blocking(move || {
        Command::new("curl")
            .args(["--http2-prior-knowledge", "--silent", "--show-error", "--noproxy", "*", "--data", "hello"])
            .args(["--write-out", "\n%{http_version} %{http_code}", &url])
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.ends_with("\n2 200"), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(r#""length":5"#), "{said}");
}

#[tokio::test]
async fn h2load_has_all_its_requests_answered() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    for path in ["/", "/size?n=100000"] {
        let url = format!("http://{}{path}", sidecar.proxy());
        let output = tokio::task::spawn_blocking(move || {
            let mut load = Command::new("h2load");
            load.args(["--requests=1000", "--clients=10", "--max-concurrent-streams=20", "--threads=1", &url]);
            load.output().expect("h2load; install it with: scripts/setup.sh test")
        })
        .await
        .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("1000 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
    }
}

#[tokio::test]
async fn a_request_taken_back_is_taken_back_from_the_app_at_once() {
    let (sender, mut closed) = tokio::sync::mpsc::channel(1);
    let app = App::serve(move |mut stream| {
        let sender = sender.clone();
        async move {
            let head = read_head(&mut stream).await;
            if head.starts_with("GET /kept") {
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept")
                    .await
                    .unwrap();
            } else {
                sender.send("seen").await.unwrap();
                let _ = stream.read_to_end(&mut Vec::new()).await;
                sender.send("closed").await.unwrap();
            }
        }
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    let client = Client::connect(sidecar.proxy()).await;
    for ends in [true, false] {
        let request = Client::request("POST", "/").body(()).unwrap();
        let (answer, stream) = client.sender.clone().ready().await.unwrap().send_request(request, ends).unwrap();
        assert_eq!(closed.recv().await, Some("seen"));
        drop((answer, stream));
        let told = tokio::time::timeout(Duration::from_secs(10), closed.recv()).await;
        assert_eq!(told.expect("the app sees it"), Some("closed"));
    }
    assert_eq!(client.get("/kept").await.unwrap().text(), "kept", "the connection goes on");
    assert_eq!(sidecar.metric("tidegate_proxy_http2_resets_total", "client").await, 2.0);
    assert_eq!(sidecar.metric("tidegate_proxy_abandoned_total", "").await, 2.0);
}

#[tokio::test]
async fn an_answer_broken_off_is_reset_and_never_ends_cleanly() {
    for broken in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let app = App::serve(move |mut stream| async move {
            read_head(&mut stream).await;
            tokio::io::AsyncWriteExt::write_all(&mut stream, broken.as_bytes()).await.unwrap();
        })
        .await;
        let sidecar = Sidecar::start(app.address, "");
        let client = Client::connect(sidecar.proxy()).await;
        let request = Client::request("GET", "/").body(()).unwrap();
        let (answer, _) = client.sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "half", "what came before the break is delivered");
        let error = body.data().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
        assert_eq!(sidecar.metric("tidegate_proxy_http2_resets_total", "app").await, 1.0);
    }
}

#[tokio::test]
async fn failures_of_the_app_are_told_as_over_http1() {
    let app = App::start().await;
    let address = app.address;
    drop(app);
    let sidecar = Sidecar::start(address, "hold: { max_requests: 0 }");
    let client = Client::connect(sidecar.proxy()).await;
    let answer = client.get("/").await.unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (502, "tidegate: the app refuses connections\n"));
    assert_eq!(answer.header("proxy-status"), Some("tidegate; error=connection_refused"));
    assert_eq!(answer.header("content-length"), Some("38"));
    let head = client.ask(Client::request("HEAD", "/").body(&b""[..]).unwrap()).await.unwrap();
    assert_eq!((head.status(), head.body.len()), (502, 0));
}

#[tokio::test]
async fn a_call_that_is_refused_before_it_goes_to_the_app_has_a_status_of_grpc() {
    let app = App::start().await;
    let address = app.address;
    drop(app);
    let sidecar = Sidecar::start(address, "hold: { max_wait: 300ms }");
    let client = Client::connect(sidecar.proxy()).await;
    for why in ["tidegate: the app was away for too long", "tidegate: the app is away"] {
        let call =
            Client::request("POST", "/a.B/C").header("content-type", "application/grpc").header("te", "trailers");
        let answer = client.ask(call.body(&b""[..]).unwrap()).await.unwrap();
        let told = (answer.status(), answer.header("content-type"), answer.header("grpc-status"));
        assert_eq!(told, (200, Some("application/grpc"), Some("14")), "{why}");
        assert_eq!(answer.header("grpc-message"), Some(why));
    }
    let plain = client.get("/").await.unwrap();
    assert_eq!((plain.status(), plain.text().as_str()), (503, "tidegate: the app is away\n"));
}
