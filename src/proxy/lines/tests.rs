//! What goes on as lines is what would have gone on by way of the map, and what the map refuses is refused.

use bytes::BytesMut;
use http::{HeaderValue, Method};
use proptest::prelude::*;

use crate::net::edge::Peer;
use crate::net::tls::settings::ClientAuth;
use crate::proxy::downstream::head as client;
use crate::proxy::headers::{Hop, prepare_answer, prepare_lines, prepare_request};
use crate::proxy::lines::Form;
use crate::proxy::settings::Forwarded;
use crate::proxy::upstream::decode::{self, Framing, Heard};
use crate::proxy::upstream::encode::{self, field};

const NAMES: [&str; 24] = [
    "Host",
    "host",
    "Connection",
    "Content-Length",
    "content-length",
    "Transfer-Encoding",
    "Date",
    "Keep-Alive",
    "Upgrade",
    "TE",
    "Expect",
    "Forwarded",
    "X-Forwarded-For",
    "X_Forwarded-Proto",
    "X-FORWARDED-Client-Cert",
    "X-Request-Id",
    "Proxy-Connection",
    "Cookie",
    "Set-Cookie",
    "A",
    "x-Long-And-Odd_~!",
    "Trailer",
    "Server",
    "B ",
];
const VALUES: [&str; 22] = [
    "",
    "t",
    "t:80",
    "h@t",
    "[::1]:3",
    "t:99999",
    "close",
    "keep-alive",
    "Close",
    "keep-alive, a",
    "a",
    "3",
    "03",
    "3, 3",
    "+3",
    "chunked",
    "gzip, chunked",
    "100-continue",
    "trailers",
    " two  words\t",
    "\u{e9}",
    "for=1.1.1.1",
];

/// Fields, mostly such as are well-formed.
fn fields() -> impl Strategy<Value = String> {
    let value = prop_oneof![8 => prop::sample::select(&VALUES[..]).prop_map(str::to_owned), 1 => "[ -~\u{e9}]{0,12}"];
    let one = (prop::sample::select(&NAMES[..]), value).prop_map(|(name, value)| format!("{name}: {value}\r\n"));
    prop::collection::vec(one, 0..5).prop_map(|all| all.concat())
}

fn sorted(text: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = text.split_inclusive(|b| *b == b'\n').map(|l| l.escape_ascii().to_string()).collect();
    lines.sort();
    lines
}

/// The request as the app gets it, how it is framed and whether the client's connection lives on; and whether lines were
/// made of it.
fn request(bytes: &[u8], form: Form) -> Option<(Vec<String>, Framing, bool, bool)> {
    let bounds = client::Bounds { bytes: 4096, fields: 100, target: 1024 };
    let (mut head, _) = client::Decoder::in_form(bounds, form).head(bytes).ok()??;
    let hop = Hop::new(&Peer::plain(([127, 0, 0, 1], 50_000).into()), ClientAuth::None, Forwarded::Append);
    let mut text = Vec::new();
    let in_lines = match &mut head.lines {
        Some(lines) => {
            assert!(head.parts.headers.is_empty());
            prepare_lines(lines, &hop);
            text.clone_from(&lines.text);
            true
        }
        None => {
            prepare_request(&mut head.parts, &hop, &HeaderValue::from_static("app:1")).ok()?;
            encode::head(&head.parts, &mut text).ok()?;
            false
        }
    };
    let mut lines = sorted(&text);
    // Without the one that is drawn by lot: 32 digits.
    lines.retain(|line| !(line.starts_with("x-request-id: ") && line.len() == "x-request-id: \\r\\n".len() + 32));
    Some((lines, head.framing, head.keeps, in_lines))
}

