//! Where messages begin and end on the connections to the app, byte for byte; and both directions at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::passing::Script;
use crate::support::app::App;
use crate::support::eventually;
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;

const LIMIT: Duration = Duration::from_secs(30);

/// An app that answers each request on a connection with the next of `answers`, then closes.
async fn scripted(answers: &'static [&'static str]) -> App {
    App::serve(move |stream| async move {
        let mut script = Script::new(stream);
        for answer in answers {
            if !script.request().await {
                return;
            }
            script.send(answer).await;
        }
        script.request().await;
    })
    .await
}

/// An app that says what it read once `enough` of it has come, or the connection has ended, and answers 200.
async fn recording(enough: &'static str) -> (App, mpsc::Receiver<String>) {
    let (said, heard) = mpsc::channel(8);
    let app = App::serve(move |mut stream| {
        let said = said.clone();
        async move {
            let mut read = Vec::new();
            while !read.ends_with(enough.as_bytes()) && stream.read_buf(&mut read).await.is_ok_and(|length| length > 0)
            {
            }
            said.send(String::from_utf8(read).unwrap()).await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            let _ = stream.read(&mut [0]).await;
        }
    })
    .await;
    (app, heard)
}

async fn next(heard: &mut mpsc::Receiver<String>) -> String {
    tokio::time::timeout(LIMIT, heard.recv()).await.expect("the app hears").unwrap()
}

#[tokio::test]
async fn a_request_reaches_the_app_byte_for_byte() {
    let fields = "x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\n\r\n";
    let (app, mut heard) = recording("END").await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client
        .send("POST /a?b HTTP/1.1\r\nHost: t\r\nX-Request-ID: 7\r\nContent-Length: 7\r\nX: y\r\nX: z\r\n\r\nthe END")
        .await
        .unwrap();
    assert_eq!(client.answer().await.unwrap().status, 204);
    let expected = "POST /a?b HTTP/1.1\r\nhost: t\r\nx-request-id: 7\r\ncontent-length: 7\r\nx: y\r\nx: z\r\n";
    assert_eq!(next(&mut heard).await, format!("{expected}{fields}the END"));

    // RFC 9110 section 8.6 lets zeros stand before a length, and some readers take them for octal.
    let (app, mut heard) = recording("eight").await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client
        .send("POST / HTTP/1.1\r\nHost: t\r\nX-Request-ID: 7\r\nContent-Length: 010\r\n\r\nten, eight")
        .await
        .unwrap();
    assert_eq!(client.answer().await.unwrap().status, 204);
    let expected = "POST / HTTP/1.1\r\nhost: t\r\nx-request-id: 7\r\ncontent-length: 10\r\n";
    assert_eq!(next(&mut heard).await, format!("{expected}{fields}ten, eight"));

    let (app, mut heard) = recording("\r\n0\r\nx-sum: 1\r\n\r\n").await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nX-Request-ID: 7\r\nTransfer-Encoding: chunked\r\n").await.unwrap();
    client
        .send("Trailer: x-sum\r\n\r\n3;ext\r\nabc\r\n0B\r\nhello world\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(client.answer().await.unwrap().status, 204);
    let said = next(&mut heard).await;
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
    assert_eq!(body, "3\r\nabc\r\nb\r\nhello world\r\n0\r\nx-sum: 1\r\n\r\n");
}

#[tokio::test]
async fn what_an_app_may_take_for_the_word_of_this_hop_does_not_reach_it() {
    let fields = "x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\n\r\n";
    let (app, mut heard) = recording("END").await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nX-Request-ID: 7\r\nX.Forwarded.For: 6.6.6.6\r\n").await.unwrap();
    client
        .send("X-Forwarded.For: 6.6.6.6\r\nX.Forwarded.Client.Cert: Hash=f\r\nX_Forwarded_Host: a\r\n")
        .await
        .unwrap();
    client.send("X-Forwarded-Proto: a b\r\nX.Y: z\r\nContent-Length: 3\r\n\r\nEND").await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 204);
    let said = next(&mut heard).await;
    let mut lines: Vec<&str> = said.strip_suffix("\r\n\r\nEND").unwrap().split("\r\n").skip(1).collect();
    lines.sort_unstable();
    let ours: Vec<&str> = fields.trim_end().split("\r\n").collect();
    assert_eq!(lines, [&["content-length: 3", "host: t"][..], &ours, &["x-request-id: 7", "x.y: z"]].concat());

    let (app, mut heard) = recording("x-sum: 1\r\n\r\n").await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n").await.unwrap();
    client.send("X_Forwarded_For: 6.6.6.6\r\nX.Forwarded-Proto: https\r\nX_Request_Id: 6\r\n").await.unwrap();
    client.send("Content_Length: 9\r\nX-Sum: 1\r\n\r\n").await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 204);
    assert_eq!(next(&mut heard).await.split_once("\r\n\r\n").unwrap().1, "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n");
}

