//! The OpenFeature Remote Evaluation Protocol, 0.3.0
//! (<https://github.com/open-feature/protocol/blob/main/service/openapi.yaml>): one flag, or all at once with an ETag.

use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use xxhash_rust::xxh3::xxh3_128;

use super::answer;
use crate::flags::context::{Context, Name, Value};
use crate::flags::evaluate::{ErrorCode, Failure, evaluate_entry};
use crate::flags::store::Snapshot;
use crate::flags::usage::{self, Fetch};
use crate::net::percent;

/// `POST /ofrep/v1/evaluate/flags/{key}`
pub(super) fn single(snapshot: &Snapshot, key: &str, body: &[u8], now: SystemTime) -> Response<Full<Bytes>> {
    let revision = snapshot.generation();
    let key = match percent::segment(key) {
        Ok(key) => key,
        Err(error) => {
            let failure = Failure { code: ErrorCode::ParseError, details: format!("the flag key {error}") };
            return answer::failure(key, &failure, revision);
        }
    };
    let resolution = context(body).and_then(|context| usage::evaluate(snapshot, &key, &context, now));
    match resolution {
        Ok(resolution) => {
            let mut body = Vec::new();
            answer::write_resolution(&mut body, &resolution);
            let mut response = answer::json(StatusCode::OK, body, revision);
            if snapshot.is_stale(resolution.entry) {
                answer::mark_stale(&mut response, snapshot.stale_age(now));
            }
            response
        }
        Err(failure) => answer::failure(&key, &failure, revision),
    }
}

/// `POST /ofrep/v1/evaluate/flags`; `advertised` is its `eventStreams`. The query's `flagConfigEtag` and
/// `flagConfigLastModified` are for servers that answer from a cache: here the answer is always the newest.
pub(super) fn bulk(
    snapshot: &Snapshot,
    headers: &HeaderMap,
    body: &[u8],
    advertised: &str,
    now: SystemTime,
) -> Response<Full<Bytes>> {
    let revision = snapshot.generation();
    let context = match context(body) {
        Ok(context) => context,
        Err(failure) => return answer::bulk_failure(&failure, revision),
    };
    usage::fetched(snapshot, Fetch::Bulk, now);
    let mut body = Vec::with_capacity(64 + snapshot.len() * 128);
    body.extend_from_slice(b"{\"flags\":[");
    for (at, entry) in snapshot.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        match evaluate_entry(snapshot, entry, &context, now) {
            Ok(resolution) => answer::write_resolution(&mut body, &resolution),
            Err(failure) => answer::write_failure(&mut body, Some(entry.flag().key()), &failure),
        }
    }
    body.extend_from_slice(b"],\"eventStreams\":");
    body.extend_from_slice(advertised.as_bytes());
    body.extend_from_slice(b",\"metadata\":");
    body.extend_from_slice(snapshot.metadata_json().as_bytes());
    body.push(b'}');
    // Of the answer, not of the definitions: what a context cannot see does not make its client fetch again.
    let tag = format!("\"{:032x}\"", xxh3_128(&body));
    let mut response = if matches(headers, &tag) {
        answer::empty(StatusCode::NOT_MODIFIED, revision)
    } else {
        answer::json(StatusCode::OK, body, revision)
    };
    let tag = HeaderValue::try_from(tag).expect("hexadecimal digits in quotes are header text");
    response.headers_mut().insert(ETAG, tag);
    answer::mark_stale(&mut response, snapshot.stale_age(now));
    response
}

/// The value of `eventStreams` (ADR 0008 of the protocol). A client completes `endpoint` with the origin that it asks
/// itself, so the stream is found under every name of this host; `public_url` is for a proxy that changes the path.
pub(super) fn event_streams(public_url: Option<&str>) -> String {
    let path = super::events::OFREP_PATH;
    let mut stream = serde_json::json!({ "type": "sse", "inactivityDelaySec": 120 });
    match public_url {
        Some(url) => stream["url"] = format!("{url}{path}").into(),
        None => stream["endpoint"] = serde_json::json!({ "requestUri": path }),
    }
    serde_json::Value::Array(vec![stream]).to_string()
}

/// Whether `If-None-Match` names `tag`, by weak comparison (RFC 9110 section 13.1.2).
fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).any(|given| {
        // The tags made here have no comma in them, so to split at commas finds each that can match.
        given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag
    })
}

/// The context of a request's body. No body is an empty context, and so is one without `context`.
pub(super) fn context(body: &[u8]) -> Result<Context<'_>, Failure> {
    let failed = |code, details: String| Failure { code, details };
    // Checked once for the whole body this costs less than for each string.
    let text = std::str::from_utf8(body)
        .map_err(|error| failed(ErrorCode::ParseError, format!("the body is not UTF-8: {error}")))?;
    if text.trim_ascii().is_empty() {
        return Ok(Context::default());
    }
    let request: Asked<'_> = serde_json::from_str(text)
        .map_err(|error| failed(ErrorCode::ParseError, format!("the body is not a sound request: {error}")))?;
    match request.context {
        Some(Value::Object(attributes)) => Ok(Context::new(attributes)),
        None | Some(Value::Null) => Ok(Context::default()),
        Some(_) => Err(failed(ErrorCode::InvalidContext, "the context must be an object".to_owned())),
    }
}

/// `evaluationRequest` and `bulkEvaluationRequest`; of a `context` given twice the last counts.
struct Asked<'b> {
    context: Option<Value<'b>>,
}

impl<'de> Deserialize<'de> for Asked<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Asked<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a context")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut context = None;
                while let Some(Name(name)) = map.next_key()? {
                    if name == "context" {
                        context = Some(map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Asked { context })
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::flags::compile::{Format, document};
    use crate::flags::store::Layer;

    #[test]
    fn what_a_client_has_is_out_of_date_once_time_or_a_lost_source_makes_it_so() {
        let text = r#"{"flags":{"sale":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",
            "targeting":{"if":[{">=":[{"var":"$flagd.timestamp"},1000]},"on"]}}}}"#;
        let set = document(text, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
        let layer = Layer { name: "file:x".into(), flag_set_id: None, revision: 1, set: Arc::new(set) };
        let snapshot = |stale| Snapshot::merge(vec![Arc::new(layer.clone())], Arc::default(), 1, stale);
        let ask = |snapshot: &Snapshot, seconds, tag: Option<&HeaderValue>| {
            let headers = tag.map(|tag| (IF_NONE_MATCH, tag.clone())).into_iter().collect();
            let answer = bulk(snapshot, &headers, b"", "[]", UNIX_EPOCH + Duration::from_secs(seconds));
            (answer.status().as_u16(), answer.headers()[ETAG].clone())
        };
        let fresh = snapshot(false);
        let (_, tag) = ask(&fresh, 998, None);
        assert_eq!(ask(&fresh, 999, Some(&tag)).0, 304);
        assert_eq!(ask(&fresh, 1000, Some(&tag)).0, 200, "the rule decides otherwise by now");
        assert_eq!(ask(&snapshot(true), 999, Some(&tag)).0, 200, "the reason is another");
    }
}
