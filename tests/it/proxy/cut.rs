//! What the sidecar ends itself: told as its own doing, in lines, spans and counts, and not blamed on the client.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::access_log::Logging;
use super::passing::Script;
use super::tracing::spans;
use crate::support::app::App;
use crate::support::collector::Collector;
use crate::support::eventually;
use crate::support::h2::{self, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Wire};
use crate::support::raw::Client;

const LONG: Duration = Duration::from_secs(20);

/// Answers nothing, half of an answer, or with a tunnel, and leaves it at that.
async fn app() -> App {
    App::serve(|stream| async move {
        let mut script = Script::new(stream);
        match script.path().await.as_str() {
            "/half" => script.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await,
            "/parts" => script.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await,
            "/tunnel" => {
                script.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
            }
            _ => {}
        }
        script.request().await;
    })
    .await
}

async fn asking(logging: &Logging, path: &str) -> Client {
    let mut client = Client::connect(logging.sidecar.proxy()).await.unwrap();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")).await.unwrap();
    client
}

async fn under_way(logging: &Logging, kind: &str, count: f64) {
    let labels = format!("kind=\"{kind}\"");
    let there = async || logging.sidecar.metric("tidegate_in_flight", &labels).await == count;
    eventually(LONG, "under way", there).await;
}

/// `protocol path status error` of each, in the order of that text.
fn told(lines: &[Value]) -> Vec<String> {
    let text = |line: &Value, field: &str| line[field].to_string().replace('"', "");
    let told = |line| ["protocol", "path", "status", "error"].map(|field| text(line, field)).join(" ");
    let mut told: Vec<String> = lines.iter().map(told).collect();
    told.sort();
    told
}

async fn cut(logging: &Logging, by: &str) -> f64 {
    assert_eq!(logging.sidecar.metric("tidegate_proxy_abandoned_total", "").await, 0.0, "no client left");
    logging.sidecar.metric("tidegate_proxy_cut_total", &format!("by=\"{by}\"")).await
}

#[tokio::test]
async fn what_a_drains_deadline_ends_is_told_so_over_both_protocols_and_to_the_last_line() {
    let (app, collector) = (app().await, Collector::http().await);
    let mut logging = Logging::start(
        app.address,
        &format!(
            "access_log: {{ sample: 0 }}\ndrain: {{ delay: 0s, quiet: 100ms, deadline: 1s }}\n\
             tracing: {{ otlp: {{ endpoint: 'http://{}/base' }} }}",
            collector.address
        ),
    );
    logging.sidecar.ready().await;
    let mut wire = Wire::connect(logging.sidecar.proxy(), &[]).await;
    wire.send(HEADERS, END_HEADERS | END_STREAM, 1, h2::get("/never")).await;
    wire.send(HEADERS, END_HEADERS | END_STREAM, 3, h2::get("/half")).await;
    wire.until(HEADERS).await;
    let mut half = asking(&logging, "/half").await;
    half.head().await.unwrap();
    let mut never = asking(&logging, "/never").await;
    under_way(&logging, "request", 4.0).await;
    logging.sidecar.cli(&["drain"]);
    wire.until(RST_STREAM).await;
    eventually(LONG, "streams are cut at the deadline", async || cut(&logging, "drain_deadline").await == 2.0).await;
    let streams = ["HTTP/2 /half 200 drain_deadline", "HTTP/2 /never null drain_deadline"];
    assert_eq!(told(&logging.lines(2).await), streams);
    logging.sidecar.signal("TERM");
    assert_eq!(logging.sidecar.ended(LONG).await.code(), Some(1));
    assert!(never.answer().await.is_err() && half.rest().await.is_ok_and(|rest| rest.len() < 100));
    let connections = ["HTTP/1.1 /half 200 drain_deadline", "HTTP/1.1 /never null drain_deadline"];
    assert_eq!(told(&logging.lines(4).await), [connections, streams].concat());
    for span in spans(&collector, 4).await {
        assert_eq!(span.attribute("error.type").as_deref(), Some("drain_deadline"));
        assert_eq!(span.span.status.as_ref().unwrap().code, 2);
        let answered = span.attribute("url.path").as_deref() == Some("/half");
        assert_eq!(span.attribute("http.response.body.size").is_some(), answered, "{span:?}");
        assert_eq!(span.attribute("http.response.status_code").is_some(), answered, "{span:?}");
    }
}

