//! The access log: which requests get a line, and the line, one JSON object (`docs/PROXY.md` names its fields).

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use super::json;
use super::kept::{Kept, Part};
use super::notes::Ended;
use crate::telemetry::writer::Lines;

/// What is logged of requests, `access_log`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Settings {
    /// `access_log.sample`: the share of requests that get a line; `None` switches the log off.
    pub sample: Option<f64>,
    /// `access_log.errors`.
    pub errors: Errors,
    /// `access_log.query`.
    pub query: Query,
}

/// Whether requests that failed are sampled as others are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Errors {
    /// Each gets a line: answered by a 5xx, not or not wholly answered by the app, or left by its client.
    #[default]
    Always,
    /// As all others.
    Sampled,
}

/// What becomes of the query of a request's target, which may hold what nobody should read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Query {
    /// It is left out, and that of `Referer` too.
    #[default]
    Drop,
    /// It is logged.
    Keep,
}

/// Where the lines of one worker go.
#[derive(Clone)]
pub(super) struct Log {
    settings: Settings,
    share: f64,
    lines: Lines,
}

impl Log {
    /// The log, if there is to be one.
    pub(super) fn new(settings: Settings, lines: Option<&Lines>) -> Option<Self> {
        Some(Self { settings, share: settings.sample?, lines: lines?.clone() })
    }

    /// Whether a request that begins now gets a line in any case.
    pub(super) fn samples(&self) -> bool {
        fastrand::f64() < self.share
    }

    /// Whether a request that is not sampled may still get a line.
    pub(super) fn wants_failures(&self) -> bool {
        self.settings.errors == Errors::Always
    }

    /// Writes the line of a request that has ended, if it gets one.
    pub(super) fn write(&self, kept: &Kept, ended: &Ended<'_>) {
        if kept.sampled || (self.wants_failures() && ended.has_failed()) {
            self.lines.send(line(self.settings.query, kept, ended, SystemTime::now()));
        }
    }
}

/// The line. Its time is that of the request's head.
fn line(query: Query, kept: &Kept, ended: &Ended<'_>, now: SystemTime) -> Vec<u8> {
    let mut out = Vec::with_capacity(768);
    let began = now.checked_sub(ended.took).unwrap_or(now);
    out.extend_from_slice(b"{\"log\":\"access\",\"time\":\"");
    // Writing into a vector does not fail.
    drop(write!(out, "{}", humantime::format_rfc3339_millis(began)));
    out.push(b'"');
    text(&mut out, "listener", Some(ended.listener.as_bytes()));
    text(&mut out, "client", kept.get(Part::Client));
    text(&mut out, "method", kept.get(Part::Method));
    text(&mut out, "host", kept.get(Part::Host));
    let path = kept.get(Part::Path);
    match kept.get(Part::Query).filter(|_| query == Query::Keep) {
        Some(query) => text(&mut out, "path", Some(&[path.unwrap_or_default(), b"?", query].concat())),
        None => text(&mut out, "path", path),
    }
    text(&mut out, "protocol", Some(ended.notes.protocol().name().as_bytes()));
    if let Some(status) = ended.status() {
        number(&mut out, "status", u64::from(status));
    }
    number(&mut out, "bytes", ended.notes.sent());
    if let Some(received) = &kept.received {
        number(&mut out, "request_bytes", received.load(std::sync::atomic::Ordering::Relaxed));
    }
    if let Some(tunnel) = ended.notes.tunnel() {
        number(&mut out, "tunnel_bytes_in", tunnel.up);
        number(&mut out, "tunnel_bytes_out", tunnel.down);
        text(&mut out, "tunnel_ended_by", Some(tunnel.by.name().as_bytes()));
    }
    millis(&mut out, "duration_ms", Some(ended.took));
    millis(&mut out, "upstream_connect_ms", ended.notes.connect());
    millis(&mut out, "upstream_first_byte_ms", ended.notes.first_byte());
    millis(&mut out, "held_ms", ended.notes.held());
    if ended.notes.is_retried() {
        out.extend_from_slice(b",\"retried\":true");
    }
    text(&mut out, "error", ended.error().map(str::as_bytes));
    text(&mut out, "reason", kept.get(Part::Reason));
    text(&mut out, "request_id", kept.get(Part::RequestId));
    if let Some(place) = &ended.notes.place {
        text(&mut out, "trace_id", Some(format!("{:032x}", place.trace).as_bytes()));
        let span = place.span.map(|span| format!("{span:016x}"));
        text(&mut out, "span_id", span.as_deref().map(str::as_bytes));
    }
    text(&mut out, "user_agent", kept.get(Part::UserAgent));
    let referer = kept.get(Part::Referer).map(|referer| match query {
        Query::Keep => referer,
        Query::Drop => referer.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default(),
    });
    text(&mut out, "referer", referer);
    out.extend_from_slice(b"}\n");
    out
}

