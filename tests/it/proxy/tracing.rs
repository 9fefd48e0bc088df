//! Traces: what the app is told, what a collector gets, and that no request waits for one.

use std::time::Duration;

use super::passing::Script;
use crate::support::app::App;
use crate::support::authority::Authority;
use crate::support::collector::{Collector, Mood, Received};
use crate::support::eventually;
use crate::support::raw::{self, Client};
use crate::support::sidecar::{Sidecar, cli};

const LONG: Duration = Duration::from_secs(20);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// What the app is told: `traceparent` and `tracestate`.
async fn told(client: &mut Client, fields: &str) -> (Option<String>, Option<String>) {
    client.send(format!("GET /echo HTTP/1.1\r\nHost: shop.example:8080\r\n{fields}\r\n")).await.unwrap();
    let json = client.answer().await.unwrap().json();
    let value = |name: &str| {
        let fields: Vec<_> = json["headers"].as_array().unwrap().iter().filter(|field| field[0] == name).collect();
        assert!(fields.len() < 2, "{fields:?}");
        fields.first().map(|field| field[1].as_str().unwrap().to_owned())
    };
    (value("traceparent"), value("tracestate"))
}

pub(super) async fn spans(collector: &Collector, count: usize) -> Vec<Received> {
    eventually(LONG, "the spans come", async || collector.received().len() >= count).await;
    let received = collector.received();
    assert_eq!(received.len(), count, "{received:#?}");
    received
}

#[tokio::test]
async fn without_tracing_what_came_is_passed_on_untouched_and_nothing_begins() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "access_log: { sample: 1 }");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    assert_eq!(told(&mut client, "").await, (None, None));
    for traceparent in [format!("00-{TRACE}-{SPAN}-01"), "malformed".to_owned()] {
        let (parent, state) = told(&mut client, &format!("traceparent: {traceparent}\r\ntracestate: a=1\r\n")).await;
        assert_eq!((parent, state.as_deref()), (Some(traceparent), Some("a=1")));
    }
    assert_eq!(sidecar.metric("tidegate_trace_spans_total", "").await, 0.0);
}

