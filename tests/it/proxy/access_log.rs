//! The access log of a running sidecar: what a line says, which requests get one, and that nobody waits for its reader.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::passing::Script;
use crate::support::app::App;
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;

const LONG: Duration = Duration::from_secs(20);

/// A sidecar whose standard output is a file.
pub(super) struct Logging {
    pub(super) sidecar: Sidecar,
    directory: TempDir,
}

impl Logging {
    pub(super) fn start(upstream: SocketAddr, settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = File::create(directory.path().join("out")).unwrap();
        Self { sidecar: Sidecar::start_writing_to(file, upstream, settings), directory }
    }

    pub(super) fn text(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("out")).unwrap()
    }

    /// The lines, once there are so many.
    pub(super) async fn lines(&self, count: usize) -> Vec<Value> {
        eventually(LONG, "the lines are written", async || self.text().matches('\n').count() >= count).await;
        let lines: Vec<Value> = self
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect();
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }
}

#[tokio::test]
async fn a_request_gets_a_line_with_its_facts_and_no_secret() {
    let app = App::start().await;
    let logging = Logging::start(app.address, "access_log: { sample: 1 }");
    let listener = logging.sidecar.proxy().to_string();
    let mut client = Client::connect(logging.sidecar.proxy()).await.unwrap();
    client
        .send(
            "POST /echo?card=4111 HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\nUser-Agent: curl/8\r\n\
             Referer: https://ann:s3cret@shop.example/a?token=t0ken\r\nAuthorization: Bearer s3cret\r\nCookie: id=s3cret\r\n\
             X-Request-Id: r-1\r\n\r\nhello",
        )
        .await
        .unwrap();
    let answer = client.answer().await.unwrap();
    client.get("/none").await.unwrap();
    let lines = logging.lines(2).await;
    let line = &lines[0];
    for (field, expected) in [
        ("log", "access"),
        ("listener", listener.as_str()),
        ("client", "127.0.0.1"),
        ("method", "POST"),
        ("host", "shop.example"),
        ("path", "/echo"),
        ("protocol", "HTTP/1.1"),
        ("request_id", "r-1"),
        ("user_agent", "curl/8"),
        ("referer", "https://shop.example/a"),
    ] {
        assert_eq!(line[field], expected, "{field} of {line}");
    }
    assert_eq!((&line["status"], &line["request_bytes"]), (&200.into(), &5.into()));
    assert_eq!(line["bytes"].as_u64(), Some(answer.body.len() as u64));
    let millis = |field: &str| line[field].as_f64().unwrap_or_else(|| panic!("no {field} in {line}"));
    assert!(millis("upstream_connect_ms") > 0.0 && millis("duration_ms") >= millis("upstream_first_byte_ms"), "{line}");
    let time = humantime::parse_rfc3339(line["time"].as_str().unwrap()).unwrap();
    assert!(time.elapsed().unwrap() < Duration::from_secs(60), "{line}");
    assert_eq!(lines[1]["status"], 404);
    assert_eq!(lines[1]["request_id"].as_str().map(str::len), Some(32), "the one that the app was given");
    let text = logging.text();
    assert!(!["s3cret", "t0ken", "4111"].iter().any(|secret| text.contains(secret)), "{text}");
}

#[tokio::test]
async fn without_being_asked_for_there_is_no_log() {
    let app = App::start().await;
    for settings in ["", "access_log: {}", "access_log: { errors: always, query: keep }"] {
        let logging = Logging::start(app.address, settings);
        raw::get(logging.sidecar.proxy(), "/").await.unwrap();
        let threads = std::fs::read_dir(format!("/proc/{}/task", logging.sidecar.pid())).unwrap();
        let names: Vec<String> =
            threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap()).collect();
        assert!(!names.iter().any(|name| name.contains("access")), "{names:?}");
        assert_eq!(logging.sidecar.metric("tidegate_access_log_lines_total", "").await, 0.0);
        assert_eq!(logging.text(), "");
    }
}

