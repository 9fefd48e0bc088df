//! A request as a span, by OpenTelemetry's semantic conventions for HTTP servers
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>).

use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use super::kept::{Kept, Part};
use super::notes::Ended;
use super::trace::Place;
use crate::net::otlp::{Attribute, Span, Spans};

/// Hands over the span `id` of a request that has ended. Queries are never in it: they may hold what nobody should read.
pub(super) fn send(spans: &Spans, place: &Place, id: u64, kept: &Kept, ended: &Ended<'_>) {
    let notes = ended.notes;
    let known = notes.verb().name();
    let status = ended.status().unwrap_or_default().to_string();
    // A body is what an answer has that is one.
    let answered = ended.status.is_some_and(|status| !status.is_informational());
    let (address, port) = kept.get(Part::Host).map_or((None, None), authority);
    let error = ended.has_failed().then(|| ended.error().unwrap_or(&status).as_bytes());
    let text = |name, value: Option<_>| value.map(|value| (name, Attribute::Text(value)));
    let number = |name, value: Option<u64>| value.map(|value| (name, Attribute::Number(value)));
    let attributes: Vec<_> = [
        text("http.request.method", Some(known.unwrap_or("_OTHER").as_bytes())),
        text("http.request.method_original", kept.get(Part::Method).filter(|_| known.is_none())),
        text("url.scheme", kept.get(Part::Scheme)),
        text("url.path", kept.get(Part::Path)),
        text("server.address", address),
        number("server.port", port),
        text("client.address", kept.get(Part::Client)),
        text("network.protocol.version", notes.protocol().name().split('/').nth(1).map(str::as_bytes)),
        text("user_agent.original", kept.get(Part::UserAgent)),
        number("http.response.status_code", ended.status.map(|status| u64::from(status.as_u16()))),
        number("http.response.body.size", answered.then(|| notes.sent())),
        number("http.request.body.size", kept.received.as_ref().map(|received| received.load(Relaxed))),
        text("error.type", error),
    ]
    .into_iter()
    .flatten()
    .collect();
    let now = SystemTime::now();
    spans.send(&Span {
        trace: place.trace,
        id,
        parent: place.parent,
        flags: place.flags,
        state: kept.get(Part::TraceState),
        name: known.unwrap_or("HTTP"),
        began: now.checked_sub(ended.took).unwrap_or(now),
        took: ended.took,
        attributes: &attributes,
        failed: error.is_some(),
    });
}

/// Host and port of an authority; an IPv6 address without its brackets.
fn authority(text: &[u8]) -> (Option<&[u8]>, Option<u64>) {
    let colon = text.iter().rposition(|byte| *byte == b':').filter(|at| !text[*at..].contains(&b']'));
    let (host, port) = colon.map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])));
    let host = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
    let port = port.and_then(|port| std::str::from_utf8(port).ok()?.parse::<u16>().ok());
    (Some(host).filter(|host| !host.is_empty()), port.map(u64::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_taken_apart() {
        for (text, host, port) in [
            ("shop.example", Some("shop.example"), None),
            ("shop.example:8080", Some("shop.example"), Some(8080)),
            ("[::1]:80", Some("::1"), Some(80)),
            ("[::1]", Some("::1"), None),
            ("h:", Some("h"), None),
            ("h:99999", Some("h"), None),
            ("", None, None),
        ] {
            assert_eq!(authority(text.as_bytes()), (host.map(str::as_bytes), port), "{text}");
        }
    }
}
