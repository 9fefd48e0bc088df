//! `/v1/override`: flags forced in this sidecar alone, for a time, and who may do that.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{BodyError, answer, body, cors};
use crate::flags::overrides::{Force, Handle, LONGEST, Order, Overridden, Refused};
use crate::flags::settings::Overrides as Mode;
use crate::flags::status::Status;
use crate::net::percent;
use crate::net::server::Peer;

/// What a request over TCP has to carry: whoever makes the app fetch a URL of theirs can hardly add a header.
const MEANT: HeaderName = HeaderName::from_static("tidegate-override");
/// Characters of `by` and of `note`.
const WORDS: usize = 256;

/// The override routes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    mode: Mode,
    overrides: Handle,
    flags: watch::Receiver<Status>,
}

/// Whether a path is one of these routes.
pub fn serves(path: &str) -> bool {
    path.strip_prefix("/v1/override").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The body of `PUT`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    variant: Option<String>,
    value: Option<Box<RawValue>>,
    definition: Option<Box<RawValue>>,
    ttl: String,
    by: Option<String>,
    note: Option<String>,
}

impl Api {
    /// Lets those of `mode` change `overrides`, and tells what `flags` says of them.
    pub fn new(mode: Mode, overrides: Handle, flags: watch::Receiver<Status>) -> Self {
        Self { mode, overrides, flags }
    }

    /// Answers one request.
    ///
    /// # Cancellation
    /// A change whose client goes away may still be made.
    pub async fn handle<B>(&self, peer: Peer, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body + Unpin,
        B::Error: Into<BodyError>,
    {
        let (head, body) = request.into_parts();
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        let Some(key) = head.uri.path().strip_prefix("/v1/override/").filter(|key| !key.is_empty()) else {
            return if reads { self.list() } else { self.not_allowed("GET, HEAD") };
        };
        if key.contains('/') {
            return self.problem(StatusCode::NOT_FOUND, "nothing is served at this path");
        }
        let key = match percent::segment(key) {
            Ok(key) => key,
            Err(error) => return self.problem(StatusCode::BAD_REQUEST, &format!("the flag key {error}")),
        };
        if reads {
            return self.show(&key);
        }
        if !matches!(head.method, Method::PUT | Method::DELETE) {
            return self.not_allowed("GET, HEAD, PUT, DELETE");
        }
        if let Some(why) = self.refuses(peer, &head) {
            return self.problem(StatusCode::FORBIDDEN, why);
        }
        if head.method == Method::DELETE {
            return match self.overrides.remove(&key).await {
                Ok(Some((_, revision))) => answer::empty(StatusCode::NO_CONTENT, revision),
                Ok(None) => self.problem(StatusCode::NOT_FOUND, "this flag has no override"),
                Err(refused) => self.refused(&refused),
            };
        }
        let body = match body::read(body).await {
            Ok(body) => body,
            Err(error) => {
                let status = match error {
                    BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                    BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
                    BodyError::Broken(_) => StatusCode::BAD_REQUEST,
                };
                return self.problem(status, &error.to_string());
            }
        };
        let order = match order(&key, &body, peer) {
            Ok(order) => order,
            Err(why) => return self.problem(StatusCode::BAD_REQUEST, &why),
        };
        match self.overrides.set(order).await {
            Ok((over, revision)) => {
                let mut told = told(&over);
                told["revision"] = revision.into();
                answer::json(StatusCode::OK, told.to_string().into_bytes(), revision)
            }
            Err(refused) => self.refused(&refused),
        }
    }

    /// Why this caller may not change an override.
    fn refuses(&self, peer: Peer, head: &Parts) -> Option<&'static str> {
        match (self.mode, peer) {
            (Mode::Off, _) => Some("overrides are off; set flags.overrides to socket or local"),
            (_, Peer::Unix) => None,
            (Mode::Socket, Peer::Tcp(_)) => {
                Some("overrides are taken over local.socket alone; set flags.overrides to local to take them here")
            }
            (Mode::Local, Peer::Tcp(_)) if !peer.is_local() => Some("overrides are taken from loopback alone"),
            (Mode::Local, _) if cors::from_page(&head.headers) => Some("overrides are not taken from web pages"),
            (Mode::Local, _) if head.headers.get(MEANT).is_none_or(|value| value != "allow") => {
                Some("send the header Tidegate-Override: allow, which says that this is meant")
            }
            (Mode::Local, _) => None,
        }
    }

