//! Spans as messages of OTLP (opentelemetry-proto, `trace/v1/trace.proto`), and a collector's answer. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::net::rpc::wire::{Fields, Malformed, Wire, put_bytes, put_message, put_number};

/// `SPAN_KIND_SERVER`
const SERVER: u64 = 2;
/// `STATUS_CODE_ERROR`
const ERROR: u64 = 2;
/// `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`, `SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`
const REMOTE_IS_KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// The work done for one request.
#[derive(Debug)]
pub struct Span<'a> {
    /// The trace it belongs to.
    pub trace: u128,
    /// Itself.
    pub id: u64,
    /// The client's span.
    pub parent: Option<u64>,
    /// `trace-flags` of W3C Trace Context.
    pub flags: u8,
    /// `tracestate`, as it came.
    pub state: Option<&'a [u8]>,
    /// What is done.
    pub name: &'a str,
    /// When it began.
    pub began: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Facts, by their names in the semantic conventions.
    pub attributes: &'a [(&'static str, Attribute<'a>)],
    /// Whether it failed.
    pub failed: bool,
}

/// The value of an attribute.
#[derive(Debug, Clone, Copy)]
pub enum Attribute<'a> {
    /// Text; what is no UTF-8 is replaced.
    Text(&'a [u8]),
    /// A whole number.
    Number(u64),
}

/// The bytes of a `Span` message.
pub(super) fn span(span: &Span<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    put_bytes(&mut out, 1, span.trace.to_be_bytes());
    put_bytes(&mut out, 2, span.id.to_be_bytes());
    if let Some(state) = span.state {
        put_text(&mut out, 3, state);
    }
    if let Some(parent) = span.parent {
        put_bytes(&mut out, 4, parent.to_be_bytes());
    }
    put_bytes(&mut out, 5, span.name);
    put_number(&mut out, 6, SERVER);
    let began = span.began.duration_since(UNIX_EPOCH).unwrap_or_default();
    put_fixed64(&mut out, 7, nanos(began));
    put_fixed64(&mut out, 8, nanos(began.saturating_add(span.took)));
    for (name, value) in span.attributes {
        put_attribute(&mut out, 9, name, *value);
    }
    if span.failed {
        put_message(&mut out, 15, |status| put_number(status, 3, ERROR));
    }
    let remote = REMOTE_IS_KNOWN | if span.parent.is_some() { REMOTE } else { 0 };
    put_fixed32(&mut out, 16, u32::from(span.flags) | remote);
    out
}

/// An `ExportTraceServiceRequest` of spans encoded before.
pub(super) fn request(service: &str, more: &[(String, String)], spans: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(spans.iter().map(|span| span.len() + 4).sum::<usize>() + 256);
    put_message(&mut out, 1, |resource_spans| {
        put_message(resource_spans, 1, |resource| {
            put_attribute(resource, 1, "service.name", Attribute::Text(service.as_bytes()));
            for (name, value) in more {
                put_attribute(resource, 1, name, Attribute::Text(value.as_bytes()));
            }
        });
        put_message(resource_spans, 2, |scope_spans| {
            put_message(scope_spans, 1, |scope| {
                put_bytes(scope, 1, "tidegate");
                put_bytes(scope, 2, env!("CARGO_PKG_VERSION"));
            });
            for span in spans {
                put_bytes(scope_spans, 2, span);
            }
        });
    });
    out
}

/// How many spans an `ExportTraceServiceResponse` refuses, and why.
pub(super) fn refused(answer: &[u8]) -> Result<(u64, String), Malformed> {
    let (mut count, mut why) = (0, String::new());
    for field in Fields::of(answer) {
        let (1, partial) = field? else { continue };
        for field in Fields::of(partial.bytes()?) {
            match field? {
                (1, Wire::Varint(spans)) => count = spans,
                (2, text) => why = text.text()?.chars().take(200).collect(),
                _ => {}
            }
        }
    }
    Ok((count, why))
}

