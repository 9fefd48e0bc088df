//! `grpc.health.v1.Health` on the ops listener, for gRPC probes of the kubelet and for load balancers: readiness and
//! its checks by their names, and liveness.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{ALLOW, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use tokio::sync::{Semaphore, watch};

use super::Parts;
use crate::lifecycle::machine::Phase;
use crate::net::rpc::health::{Services, Serving, check, list, watch};
use crate::net::rpc::{self, Code, Format, Interrupted, Protocol, Status};
use crate::readiness::Snapshot;

/// What the paths of the service begin with.
pub(super) const PREFIX: &str = "/grpc.health.v1.Health/";
/// `Watch` calls open at one time.
const WATCHES: usize = 64;
/// A result that becomes too old and an event loop that stops turning are no events: who watches looks this often.
const LOOK: Duration = Duration::from_secs(1);

/// The service.
#[derive(Debug)]
pub(super) struct Health {
    places: Arc<Semaphore>,
}

impl Default for Health {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(WATCHES)) }
    }
}

impl Health {
    /// Answers a call to `method`.
    ///
    /// # Cancellation
    /// Dropped at any point it leaves nothing behind; a stream ends with its answer's body.
    pub(super) async fn answer<B>(&self, parts: &Arc<Parts>, request: Request<B>) -> Response<rpc::Body>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Interrupted>,
    {
        if *request.method() != Method::POST {
            let mut refusal = rpc::refusal(StatusCode::METHOD_NOT_ALLOWED);
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return refusal;
        }
        let Some(format) = Format::of(request.headers()) else { return rpc::unsupported() };
        if format.protocol == Protocol::Grpc && request.version() < Version::HTTP_2 {
            return rpc::refusal(StatusCode::HTTP_VERSION_NOT_SUPPORTED);
        }
        self.call(parts, format, request).await.unwrap_or_else(|status| format.failure(&status))
    }

    async fn call<B>(
        &self,
        parts: &Arc<Parts>,
        format: Format,
        request: Request<B>,
    ) -> Result<Response<rpc::Body>, Status>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Interrupted>,
    {
        let (head, body) = request.into_parts();
        let method = head.uri.path().strip_prefix(PREFIX).unwrap_or_default();
        let streams = format.protocol == Protocol::ConnectStream;
        let unary = format.protocol == Protocol::ConnectUnary;
        match method {
            "Check" | "List" if streams => return Ok(rpc::unsupported()),
            "Watch" if unary => return Ok(rpc::unsupported()),
            "Check" | "List" | "Watch" => {}
            _ => return Err(Status::new(Code::Unimplemented, format!("there is no method {:?}", head.uri.path()))),
        }
        let deadline = rpc::deadline(format, &head.headers)?;
        let message = rpc::message(format, &head.headers, body, deadline).await?;
        let verdicts =
            Verdicts { parts: parts.clone(), snapshots: parts.board.subscribe(), phase: parts.lifecycle.watch() };
        if method == "Watch" {
            let full = |_| Status::new(Code::ResourceExhausted, format!("{WATCHES} watch already"));
            let place = self.places.clone().try_acquire_owned().map_err(full)?;
            let messages = watch(format.codec, verdicts, &message, deadline)?;
            return Ok(format.stream(Box::pin(messages.inspect(move |_| {
                let _held = &place;
            }))));
        }
        let mut buffer = format.buffer();
        match method {
            "List" => list(format.codec, &verdicts, &mut buffer),
            _ => check(format.codec, &verdicts, &message, &mut buffer)?,
        }
        Ok(format.answer(buffer))
    }
}

/// What the probes over HTTP say, as services.
struct Verdicts {
    parts: Arc<Parts>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    phase: watch::Receiver<Phase>,
}

impl Services for Verdicts {
    fn serving(&self, service: &str) -> Serving {
        let now = tokio::time::Instant::now();
        match service {
            "" | "readiness" => Serving::when(self.snapshots.borrow().answer(now).0),
            "liveness" => Serving::when(self.parts.pulse.stuck(Instant::now()).is_none()),
            "startup" => Serving::when(*self.parts.started.borrow()),
            name => {
                let line = self.snapshots.borrow().line(name, now);
                line.map_or(Serving::Unknown, |line| Serving::when(line.standing.passes()))
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let lines = self.snapshots.borrow().verdict(tokio::time::Instant::now(), |_| false).lines;
        let checks = lines.iter().map(|line| line.name.to_string());
        ["", "liveness", "readiness", "startup"].map(str::to_owned).into_iter().chain(checks).collect()
    }

    fn closing(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Closing { .. } | Phase::Stopped { .. })
    }

    async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.snapshots.changed() => changed.is_ok(),
            changed = self.phase.changed() => changed.is_ok(),
            () = tokio::time::sleep(LOOK) => true,
        }
    }
}