/// The answer as the client gets it but for what frames its body, in the same way.
fn answer(bytes: &[u8], asked: &Method, form: Form) -> Option<(Vec<String>, bool, Framing, bool, bool)> {
    let bounds = decode::Bounds { bytes: 4096, fields: 100 };
    let heard = decode::Decoder::in_form(bounds, form).head(&mut BytesMut::from(bytes), asked).ok()??;
    let Heard::Answer(mut head) = heard else { return None };
    let in_lines = head.lines.is_some();
    let (text, dated) = match head.lines {
        Some(lines) => (lines.text, lines.dated),
        None => {
            prepare_answer(&mut head.parts);
            let mut text = format!("HTTP/1.1 {} ", head.parts.status.as_str()).into_bytes();
            let reason = head.parts.extensions.get::<hyper::ext::ReasonPhrase>();
            let usual = head.parts.status.canonical_reason().unwrap_or_default();
            text.extend_from_slice(reason.map_or(usual.as_bytes(), |reason| reason.as_bytes()));
            text.extend_from_slice(b"\r\n");
            for (name, value) in &head.parts.headers {
                if !["content-length", "transfer-encoding", "connection"].contains(&name.as_str()) {
                    field(name, value, &mut text);
                }
            }
            (text, head.parts.headers.contains_key("date"))
        }
    };
    Some((sorted(&text), dated, head.framing, head.keeps, in_lines))
}

#[test]
fn the_usual_goes_in_lines_and_the_rest_by_the_map() {
    for (bytes, expected) in [
        ("GET /a?b=%20c HTTP/1.1\r\nHost: t\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n", true),
        ("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nHost: t\r\n\r\n", false),
        ("GET http://t/ HTTP/1.1\r\nHost: t\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: t\r\nConnection: a\r\nA: 1\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: t\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: t\r\nX.Forwarded.For: 6.6.6.6\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: t\r\nX-Forwarded.Client.Cert: Hash=f\r\n\r\n", false),
        ("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n", false),
    ] {
        let told = request(bytes.as_bytes(), Form::Lines).expect("a request");
        assert_eq!(told.3, expected, "{bytes}");
    }
    for (bytes, expected) in [
        ("HTTP/1.1 200 OK\r\nDate: D\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n", true),
        ("HTTP/1.1 299 Odd\r\nTransfer-Encoding: chunked\r\n\r\n", true),
        ("HTTP/1.0 200 OK\r\n\r\n", true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nConnection: a\r\nA: 1\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\n\r\n", false),
    ] {
        let told = answer(bytes.as_bytes(), &Method::GET, Form::Lines).expect("an answer");
        assert_eq!(told.4, expected, "{bytes}");
        let to_head = answer(bytes.as_bytes(), &Method::HEAD, Form::Lines).expect("an answer");
        assert!(!to_head.4, "its length is that of a body which does not come");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_request_in_lines_is_the_one_of_the_map(
        line in prop_oneof!["GET /[!-~]{0,8} HTTP/1.[01]", "(GET|POST|CONNECT|BREW|OPTIONS) [!-~]{1,3} HTTP/1.1", "POST / HTTP/1.1"],
        host in prop_oneof![3 => Just("Host: t\r\n"), 1 => Just("")],
        fields in fields(),
    ) {
        let bytes = format!("{line}\r\n{host}{fields}\r\n");
        let (by_map, in_lines) = (request(bytes.as_bytes(), Form::Map), request(bytes.as_bytes(), Form::Lines));
        let told = |told: Option<(Vec<String>, Framing, bool, bool)>| told.map(|(a, b, c, _)| (a, b, c));
        prop_assert_eq!(told(by_map), told(in_lines), "{:?}", bytes);
    }

    #[test]
    fn an_answer_in_lines_is_the_one_of_the_map(
        line in prop_oneof!["HTTP/1.[01] [1-9][0-9]{2}( [ -~\u{e9}]{0,6})?", "HTTP/1.[01] (200 OK|404 Gone|200|204 |304 x|426 y)"],
        fields in fields(),
    ) {
        let bytes = format!("{line}\r\n{fields}\r\n");
        let of = |form| answer(bytes.as_bytes(), &Method::GET, form).map(|(a, b, c, d, _)| (a, b, c, d));
        prop_assert_eq!(of(Form::Map), of(Form::Lines), "{:?}", bytes);
    }
}
