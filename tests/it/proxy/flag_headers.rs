//! Flags that the app is told in header fields: by whose request it is, and never by what a client claims.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::app::App;
use crate::support::eventually;
use crate::support::raw::Client;
use crate::support::sidecar::{Sidecar, cli};

const LONG: Duration = Duration::from_secs(20);

const FLAGS: &str = r#"{"flags":{
    "search":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",
        "targeting":{"if":[{"==":[{"var":"targetingKey"},"ann"]},"on"]}},
    "plan":{"state":"ENABLED","variants":{"pro":"Pro: 50% off\r\nSet-Cookie: x=1","free":"free"},"defaultVariant":"free",
        "targeting":{"if":[{"==":[{"var":"plan"},"pro"]},"pro"]}},
    "theme":{"state":"ENABLED","variants":{"a":{"name":"ü","size":2}},"defaultVariant":"a"},
    "limit":{"state":"ENABLED","variants":{"a":2.5},"defaultVariant":"a"},
    "off":{"state":"DISABLED","variants":{"on":true},"defaultVariant":"on"},
    "code":{"state":"ENABLED","variants":{"on":true}}
}}"#;

const HEADERS: &str = "flag_headers: { X-Flag-Search: search, X-Flag-Plan: plan, X-Flag-Theme: theme, X-Flag-Limit: limit, \
    X-Flag-Off: off, X-Flag-Code: code, X-Flag-Unknown: nowhere }, \
    flag_context: { targetingKey: 'header:X-User-Id', plan: 'cookie:plan' }";

/// A sidecar that tells these flags, which are in a file of its own.
pub(super) async fn start(upstream: SocketAddr) -> Sidecar {
    let directory = tempfile::tempdir().unwrap();
    let flags = directory.path().join("flags.json");
    std::fs::write(&flags, FLAGS).unwrap();
    let sidecar = Sidecar::start_in(
        directory,
        &format!(
            "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://{upstream}', {HEADERS} }}]\nflags: {{ files: ['{}'] }}",
            flags.display()
        ),
    );
    sidecar.ready().await;
    sidecar
}