/// What one reader takes for a body's end is a part of it to another: what follows must be no request.
#[tokio::test]
async fn a_bare_lf_ends_no_chunked_request() {
    for end in
        ["0\r\n\n", "0\n\r\n", "0\r\nX: a\r\n\n", "0\r\nX: a\n\r\n", "0\r\nX: a\nY: b\r\n\r\n", "1\nx\r\n0\r\n\r\n"]
    {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let app = App::serve({
            let heard = heard.clone();
            move |mut stream| {
                let heard = heard.clone();
                async move {
                    let mut read = Vec::new();
                    while stream.read_buf(&mut read).await.is_ok_and(|length| length > 0) {
                        heard.lock().unwrap().append(&mut read);
                        let ends = heard.lock().unwrap().ends_with(b"\r\n\r\n");
                        if ends {
                            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                        }
                    }
                }
            }
        })
        .await;
        let sidecar = Sidecar::start(app.address, "");
        let mut client = Client::connect(sidecar.proxy()).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        client.send(format!("{head}{end}GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n")).await.unwrap();
        let said = String::from_utf8(client.rest().await.unwrap()).unwrap();
        assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("\r\nconnection: close\r\n"), "{end:?}: {said}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{end:?}: {said}");
        let heard = String::from_utf8(heard.lock().unwrap().clone()).unwrap();
        assert!(!heard.contains("smuggled") && !heard.contains("\r\n0\r\n"), "{end:?}: {heard}");
    }
}

#[tokio::test]
async fn a_request_that_breaks_off_never_looks_whole_to_the_app() {
    for begun in [
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\nhalf",
        "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let (app, mut heard) = recording("\r\n0\r\n\r\n").await;
        let sidecar = Sidecar::start(app.address, "");
        let mut client = Client::connect(sidecar.proxy()).await.unwrap();
        client.send(begun).await.unwrap();
        eventually(LIMIT, "it has reached the app", async || app.accepted() == 1).await;
        drop(client);
        let said = next(&mut heard).await;
        assert!(!said.ends_with("\r\n0\r\n\r\n"), "{said}");
    }
}

#[tokio::test]
async fn one_connection_carries_answers_of_every_framing() {
    let app = scripted(&[
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    ])
    .await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    for _ in 0..5 {
        let answer = client.get("/").await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        let lengths = answer.headers.iter().filter(|(name, _)| name == "content-length").count();
        assert!(lengths < 2, "{:?}", answer.headers);
    }
    assert_eq!(app.accepted(), 1);
}

