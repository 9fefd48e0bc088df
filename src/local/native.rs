//! The native flag routes, for `curl` and for code without an SDK: a context of query parameters, which are strings.

use std::time::SystemTime;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use super::{answer, percent};
use crate::flags::context::{Context, Object, Value};
use crate::flags::evaluate::{ErrorCode, Failure, Resolution, evaluate};
use crate::flags::store::Snapshot;

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
        .map(|pair| pair.map(|(name, value)| (name, Value::String(value))))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed("the query", error));
    decoded
        .and_then(|key| evaluate(snapshot, &key, &Context::new(Object::new(attributes?)), now))
        .and_then(answered)
        .unwrap_or_else(|failure| answer::failure(&shown, &failure, snapshot.generation()))
}
