//! What passes through, and how.

use std::time::Duration;

use crate::support::app::App;
use crate::support::eventually;
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;

#[tokio::test]
async fn requests_pass_on_kept_connections_both_ways() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    for _ in 0..20 {
        let answer = client.get("/").await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello\n"));
        assert!(!answer.closes());
    }
    assert_eq!(app.accepted(), 1, "one connection to the app carries them all");
    // The last is counted when its answer is on its way, which may be after the client has it.
    let counted = async || sidecar.metric("tidegate_proxy_requests_total", "2xx").await == 20.0;
    eventually(Duration::from_secs(20), "all are counted", counted).await;
    assert_eq!(sidecar.metric("tidegate_proxy_request_duration_seconds_count", "").await, 20.0);
}

#[tokio::test]
async fn bodies_stream_both_ways_whatever_their_framing() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();

    let told = client.post("/echo", &"a".repeat(3_000_000)).await.unwrap().json();
    assert_eq!((told["length"].as_u64(), told["sum"].as_u64()), (Some(3_000_000), Some(3_000_000 * 97)));

    client
        .send("POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(client.answer().await.unwrap().json()["length"], 11);

    client
        .send("GET /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nget\r\n0\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(client.answer().await.unwrap().json()["length"], 3, "a GET may have a body");

    let answer = client.get("/size?n=5000000").await.unwrap();
    assert_eq!(answer.body.len(), 5_000_000);
}

#[tokio::test]
async fn the_app_is_told_of_this_hop_and_not_of_the_connection() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client
        .send(
            "GET http://shop.example/echo?q=1 HTTP/1.1\r\nHost: other\r\nX-Forwarded-For: 203.0.113.9\r\n\
             Connection: keep-alive, x-secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n\r\n",
        )
        .await
        .unwrap();
    let told = client.answer().await.unwrap().json();
    assert_eq!(told["target"], "/echo?q=1");
    let value = |name: &str| {
        let fields = told["headers"].as_array().unwrap();
        fields.iter().find(|field| field[0] == name).map(|field| field[1].as_str().unwrap().to_owned())
    };
    assert_eq!(value("host").as_deref(), Some("shop.example"));
    assert_eq!(value("x-forwarded-for").as_deref(), Some("203.0.113.9, 127.0.0.1"));
    assert_eq!(value("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(value("x-request-id").map(|id| id.len()), Some(32));
    assert_eq!((value("x-secret"), value("keep-alive"), value("connection")), (None, None, None));
}

#[tokio::test]
async fn an_untrusted_clients_tale_can_be_replaced() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "forwarded: replace");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET /echo HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n").await.unwrap();
    let told = client.answer().await.unwrap().text();
    assert!(told.contains("127.0.0.1") && !told.contains("6.6.6.6"), "{told}");
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection() {
    let app = App::serve(|stream| async move {
        let mut client = Script::new(stream);
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 10\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ] {
            client.request().await;
            client.send(answer).await;
        }
        client.request().await;
    })
    .await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("HEAD /big HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    let head = client.head().await.unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("5000")));
    let not_modified = client.get("/").await.unwrap();
    assert_eq!((not_modified.status, not_modified.header("etag")), (304, Some("\"1\"")));
    assert_eq!(client.get("/").await.unwrap().status, 204);
    assert_eq!(client.get("/").await.unwrap().text(), "ok");
    assert_eq!(app.accepted(), 1);
}

#[tokio::test]
async fn http_1_0_clients_are_served_and_closed() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let answer = String::from_utf8(client.rest().await.unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 OK") && answer.ends_with("\r\n\r\nhello\n"), "{answer}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n");
    client.send([request("/slow?ms=100"), request("/"), request("/size?n=3")].concat()).await.unwrap();
    assert_eq!(client.answer().await.unwrap().text(), "slow\n");
    assert_eq!(client.answer().await.unwrap().text(), "hello\n");
    assert_eq!(client.answer().await.unwrap().text(), "xxx");
}

#[tokio::test]
async fn an_answer_does_not_wait_for_those_of_the_requests_behind_it() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n");
    client.send([request("/"), request("/slow?ms=3000000"), request("/")].concat()).await.unwrap();
    assert_eq!(client.answer().await.unwrap().text(), "hello\n");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send([request("/size?n=5000000"), request("/"), request("/")].concat()).await.unwrap();
    assert_eq!(client.answer().await.unwrap().body.len(), 5_000_000, "larger than what is buffered");
    assert_eq!(client.answer().await.unwrap().text(), "hello\n");
}