#[tokio::test]
async fn a_connection_is_not_used_again_when_the_app_may_not_mean_it_to_be() {
    for answer in [
        &["HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"],
        &["HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"],
        &["HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"],
        &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"],
        &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\r\n"],
    ] {
        let app = scripted(answer).await;
        let sidecar = Sidecar::start(app.address, "workers: 1");
        let mut client = Client::connect(sidecar.proxy()).await.unwrap();
        for round in 1..=2 {
            let answered = client.get("/").await.unwrap();
            assert_eq!((answered.status, answered.text().as_str()), (200, "ok"), "for {answer:?}");
            assert!(answered.header("content-length").is_none_or(|length| length == "2"), "for {answer:?}");
            assert!(!answered.closes(), "the client's connection is another");
            assert_eq!(app.accepted(), round, "for {answer:?}");
        }
    }
}

#[tokio::test]
async fn what_an_app_says_unasked_is_no_answer_to_the_next_request() {
    let said = Arc::new(Notify::new());
    let app = App::serve({
        let said = said.clone();
        move |stream| {
            let said = said.clone();
            async move {
                let mut script = Script::new(stream);
                script.request().await;
                script.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                // Time for the proxy to have kept the connection does not matter: both orders are to be safe.
                script.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n").await;
                said.notify_one();
                script.request().await;
            }
        }
    })
    .await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    for _ in 0..5 {
        assert_eq!(client.post("/", "x").await.unwrap().status, 200);
        tokio::time::timeout(LIMIT, said.notified()).await.unwrap();
    }
    assert_eq!(app.accepted(), 5);
}