#[tokio::test]
async fn a_sampled_request_is_a_span_between_its_client_and_the_app() {
    let app = App::start().await;
    for (collector, protocol) in [(Collector::http().await, "http/protobuf"), (Collector::grpc().await, "grpc")] {
        let sidecar = Sidecar::start(
            app.address,
            &format!(
                "tracing: {{ otlp: {{ endpoint: 'http://{}/base', protocol: {protocol}, headers: 'Authorization: Bearer s3cret', service_name: shop }} }}",
                collector.address
            ),
        );
        let mut client = Client::connect(sidecar.proxy()).await.unwrap();
        let sent = format!(
            "Traceparent: 00-{TRACE}-{SPAN}-01\r\nTracestate: a=1\r\nTracestate: b=2\r\nUser-Agent: curl/8\r\n"
        );
        client.send(format!("GET /echo?card=4111 HTTP/1.1\r\nHost: shop.example:8080\r\n{sent}\r\n")).await.unwrap();
        let json = client.answer().await.unwrap().json();
        let received = spans(&collector, 1).await.remove(0);
        let [trace, span, parent] = received.ids();
        assert_eq!((&*trace, &*parent), (TRACE, SPAN));
        let fields = json["headers"].to_string();
        assert!(fields.contains(&format!("00-{TRACE}-{span}-01")) && !fields.contains(SPAN), "{fields}");
        assert!(fields.contains("a=1") && fields.contains("b=2"), "{fields}");
        assert_eq!((&*received.service, &*received.span.name, received.span.kind), ("shop", "GET", 2));
        assert_eq!(received.authorization.as_deref(), Some("Bearer s3cret"));
        assert!(received.span.end_time_unix_nano > received.span.start_time_unix_nano);
        for (name, value) in [
            ("http.request.method", "GET"),
            ("url.scheme", "http"),
            ("url.path", "/echo"),
            ("server.address", "shop.example"),
            ("server.port", "8080"),
            ("client.address", "127.0.0.1"),
            ("network.protocol.version", "1.1"),
            ("user_agent.original", "curl/8"),
            ("http.response.status_code", "200"),
        ] {
            assert_eq!(received.attribute(name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(received.attribute("error.type"), None);
        assert!(!format!("{received:?}").contains("4111"), "queries stay here");
        let exported = async || sidecar.metric("tidegate_trace_spans_total", "result=\"exported\"").await;
        eventually(LONG, "it is counted when the collector has answered", async || exported().await == 1.0).await;
        let (_, shown, _) = sidecar.cli(&["config", "show"]);
        assert!(shown.contains("service_name: shop") && !shown.contains("s3cret"), "{shown}");
    }
}

#[tokio::test]
async fn what_the_client_decided_holds_and_what_it_garbled_begins_anew() {
    let app = App::start().await;
    let collector = Collector::http().await;
    let settings = format!(
        "access_log: {{ sample: 1 }}\ntracing: {{ otlp: {{ endpoint: 'http://{}/base' }} }}",
        collector.address
    );
    let sidecar = Sidecar::start(app.address, &settings);
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    let unsampled = format!("00-{TRACE}-{SPAN}-00");
    let (parent, state) = told(&mut client, &format!("traceparent: {unsampled}\r\ntracestate: a=1\r\n")).await;
    assert_eq!((parent, state.as_deref()), (Some(unsampled), Some("a=1")), "not recorded, and passed on unchanged");
    let sound = format!("00-{TRACE}-{SPAN}-01");
    for garbled in [
        String::new(),
        format!("traceparent: 00-{}-{SPAN}-01\r\ntracestate: a=1\r\n", TRACE.to_uppercase()),
        format!("traceparent: {sound}\r\ntraceparent: {sound}\r\ntracestate: a=1\r\n"),
        "tracestate: a=1\r\n".to_owned(),
    ] {
        let (parent, state) = told(&mut client, &garbled).await;
        let parent = parent.unwrap();
        assert!(parent.len() == 55 && parent.ends_with("-01") && !parent.contains(TRACE), "{garbled}: {parent}");
        assert_eq!(state, None, "it belonged to nothing that could be read: {garbled}");
    }
    let received = spans(&collector, 4).await;
    assert!(received.iter().all(|span| span.ids()[2].is_empty()), "{received:#?}");
}

#[tokio::test]
async fn a_share_of_the_traces_that_begin_here_is_recorded() {
    let app = App::start().await;
    let collector = Collector::http().await;
    let settings = format!("tracing: {{ otlp: {{ endpoint: 'http://{}/base', sample: 0 }} }}", collector.address);
    let sidecar = Sidecar::start(app.address, &settings);
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    let (parent, _) = told(&mut client, "").await;
    assert!(parent.as_deref().is_some_and(|parent| parent.ends_with("-00")), "begun, and not recorded: {parent:?}");
    told(&mut client, &format!("traceparent: 00-{TRACE}-{SPAN}-01\r\n")).await;
    assert_eq!(spans(&collector, 1).await[0].ids()[0], TRACE);
}

#[tokio::test]
async fn a_failure_is_told_by_its_type() {
    let app = App::serve(|stream| async move {
        let mut script = Script::new(stream);
        if script.path().await == "/broken" {
            script.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
        } else {
            script.send("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        }
    })
    .await;
    let collector = Collector::http().await;
    let settings = format!("tracing: {{ otlp: {{ endpoint: 'http://{}/base' }} }}", collector.address);
    let sidecar = Sidecar::start(app.address, &settings);
    raw::get(sidecar.proxy(), "/broken").await.unwrap_err();
    assert_eq!(raw::get(sidecar.proxy(), "/500").await.unwrap().status, 500);
    let received = spans(&collector, 2).await;
    let told = |path: &str| {
        let span = received.iter().find(|span| span.attribute("url.path").as_deref() == Some(path)).unwrap();
        (span.attribute("error.type").unwrap(), span.span.status.as_ref().unwrap().code)
    };
    assert_eq!(told("/broken"), ("connection_terminated".to_owned(), 2));
    assert_eq!(told("/500"), ("500".to_owned(), 2));
}

#[tokio::test]
async fn a_collector_that_is_gone_garbled_or_refuses_costs_spans_and_no_request() {
    let app = App::start().await;
    let garbled = App::serve(|stream| async move {
        let mut script = Script::new(stream);
        script.request().await;
        script.send("SMTP ready\r\n\r\n").await;
    })
    .await;
    let settings = |address: std::net::SocketAddr, protocol: &str| {
        format!("tracing: {{ otlp: {{ endpoint: 'http://{address}/base', protocol: {protocol} }} }}")
    };
    let nobody = ([127, 0, 0, 1], 1).into();
    for (address, protocol) in
        [(nobody, "http/protobuf"), (nobody, "grpc"), (garbled.address, "http/protobuf"), (garbled.address, "grpc")]
    {
        let sidecar = Sidecar::start(app.address, &settings(address, protocol));
        assert_eq!(raw::get(sidecar.proxy(), "/").await.unwrap().status, 200);
        let failed = async || sidecar.metric("tidegate_trace_spans_total", "result=\"failed\"").await;
        eventually(LONG, "the span is given up", async || failed().await == 1.0).await;
        assert_eq!(sidecar.logs("spans cannot be exported, and are lost").await, 1);
    }
    for (collector, protocol) in [(Collector::http().await, "http/protobuf"), (Collector::grpc().await, "grpc")] {
        collector.be(Mood::Fails);
        let sidecar = Sidecar::start(app.address, &settings(collector.address, protocol));
        let count = async |result: &str| sidecar.metric("tidegate_trace_spans_total", result).await;
        raw::get(sidecar.proxy(), "/").await.unwrap();
        eventually(LONG, "given up", async || count("failed").await == 1.0).await;
        collector.be(Mood::Takes);
        raw::get(sidecar.proxy(), "/").await.unwrap();
        eventually(LONG, "taken", async || count("exported").await == 1.0).await;
        sidecar.logs("spans are exported again").await;
        collector.be(Mood::Refuses);
        raw::get(sidecar.proxy(), "/").await.unwrap();
        eventually(LONG, "refused", async || count("rejected").await == 1.0).await;
    }
}

#[tokio::test]
async fn spans_are_sent_once_more_where_that_may_help() {
    let app = App::start().await;
    for (collector, protocol) in [(Collector::http().await, "http/protobuf"), (Collector::grpc().await, "grpc")] {
        let endpoint = format!("endpoint: 'http://{}/base', protocol: {protocol}", collector.address);
        let sidecar = Sidecar::start(app.address, &format!("tracing: {{ otlp: {{ {endpoint} }} }}"));
        let count = async |result: &str| sidecar.metric("tidegate_trace_spans_total", result).await;
        collector.be(Mood::FailsOnce);
        raw::get(sidecar.proxy(), "/").await.unwrap();
        eventually(LONG, "taken in the end", async || count("exported").await == 1.0).await;
        assert_eq!((collector.asked(), collector.received().len()), (2, 1));
        collector.be(Mood::Fails);
        raw::get(sidecar.proxy(), "/").await.unwrap();
        eventually(LONG, "given up", async || count("failed").await == 1.0).await;
        assert_eq!(collector.asked(), 4, "twice at most");
        collector.be(Mood::Denies);
        raw::get(sidecar.proxy(), "/").await.unwrap();
        eventually(LONG, "given up at once", async || count("failed").await == 2.0).await;
        assert_eq!(collector.asked(), 5);
        assert_eq!(sidecar.logs("spans cannot be exported, and are lost").await, 1);
    }
}

#[tokio::test]
async fn a_collector_over_tls_is_believed_by_its_authority_alone() {
    let app = App::start().await;
    let (authority, other) = (Authority::new(), Authority::new());
    let collector = Collector::grpc_secured(&authority.issue("collector", 2)).await;
    for (trusted, result) in [(&authority, "exported"), (&other, "failed")] {
        let endpoint = format!("https://localhost:{}", collector.address.port());
        let ca = trusted.certificate();
        let sidecar = Sidecar::start(
            app.address,
            &format!("tracing: {{ otlp: {{ endpoint: '{endpoint}', protocol: grpc, ca_file: '{ca}' }} }}"),
        );
        raw::get(sidecar.proxy(), "/").await.unwrap();
        let count = async || sidecar.metric("tidegate_trace_spans_total", result).await;
        eventually(LONG, result, async || count().await == 1.0).await;
    }
    assert_eq!(collector.received().len(), 1);
}

#[tokio::test]
async fn a_collector_that_is_stuck_fills_the_queue_and_delays_nobody() {
    let app = App::start().await;
    let stuck = App::serve(|stream| async move {
        let mut script = Script::new(stream);
        script.request().await;
        std::future::pending::<()>().await;
    })
    .await;
    let settings = format!("tracing: {{ otlp: {{ endpoint: 'http://{}' }} }}", stuck.address);
    let mut sidecar = Sidecar::start(app.address, &settings);
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    let request = "GET / HTTP/1.1\r\nHost: t\r\n\r\n".repeat(50);
    let dropped = async || sidecar.metric("tidegate_trace_spans_total", "result=\"dropped\"").await;
    let mut sent = 0;
    while dropped().await == 0.0 {
        client.send(&request).await.unwrap();
        for _ in 0..50 {
            assert_eq!(client.answer().await.unwrap().status, 200);
        }
        sent += 50;
        assert!(sent < 20_000, "the queue has no end");
    }
    // Nor does it hold up the end of the process for long.
    drop(client);
    sidecar.signal("TERM");
    assert!(sidecar.ended(LONG).await.success());
}

#[tokio::test]
async fn the_last_spans_are_exported_before_the_process_ends() {
    let app = App::start().await;
    let collector = Collector::grpc().await;
    let settings = format!("tracing: {{ otlp: {{ endpoint: 'http://{}', protocol: grpc }} }}", collector.address);
    let mut sidecar = Sidecar::start(app.address, &settings);
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    for _ in 0..700 {
        client.get("/").await.unwrap();
    }
    drop(client);
    sidecar.signal("TERM");
    assert!(sidecar.ended(LONG).await.success());
    assert_eq!(collector.received().len(), 700);
}

#[test]
fn what_is_no_collector_is_refused_with_a_remedy_and_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("tidegate.yaml");
    for (otlp, expected) in [
        ("{ protocol: grpc }", "tracing.otlp.endpoint: missing; add it: URL of a collector"),
        (
            "{ endpoint: 'collector:4317' }",
            "tracing.otlp.endpoint: \"collector:4317\": not an http or https URL; write http://HOST:PORT",
        ),
        (
            "{ endpoint: 'http://c', protocol: http/json }",
            "tracing.otlp.protocol: \"http/json\": none of the values this key knows; write one of: http/protobuf, grpc",
        ),
        ("{ endpoint: 'http://c', sample: 1.5 }", "tracing.otlp.sample: \"1.5\": not a number from 0 to 1; write"),
        (
            "{ endpoint: 'http://c', headers: ['s3cret'] }",
            "tracing.otlp.headers[0]: \"REDACTED\": not a header field; write NAME: VALUE",
        ),
        (
            "{ endpoint: 'http://c', headers: ['Host: s3cret'] }",
            "tracing.otlp.headers[0]: \"REDACTED\": a field that the request itself needs",
        ),
    ] {
        std::fs::write(&config, format!("tracing: {{ otlp: {otlp} }}")).unwrap();
        let (code, _, stderr) = cli(&["--config", config.to_str().unwrap(), "config", "check"]);
        assert_eq!(code, 64, "{otlp}: {stderr}");
        assert!(stderr.contains(expected) && !stderr.contains("s3cret"), "{otlp}: {stderr}");
    }
}