fn name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(out: &mut Vec<u8>, key: &str, value: Option<&[u8]>) {
    if let Some(value) = value {
        name(out, key);
        json::string(out, value);
    }
}

fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    name(out, key);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Milliseconds to the microsecond.
fn millis(out: &mut Vec<u8>, key: &str, value: Option<Duration>) {
    if let Some(value) = value {
        name(out, key);
        drop(write!(out, "{}.{:03}", value.as_millis(), value.subsec_micros() % 1000));
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::{Request, StatusCode};
    use serde_json::{Value, json};

    use super::super::notes::Notes;
    use super::*;

    fn head(target: &str, fields: &[(&str, &[u8])]) -> http::request::Parts {
        let mut request = Request::builder().uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("the test's request is sound").into_parts().0
    }

    fn logged(query: Query, head: &http::request::Parts, notes: &Notes, status: Option<StatusCode>) -> String {
        let kept = Kept::of(head, b"2001:db8::7", true);
        let took = Duration::from_micros(1_234_567);
        let ended = Ended { listener: "0.0.0.0:8080", notes, status, took };
        String::from_utf8(line(query, &kept, &ended, UNIX_EPOCH + Duration::from_millis(1_900_000_001_235)))
            .expect("UTF-8")
    }

    #[test]
    fn a_line_is_one_object_with_the_facts_of_its_request() {
        let head = head(
            "/cart?card=4111",
            &[
                ("host", b"shop.example"),
                ("user-agent", b"curl/8 \"x\"\xff"),
                ("referer", b"https://shop.example/a?token=t#f"),
                ("x-request-id", b"r1"),
                ("authorization", b"Bearer s3cret"),
                ("cookie", b"session=s3cret"),
            ],
        );
        let mut notes = Notes::of(&head);
        notes.connected(Duration::from_micros(90));
        notes.begun(Duration::from_millis(5));
        notes.retried();
        notes.delivered(12);
        notes.whole();
        let line = logged(Query::Drop, &head, &notes, Some(StatusCode::OK));
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
        let expected = json!({
            "log": "access", "time": "2030-03-17T17:46:40.000Z", "listener": "0.0.0.0:8080", "client": "2001:db8::7",
            "method": "GET", "host": "shop.example", "path": "/cart", "protocol": "HTTP/1.1", "status": 200, "bytes": 12,
            "duration_ms": 1234.567, "upstream_connect_ms": 0.09, "upstream_first_byte_ms": 5.0, "retried": true,
            "request_id": "r1", "user_agent": "curl/8 \"x\"\u{fffd}", "referer": "https://shop.example/a",
        });
        assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON"), expected);
        let line = logged(Query::Keep, &head, &notes, Some(StatusCode::OK));
        assert!(line.contains("\"/cart?card=4111\"") && line.contains("?token=t#f"), "{line}");
        assert!(!line.contains("s3cret"), "{line}");
    }

    #[test]
    fn a_password_in_the_target_is_no_part_of_the_host() {
        let head = head("http://ann:s3cret@shop.example:8080/a", &[]);
        let line = logged(Query::Keep, &head, &Notes::of(&head), None);
        assert!(line.contains("\"host\":\"shop.example:8080\"") && !line.contains("s3cret"), "{line}");
    }

    #[test]
    fn how_a_request_failed_is_told_by_status_and_error() {
        let head = head("/", &[]);
        let check = |prepare: fn(&mut Notes), status: Option<u16>, expected: (u64, Option<&str>)| {
            let mut notes = Notes::of(&head);
            prepare(&mut notes);
            let status = status.map(|status| StatusCode::from_u16(status).expect("a status"));
            let line: Value = serde_json::from_str(&logged(Query::Drop, &head, &notes, status)).expect("JSON");
            assert_eq!((line["status"].as_u64(), line["error"].as_str()), (Some(expected.0), expected.1));
        };
        check(Notes::whole, Some(404), (404, None));
        check(|_| {}, None, (499, Some("client_left")));
        check(|_| {}, Some(200), (200, Some("client_left")));
        check(|notes| notes.failed("connection_terminated"), Some(200), (200, Some("connection_terminated")));
        check(
            |notes| {
                notes.failed("connection_refused");
                notes.whole();
            },
            Some(502),
            (502, Some("connection_refused")),
        );
    }

    #[test]
    fn a_line_is_of_bounded_length() {
        let long = vec![b'\xff'; 100_000];
        let head =
            head(&format!("/{}", "a".repeat(60_000)), &[("user-agent", &long), ("referer", &long), ("host", &long)]);
        let line = logged(Query::Keep, &head, &Notes::of(&head), None);
        assert!(line.len() < 8 * 1024, "{}", line.len());
    }
}
