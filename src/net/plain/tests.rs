//! Nobody can tell from the bytes whether a plain request was answered here or by hyper.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

use super::*;
use crate::net::connection::{self, Head};

static FIELDS: [(HeaderName, HeaderValue); 1] = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];

fn answer(target: &str) -> Answer {
    let (status, body) = match target {
        "/readyz" => (StatusCode::OK, "ready\n"),
        "/healthz" => (StatusCode::SERVICE_UNAVAILABLE, "stuck\n"),
        _ => (StatusCode::NOT_FOUND, "no such path\n"),
    };
    Answer { status, content_type: "text/plain", fields: &FIELDS, body: Bytes::from_static(body.as_bytes()) }
}

/// Answers the two paths, and counts.
fn plain() -> (Plain, Arc<AtomicUsize>) {
    let answered = Arc::new(AtomicUsize::new(0));
    let count = answered.clone();
    let plain = Plain::new(move |target| {
        let known = matches!(target, "/readyz" | "/healthz").then(|| answer(target))?;
        count.fetch_add(1, Relaxed);
        Some(known)
    });
    (plain, answered)
}

async fn serve(ours: DuplexStream, activity: Arc<Activity>, plain: Option<Plain>) {
    let mut socket = Socket::new(ours, activity.clone());
    if let Some(plain) = plain
        && plain.serve(&mut socket, &activity).await.expect("not broken") == Then::Ended
    {
        return;
    }
    let service = service_fn(async |request: Request<Incoming>| {
        let Answer { status, content_type, fields, body } = answer(request.uri().path());
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response.headers_mut().extend(fields.iter().cloned());
        Ok::<_, Infallible>(response)
    });
    let head = Head { bytes: 16 * 1024, fields: 100 };
    // What it says of bad requests is in its answers.
    drop(connection::serve_http1(socket, &activity, head, service).await);
}

