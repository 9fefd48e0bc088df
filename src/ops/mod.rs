//! What the kubelet, load balancers and Prometheus may ask.
//!
//! | path | answers |
//! |---|---|
//! | `/healthz` | 200 while every event loop turns; never asks a dependency |
//! | `/startupz` | 200 once the first checks have run and the first flags are applied |
//! | `/readyz`, `/readyz/NAME` | the verdict |
//! | `/lb-healthz` | 200 while ready and not draining, for load balancers that probe the pod themselves |
//! | `/metrics` | OpenMetrics |
//! | `/grpc.health.v1.Health/…` | the same over gRPC, gRPC-Web and Connect |
//! | `/drain` | the app's `preStop` hook: answers when drained, or when the app may restart |

mod health;
pub mod readyz;
pub mod settings;
#[cfg(test)]
mod tests;

pub use settings::Settings;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use health::Health;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use serde_json::json;
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use crate::lifecycle::driver::Lifecycle;
use crate::lifecycle::machine::Outcome;
use crate::lifecycle::threads::Pulse;
use crate::net::outbound::Outbound;
use crate::net::plain::{Answer, Plain};
use crate::net::rpc::Interrupted;
use crate::net::server::Peer;
use crate::readiness::Board;
use crate::secret::Secret;
use crate::telemetry::metrics::{self, Registry};

/// Between two log lines about refused drains.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Of every answer.
static FIELDS: [(HeaderName, HeaderValue); 2] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// Carries `ops.drain_token`; a `preStop.httpGet` hook sends it with `httpHeaders`.
pub const DRAIN_TOKEN: HeaderName = HeaderName::from_static("tidegate-drain-token");

/// The ops routes. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    parts: Arc<Parts>,
    health: Arc<Health>,
    /// When it was last said that somebody was refused to drain.
    refused: Arc<Mutex<Option<Instant>>>,
}

/// What the ops routes read.
pub struct Parts {
    /// The phase, and the way to drain.
    pub lifecycle: Lifecycle,
    /// Whether the event loops turn.
    pub pulse: Pulse,
    /// The verdict.
    pub board: Board,
    /// Whether the start was ever complete.
    pub started: watch::Receiver<bool>,
    /// Everything measured.
    pub registry: Registry,
    /// `ops.drain_token`.
    pub drain_token: Option<Secret>,
}

impl Api {
    /// Serves these parts.
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), health: Arc::default(), refused: Arc::default() }
    }

    /// The probes, of whose requests nothing but the path matters.
    pub fn plain(&self) -> Plain {
        let api = self.clone();
        Plain::new(move |target| match target {
            "/healthz" | "/startupz" | "/readyz" | "/lb-healthz" => Some(api.probe(target, None)),
            _ => None,
        })
    }

    /// Answers one request.
    ///
    /// # Cancellation
    /// A caller of `/drain` that goes away does not stop the drain.
    pub async fn handle<B>(self, peer: Peer, request: Request<B>) -> Response<Outbound>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Interrupted>,
    {
        let path = request.uri().path();
        if path.starts_with(health::PREFIX) {
            return self.health.answer(&self.parts, request).await.map(Outbound::Call);
        }
        let drains = path == "/drain";
        let allowed = match *request.method() {
            Method::GET => true,
            Method::HEAD => !drains,
            Method::POST => drains,
            _ => false,
        };
        if !allowed {
            return not_allowed(if drains { "GET, POST" } else { "GET, HEAD" }).map(Outbound::Whole);
        }
        if drains {
            return self.drain(peer, request.headers()).await.map(Outbound::Whole);
        }
        response(self.probe(path, request.uri().query())).map(Outbound::Whole)
    }

    fn probe(&self, path: &str, query: Option<&str>) -> Answer {
        match path {
            "/healthz" => self.healthz(),
            "/startupz" => self.startupz(),
            "/lb-healthz" => self.lb_healthz(),
            "/metrics" => answer(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(&self.parts.registry)),
            _ if path == "/readyz" || path.starts_with("/readyz/") => {
                let now = tokio::time::Instant::now();
                let readyz::Answer { status, content_type, body } = readyz::answer(path, query, &self.parts.board, now);
                answer(status, content_type, body)
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "no such path; there are: /healthz /startupz /readyz /lb-healthz /metrics /drain",
            ),
        }
    }

    fn healthz(&self) -> Answer {
        match self.parts.pulse.stuck(Instant::now()) {
            None => text(StatusCode::OK, "ok"),
            Some(name) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("event loop {name} is stuck")),
        }
    }

    fn startupz(&self) -> Answer {
        if *self.parts.started.borrow() {
            return text(StatusCode::OK, "ok");
        }
        text(StatusCode::SERVICE_UNAVAILABLE, "starting: waiting for the first round of checks and flags")
    }

    fn lb_healthz(&self) -> Answer {
        let phase = self.parts.lifecycle.phase();
        if phase.is_draining() {
            return text(StatusCode::SERVICE_UNAVAILABLE, &format!("draining: {}", phase.as_str()));
        }
        let (ready, body) = self.parts.board.snapshot().answer(tokio::time::Instant::now());
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        answer(status, "application/json", body)
    }

    /// Fails closed: without a token set, only this pod may drain itself.
    async fn drain(&self, peer: Peer, headers: &HeaderMap) -> Response<Full<Bytes>> {
        if !peer.is_local() && !self.is_token(headers.get(DRAIN_TOKEN)) {
            self.say_refused(peer);
            return response(text(
                StatusCode::FORBIDDEN,
                "draining is for callers on loopback or with ops.drain_token in Tidegate-Drain-Token",
            ));
        }
        if !self.parts.lifecycle.phase().is_draining() {
            tracing::info!(?peer, "drain requested by a hook");
        }
        let began = Instant::now();
        let ended = self.parts.lifecycle.hook().await;
        let (status, outcome) = ended.map_or(("held", "restart"), |outcome| ("drained", outcome.as_str()));
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let body = json!({ "status": status, "outcome": outcome, "took_ms": took_ms });
        // A hook's failure would only hurry the kubelet; what was cut is said in the body, the log and the metrics.
        let aborted = ended == Some(Outcome::Aborted);
        let status = if aborted { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        response(answer(status, "application/json", format!("{body}\n")))
    }

    /// Says so, once a minute at most: anybody may ask.
    fn say_refused(&self, peer: Peer) {
        let now = Instant::now();
        let mut last = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| now.saturating_duration_since(last) >= SAY_AGAIN) {
            *last = Some(now);
            tracing::warn!(?peer, "refused to drain: neither from loopback nor with the token");
        }
    }

    fn is_token(&self, given: Option<&HeaderValue>) -> bool {
        match (&self.parts.drain_token, given) {
            (Some(token), Some(given)) if !token.expose().is_empty() => {
                given.as_bytes().ct_eq(token.expose().as_bytes()).into()
            }
            _ => false,
        }
    }
}

fn text(status: StatusCode, text: &str) -> Answer {
    answer(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = response(text(StatusCode::METHOD_NOT_ALLOWED, &format!("use one of {methods}")));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    Answer { status, content_type, fields: &FIELDS, body: body.into() }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.extend(answer.fields.iter().cloned());
    response
}
