//! HTTP servers that answer, refuse, close, babble and hang.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::readiness::settings::{self, Check, Kind};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{PATIENCE, check, watch};
use crate::support::chaos::{Chaos, Upstream};
use crate::support::eventually;

const READY: (u16, &str) = (200, r#"{"status":"ready","checks":{"app":"ok"}}"#);

/// A server that answers every request with the bytes it was last told and remembers the last request.
struct Server {
    chaos: Chaos,
    answer: Arc<Mutex<(Vec<u8>, Then)>>,
    request: Arc<Mutex<String>>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Clone, Copy)]
enum Then {
    Keep,
    Close,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let chaos = Chaos::to(Upstream::Tcp(listener.local_addr().unwrap()));
        let ok = (b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), Then::Keep);
        let answer = Arc::new(Mutex::new(ok));
        let request = Arc::new(Mutex::new(String::new()));
        let mut tasks = JoinSet::new();
        let (answers, requests) = (answer.clone(), request.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, answers.clone(), requests.clone()));
            }
        });
        Self { chaos, answer, request, _tasks: tasks }
    }

    fn answers(&self, bytes: impl AsRef<[u8]>, then: Then) {
        *self.answer.lock().unwrap() = (bytes.as_ref().to_vec(), then);
    }

    fn check(&self) -> Check {
        let url = format!("http://{}/healthz?full=1", self.chaos.address());
        check("app", Kind::Http(settings::Http::new(url)))
    }
}

async fn serve(stream: TcpStream, answer: Arc<Mutex<(Vec<u8>, Then)>>, request: Arc<Mutex<String>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.is_ok_and(|length| length > 0) {
                continue;
            }
            return;
        }
        *request.lock().unwrap() = head;
        let (bytes, then) = answer.lock().unwrap().clone();
        if stream.write_all(&bytes).await.is_err() || matches!(then, Then::Close) {
            return;
        }
    }
}

fn failed(reason: &str) -> String {
    format!(r#"{{"status":"not ready","error":"app: {reason}","checks":{{"app":"failed"}}}}"#)
}

#[tokio::test]
async fn the_request_is_plain_and_one_connection_carries_many() {
    let server = Server::start().await;
    let watched = watch([server.check()]);
    watched.attempts_more("app", "ok", 20).await;
    assert_eq!((server.chaos.accepted(), server.chaos.open()), (1, 1));
    let version = env!("CARGO_PKG_VERSION");
    let address = server.chaos.address();
    assert_eq!(
        *server.request.lock().unwrap(),
        format!(
            "GET /healthz?full=1 HTTP/1.1\r\nhost: {address}\r\nuser-agent: tidegate/{version}\r\naccept: */*\r\n\r\n"
        )
    );
    let other = Check {
        kind: Kind::Http(settings::Http {
            host: Some("example.org".to_owned()),
            status: vec![(204, 204)],
            ..settings::Http::new(format!("http://{address}/"))
        }),
        ..server.check()
    };
    let watched = watch([other]);
    watched.says(READY).await;
    eventually(PATIENCE, "the Host field is the one configured", async || {
        server.request.lock().unwrap().contains("host: example.org\r\n")
    })
    .await;
}

#[tokio::test]
async fn statuses_outside_the_range_fail_and_redirects_pass() {
    let server = Server::start().await;
    let mut watched = watch([server.check()]);
    watched.says(READY).await;
    for status in ["400 Bad Request", "503 Service Unavailable", "199 Odd"] {
        server.answers(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nno"), Then::Keep);
        if status.starts_with('1') {
            // An interim answer (RFC 9110 §15.2) is not the answer, which never comes.
            let impatient = Check { timeout: Duration::from_millis(300), ..server.check() };
            watched = watch([impatient]);
            eventually(PATIENCE, "not ready", async || watched.readyz().0 == 503).await;
            continue;
        }
        watched.says((503, &failed(&format!("status {}, expected 200 to 399", &status[..3])))).await;
        server.answers("HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n", Then::Keep);
        watched.says(READY).await;
    }
}

#[tokio::test]
async fn a_single_status_that_is_expected_is_said_alone() {
    let server = Server::start().await;
    let mut created = server.check();
    if let Kind::Http(http) = &mut created.kind {
        http.status = vec![(201, 201)];
    }
    let watched = watch([created]);
    watched.says((503, &failed("status 204, expected 201"))).await;
}

#[tokio::test]
async fn a_server_that_closes_after_each_answer_passes() {
    let server = Server::start().await;
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        // Without saying so: the client finds the connection closed when it asks again.
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\n\r\nuntil the end",
        chunked,
    ] {
        server.answers(answer, Then::Close);
        let watched = watch([server.check()]);
        watched.attempts_more("app", "ok", 10).await;
        assert_eq!(watched.attempts("app", "failed"), 0, "{answer}");
    }
}

#[tokio::test]
async fn a_long_body_is_not_read_to_its_end_and_costs_the_connection() {
    let server = Server::start().await;
    let body = "x".repeat(1_000_000);
    server.answers(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()), Then::Keep);
    let watched = watch([server.check()]);
    watched.attempts_more("app", "ok", 5).await;
    assert_eq!(watched.attempts("app", "failed"), 0);
    assert!(server.chaos.accepted() >= 5);
    eventually(PATIENCE, "past connections are closed", async || server.chaos.open() <= 1).await;
}

#[tokio::test]
async fn what_is_not_http_or_ends_early_or_never_comes_fails() {
    let server = Server::start().await;
    let impatient = Check { timeout: Duration::from_millis(300), ..server.check() };
    let watched = watch([impatient]);
    for (answer, then, reason) in [
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", Then::Keep, "the answer is not HTTP"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok", Then::Close, "connection closed by the other side"),
        ("", Then::Close, "connection closed by the other side"),
        ("", Then::Keep, "timeout after 300ms"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok", Then::Keep, "timeout after 300ms"),
    ] {
        server.answers(answer, then);
        watched.says((503, &failed(reason))).await;
        server.answers("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Then::Keep);
        watched.says(READY).await;
    }
    server.chaos.refuse();
    watched.says((503, &failed("connection refused"))).await;
    server.chaos.reset();
    eventually(PATIENCE, "a reset is named", async || {
        let (_, body) = watched.readyz();
        body == failed("connection reset") || body == failed("connection closed by the other side")
    })
    .await;
    server.chaos.restore();
    watched.says(READY).await;
}