#[tokio::test]
async fn a_client_that_expects_100_gets_it_before_it_sends() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n").await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 100);
    client.send("body").await.unwrap();
    assert_eq!(client.answer().await.unwrap().json()["length"], 4);
}

#[tokio::test]
async fn an_upgraded_connection_is_a_tunnel_until_it_ends() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { idle_timeout: 1s, send_timeout: 1s }");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send("GET /upgrade HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly").await.unwrap();
    let answer = client.head().await.unwrap();
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("echo")));
    assert_eq!(client.take(5).await.unwrap(), b"early", "bytes sent before the switch are not lost");
    assert_eq!(sidecar.metric("tidegate_in_flight", "kind=\"tunnel\"").await, 1.0);
    // Longer than every limit on requests: none applies to a tunnel.
    tokio::time::sleep(Duration::from_millis(2_000)).await;
    client.send("late").await.unwrap();
    assert_eq!(client.take(4).await.unwrap(), b"late");
    client.finish().await.unwrap();
    assert_eq!(client.rest().await.unwrap(), b"", "the app's end of the tunnel closes in turn");
    eventually(Duration::from_secs(5), "the tunnel leaves the ledger", async || {
        sidecar.metric("tidegate_in_flight", "kind=\"tunnel\"").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_unix_socket_and_a_second_route_are_served_by_the_same_process() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let mut app = tokio::task::JoinSet::new();
    app.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
    });
    let other = App::start().await;
    let sidecar = Sidecar::start_with(&format!(
        "proxy:\n- {{ listen: '127.0.0.1:0', upstream: 'unix:{}' }}\n- {{ listen: '127.0.0.1:0', upstream: 'http://{}' }}",
        path.display(),
        other.address
    ));
    assert_eq!(raw::get(sidecar.proxy[0], "/").await.unwrap().text(), "unix");
    assert_eq!(raw::get(sidecar.proxy[1], "/").await.unwrap().text(), "hello\n");
}

#[tokio::test]
async fn new_connections_are_shared_between_the_workers() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 2");
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(sidecar.proxy()).await.unwrap();
        assert_eq!(client.get("/").await.unwrap().status, 200);
        clients.push(client);
    }
    let mut pending = Vec::new();
    for client in &mut clients {
        pending.push(client.get("/slow?ms=200"));
    }
    for answer in futures_util::future::join_all(pending).await {
        assert_eq!(answer.unwrap().text(), "slow\n");
    }
    assert_eq!(sidecar.metric("tidegate_in_flight", "kind=\"connection\"").await, 20.0);
}

/// The app's side of a scripted connection.
pub(super) struct Script {
    stream: tokio::net::TcpStream,
    read: Vec<u8>,
}

impl Script {
    pub(super) fn new(stream: tokio::net::TcpStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// Reads the head of a request; false when the other side has closed.
    pub(super) async fn request(&mut self) -> bool {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                self.read.drain(..end + 4);
                return true;
            }
            let mut chunk = [0; 4096];
            match tokio::io::AsyncReadExt::read(&mut self.stream, &mut chunk).await {
                Ok(0) | Err(_) => return false,
                Ok(length) => self.read.extend_from_slice(&chunk[..length]),
            }
        }
    }

    /// Reads the head of a request and tells its target.
    pub(super) async fn path(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().to_owned();
            }
            assert_ne!(tokio::io::AsyncReadExt::read_buf(&mut self.stream, &mut self.read).await.unwrap(), 0);
        }
    }

    pub(super) async fn send(&mut self, bytes: &str) {
        let _ = tokio::io::AsyncWriteExt::write_all(&mut self.stream, bytes.as_bytes()).await;
    }
}