/// What a client is told that sends these pieces and then nothing more.
async fn told(pieces: &[&[u8]], plain: Option<Plain>) -> String {
    let (ours, mut client) = duplex(64 * 1024);
    let client = async move {
        for piece in pieces {
            // One that was closed already may have been told something all the same.
            drop(client.write_all(piece).await);
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
        drop(client.shutdown().await);
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.expect("closed in order");
        String::from_utf8(answers).expect("text")
    };
    let ((), answers) = tokio::join!(serve(ours, Arc::new(Activity::new()), plain), client);
    let undated = |line: &str| if line.starts_with("date: ") { "date: D\r\n".to_owned() } else { line.to_owned() };
    answers.split_inclusive('\n').map(undated).collect()
}

/// How many requests were answered as plain ones.
async fn check(pieces: &[&[u8]], expected: usize) {
    let (plain, answered) = plain();
    let sent = || pieces.iter().map(|piece| String::from_utf8_lossy(piece)).collect::<Vec<_>>();
    assert_eq!(told(pieces, Some(plain)).await, told(pieces, None).await, "{:?}", sent());
    assert_eq!(answered.load(Relaxed), expected, "{:?}", sent());
}

#[tokio::test]
async fn a_plain_answer_is_these_bytes() {
    let (plain, _) = plain();
    let ready = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncache-control: no-store\r\ncontent-length: 6\r\n\
        date: D\r\n\r\nready\n";
    let stuck = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncache-control: no-store\r\n\
        connection: close\r\ncontent-length: 6\r\ndate: D\r\n\r\nstuck\n";
    let sent: [&[u8]; 2] =
        [b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: Close\r\n\r\n"];
    assert_eq!(told(&sent, Some(plain)).await, [ready, stuck].concat());
}

#[tokio::test]
async fn a_client_cannot_tell_who_answers() {
    const ASKED: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n";
    check(&[ASKED], 1).await;
    check(&[ASKED, ASKED, ASKED], 3).await;
    // As the kubelet asks.
    let kubelet = b"GET /healthz HTTP/1.1\r\nHost: 10.0.0.1:8014\r\nUser-Agent: kube-probe/1.33\r\nAccept: */*\r\n\
        Connection: close\r\n\r\n";
    check(&[kubelet], 1).await;
    check(&[kubelet, ASKED], 1).await;
    check(&[b"GET /readyz HTTP/1.1\r\nHost: a\r\nCONNECTION: Keep-Alive\r\n\r\n", ASKED], 2).await;
    check(&[b"\r\nGET /readyz HTTP/1.1\nHost: a\n\n"], 1).await;
    // What is not plain, and all that follows on its connection.
    check(&[ASKED, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", ASKED], 1).await;
    check(&[b"POST /readyz HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab", ASKED], 0).await;
    check(&[b"HEAD /readyz HTTP/1.1\r\nHost: a\r\n\r\n"], 0).await;
    check(&[b"GET /readyz HTTP/1.0\r\n\r\n"], 0).await;
    check(&[b"GET /readyz?verbose HTTP/1.1\r\nHost: a\r\n\r\n"], 0).await;
    check(&[b"GET http://a/readyz HTTP/1.1\r\nHost: a\r\n\r\n"], 0).await;
    check(&[&ASKED.repeat(2)], 0).await;
    check(&[&ASKED[..9], &ASKED[9..], ASKED], 0).await;
    check(&[ASKED, &ASKED[..9]], 1).await;
    for field in [
        "Content-Length: 0",
        "content-length: 3\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n0",
        "Expect: 100-continue",
        "Connection: Upgrade\r\nUpgrade: websocket",
        "Upgrade: h2c",
        "Connection: close, te",
        "Connection: close\r\nConnection: keep-alive, x",
    ] {
        check(&[format!("GET /readyz HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n").as_bytes(), ASKED], 0).await;
    }
    check(&[b"GET /readyz HTTP/1.1\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n", ASKED], 1).await;
    for (count, expected) in [(FIELDS_OF_HEAD, 1), (FIELDS_OF_HEAD + 1, 0), (101, 0)] {
        let head = format!("GET /readyz HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        check(&[head.as_bytes()], expected).await;
    }
    for length in [HEAD, 20_000] {
        check(&[format!("GET /readyz HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(length)).as_bytes()], 0).await;
    }
    // Garbage.
    check(&[b"GET  /readyz HTTP/1.1\r\n\r\n"], 0).await;
    check(&[b"GET /readyz HTTP/1.1\r\nHost : a\r\n\r\n"], 0).await;
    check(&[b"GET /readyz HTTP/1.1\r\nHost: a\r\n b\r\n\r\n"], 0).await;
    check(&[b"\x16\x03\x01\x02\x00\x01"], 0).await;
    check(&[b""], 0).await;
}

/// The module's bound; the tests' own `FIELDS` stands before it here.
const FIELDS_OF_HEAD: usize = super::FIELDS;

proptest! {
    #[test]
    fn nor_can_one_that_sends_anything_else(
        heads in prop::collection::vec(
            (
                prop::sample::select(vec!["GET", "HEAD", "get", "POST"]),
                prop::sample::select(vec!["/readyz", "/healthz", "/metrics", "/readyz#a", "*"]),
                prop::sample::select(vec!["HTTP/1.1", "HTTP/1.0", "HTTP/2.0"]),
                prop::collection::vec(prop::sample::select(vec![
                    "Host: a", "host:", "Accept: */*", "Connection: close", "connection: keep-alive", "Connection:",
                    "Expect: 100-continue", "Upgrade: x", "Content-Length: 0", "Content-Length: x", "a\tb: c", ": c", "a",
                ]), 0..4),
                prop::sample::select(vec!["\r\n", "\n"]),
            ),
            1..4,
        ),
        at in any::<prop::sample::Index>(),
        byte in prop::option::of(any::<u8>()),
    ) {
        let mut sent: Vec<Vec<u8>> = heads
            .iter()
            .map(|(method, target, version, fields, end)| {
                let fields: String = fields.iter().map(|field| format!("{field}{end}")).collect();
                format!("{method} {target} {version}{end}{fields}{end}").into_bytes()
            })
            .collect();
        if let Some(byte) = byte {
            let at = at.index(sent[0].len());
            sent[0][at] = byte;
        }
        let pieces: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let with = told(&pieces, Some(plain().0)).await;
            prop_assert_eq!(with, told(&pieces, None).await);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_when_the_sweeper_says_so() {
    let (ours, mut client) = duplex(64);
    let activity = Arc::new(Activity::new());
    let serving = serve(ours, activity.clone(), Some(plain().0));
    let sweeping = async {
        client.write_all(b"GET /readyz HTTP/1.1\r\n\r\n").await.expect("room for it");
        while activity.write_since().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(activity.stage(), crate::net::activity::Stage::Answering);
        activity.give(Order::Cut);
    };
    tokio::join!(serving, sweeping);
    let mut part = Vec::new();
    client.read_to_end(&mut part).await.expect("closed");
    assert_eq!(part.len(), 64, "the rest is not sent");
}

#[tokio::test]
async fn a_connection_at_rest_is_closed_when_its_place_is_needed() {
    let (ours, mut client) = duplex(1024);
    let activity = Arc::new(Activity::new());
    let serving = serve(ours, activity.clone(), Some(plain().0));
    let asking = async {
        client.write_all(b"GET /readyz HTTP/1.1\r\n\r\n").await.expect("room for it");
        let mut answer = vec![0; 1024];
        let read = client.read(&mut answer).await.expect("an answer");
        assert!(answer[..read].ends_with(b"ready\n"));
        assert_eq!((activity.stage(), activity.is_used()), (crate::net::activity::Stage::Idle, true));
        assert_eq!(activity.head_since(), None);
        activity.give(Order::Close);
        assert_eq!(client.read(&mut answer).await.expect("no reset"), 0);
        drop(client);
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn a_request_that_meets_the_order_to_close_is_answered_and_told() {
    let activity = Arc::new(Activity::new());
    activity.give(Order::Close);
    let (ours, mut client) = duplex(1024);
    client.write_all(b"GET /readyz HTTP/1.1\r\n\r\n").await.expect("room for it");
    let reading = async {
        client.shutdown().await.expect("closed");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("closed");
        assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("ready\n"), "{answer}");
    };
    tokio::join!(serve(ours, activity, Some(plain().0)), reading);
}