fn put_attribute(out: &mut Vec<u8>, number: u32, name: &str, value: Attribute<'_>) {
    put_message(out, number, |pair| {
        put_bytes(pair, 1, name);
        put_message(pair, 2, |any| match value {
            Attribute::Text(text) => put_text(any, 1, text),
            Attribute::Number(value) => put_number(any, 3, value),
        });
    });
}

fn put_text(out: &mut Vec<u8>, number: u32, text: &[u8]) {
    match std::str::from_utf8(text) {
        Ok(text) => put_bytes(out, number, text),
        Err(_) => put_bytes(out, number, &*String::from_utf8_lossy(text)),
    }
}

fn put_fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    out.push((number << 3 | 1) as u8);
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_fixed32(out: &mut Vec<u8>, number: u32, value: u32) {
    // A tag beyond 15 takes two bytes.
    out.extend_from_slice(&[(number << 3 | 5) as u8 | 0x80, (number >> 4) as u8]);
    out.extend_from_slice(&value.to_le_bytes());
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    };
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_official_types_read_what_was_written() {
        let attributes =
            [("url.path", Attribute::Text(b"/a\xff")), ("http.response.status_code", Attribute::Number(503))];
        let bytes = span(&Span {
            trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            id: 0xb7ad_6b71_6920_3331,
            parent: Some(1),
            flags: 1,
            state: Some(b"vendor=1"),
            name: "GET",
            began: UNIX_EPOCH + Duration::from_nanos(1_900_000_000_000_000_123),
            took: Duration::from_micros(7),
            attributes: &attributes,
            failed: true,
        });
        let request = request("orders", &[("zone".to_owned(), "a".to_owned())], &[bytes.clone(), bytes]);
        let read = ExportTraceServiceRequest::decode(&*request).expect("an export request");
        let [resource_spans] = &*read.resource_spans else { panic!("one resource") };
        let service = &resource_spans.resource.as_ref().expect("a resource").attributes[0];
        let text = |value: &str| Some(Value::StringValue(value.to_owned()));
        assert_eq!((&*service.key, service.value.clone().and_then(|any| any.value)), ("service.name", text("orders")));
        let more = &resource_spans.resource.as_ref().expect("a resource").attributes[1];
        assert_eq!((&*more.key, more.value.clone().and_then(|any| any.value)), ("zone", text("a")));
        let [scope_spans] = &*resource_spans.scope_spans else { panic!("one scope") };
        assert_eq!(scope_spans.scope.as_ref().expect("a scope").name, "tidegate");
        assert_eq!(scope_spans.spans.len(), 2);
        let span = &scope_spans.spans[0];
        assert_eq!(span.trace_id, [10, 247, 101, 25, 22, 205, 67, 221, 132, 72, 235, 33, 28, 128, 49, 156]);
        assert_eq!((&*span.parent_span_id, span.span_id[0]), (&[0, 0, 0, 0, 0, 0, 0, 1][..], 0xb7));
        assert_eq!((&*span.name, span.kind, &*span.trace_state, span.flags), ("GET", 2, "vendor=1", 0x301));
        assert_eq!(span.start_time_unix_nano, 1_900_000_000_000_000_123);
        assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 7_000);
        let values: Vec<_> = span.attributes.iter().map(|pair| pair.value.clone().and_then(|any| any.value)).collect();
        assert_eq!(values, [text("/a\u{fffd}"), Some(Value::IntValue(503))]);
        assert_eq!(span.status.as_ref().expect("a status").code, 2);
    }

    #[test]
    fn a_collectors_answer_tells_what_it_refused() {
        let partial = ExportTracePartialSuccess { rejected_spans: 3, error_message: "too old".into() };
        let answer = ExportTraceServiceResponse { partial_success: Some(partial) };
        assert_eq!(refused(&answer.encode_to_vec()), Ok((3, "too old".into())));
        assert_eq!(refused(b""), Ok((0, String::new())));
        assert!(refused(b"\x0a\xff").is_err());
        assert!(refused(b"<html>").is_err());
    }
}
