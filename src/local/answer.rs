//! The answers of the flag routes, assembled as bytes: JSON texts made at compile time, joined.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode};
use http_body_util::Full;

use super::body;
use crate::flags::evaluate::{ErrorCode, Failure, Resolution};

/// The header that tells which snapshot answered: a number that never falls while the process lives.
pub(super) const REVISION: HeaderName = HeaderName::from_static("tidegate-revision");

/// The header that tells for how long, in seconds, what was answered has not been confirmed by its source.
const STALE: HeaderName = HeaderName::from_static("tidegate-stale");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: Vec<u8>, revision: u64) -> Response<Full<Bytes>> {
    response(status, Some(JSON), body.into(), revision)
}

/// A plain text answer.
pub(super) fn text(body: impl Into<Bytes>, revision: u64) -> Response<Full<Bytes>> {
    response(StatusCode::OK, Some(TEXT), body.into(), revision)
}

/// An answer of nothing.
pub(super) fn empty(status: StatusCode, revision: u64) -> Response<Full<Bytes>> {
    response(status, None, Bytes::new(), revision)
}

fn response(
    status: StatusCode,
    content_type: Option<HeaderValue>,
    body: Bytes,
    revision: u64,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(3);
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, content_type);
    }
    headers.insert(REVISION, HeaderValue::from(revision));
    response
}

/// The answer to an evaluation that failed.
pub(super) fn failure(key: &str, failure: &Failure, revision: u64) -> Response<Full<Bytes>> {
    let status = match failure.code {
        ErrorCode::FlagNotFound => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    };
    let mut body = Vec::with_capacity(160);
    write_failure(&mut body, Some(key), failure);
    json(status, body, revision)
}

/// The answer to a bulk evaluation that could not begin.
pub(super) fn bulk_failure(failure: &Failure, revision: u64) -> Response<Full<Bytes>> {
    let mut body = Vec::with_capacity(160);
    write_failure(&mut body, None, failure);
    json(StatusCode::BAD_REQUEST, body, revision)
}

/// The answer to a body that could not be read.
pub(super) fn unread(error: &body::Error, revision: u64) -> Response<Full<Bytes>> {
    let (status, code) = match error {
        body::Error::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::General),
        body::Error::TooSlow => (StatusCode::REQUEST_TIMEOUT, ErrorCode::General),
        body::Error::Broken(_) => (StatusCode::BAD_REQUEST, ErrorCode::ParseError),
    };
    let mut body = Vec::with_capacity(128);
    write_failure(&mut body, None, &Failure { code, details: error.to_string() });
    json(status, body, revision)
}

/// An error that is of no flag.
pub(super) fn problem(status: StatusCode, details: &str, revision: u64) -> Response<Full<Bytes>> {
    let mut body = b"{\"errorDetails\":".to_vec();
    write_string(&mut body, details);
    body.push(b'}');
    json(status, body, revision)
}

/// The answer to a path that nothing serves. It carries no error code: no flag was looked for.
pub(super) fn not_found(revision: u64) -> Response<Full<Bytes>> {
    problem(StatusCode::NOT_FOUND, "nothing is served at this path", revision)
}

/// The answer before the first flags are applied: "there is no such flag" would be taken for the truth.
pub(super) fn not_ready(key: Option<&str>) -> Response<Full<Bytes>> {
    let mut body = b"{".to_vec();
    write_key(&mut body, key);
    body.extend_from_slice(br#""errorCode":"PROVIDER_NOT_READY","errorDetails":"no flags are applied yet"}"#);
    let mut response = json(StatusCode::SERVICE_UNAVAILABLE, body, 0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Says for how long the answer's source has been silent.
pub(super) fn mark_stale(response: &mut Response<Full<Bytes>>, age: Option<Duration>) {
    if let Some(age) = age {
        response.headers_mut().insert(STALE, HeaderValue::from(age.as_secs()));
    }
}

/// The answer to `OPTIONS`.
pub(super) fn options(allowed: &[Method], revision: u64) -> Response<Full<Bytes>> {
    let mut response = empty(StatusCode::NO_CONTENT, revision);
    response.headers_mut().insert(ALLOW, allow(allowed));
    response
}

fn allow(allowed: &[Method]) -> HeaderValue {
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    HeaderValue::try_from(names.join(", ")).expect("method names are header text")
}

/// The answer to a method that the path does not take.
pub(super) fn method_not_allowed(allowed: &[Method], revision: u64) -> Response<Full<Bytes>> {
    let allowed = allow(allowed);
    let details = format!("this path takes {}", allowed.to_str().unwrap_or_default());
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, &details, revision);
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// Appends a resolution as OFREP's `serverEvaluationSuccess`; without a variant it has no value, which tells the
/// client to use the default in its code (`codeDefaultFlag`). It has the member `variant` all the same: the Python
/// client (0.3.0) takes an answer without for an error.
pub(super) fn write_resolution(body: &mut Vec<u8>, resolution: &Resolution<'_>) {
    let entry = resolution.entry;
    let metadata = entry.metadata_json();
    let variant = resolution.variant.map_or("\"variant\":\"\"", |variant| variant.answer_json());
    let reason = resolution.reason.name();
    // Exactly: a `Vec` with room left would cost another allocation when it becomes an answer.
    body.reserve(33 + entry.flag().key_json().len() + reason.len() + variant.len() + metadata.len());
    body.extend_from_slice(b"{\"key\":");
    body.extend_from_slice(entry.flag().key_json().as_bytes());
    body.extend_from_slice(b",\"reason\":\"");
    body.extend_from_slice(reason.as_bytes());
    body.extend_from_slice(b"\",");
    body.extend_from_slice(variant.as_bytes());
    body.extend_from_slice(b",\"metadata\":");
    body.extend_from_slice(metadata.as_bytes());
    body.push(b'}');
}

/// Appends a failure as OFREP's `evaluationFailure`, or without a key as its `bulkEvaluationFailure`.
pub(super) fn write_failure(body: &mut Vec<u8>, key: Option<&str>, failure: &Failure) {
    body.push(b'{');
    write_key(body, key);
    body.extend_from_slice(b"\"errorCode\":\"");
    body.extend_from_slice(failure.code.name().as_bytes());
    body.extend_from_slice(b"\",\"errorDetails\":");
    write_string(body, &failure.details);
    body.push(b'}');
}

fn write_key(body: &mut Vec<u8>, key: Option<&str>) {
    if let Some(key) = key {
        body.extend_from_slice(b"\"key\":");
        write_string(body, key);
        body.push(b',');
    }
}

fn write_string(body: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(body, text).expect("a string always serialises, and a Vec always takes it");
}
