//! The webhook's paths.
//!
//! | path | answers |
//! |---|---|
//! | `POST /mutate` | an AdmissionReview |
//! | `/healthz` | 200 while the event loop turns |
//! | `/readyz` | 200 while the certificate is valid and no end was asked for |
//! | `/metrics` | OpenMetrics |

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::metrics::Metrics;
use super::review::{self, Malformed, OnRefusal};
use crate::kube::inject::Options;
use crate::lifecycle::driver::Lifecycle;
use crate::lifecycle::ledger::{Kind, Writer};
use crate::lifecycle::threads::Pulse;
use crate::net::inbound::{Inbound, InboundError};
use crate::net::tls::server::Server as Tls;
use crate::secret::Secret;
use crate::telemetry::metrics::{self, Registry};

/// Bytes of a review: the API server takes objects of 3 MiB at most, and a review of a pod that is made holds one.
const LIMIT: usize = 3 * 1024 * 1024;

/// For one review to arrive: no API server waits longer for a webhook (`timeoutSeconds` is 30 at most).
const READING: Duration = Duration::from_secs(30);

/// Bytes of all bodies together; beyond, a review is refused rather than the process killed.
pub(super) const ROOM: usize = 16 * 1024 * 1024;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Api(Arc<Parts>);

pub(super) struct Parts {
    pub(super) options: Options,
    pub(super) on_refusal: OnRefusal,
    pub(super) lifecycle: Lifecycle,
    pub(super) ledger: Writer,
    pub(super) pulse: Pulse,
    pub(super) tls: Arc<Tls>,
    pub(super) metrics: Metrics,
    pub(super) registry: Registry,
    pub(super) random: SystemRandom,
    /// Of [`ROOM`] permits.
    pub(super) room: Arc<Semaphore>,
}

impl Api {
    pub(super) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Answers a request to the listener that speaks TLS.
    pub(super) async fn handle(self, request: Request<Inbound>) -> Response<Full<Bytes>> {
        let mut response = if request.uri().path() == "/mutate" {
            self.mutate(request).await
        } else {
            self.probe(request.method(), request.uri().path())
        };
        if self.0.lifecycle.phase().is_draining() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Answers a request to the listener without TLS, which is not asked for reviews.
    pub(super) fn ops(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if path == "/mutate" {
            return text(StatusCode::NOT_FOUND, "reviews are answered on the port that speaks TLS");
        }
        self.probe(method, path)
    }

    fn probe(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return not_allowed("GET, HEAD");
        }
        match path {
            "/healthz" => match self.0.pulse.stuck(Instant::now()) {
                None => text(StatusCode::OK, "ok"),
                Some(name) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("event loop {name} is stuck")),
            },
            "/readyz" => self.readyz(),
            "/metrics" => answer(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(&self.0.registry)),
            _ => text(StatusCode::NOT_FOUND, "no such path; there are: /mutate /healthz /readyz /metrics"),
        }
    }

    /// An API server refuses what it cannot verify, so a certificate that is over is no better than none.
    fn readyz(&self) -> Response<Full<Bytes>> {
        let phase = self.0.lifecycle.phase();
        if phase.is_draining() {
            return text(StatusCode::SERVICE_UNAVAILABLE, &format!("draining: {}", phase.as_str()));
        }
        let expires = self.0.tls.expires();
        let at = humantime::format_rfc3339_seconds(expires);
        if expires <= SystemTime::now() {
            return text(StatusCode::SERVICE_UNAVAILABLE, &format!("the certificate expired at {at}"));
        }
        text(StatusCode::OK, &format!("ok; the certificate expires at {at}"))
    }

    async fn mutate(&self, request: Request<Inbound>) -> Response<Full<Bytes>> {
        self.0.ledger.arrived(Instant::now());
        let _in_flight = self.0.ledger.begin(Kind::Request);
        if request.method() != Method::POST {
            return not_allowed("POST");
        }
        let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a review is application/json");
        }
        match read(request.into_body(), &self.0.room).await {
            Ok((body, _room)) => self.review(&body),
            Err(refused) => refused,
        }
    }

    fn review(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let began = Instant::now();
        let mut token = [0; 16];
        if self.0.random.fill(&mut token).is_err() {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the machine gives no random numbers");
        }
        let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
        let answered = review::answer(body, &self.0.options, self.0.on_refusal, Secret::new(token));
        let kind = answered.as_ref().ok().map(|(_, verdict)| verdict.kind);
        self.0.metrics.answered(kind, began.elapsed());
        match answered {
            Ok((review, verdict)) => {
                let (outcome, pod) = (verdict.kind.as_str(), verdict.pod);
                match verdict.kind {
                    review::Kind::Denied | review::Kind::Without => {
                        tracing::warn!(outcome, pod, why = verdict.message, "reviewed");
                    }
                    review::Kind::Injected => tracing::info!(outcome, pod, "reviewed"),
                    review::Kind::Untouched => tracing::info!(outcome, pod, why = verdict.message, "reviewed"),
                    _ => tracing::debug!(outcome, pod, "reviewed"),
                }
                answer(StatusCode::OK, "application/json", review.to_string())
            }
            Err(error) => refused(&error),
        }
    }
}

