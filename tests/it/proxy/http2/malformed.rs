//! Requests that HTTP/2 can carry and nobody may pass on (RFC 9113 sections 8.1.1, 8.2 and 8.3): each is refused, and
//! the connection goes on.

use crate::support::app::App;
use crate::support::h2::{
    CANCEL, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PROTOCOL_ERROR, RST_STREAM, Wire, get, literals,
};
use crate::support::sidecar::Sidecar;

const HEAD: u8 = END_HEADERS | END_STREAM;
const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const AUTHORITY: (&str, &str) = (":authority", "test");
const PATH: (&str, &str) = (":path", "/echo");

/// What became of a request: a status, or the code of a reset.
type Fate = Result<u16, u32>;

/// What a case is about, its head, and its fate.
type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, Fate);

/// Asks; what became of it.
async fn ask(wire: &mut Wire, stream: u32, fields: &[(&str, &str)]) -> Fate {
    wire.send(HEADERS, HEAD, stream, literals(fields)).await;
    fate(wire.stream(stream).await)
}

fn fate(frames: Vec<Frame>) -> Fate {
    match frames.first() {
        Some(frame) if frame.kind == RST_STREAM => Err(frame.code()),
        Some(frame) => Ok(frame.status().unwrap_or(0)),
        None => panic!("no frame"),
    }
}

#[tokio::test]
async fn malformed_heads_are_refused_one_by_one() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    let reset = Err(PROTOCOL_ERROR);
    let cases: [Case<'_>; 39] = [
        ("well-formed", vec![METHOD, SCHEME, AUTHORITY, PATH], Ok(200)),
        ("connection", vec![METHOD, SCHEME, AUTHORITY, PATH, ("connection", "close")], reset),
        ("keep-alive", vec![METHOD, SCHEME, AUTHORITY, PATH, ("keep-alive", "1")], reset),
        ("transfer-encoding", vec![METHOD, SCHEME, AUTHORITY, PATH, ("transfer-encoding", "chunked")], reset),
        ("upgrade", vec![METHOD, SCHEME, AUTHORITY, PATH, ("upgrade", "h2c")], reset),
        ("te", vec![METHOD, SCHEME, AUTHORITY, PATH, ("te", "gzip")], reset),
        ("no method", vec![SCHEME, AUTHORITY, PATH], reset),
        ("no scheme", vec![METHOD, AUTHORITY, PATH], reset),
        ("no path", vec![METHOD, SCHEME, AUTHORITY], reset),
        ("no path, no authority", vec![METHOD, SCHEME, ("host", "test")], reset),
        ("empty path", vec![METHOD, SCHEME, AUTHORITY, (":path", "")], reset),
        ("empty scheme", vec![METHOD, (":scheme", ""), AUTHORITY, PATH], reset),
        ("a scheme that is not of HTTP", vec![METHOD, (":scheme", "ftp"), AUTHORITY, PATH], reset),
        ("two paths", vec![METHOD, SCHEME, AUTHORITY, PATH, (":path", "/other")], reset),
        ("two methods", vec![METHOD, (":method", "POST"), SCHEME, AUTHORITY, PATH], reset),
        ("a pseudo-field of answers", vec![METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")], reset),
        ("a pseudo-field after a field", vec![METHOD, SCHEME, AUTHORITY, ("x", "1"), PATH], reset),
        ("a path that is none", vec![METHOD, SCHEME, AUTHORITY, (":path", "echo")], reset),
        ("a path with a blank", vec![METHOD, SCHEME, AUTHORITY, (":path", "/a b HTTP/1.1")], reset),
        ("an asterisk in a GET", vec![METHOD, SCHEME, AUTHORITY, (":path", "*")], reset),
        ("a user in the authority", vec![METHOD, SCHEME, (":authority", "u@test"), PATH], Ok(400)),
        ("host differs", vec![METHOD, SCHEME, AUTHORITY, PATH, ("host", "other")], Ok(400)),
        ("two hosts", vec![METHOD, SCHEME, PATH, ("host", "a"), ("host", "a")], Ok(400)),
        ("no host at all", vec![METHOD, SCHEME, PATH], Ok(400)),
        ("a path beyond ASCII", vec![METHOD, SCHEME, AUTHORITY, (":path", "/ü")], reset),
        ("an authority with a blank", vec![METHOD, SCHEME, (":authority", "a b"), PATH], reset),
        ("a scheme with a blank", vec![METHOD, (":scheme", "ht tp"), AUTHORITY, PATH], reset),
        ("a protocol without CONNECT", vec![METHOD, SCHEME, AUTHORITY, PATH, (":protocol", "websocket")], reset),
        ("proxy-connection", vec![METHOD, SCHEME, AUTHORITY, PATH, ("proxy-connection", "close")], reset),
        ("a blank before a value", vec![METHOD, SCHEME, AUTHORITY, PATH, ("x", " 1")], reset),
        ("a blank behind a value", vec![METHOD, SCHEME, AUTHORITY, PATH, ("x", "1\t")], reset),
        ("a blank within a value", vec![METHOD, SCHEME, AUTHORITY, PATH, ("x", "1\t 2")], Ok(200)),
        ("an empty value", vec![METHOD, SCHEME, AUTHORITY, PATH, ("x", "")], Ok(200)),
        ("a length that is none", vec![METHOD, SCHEME, AUTHORITY, PATH, ("content-length", "x")], reset),
        ("a length with a sign", vec![METHOD, SCHEME, AUTHORITY, PATH, ("content-length", "+0")], reset),
        ("a list of lengths", vec![METHOD, SCHEME, AUTHORITY, PATH, ("content-length", "0, 0")], reset),
        ("two lengths", vec![METHOD, SCHEME, AUTHORITY, PATH, ("content-length", "0"), ("content-length", "0")], reset),
        ("a huge length", vec![METHOD, SCHEME, AUTHORITY, PATH, ("content-length", "99999999999999999999")], reset),
        ("a length and no body", vec![METHOD, SCHEME, AUTHORITY, PATH, ("content-length", "5")], reset),
    ];
    let (mut before, mut counted) = (0.0, Vec::new());
    for (index, (what, fields, expected)) in cases.iter().enumerate() {
        let stream = 2 * index as u32 + 1;
        assert_eq!(ask(&mut wire, stream, fields).await, *expected, "{what}");
        let now = sidecar.metric("tidegate_proxy_malformed_total", "").await;
        if now > before {
            counted.push(*what);
        }
        before = now;
    }
    // All else the h2 crate resets, and nobody hears of it. Documented so.
    let expected = [
        "no path, no authority",
        "empty scheme",
        "a scheme that is not of HTTP",
        "an asterisk in a GET",
        "a path beyond ASCII",
        "a blank before a value",
        "a blank behind a value",
        "two lengths",
    ];
    assert_eq!(counted, expected);
    assert_eq!(ask(&mut wire, 99, &[METHOD, SCHEME, AUTHORITY, PATH]).await, Ok(200), "the connection goes on");
}

#[tokio::test]
async fn a_host_alone_and_options_of_all_are_well_formed() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    assert_eq!(ask(&mut wire, 1, &[METHOD, SCHEME, PATH, ("host", "test")]).await, Ok(200));
    let options = [(":method", "OPTIONS"), SCHEME, AUTHORITY, (":path", "*")];
    assert_eq!(ask(&mut wire, 3, &options).await, Ok(404), "the app's own answer to it");
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_says_is_malformed() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    let head = [(":method", "POST"), SCHEME, AUTHORITY, PATH, ("content-length", "5")];
    for (stream, body, end) in [(1, "hello, world", END_STREAM), (3, "hi", END_STREAM), (5, "too long", 0)] {
        wire.send(HEADERS, END_HEADERS, stream, literals(&head)).await;
        wire.send(DATA, end, stream, body).await;
        assert_eq!(fate(wire.stream(stream).await), Err(PROTOCOL_ERROR), "{body:?}");
    }
    assert_eq!(sidecar.metric("tidegate_proxy_malformed_total", "").await, 0.0, "the h2 crate resets it by itself");
    wire.send(HEADERS, END_HEADERS, 7, literals(&head)).await;
    wire.send(DATA, END_STREAM, 7, "right").await;
    assert_eq!(fate(wire.stream(7).await), Ok(200));
}