#[tokio::test]
async fn a_post_does_not_meet_a_connection_that_the_app_has_closed() {
    let closed = Arc::new(Notify::new());
    let app = App::serve({
        let closed = closed.clone();
        move |stream| {
            let closed = closed.clone();
            async move {
                let mut script = Script::new(stream);
                script.request().await;
                script.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                drop(script);
                closed.notify_one();
            }
        }
    })
    .await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    for _ in 0..20 {
        assert_eq!(client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n").await.ok(), Some(()));
        assert_eq!(client.answer().await.unwrap().text(), "ok");
        tokio::time::timeout(LIMIT, closed.notified()).await.unwrap();
        // What the app's kernel has sent is not at once what ours has seen, on a machine with more to do than this.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(sidecar.metric("tidegate_proxy_retries_total", "").await, 0.0);
}

#[tokio::test]
async fn an_answer_until_the_end_of_the_connection_ends_by_a_clean_close_only() {
    let app = App::serve(|stream| async move {
        let mut script = Script::new(stream);
        script.request().await;
        script.send("HTTP/1.1 200 OK\r\n\r\nall there is").await;
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    assert_eq!(raw::get(sidecar.proxy(), "/").await.unwrap().text(), "all there is");

    let wanted = Arc::new(Notify::new());
    let app = App::serve({
        let wanted = wanted.clone();
        move |mut stream| {
            let wanted = wanted.clone();
            async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nnot all").await;
                wanted.notified().await;
                stream.set_zero_linger().unwrap();
            }
        }
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    assert_eq!(client.head().await.unwrap().header("transfer-encoding"), Some("chunked"));
    assert_eq!(client.take(12).await.unwrap(), b"7\r\nnot all\r\n");
    wanted.notify_one();
    let rest = client.rest().await.unwrap_or_default();
    assert_eq!(rest, b"", "no last chunk");
}

#[tokio::test]
async fn a_broken_answer_is_never_ended() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "4\r\nhalf\r\n5",
        "4\r\nhalf\r\n5\r\nab",
        "4\r\nhalf\r\n",
        "4\r\nhalf\r\n0\r\n",
        "4\r\nhalf\r\nzz\r\n",
        "4\r\nhalfway\r\n0\r\n\r\n",
        "4\r\nhalf\r\n0\n\r\n",
        "4\r\nhalf\r\n0\r\n\n",
        "4\r\nhalf\r\n0\r\nX: a\r\n\n",
        "4\r\nhalf\r\n0\r\nX: a\n\r\n",
        "4\r\nhalf\r\n0\r\nX: a\nY: b\r\n\r\n",
    ] {
        let answer: &'static str = Box::leak(format!("{chunked}{body}").into_boxed_str());
        let app = App::serve(move |stream| async move {
            let mut script = Script::new(stream);
            script.request().await;
            script.send(answer).await;
        })
        .await;
        let sidecar = Sidecar::start(app.address, "");
        let error = raw::get(sidecar.proxy(), "/").await.expect_err("no end");
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "for {body:?}");
        assert_eq!(sidecar.metric("tidegate_proxy_broken_answers_total", "").await, 1.0, "for {body:?}");
    }
}

#[tokio::test]
async fn malformed_heads_are_502_and_say_so() {
    let app = App::serve(|stream| async move {
        let mut script = Script::new(stream);
        let path = script.path().await;
        let head = match path.as_str() {
            "/truncated" => "HTTP/1.1 200 OK\r\nContent-Le",
            "/folded" => "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "/blank" => "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
            "/coding" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "/length" => "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
            "/fields" => &format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(101)),
            "/bytes" => &format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "b".repeat(40_000)),
            other => panic!("{other} is not asked for"),
        };
        script.send(head).await;
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    for path in ["/folded", "/blank", "/coding", "/length", "/fields", "/bytes"] {
        let answer = raw::get(sidecar.proxy(), path).await.unwrap();
        let status = answer.header("proxy-status");
        assert_eq!((answer.status, status), (502, Some("tidegate; error=http_protocol_error")), "for {path}");
    }
    let answer = raw::get(sidecar.proxy(), "/truncated").await.unwrap();
    assert_eq!(answer.header("proxy-status"), Some("tidegate; error=connection_terminated"));
}

#[tokio::test]
async fn an_answer_may_come_a_byte_at_a_time() {
    let app = App::serve(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        for byte in b"HTTP/1.1 200 Quite Fine\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n" {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: t\r\nTE: trailers\r\nConnection: TE\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"\r\nx-sum: 1\r\n\r\n") {
        read.extend(client.take(1).await.unwrap());
    }
    let read = String::from_utf8(read).unwrap();
    assert!(read.starts_with("HTTP/1.1 200 Quite Fine\r\n"), "{read}");
    let (_, body) = read.split_once("\r\n\r\n").unwrap();
    let chunks = body.strip_suffix("0\r\nx-sum: 1\r\n\r\n").unwrap();
    let data: String = chunks.split_terminator("\r\n").skip(1).step_by(2).collect();
    assert_eq!(data, "hello", "{body}");
}

/// Sends a request with a body of `length` bytes in the background, taking no answer.
fn upload(mut to: OwnedWriteHalf, length: usize) -> JoinHandle<std::io::Result<OwnedWriteHalf>> {
    tokio::spawn(async move {
        to.write_all(format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n").as_bytes()).await?;
        let piece = vec![b'x'; 64 * 1024];
        let mut left = length;
        while left > 0 {
            let now = left.min(piece.len());
            to.write_all(&piece[..now]).await?;
            left -= now;
        }
        Ok(to)
    })
}

async fn halves(sidecar: &Sidecar) -> (OwnedReadHalf, OwnedWriteHalf) {
    TcpStream::connect(sidecar.proxy()).await.unwrap().into_split()
}

/// Reads until so many bytes have come after the head.
async fn download(from: &mut OwnedReadHalf, length: usize) -> String {
    let mut read = Vec::new();
    let body = loop {
        assert_ne!(tokio::time::timeout(LIMIT, from.read_buf(&mut read)).await.expect("in time").unwrap(), 0);
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let mut left = length.saturating_sub(read.len() - body);
    let mut piece = vec![0; 64 * 1024];
    while left > 0 {
        let length = tokio::time::timeout(LIMIT, from.read(&mut piece)).await.expect("in time").unwrap();
        assert_ne!(length, 0, "{left} bytes are missing");
        left -= length;
    }
    String::from_utf8(read[..body].to_vec()).unwrap()
}

fn resident_kb(sidecar: &Sidecar) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_answers_while_it_reads_is_streamed_in_bounded_memory() {
    const LENGTH: usize = 50_000_000;
    let app = App::serve(|mut stream| async move {
        let mut head = Vec::new();
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            stream.read_buf(&mut head).await.unwrap();
        }
        let body = head.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").as_bytes()).await.unwrap();
        stream.write_all(&head[body..]).await.unwrap();
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    })
    .await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let before = resident_kb(&sidecar);
    let (mut from, to) = halves(&sidecar).await;
    let uploaded = upload(to, LENGTH);
    download(&mut from, LENGTH).await;
    uploaded.await.unwrap().unwrap();
    let grown = resident_kb(&sidecar) - before;
    assert!(grown < 16 * 1024, "memory grew by {grown} KB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_send_everything_before_it_reads_an_answer_that_came_early() {
    const LENGTH: usize = 24_000_000;
    let app = App::serve(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let (mut from, mut to) = stream.split();
        // Both at once, so that nobody waits for the app.
        let answer = async {
            to.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").as_bytes()).await.unwrap();
            let _ = to.write_all(&vec![b'x'; LENGTH]).await;
        };
        let mut sink = tokio::io::sink();
        let (_, _) = tokio::join!(answer, tokio::io::copy(&mut from, &mut sink));
    })
    .await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let (mut from, to) = halves(&sidecar).await;
    let uploaded = tokio::time::timeout(LIMIT, upload(to, LENGTH)).await.expect("the app takes the request");
    let _open = uploaded.unwrap().unwrap();
    download(&mut from, LENGTH).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_stops_reading_holds_the_client_back_and_is_504_in_the_end() {
    let app = App::serve(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        std::future::pending::<()>().await;
    })
    .await;
    let sidecar = Sidecar::start(app.address, "limits: { response_timeout: 1s }\nworkers: 1");
    let before = resident_kb(&sidecar);
    let (mut from, to) = halves(&sidecar).await;
    let uploaded = upload(to, 200_000_000);
    let head = download(&mut from, 1).await;
    assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
    let grown = resident_kb(&sidecar) - before;
    assert!(grown < 16 * 1024, "memory grew by {grown} KB");
    uploaded.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_answers_early_and_closes_is_heard() {
    let asked = Arc::new(AtomicUsize::new(0));
    let app = App::serve({
        let asked = asked.clone();
        move |mut stream| {
            let asked = asked.clone();
            async move {
                let _ = stream.read(&mut [0; 1024]).await;
                asked.fetch_add(1, Ordering::SeqCst);
                let answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!";
                stream.write_all(answer).await.unwrap();
                // What is unread makes this a reset.
            }
        }
    })
    .await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    for round in 1..=5 {
        let (mut from, to) = halves(&sidecar).await;
        let uploaded = upload(to, 20_000_000);
        let head = download(&mut from, 3).await;
        assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
        assert_eq!(asked.load(Ordering::SeqCst), round, "asked once");
        drop(from);
        uploaded.abort();
    }
    eventually(LIMIT, "nothing in flight", async || sidecar.metric("tidegate_in_flight", "").await == 0.0).await;
}

#[tokio::test]
async fn an_early_answer_ends_the_upload_and_its_connection() {
    let app = App::serve(|stream| async move {
        let mut script = Script::new(stream);
        script.request().await;
        script.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        script.request().await;
    })
    .await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
    assert_eq!(client.answer().await.unwrap().text(), "ok");
    assert_eq!(raw::get(sidecar.proxy(), "/").await.unwrap().text(), "ok");
    assert_eq!(app.accepted(), 2, "the rest of the first request would be taken for the second");
}

#[tokio::test]
async fn bytes_that_follow_the_switch_at_once_reach_the_client() {
    let app =
        scripted(&["HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nfirst words"]).await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 101);
    assert_eq!(client.take(11).await.unwrap(), b"first words");
}
