//! The sidecar's own state and commands: `/v1/status`, `/v1/drain`, `/v1/hold`, `/v1/release`, `/v1/work`.

pub mod hold;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::cors;
use crate::flags;
use crate::flags::executor::Standing;
use crate::lifecycle::driver::Lifecycle;
use crate::lifecycle::leases::Leases;
use crate::lifecycle::ledger::Ledger;
use crate::lifecycle::machine::Event;
use crate::net::server::Peer;
use crate::proxy::gate::Gates;
use crate::readiness::Board;

/// Work leases may last this long at most.
const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The control routes. Cheap to clone.
#[derive(Clone)]
pub struct Control(Arc<Parts>);

/// What the control routes read and change.
pub struct Parts {
    /// `workload`.
    pub workload: String,
    /// The phase, and the way to drain.
    pub lifecycle: Lifecycle,
    /// What is in flight.
    pub ledger: Arc<Ledger>,
    /// Work leases.
    pub leases: Arc<Leases>,
    /// What holds requests.
    pub gates: Gates,
    /// The verdict.
    pub board: Board,
    /// The flags' sources.
    pub flags: watch::Receiver<flags::Status>,
    /// What each executor of schedules is doing, if there are any.
    pub schedules: Vec<watch::Receiver<Standing>>,
    /// When the process began.
    pub began: Instant,
}

impl Control {
    /// Serves these parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Answers one request. Draining is for the unix socket: the app, whose requests come over TCP (and may be made
    /// by whoever found a way to make it fetch a URL), has no business with it.
    pub async fn handle<B>(&self, peer: Peer, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let method = request.method();
        let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if changes && peer != Peer::Unix && cors::from_page(request.headers()) {
            return problem(StatusCode::FORBIDDEN, "web pages have no business here");
        }
        match (path, path.strip_prefix("/v1/work/")) {
            ("/v1/status", _) if method == Method::GET || method == Method::HEAD => {
                reply(StatusCode::OK, &self.status())
            }
            ("/v1/status", _) => not_allowed("GET, HEAD"),
            ("/v1/drain", _) if method != Method::POST => not_allowed("POST"),
            ("/v1/drain", _) if peer != Peer::Unix => problem(
                StatusCode::FORBIDDEN,
                "draining is for the unix socket; a hook uses /drain on the ops listener",
            ),
            ("/v1/drain", _) => self.drain(request.uri().query()).await,
            ("/v1/work", _) if method == Method::POST => self.take(request.uri().query()),
            ("/v1/work", _) => not_allowed("POST"),
            (_, Some(id)) if method == Method::DELETE => self.release(id),
            (_, Some(_)) => not_allowed("DELETE"),
            _ => problem(
                StatusCode::NOT_FOUND,
                "no such path; there are: /v1/status /v1/work /v1/flags /v1/override /ofrep/v1/evaluate/flags",
            ),
        }
    }

    fn status(&self) -> Value {
        let parts = &self.0;
        let phase = parts.lifecycle.phase();
        let counts = parts.ledger.counts();
        let now = tokio::time::Instant::now();
        let verdict = parts.board.snapshot().verdict(now, |_| false);
        let checks: serde_json::Map<String, Value> = verdict
            .lines
            .iter()
            .map(|line| {
                let standing = json!({
                    "status": line.standing.as_str(),
                    "class": line.class.as_str(),
                    "error": (!line.standing.passes()).then(|| line.standing.to_string()),
                    "brake": line.brake.as_deref(),
                });
                (line.name.to_string(), standing)
            })
            .collect();
        let history: Vec<Value> = parts
            .board
            .history()
            .into_iter()
            .map(|turn| {
                let at = humantime::format_rfc3339_millis(turn.at).to_string();
                json!({"at": at, "name": *turn.name, "from": turn.from, "to": turn.to, "why": turn.why})
            })
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "workload": parts.workload,
            "uptime_s": parts.began.elapsed().as_secs(),
            "phase": phase.as_str(),
            "outcome": phase.outcome().map(crate::lifecycle::machine::Outcome::as_str),
            "ready": verdict.ready(),
            "in_flight": {
                "requests": counts.requests,
                "tunnels": counts.tunnels,
                "work": counts.work,
                "waiting": counts.waiting,
                "connections": counts.connections,
                "oldest_epoch": parts.ledger.oldest_epoch(),
            },
            "hold": self.gates(),
            "checks": checks,
            "history": history,
            "flags": *parts.flags.borrow(),
            "schedules": parts.schedules.iter().map(|standing| *standing.borrow()).max().map_or("off", Standing::name),
        })
    }

    async fn drain(&self, query: Option<&str>) -> Response<Full<Bytes>> {
        match query {
            None | Some("wait=true") => {
                let outcome = self.0.lifecycle.drain().await;
                reply(StatusCode::OK, &json!({"status": "drained", "outcome": outcome.as_str()}))
            }
            Some("wait=false") => {
                self.0.lifecycle.send(Event::Drain).await;
                reply(StatusCode::ACCEPTED, &json!({"status": "draining"}))
            }
            Some(_) => problem(StatusCode::BAD_REQUEST, "the only parameter is wait, true or false"),
        }
    }

    fn take(&self, query: Option<&str>) -> Response<Full<Bytes>> {
        let ttl = match query.unwrap_or("").strip_prefix("ttl=") {
            None if query.is_none_or(str::is_empty) => None,
            Some(text) => match humantime::parse_duration(text) {
                Ok(ttl) if !ttl.is_zero() && ttl <= MAX_TTL => Some(ttl),
                _ => return problem(StatusCode::BAD_REQUEST, "ttl is a duration above 0 and at most 24h, such as 30s"),
            },
            None => return problem(StatusCode::BAD_REQUEST, "the only parameter is ttl, such as ?ttl=30s"),
        };
        match self.0.leases.take(ttl, Instant::now()) {
            Ok(id) => reply(StatusCode::CREATED, &json!({ "id": id })),
            Err(error) => problem(StatusCode::TOO_MANY_REQUESTS, &error.to_string()),
        }
    }

    fn release(&self, id: &str) -> Response<Full<Bytes>> {
        if self.0.leases.release(id) {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            return response;
        }
        problem(StatusCode::NOT_FOUND, "no lease of that id: released or expired already")
    }
}

fn reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn problem(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    reply(status, &json!({ "error": text }))
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("use {methods}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}