    fn list(&self) -> Response<Full<Bytes>> {
        let mode = match self.mode {
            Mode::Off => "off",
            Mode::Socket => "socket",
            Mode::Local => "local",
        };
        let (overrides, revision): (Vec<Value>, u64) = {
            let status = self.flags.borrow();
            (status.overrides.iter().map(told).collect(), status.generation)
        };
        let body = json!({ "mode": mode, "overrides": overrides });
        answer::json(StatusCode::OK, body.to_string().into_bytes(), revision)
    }

    fn show(&self, key: &str) -> Response<Full<Bytes>> {
        let found = {
            let status = self.flags.borrow();
            status.overrides.iter().find(|over| &*over.key == key).map(told)
        };
        match found {
            Some(over) => answer::json(StatusCode::OK, over.to_string().into_bytes(), self.revision()),
            None => self.problem(StatusCode::NOT_FOUND, "this flag has no override"),
        }
    }

    fn refused(&self, refused: &Refused) -> Response<Full<Bytes>> {
        let status = match refused {
            Refused::NoFlag(_) => StatusCode::NOT_FOUND,
            Refused::NoVariant { .. } | Refused::Type { .. } | Refused::Invalid(_) => StatusCode::BAD_REQUEST,
            Refused::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Refused::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::Ending => StatusCode::SERVICE_UNAVAILABLE,
        };
        self.problem(status, &refused.to_string())
    }

    fn problem(&self, status: StatusCode, text: &str) -> Response<Full<Bytes>> {
        answer::json(status, json!({ "error": text }).to_string().into_bytes(), self.revision())
    }

    fn not_allowed(&self, methods: &'static str) -> Response<Full<Bytes>> {
        let mut response = self.problem(StatusCode::METHOD_NOT_ALLOWED, &format!("use {methods}"));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        response
    }

    fn revision(&self) -> u64 {
        self.flags.borrow().generation
    }
}

fn told(over: &Overridden) -> Value {
    serde_json::to_value(over).expect("an override is plain values and JSON that was checked")
}

/// What a body asks for.
fn order(key: &str, body: &[u8], peer: Peer) -> Result<Order, String> {
    let wanted: Wanted = serde_json::from_slice(body).map_err(|error| format!("the body is no override: {error}"))?;
    let force = match (wanted.variant, wanted.value, wanted.definition) {
        (Some(variant), None, None) => Force::Variant(variant.into()),
        (None, Some(value), None) => Force::Value(value.get().into()),
        (None, None, Some(definition)) => Force::Definition(definition.get().into()),
        _ => return Err("say one of variant, value and definition".to_owned()),
    };
    let ttl =
        humantime::parse_duration(&wanted.ttl).ok().filter(|ttl| *ttl >= Duration::from_secs(1) && *ttl <= LONGEST);
    let ttl = ttl.ok_or("ttl is a duration of at least 1s and at most 24h, such as 15m")?;
    let words = |name: &str, text: Option<String>| match text {
        Some(text) if text.chars().count() > WORDS => Err(format!("{name} is longer than {WORDS} characters")),
        Some(text) if text.chars().any(char::is_control) => Err(format!("{name} holds control characters")),
        text => Ok(text),
    };
    let from = match peer {
        Peer::Tcp(address) => address.ip().to_string(),
        Peer::Unix => "local socket".to_owned(),
    };
    let by = match words("by", wanted.by)? {
        Some(by) => format!("{by} ({from})"),
        None => from,
    };
    Ok(Order { key: key.into(), force, ttl, by, note: words("note", wanted.note)? })
}