fn refused(error: &Malformed) -> Response<Full<Bytes>> {
    text(StatusCode::BAD_REQUEST, &error.to_string())
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, &format!("ask by {methods}"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn text(status: StatusCode, line: &str) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A whole body, and what it takes of the room that all bodies together may.
async fn read<B>(body: B, all: &Arc<Semaphore>) -> Result<(Vec<u8>, OwnedSemaphorePermit), Response<Full<Bytes>>>
where
    B: Body<Data = Bytes, Error = InboundError> + Unpin,
{
    // What stalls is found long before; a trickle does not stall.
    match timeout(READING, gather(body, all)).await {
        Ok(ended) => ended,
        Err(_) => {
            let why = format!("the review did not arrive in {} s", READING.as_secs());
            Err(text(StatusCode::REQUEST_TIMEOUT, &why))
        }
    }
}

async fn gather<B>(mut body: B, all: &Arc<Semaphore>) -> Result<(Vec<u8>, OwnedSemaphorePermit), Response<Full<Bytes>>>
where
    B: Body<Data = Bytes, Error = InboundError> + Unpin,
{
    let too_large = || text(StatusCode::PAYLOAD_TOO_LARGE, "the review is larger than 3 MiB");
    let busy = || text(StatusCode::SERVICE_UNAVAILABLE, "more reviews at once than there is memory for; try again");
    if body.size_hint().lower() > LIMIT as u64 {
        return Err(too_large());
    }
    let mut room = all.clone().try_acquire_many_owned(0).map_err(|_| busy())?;
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let slow = matches!(error, InboundError::Stalled);
            let status = if slow { StatusCode::REQUEST_TIMEOUT } else { StatusCode::BAD_REQUEST };
            text(status, &format!("the review did not arrive: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > LIMIT {
            return Err(too_large());
        }
        let taken = u32::try_from(data.len()).map_err(|_| too_large())?;
        room.merge(all.clone().try_acquire_many_owned(taken).map_err(|_| busy())?);
        whole.extend_from_slice(&data);
    }
    Ok((whole, room))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::time::sleep;

    use super::*;

    /// A body of so many bytes, one each second.
    fn trickle(bytes: usize) -> impl Body<Data = Bytes, Error = InboundError> + Unpin {
        StreamBody::new(Box::pin(stream::unfold(bytes, |left| async move {
            let after = left.checked_sub(1)?;
            sleep(Duration::from_secs(1)).await;
            Some((Ok(Frame::data(Bytes::from_static(b"x"))), after))
        })))
    }

    #[tokio::test(start_paused = true)]
    async fn a_review_that_trickles_is_cut_when_nobody_waits_for_it_any_more() {
        let (all, began) = (Arc::new(Semaphore::new(ROOM)), tokio::time::Instant::now());
        let (body, room) = read(trickle(29), &all).await.expect("it arrives in time");
        assert_eq!((body.len(), room.num_permits(), began.elapsed().as_secs()), (29, 29, 29));
        let began = tokio::time::Instant::now();
        let refused = read(trickle(1000), &all).await.expect_err("it takes too long");
        assert_eq!((refused.status(), began.elapsed().as_secs()), (StatusCode::REQUEST_TIMEOUT, 30));
        drop(room);
        assert_eq!(all.available_permits(), ROOM, "its room is given back");
    }
}
