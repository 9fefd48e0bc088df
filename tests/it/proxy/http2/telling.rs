//! What is told of requests over HTTP/2: a line of the access log, a span, and flags to the app.

use crate::proxy::access_log::Logging;
use crate::proxy::flag_headers;
use crate::proxy::tracing::spans;
use crate::support::app::App;
use crate::support::collector::Collector;
use crate::support::h2::{CANCEL, Client, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Wire, get};
use crate::support::sidecar::Sidecar;

#[tokio::test]
async fn each_request_of_a_connection_gets_a_line_of_its_own() {
    let app = App::start().await;
    let logging = Logging::start(app.address, "access_log: { sample: 1 }");
    let client = Client::connect(logging.sidecar.proxy()).await;
    let asked = Client::request("POST", "/echo?card=4111")
        .header("user-agent", "curl/8")
        .header("referer", "https://shop.example/a?token=t0ken")
        .header("cookie", "id=s3cret")
        .header("x-request-id", "r-1");
    let answer = client.ask(asked.body(&b"hello"[..]).unwrap()).await.unwrap();
    assert_eq!(client.get("/none").await.unwrap().status(), 404);
    let mut wire = Wire::connect(logging.sidecar.proxy(), &[]).await;
    wire.send(HEADERS, END_HEADERS | END_STREAM, 1, get("/slow?ms=60000")).await;
    // What comes later is answered: the first request is with the app.
    wire.send(HEADERS, END_HEADERS | END_STREAM, 3, get("/")).await;
    assert_eq!(wire.stream(3).await[0].status(), Some(200));
    wire.send(RST_STREAM, 0, 1, CANCEL.to_be_bytes()).await;
    let lines = logging.lines(4).await;
    for (field, expected) in [
        ("log", "access"),
        ("client", "127.0.0.1"),
        ("method", "POST"),
        ("host", "test"),
        ("path", "/echo"),
        ("protocol", "HTTP/2"),
        ("request_id", "r-1"),
        ("user_agent", "curl/8"),
        ("referer", "https://shop.example/a"),
    ] {
        assert_eq!(lines[0][field], expected, "{field} of {}", lines[0]);
    }
    assert_eq!((&lines[0]["status"], &lines[0]["request_bytes"]), (&200.into(), &5.into()));
    assert_eq!(lines[0]["bytes"].as_u64(), Some(answer.body.len() as u64));
    assert_eq!((&lines[1]["status"], &lines[1]["path"]), (&404.into(), &"/none".into()));
    assert_eq!((&lines[2]["status"], &lines[2]["bytes"]), (&200.into(), &6.into()));
    assert_eq!((&lines[3]["status"], &lines[3]["error"]), (&499.into(), &"client_left".into()), "{}", lines[3]);
    let text = logging.text();
    assert!(!["s3cret", "t0ken", "4111"].iter().any(|secret| text.contains(secret)), "{text}");
}

#[tokio::test]
async fn each_request_of_a_connection_is_a_span_of_its_own() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let (app, collector) = (App::start().await, Collector::http().await);
    let sidecar = Sidecar::start(
        app.address,
        &format!("tracing: {{ otlp: {{ endpoint: 'http://{}/base' }} }}", collector.address),
    );
    let client = Client::connect(sidecar.proxy()).await;
    let asked = ["b7ad6b7169203331", "b7ad6b7169203332"].map(|parent| {
        let request =
            Client::request("GET", "/echo?card=4111").header("traceparent", format!("00-{TRACE}-{parent}-01"));
        client.ask(request.body(&b""[..]).unwrap())
    });
    let told: Vec<String> =
        futures_util::future::join_all(asked).await.into_iter().map(|answer| answer.unwrap().text()).collect();
    let received = spans(&collector, 2).await;
    for span in &received {
        let [trace, id, parent] = span.ids();
        assert!(trace == TRACE && parent.starts_with("b7ad6b716920333"), "{span:?}");
        assert!(told.iter().any(|told| told.contains(&format!("00-{TRACE}-{id}-01"))), "{told:?}");
        assert!(!format!("{span:?}").contains("4111"), "queries stay here");
        for (name, value) in [
            ("http.request.method", "GET"),
            ("url.path", "/echo"),
            ("server.address", "test"),
            ("network.protocol.version", "2"),
            ("http.response.status_code", "200"),
        ] {
            assert_eq!(span.attribute(name).as_deref(), Some(value), "{name}");
        }
    }
    assert_ne!(received[0].ids()[2], received[1].ids()[2], "each has its own parent");
}

#[tokio::test]
async fn the_app_is_told_the_flags_of_whose_request_it_is_and_nothing_that_a_client_claims() {
    let app = App::start().await;
    let sidecar = flag_headers::start(app.address).await;
    let client = Client::connect(sidecar.proxy()).await;
    let told = async |fields: &[(&str, &str)]| {
        let request =
            fields.iter().fold(Client::request("GET", "/echo"), |request, (name, value)| request.header(*name, *value));
        let json = client.ask(request.body(&b""[..]).unwrap()).await.unwrap().json();
        let fields = json["headers"].as_array().unwrap().iter();
        let mut told: Vec<String> = fields
            .filter(|field| field[0].as_str().unwrap().contains("flag"))
            .map(|field| format!("{}: {}", field[0].as_str().unwrap(), field[1].as_str().unwrap()))
            .filter(|field| {
                field.starts_with("x-flag-search") || field.starts_with("x-flag-plan") || field.contains('_')
            })
            .collect();
        told.sort();
        told
    };
    let ann = told(&[("x-user-id", "ann"), ("cookie", "a=1"), ("cookie", "plan=free")]).await;
    assert_eq!(ann, ["x-flag-plan: free", "x-flag-search: true"]);
    let forged = [("x-flag-search", "true"), ("x_flag_search", "true"), ("x-flag-plan", "pro")];
    assert_eq!(told(&forged).await, ["x-flag-plan: free", "x-flag-search: false"]);
}