#[tokio::test]
async fn connect_is_refused_and_what_is_wrong_with_a_connection_ends_it() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    let connect = [(":method", "CONNECT"), (":authority", "db:5432")];
    let fate = ask(&mut wire, 1, &connect).await;
    assert!(!matches!(fate, Ok(200) | Err(CANCEL)), "405 has no number in HPACK: {fate:?}");
    // Even numbers are the server's (section 5.1.1).
    wire.send(HEADERS, HEAD, 2, get("/")).await;
    let goaway = wire.rest().await.pop().expect("told why");
    assert_eq!(goaway.code(), PROTOCOL_ERROR);
}

/// Known and documented: the h2 crate keeps neither where we could see it.
#[tokio::test]
async fn fragments_and_pseudo_fields_of_trailers_never_reach_the_app() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    let told = |frames: Vec<Frame>| -> serde_json::Value {
        let body: Vec<u8> =
            frames.iter().filter(|frame| frame.kind == DATA).flat_map(|data| data.payload.clone()).collect();
        serde_json::from_slice(&body).unwrap()
    };
    wire.send(HEADERS, HEAD, 1, literals(&[METHOD, SCHEME, AUTHORITY, (":path", "/echo?a=1#/admin")])).await;
    assert_eq!(told(wire.stream(1).await)["target"], "/echo?a=1");
    wire.send(HEADERS, END_HEADERS, 3, literals(&[(":method", "POST"), SCHEME, AUTHORITY, PATH])).await;
    wire.send(DATA, 0, 3, "hello").await;
    wire.send(HEADERS, HEAD, 3, literals(&[(":path", "/admin"), ("x-sum", "7")])).await;
    let told = told(wire.stream(3).await);
    assert_eq!((&told["target"], &told["length"]), (&"/echo".into(), &5.into()));
}