#[tokio::test]
async fn failures_get_a_line_whatever_the_sample_and_say_why() {
    let app = App::serve(|stream| async move {
        let mut script = Script::new(stream);
        match script.path().await.as_str() {
            "/broken" => script.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await,
            "/nonsense" => script.send("SMTP\r\n\r\n").await,
            "/500" => script.send("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await,
            "/ok" => script.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await,
            "/endless" => {
                script.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
                script.request().await;
            }
            _ => _ = script.request().await,
        }
    })
    .await;
    let logging = Logging::start(app.address, "access_log: { sample: 0 }");
    let address = logging.sidecar.proxy();
    let mut seen = 0;
    for (path, status, error) in [
        ("/ok", None, None),
        ("/broken", Some(200), Some("connection_terminated")),
        ("/nonsense", Some(502), Some("http_protocol_error")),
        ("/500", Some(500), None),
    ] {
        let answered = raw::get(address, path).await;
        let Some(status) = status else {
            assert_eq!(answered.unwrap().status, 200);
            continue;
        };
        seen += 1;
        let lines = logging.lines(seen).await;
        assert_eq!(
            (lines[seen - 1]["status"].as_u64(), lines[seen - 1]["error"].as_str()),
            (Some(status), error),
            "{path}"
        );
    }
    // Clients that leave: before the answer, and in its middle.
    let mut client = Client::connect(address).await.unwrap();
    client.send("GET /never HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    let in_flight = async || logging.sidecar.metric("tidegate_in_flight", "kind=\"request\"").await;
    eventually(LONG, "under way", async || in_flight().await == 1.0).await;
    drop(client);
    let lines = logging.lines(4).await;
    assert_eq!((lines[3]["status"].as_u64(), lines[3]["error"].as_str()), (Some(499), Some("client_left")));
    let mut client = Client::connect(address).await.unwrap();
    client.send("GET /endless HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    client.head().await.unwrap();
    drop(client);
    let lines = logging.lines(5).await;
    assert_eq!((lines[4]["status"].as_u64(), lines[4]["error"].as_str()), (Some(200), Some("client_left")));
}

#[tokio::test]
async fn failures_are_sampled_too_if_asked() {
    let logging = Logging::start(
        ([127, 0, 0, 1], 1).into(),
        "access_log: { sample: 0, errors: sampled }\nhold: { max_requests: 0 }",
    );
    assert_eq!(raw::get(logging.sidecar.proxy(), "/").await.unwrap().status, 502);
    assert_eq!(logging.sidecar.metric("tidegate_access_log_lines_total", "").await, 0.0);
}

#[tokio::test]
async fn a_sample_is_a_part_of_all() {
    let app = App::start().await;
    let logging = Logging::start(app.address, "access_log: { sample: 0.2 }");
    let mut client = Client::connect(logging.sidecar.proxy()).await.unwrap();
    for _ in 0..1000 {
        client.get("/").await.unwrap();
    }
    let logged = async || logging.sidecar.metric("tidegate_access_log_lines_total", "result=\"written\"").await;
    eventually(LONG, "some are logged", async || logged().await >= 100.0).await;
    // Five standard deviations: once in a few million runs it is not.
    assert!((137.0..=263.0).contains(&logged().await), "{} of 1000", logged().await);
}

#[tokio::test]
async fn what_clients_send_never_breaks_a_line() {
    let app = App::start().await;
    let logging = Logging::start(app.address, "access_log: { sample: 1, query: keep }");
    let mut client = Client::connect(logging.sidecar.proxy()).await.unwrap();
    let mut request =
        b"GET /a\"b%0d%0a?q={status:200} HTTP/1.1\r\nHost: t\r\nUser-Agent: x\" , \"status\":1 \xff\xc3\x28\x85\r\n"
            .to_vec();
    request.extend_from_slice(b"Referer: http://e/\\\"\xe2\x80\xa8\tend\r\n\r\n");
    client.send(&request).await.unwrap();
    let status = client.answer().await.unwrap().status;
    assert_eq!(status, 404, "it got through to the app");
    let lines = logging.lines(1).await;
    assert_eq!(lines[0]["status"], status);
    assert_eq!(lines[0]["path"], "/a\"b%0d%0a?q={status:200}");
    assert_eq!(lines[0]["user_agent"], "x\" , \"status\":1 \u{fffd}\u{fffd}(\u{fffd}");
    assert_eq!(lines[0]["referer"], "http://e/\\\"\u{2028}\tend");
    assert!(!logging.text().trim_end().contains(char::is_control), "{:?}", logging.text());
}

#[tokio::test]
async fn a_reader_that_is_stuck_costs_lines_and_no_request() {
    let app = App::start().await;
    let (mut reader, writer) = std::io::pipe().unwrap();
    let sidecar = Sidecar::start_writing_to(writer, app.address, "access_log: { sample: 1 }");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    let lost = async || sidecar.metric("tidegate_access_log_lines_total", "result=\"lost\"").await;
    let agent = "a".repeat(256);
    let request = format!("GET / HTTP/1.1\r\nHost: t\r\nUser-Agent: {agent}\r\n\r\n").repeat(50);
    for _ in 0..200 {
        client.send(&request).await.unwrap();
        for _ in 0..50 {
            assert_eq!(client.answer().await.unwrap().status, 200);
        }
    }
    eventually(LONG, "lines are dropped", async || lost().await > 0.0).await;
    // Read again, the log goes on where it can, in whole lines.
    std::thread::spawn(move || {
        let mut text = String::new();
        drop(reader.read_to_string(&mut text));
        for line in text.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
        }
    });
    let before = lost().await;
    let written = async || sidecar.metric("tidegate_access_log_lines_total", "result=\"written\"").await;
    eventually(LONG, "what waited is written", async || written().await + before >= 10_000.0).await;
    client.get("/").await.unwrap();
    eventually(LONG, "and what comes", async || written().await + before >= 10_001.0).await;
    sidecar.logs("lines were dropped: their reader is too slow").await;
}

#[tokio::test]
async fn an_output_that_takes_nothing_is_told_once_and_costs_no_request() {
    let app = App::start().await;
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for sidecar in [
        Sidecar::start_writing_to(closed, app.address, "access_log: { sample: 1 }"),
        Sidecar::start_writing_to(full, app.address, "access_log: { sample: 1 }"),
    ] {
        let mut client = Client::connect(sidecar.proxy()).await.unwrap();
        for _ in 0..20 {
            assert_eq!(client.get("/").await.unwrap().status, 200);
        }
        let lost = async || sidecar.metric("tidegate_access_log_lines_total", "result=\"lost\"").await;
        eventually(LONG, "all are counted as lost", async || lost().await == 20.0).await;
        assert_eq!(sidecar.logs("lines cannot be written, and are lost").await, 1);
    }
}

#[tokio::test]
async fn the_last_lines_are_written_before_the_process_ends() {
    let app = App::start().await;
    let mut logging = Logging::start(app.address, "access_log: { sample: 1 }");
    let mut client = Client::connect(logging.sidecar.proxy()).await.unwrap();
    for _ in 0..100 {
        client.get("/").await.unwrap();
    }
    drop(client);
    logging.sidecar.signal("TERM");
    assert!(logging.sidecar.ended(LONG).await.success());
    assert_eq!(logging.text().lines().count(), 100);
}

#[tokio::test]
async fn a_request_that_was_held_says_for_how_long() {
    let port = Port::reserve();
    let logging = Logging::start(port.address(), "access_log: { sample: 1 }");
    let mut client = Client::connect(logging.sidecar.proxy()).await.unwrap();
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    let held = async || logging.sidecar.metric("tidegate_hold_requests", "").await;
    eventually(LONG, "the request is held", async || held().await == 1.0).await;
    let _app = App::on(port.address()).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
    let line = logging.lines(1).await.remove(0);
    let millis = |field: &str| line[field].as_f64().unwrap_or_else(|| panic!("no {field} in {line}"));
    assert!(millis("held_ms") > 0.0, "{line}");
    assert!(millis("held_ms") + millis("upstream_first_byte_ms") <= millis("duration_ms") + 0.01, "{line}");
}

#[tokio::test]
async fn what_is_refused_before_it_is_a_request_gets_a_line_with_the_reason() {
    let app = App::start().await;
    let settings = "access_log: { sample: 1 }\nlimits: { header_bytes: 8KiB, target_bytes: 1KiB, header_timeout: 1s }";
    let logging = Logging::start(app.address, settings);
    let long = format!("/{}", "x".repeat(1200));
    let mut seen = 0;
    for (bytes, status, method, path, reason) in [
        (
            "GET /a?token=s3cret HTTP/1.1\r\nHost : t\r\n\r\n".to_owned(),
            400,
            Some("GET"),
            Some("/a"),
            "the request is malformed",
        ),
        (
            "POST http://ann:s3cret@h/b?c HTTP/1.0\r\nHost: h\r\nContent-Length: x\r\n\r\n".to_owned(),
            400,
            Some("POST"),
            Some("/b"),
            "the length of the request's body is ambiguous",
        ),
        (
            format!("GET {long} HTTP/1.1\r\nHost: t\r\n\r\n"),
            414,
            Some("GET"),
            Some(long.as_str()),
            "the request target is too long",
        ),
        (
            format!("GET /c HTTP/1.1\r\nA: {}", "x".repeat(9000)),
            431,
            Some("GET"),
            Some("/c"),
            "the request header fields are too large",
        ),
        (
            "GET /d HTTP/3.0\r\n\r\n".to_owned(),
            505,
            Some("GET"),
            Some("/d"),
            "the request line does not end with a version that is served here, HTTP/1.0 or HTTP/1.1",
        ),
        ("\x16\x03\x01\x02\0\x01 s3cret\r\n\r\n".to_owned(), 400, None, None, "the request is malformed"),
        (
            "GET /slow HTTP/1.1\r\nHost: s3cret".to_owned(),
            408,
            Some("GET"),
            Some("/slow"),
            "the request's head did not arrive in time",
        ),
    ] {
        let mut client = Client::connect(logging.sidecar.proxy()).await.unwrap();
        client.send(&bytes).await.unwrap();
        let answer = client.answer().await.unwrap();
        assert_eq!(answer.status, status, "{bytes}");
        seen += 1;
        let line = logging.lines(seen).await.remove(seen - 1);
        let text = |field: &str| line[field].as_str();
        assert_eq!((line["status"].as_u64(), text("reason")), (Some(status.into()), Some(reason)), "{bytes}");
        assert_eq!((text("method"), text("path")), (method, path), "{bytes}");
        assert_eq!((text("error"), text("client")), (Some("http_request_error"), Some("127.0.0.1")), "{bytes}");
        assert_eq!(line["bytes"].as_u64(), Some(answer.body.len() as u64), "{bytes}");
        assert!(status != 408 || line["duration_ms"].as_f64().unwrap() >= 900.0, "{line}");
    }
    let client = crate::support::h2::Client::connect(logging.sidecar.proxy()).await;
    assert_eq!(client.get(&format!("{long}?token=s3cret")).await.unwrap().status(), 414);
    let line = logging.lines(seen + 1).await.remove(seen);
    let text = |field: &str| line[field].as_str();
    assert_eq!((text("protocol"), text("path")), (Some("HTTP/2"), Some(&*long)), "{line}");
    assert_eq!(
        (line["status"].as_u64(), text("reason")),
        (Some(414), Some("the request target is too long")),
        "{line}"
    );
    assert!(!logging.text().contains("s3cret"), "{}", logging.text());
}

#[tokio::test]
async fn a_tunnel_says_how_much_went_each_way_and_who_ended_it() {
    let app = App::serve(|mut stream| async move {
        let mut read = [0; 4096];
        let _ = stream.read(&mut read).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
            .await
            .unwrap();
        let mut ten = [0; 10];
        stream.read_exact(&mut ten).await.unwrap();
        stream.write_all(&[b'x'; 3000]).await.unwrap();
        while stream.read(&mut read).await.is_ok_and(|length| length > 0) {}
    })
    .await;
    let logging = Logging::start(app.address, "access_log: { sample: 1 }");
    let mut stream = tokio::net::TcpStream::connect(logging.sidecar.proxy()).await.unwrap();
    let asked = "GET /t HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(b"0123456789").await.unwrap();
    stream.read_exact(&mut [0; 3000]).await.unwrap();
    drop(stream);
    let line = logging.lines(1).await.remove(0);
    assert_eq!((line["status"].as_u64(), line["path"].as_str()), (Some(101), Some("/t")), "{line}");
    assert_eq!((line["tunnel_bytes_in"].as_u64(), line["tunnel_bytes_out"].as_u64()), (Some(10), Some(3000)), "{line}");
    assert_eq!((line["tunnel_ended_by"].as_str(), line["bytes"].as_u64()), (Some("client"), Some(0)), "{line}");
}