#[tokio::test]
async fn what_a_second_signal_ends_is_told_too() {
    let (app, collector) = (app().await, Collector::http().await);
    let mut logging = Logging::start(
        app.address,
        &format!(
            "access_log: {{ sample: 1 }}\ndrain: {{ delay: 60s, deadline: 120s }}\n\
             tracing: {{ otlp: {{ endpoint: 'http://{}/base' }} }}",
            collector.address
        ),
    );
    logging.sidecar.ready().await;
    let _never = asking(&logging, "/never").await;
    let mut tunnel = asking(&logging, "/tunnel").await;
    assert_eq!(tunnel.head().await.unwrap().status, 101);
    let mut wire = Wire::connect(logging.sidecar.proxy(), &[]).await;
    wire.send(HEADERS, END_HEADERS | END_STREAM, 1, h2::get("/never")).await;
    under_way(&logging, "request", 2.0).await;
    under_way(&logging, "tunnel", 1.0).await;
    logging.sidecar.signal("TERM");
    let leaving = async || {
        logging.sidecar.log().iter().any(|line| line["fields"]["to"] == "lame_duck" || line["to"] == "lame_duck")
    };
    eventually(LONG, "the drain begins", leaving).await;
    logging.sidecar.signal("TERM");
    assert_eq!(logging.sidecar.ended(LONG).await.code(), Some(1));
    let lines = logging.lines(3).await;
    let expected = ["HTTP/1.1 /never null aborted", "HTTP/1.1 /tunnel 101 null", "HTTP/2 /never null aborted"];
    assert_eq!(told(&lines), expected);
    let tunnel = lines.iter().find(|line| line["status"] == 101).unwrap();
    assert_eq!(tunnel["tunnel_ended_by"], "deadline");
    for span in spans(&collector, 3).await {
        assert_eq!(span.attribute("http.response.body.size"), None, "{span:?}");
    }
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_cut_by_its_limit_once_its_answer_has_begun() {
    let app = app().await;
    let logging = Logging::start(app.address, "access_log: { sample: 0 }\nlimits: { request_timeout: 1s }");
    let mut half = asking(&logging, "/half").await;
    half.head().await.unwrap();
    let mut wire = Wire::connect(logging.sidecar.proxy(), &[]).await;
    wire.send(HEADERS, END_HEADERS | END_STREAM, 1, h2::get("/half")).await;
    wire.until(RST_STREAM).await;
    let lines = logging.lines(2).await;
    assert_eq!(told(&lines), ["HTTP/1.1 /half 200 request_timeout", "HTTP/2 /half 200 request_timeout"]);
    assert_eq!(cut(&logging, "request_timeout").await, 2.0);
}

#[tokio::test]
async fn an_answer_to_http_1_0_that_is_cut_does_not_look_whole() {
    let app = app().await;
    let logging = Logging::start(app.address, "access_log: { sample: 0 }\nlimits: { request_timeout: 1s }");
    let mut client = TcpStream::connect(logging.sidecar.proxy()).await.unwrap();
    client.write_all(b"GET /parts HTTP/1.0\r\nHost: t\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    let ended = tokio::time::timeout(LONG, client.read_to_end(&mut read)).await.unwrap();
    assert_eq!(ended.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
    assert!(read.ends_with(b"half"), "{}", read.escape_ascii());
    assert_eq!(told(&logging.lines(1).await), ["HTTP/1.0 /parts 200 request_timeout"]);
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_too_slow_and_has_not_left() {
    let app = App::start().await;
    let logging = Logging::start(app.address, "access_log: { sample: 0 }\nlimits: { send_timeout: 1s }");
    let _client = asking(&logging, "/size?n=50000000").await;
    let mut wire = Wire::connect(logging.sidecar.proxy(), &[]).await;
    wire.send(HEADERS, END_HEADERS | END_STREAM, 1, h2::get("/size?n=50000000")).await;
    let lines = logging.lines(2).await;
    assert_eq!(told(&lines), ["HTTP/1.1 /size 200 client_too_slow", "HTTP/2 /size 200 client_too_slow"]);
    assert_eq!(cut(&logging, "client_too_slow").await, 2.0);
}

#[tokio::test]
async fn a_call_of_grpc_that_gets_no_answer_of_the_app_has_failed() {
    let collector = Collector::http().await;
    let logging = Logging::start(
        ([127, 0, 0, 1], 1).into(),
        &format!(
            "access_log: {{ sample: 0 }}\nhold: {{ max_requests: 0 }}\n\
             tracing: {{ otlp: {{ endpoint: 'http://{}/base' }} }}",
            collector.address
        ),
    );
    let client = h2::Client::connect(logging.sidecar.proxy()).await;
    let call = h2::Client::request("POST", "/shop.Cart/Get").header("content-type", "application/grpc");
    let answer = client.ask(call.body(&b"\0\0\0\0\0"[..]).unwrap()).await.unwrap();
    assert_eq!((answer.status(), answer.header("grpc-status")), (200, Some("14")));
    assert_eq!(told(&logging.lines(1).await), ["HTTP/2 /shop.Cart/Get 200 connection_refused"]);
    let counted = async |class: &str| {
        logging.sidecar.metric("tidegate_proxy_requests_total", &format!("method=\"POST\",class=\"{class}\"")).await
    };
    assert_eq!((counted("2xx").await, counted("5xx").await), (0.0, 1.0));
    let span = spans(&collector, 1).await.remove(0);
    assert_eq!(span.attribute("error.type").as_deref(), Some("connection_refused"));
    assert_eq!(span.span.status.as_ref().unwrap().code, 2);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_is_held_is_told_of_with_how_long_it_was() {
    let collector = Collector::http().await;
    let logging = Logging::start(
        ([127, 0, 0, 1], 1).into(),
        &format!(
            "access_log: {{ sample: 0 }}\ntracing: {{ otlp: {{ endpoint: 'http://{}/base' }} }}",
            collector.address
        ),
    );
    let held = asking(&logging, "/").await;
    under_way(&logging, "waiting", 1.0).await;
    drop(held);
    let lines = logging.lines(1).await;
    assert_eq!(told(&lines), ["HTTP/1.1 / 499 client_left"]);
    assert!(lines[0]["held_ms"].as_f64().is_some_and(|held| held > 0.0), "{}", lines[0]);
    assert_eq!(logging.sidecar.metric("tidegate_proxy_abandoned_total", "").await, 1.0);
    assert_eq!(spans(&collector, 1).await[0].attribute("http.response.body.size"), None);
}