/// What the app is told under names that begin with `x` and `flag`, whatever stands between.
async fn told(client: &mut Client, fields: &str) -> Vec<(String, String)> {
    client.send(format!("GET /echo HTTP/1.1\r\nHost: t\r\n{fields}\r\n")).await.unwrap();
    let json = client.answer().await.unwrap().json();
    let field = |pair: &serde_json::Value| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned());
    let mut told: Vec<_> = json["headers"].as_array().unwrap().iter().map(field).collect();
    told.retain(|(name, _)| name.replace(|sign: char| !sign.is_alphanumeric(), "").starts_with("xflag"));
    told.sort();
    told
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const THEME: (&str, &str) = ("x-flag-theme", r#"{"name":"\u00fc","size":2}"#);

#[tokio::test]
async fn the_app_is_told_the_flags_of_whose_request_it_is() {
    let app = App::start().await;
    let sidecar = start(app.address).await;
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    let anyone = [("x-flag-limit", "2.5"), ("x-flag-plan", "free"), ("x-flag-search", "false"), THEME];
    let anyone = pairs(&anyone);
    assert_eq!(told(&mut client, "").await, anyone, "what is off, unknown or left to the app's code is not there");
    let ann = told(&mut client, "X-User-Id: ann\r\nCookie: a=1; plan=pro\r\n").await;
    assert_eq!(
        ann[1..],
        pairs(&[("x-flag-plan", "Pro: 50%25 off%0D%0ASet-Cookie: x=1"), ("x-flag-search", "true"), THEME])
    );
    assert_eq!(told(&mut client, "X-User-Id: ann\r\nX-User-Id: eve\r\nCookie: plan=\"p r o\"\r\n").await, anyone);
    let asked = sidecar.metric("tidegate_flag_evaluations_total", "flag=\"search\",variant=\"on\"").await;
    assert_eq!(asked, 1.0, "they count as what any code asks for");
    assert_eq!(sidecar.logs("a flag that the app is told in a header has no value").await, 1, "once, not each time");
}

#[tokio::test]
async fn what_a_client_claims_is_never_believed() {
    let app = App::start().await;
    let sidecar = start(app.address).await;
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    let honest = told(&mut client, "").await;
    for forged in [
        "X-Flag-Search: true\r\n",
        "x-flag-search: true\r\nX-FLAG-SEARCH: true\r\n",
        "X_Flag_Search: true\r\n",
        "X-Flag_Search: true\r\nX.Flag.Search: true\r\n",
        "X-Flag-Off: true\r\nX-Flag-Unknown: true\r\nX_FLAG_CODE: true\r\n",
        "Connection: X-Flag-Search\r\nX-Flag-Search: true\r\n",
        "Connection: close, x-flag-search, X-User-Id\r\n",
    ] {
        let mut client = Client::connect(sidecar.proxy()).await.unwrap();
        assert_eq!(told(&mut client, forged).await, honest, "{forged}");
    }
}

/// The bytes that an app gets for `request`, up to `end`; it answers to all.
async fn passed(request: &'static str, end: &'static str) -> String {
    let (heard, mut hear) = tokio::sync::mpsc::channel(1);
    let app = App::serve(move |mut stream| {
        let heard = heard.clone();
        async move {
            let mut bytes = Vec::new();
            while !bytes.ends_with(end.as_bytes()) && stream.read_buf(&mut bytes).await.unwrap() > 0 {}
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
            heard.send(String::from_utf8(bytes).unwrap()).await.unwrap();
        }
    })
    .await;
    let sidecar = start(app.address).await;
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send(request).await.unwrap();
    client.head().await.unwrap();
    hear.recv().await.unwrap()
}

#[tokio::test]
async fn an_upgrade_is_told_as_every_request() {
    let request = "GET /chat HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-User-Id: ann\r\nx_flag_search: no\r\n\r\n";
    let passed = passed(request, "\r\n\r\n").await;
    assert!(
        passed.contains("\r\nupgrade: websocket\r\n") && passed.contains("\r\nx-flag-search: true\r\n"),
        "{passed}"
    );
    assert!(!passed.contains("x_flag_search"), "{passed}");
}

#[tokio::test]
async fn trailers_do_not_smuggle_what_the_head_may_not_say() {
    let request = "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n2\r\nhi\r\n0\r\n\
        X-Flag-Search: true\r\nX_Flag_Off: true\r\nX-Sum: 7\r\n\r\n";
    let passed = passed(request, "x-sum: 7\r\n\r\n").await;
    assert!(passed.ends_with("0\r\nx-sum: 7\r\n\r\n"), "{passed}");
}

#[tokio::test]
async fn a_value_too_long_for_a_header_has_none_and_is_logged_once() {
    let app = App::start().await;
    let directory = tempfile::tempdir().unwrap();
    let flags = directory.path().join("flags.json");
    let flag = |length: usize| {
        let value = "a".repeat(length);
        format!(r#"{{"state":"ENABLED","variants":{{"a":"{value}"}},"defaultVariant":"a"}}"#)
    };
    std::fs::write(&flags, format!(r#"{{"flags":{{"fits":{},"long":{}}}}}"#, flag(4096), flag(4097))).unwrap();
    let headers = "flag_headers: { X-Flag-Fits: fits, X-Flag-Long: long }";
    let sidecar = Sidecar::start_in(
        directory,
        &format!(
            "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://{}', {headers} }}]\nflags: {{ files: ['{}'] }}",
            app.address,
            flags.display()
        ),
    );
    sidecar.ready().await;
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(told(&mut client, "X-Flag-Long: forged\r\n").await, pairs(&[("x-flag-fits", &"a".repeat(4096))]));
    }
    assert_eq!(sidecar.logs("a flag that the app is told in a header is too long for one").await, 1);
}

#[tokio::test]
async fn a_changed_flag_is_told_with_the_next_request() {
    let app = App::start().await;
    let sidecar = start(app.address).await;
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    let changed = FLAGS.replace("\"defaultVariant\":\"off\"", "\"defaultVariant\":\"on\"");
    std::fs::write(sidecar.directory().join("flags.json"), changed).unwrap();
    eventually(LONG, "the new value is told", async || {
        told(&mut client, "").await.contains(&("x-flag-search".to_owned(), "true".to_owned()))
    })
    .await;
}

#[test]
fn what_cannot_be_told_is_refused_with_its_place_and_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("tidegate.yaml");
    for (route, expected) in [
        ("flag_headers: { 'X Flag': a }", "proxy[0].flag_headers.X Flag: \"a\": not the name of a header field; write"),
        ("flag_headers: { Transfer-Encoding: a }", "a field that the request itself needs; choose a name of its own"),
        ("flag_headers: { Transfer_Encoding: a }", "a field that the request itself needs; choose a name of its own"),
        ("flag_headers: { X-Forwarded-For: a }", "a field that the request itself needs; choose a name of its own"),
        (
            "flag_headers: { X-A: a, x-a: b }",
            "proxy[0].flag_headers.x-a: \"b\": to an app the same name as x-a; name each",
        ),
        (
            "flag_headers: { X-A: a, X_A: b }",
            "proxy[0].flag_headers.X_A: \"b\": to an app the same name as x-a; name each",
        ),
        ("flag_headers: { X-A: [a] }", "proxy[0].flag_headers.X-A: not the key of a flag; write NAME: FLAG"),
        ("flag_headers: { X-A: '' }", "proxy[0].flag_headers.X-A: \"\": not the key of a flag; write NAME: FLAG"),
        (
            "flag_headers: { X-A: a }, flag_context: { plan: 'headr:X-Plan' }",
            "proxy[0].flag_context.plan: \"headr:X-Plan\": not a place in the request; write header:NAME or cookie:NAME",
        ),
        (
            "flag_headers: { X-A: a }, flag_context: { plan: 'cookie:a b' }",
            "not the name of a cookie; write cookie:NAME",
        ),
        (
            "flag_headers: { X-A: a }, flag_context: { plan: 'header:' }",
            "not the name of a header field; write letters",
        ),
        (
            "flag_headers: { X-A: a }, flag_context: { $flagd: 'header:X' }",
            "not the name of an attribute; write targetingKey",
        ),
        (
            "flag_headers: { X-A: a }, flag_context: { plan: 'header:X_A' }",
            "a field of flag_headers, which clients cannot send",
        ),
        ("flag_context: { plan: 'header:X' }", "proxy[0].flag_context: no flag is evaluated by it; add flag_headers"),
    ] {
        std::fs::write(&config, format!("proxy: [{{ {route} }}]")).unwrap();
        let (code, _, stderr) = cli(&["--config", config.to_str().unwrap(), "config", "check"]);
        assert_eq!(code, 64, "{route}: {stderr}");
        assert!(stderr.contains(expected), "{route}: {stderr}");
        assert_eq!(stderr.trim_end().lines().filter(|line| line.contains("proxy[0]")).count(), 1, "{route}: {stderr}");
    }
}
