//! The native flag routes, for `curl` and for code without an SDK: a context of query parameters, which are strings.

use std::time::SystemTime;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use serde_json::{Value, json};

use super::{answer, percent};
use crate::flags::context::{self, Context, Object};
use crate::flags::evaluate::{ErrorCode, Failure, Resolution, evaluate};
use crate::flags::model::Variant;
use crate::flags::store::{Entry, Snapshot};

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

fn resolve<'s>(
    snapshot: &'s Snapshot,
    key: &str,
    query: Option<&str>,
    now: SystemTime,
    answered: impl FnOnce(Resolution<'s>) -> Result<Response<Full<Bytes>>, Failure>,
) -> Response<Full<Bytes>> {
    let malformed = |what: &str, error| Failure { code: ErrorCode::ParseError, details: format!("{what} {error}") };
    let decoded = percent::segment(key).map_err(|error| malformed("the flag key", error));
    let shown = decoded.as_deref().unwrap_or(key).to_owned();
    let attributes = percent::query(query.unwrap_or(""))
        .map(|pair| pair.map(|(name, value)| (name, context::Value::String(value))))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed("the query", error));
    decoded
        .and_then(|key| evaluate(snapshot, &key, &Context::new(Object::new(attributes?)), now))
        .and_then(|resolution| {
            let stale = snapshot.is_stale(resolution.entry);
            let mut response = answered(resolution)?;
            if stale {
                answer::mark_stale(&mut response, snapshot.stale_age(now));
            }
            Ok(response)
        })
        .unwrap_or_else(|failure| answer::failure(&shown, &failure, snapshot.generation()))
}
