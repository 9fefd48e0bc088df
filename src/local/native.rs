//! The native flag routes, for `curl` and for code without an SDK: a context of query parameters, which are strings.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::ACCEPT;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::Full;

use serde_json::{Value, json};

use super::{answer, ofrep};
use crate::flags::context::{self, Context, Object};
use crate::flags::evaluate::{ErrorCode, Failure, Resolution};
use crate::flags::explain::explain;
use crate::flags::model::Variant;
use crate::flags::store::{Entry, Snapshot};
use crate::flags::usage;
use crate::net::percent;

/// `GET /v1/flags`: every flag in force.
pub(super) fn list(snapshot: &Snapshot, now: SystemTime) -> Response<Full<Bytes>> {
    let flags: Vec<Value> = snapshot.iter().map(|entry| listed(snapshot, entry)).collect();
    let body = json!({ "revision": snapshot.generation(), "stale": snapshot.stale(), "flags": flags });
    let mut response = answer::json(StatusCode::OK, body.to_string().into_bytes(), snapshot.generation());
    answer::mark_stale(&mut response, snapshot.stale_age(now));
    response
}

fn listed(snapshot: &Snapshot, entry: &Entry) -> Value {
    let (flag, layer) = (entry.flag(), &snapshot.layers()[entry.layer()]);
    json!({
        "key": flag.key(),
        "type": flag.kind().name(),
        "state": if flag.enabled() { "ENABLED" } else { "DISABLED" },
        "variants": flag.variants().iter().map(Variant::name).collect::<Vec<_>>(),
        "defaultVariant": flag.default_variant().map(Variant::name),
        "targeted": flag.targeted(),
        "source": &*layer.name,
        "revision": layer.revision,
        "stale": snapshot.is_stale(entry),
        "lastEvaluated": usage::last_evaluated(entry).and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|at| at.as_millis() as u64),
    })
}

/// `GET /v1/flags/{key}`: the evaluation as JSON.
pub(super) fn flag(snapshot: &Snapshot, key: &str, query: Option<&str>, now: SystemTime) -> Response<Full<Bytes>> {
    resolve(snapshot, key, query, now, |resolution| {
        let mut body = Vec::new();
        answer::write_resolution(&mut body, &resolution);
        Ok(answer::json(StatusCode::OK, body, snapshot.generation()))
    })
}

/// `GET /v1/flags/{key}/enabled`: `true` or `false`.
pub(super) fn enabled(snapshot: &Snapshot, key: &str, query: Option<&str>, now: SystemTime) -> Response<Full<Bytes>> {
    resolve(snapshot, key, query, now, |resolution| {
        let text = if resolution.boolean()? { "true" } else { "false" };
        Ok(answer::text(text, snapshot.generation()))
    })
}

/// `GET /v1/flags/{key}/explain`, with a context of query parameters, or `POST` with one in the body: how the flag
/// came to its value, as JSON, or as text for whoever accepts that.
pub(super) fn explained(
    snapshot: &Snapshot,
    key: &str,
    head: &Parts,
    body: &[u8],
    now: SystemTime,
) -> Response<Full<Bytes>> {
    let accepts = head.headers.get_all(ACCEPT).iter().filter_map(|accepted| accepted.to_str().ok());
    // The first that can be had: clients that list several put what they prefer first, with or without weights.
    let mut kinds = accepts.flat_map(|accepted| accepted.split(',')).filter_map(|kind| kind.split(';').next());
    let had = kinds.find(|kind| matches!(kind.trim(), "text/plain" | "text/*" | "application/json" | "*/*"));
    let text = had.is_some_and(|kind| kind.trim().starts_with("text/"));
    let revision = snapshot.generation();
    let explained = |key: &str, context: Result<Context<'_>, Failure>| {
        let explanation = explain(snapshot, key, &context?, now)?;
        if text {
            return Ok(answer::text(explanation.to_string(), revision));
        }
        let body = serde_json::to_vec(&explanation).expect("an explanation is plain values");
        Ok(answer::json(StatusCode::OK, body, revision))
    };
    let context = match head.method {
        Method::POST => ofrep::context(body),
        _ => parameters(head.uri.query()),
    };
    with_key(snapshot, key, |key| explained(key, context))
}

fn resolve<'s>(
    snapshot: &'s Snapshot,
    key: &str,
    query: Option<&str>,
    now: SystemTime,
    answered: impl FnOnce(Resolution<'s>) -> Result<Response<Full<Bytes>>, Failure>,
) -> Response<Full<Bytes>> {
    with_key(snapshot, key, |key| {
        let resolution = usage::evaluate(snapshot, key, &parameters(query)?, now)?;
        let stale = snapshot.is_stale(resolution.entry);
        let mut response = answered(resolution)?;
        if stale {
            answer::mark_stale(&mut response, snapshot.stale_age(now));
        }
        Ok(response)
    })
}

/// An answer about the flag whose key stands in a path as `key`.
fn with_key(
    snapshot: &Snapshot,
    key: &str,
    answered: impl FnOnce(&str) -> Result<Response<Full<Bytes>>, Failure>,
) -> Response<Full<Bytes>> {
    let decoded = percent::segment(key).map_err(|error| malformed("the flag key", error));
    let shown = decoded.as_deref().unwrap_or(key).to_owned();
    decoded
        .and_then(|key| answered(&key))
        .unwrap_or_else(|failure| answer::failure(&shown, &failure, snapshot.generation()))
}

/// The context of a query.
fn parameters(query: Option<&str>) -> Result<Context<'_>, Failure> {
    let attributes = percent::query(query.unwrap_or(""))
        .map(|pair| pair.map(|(name, value)| (name, context::Value::String(value))))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed("the query", error))?;
    Ok(Context::new(Object::new(attributes)))
}

fn malformed(what: &str, error: percent::Malformed) -> Failure {
    Failure { code: ErrorCode::ParseError, details: format!("{what} {error}") }
}
