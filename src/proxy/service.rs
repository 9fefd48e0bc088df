//! The path of one request, from top to bottom.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Instant;

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::body::{AnswerBody, Delivery, Progress, RequestBody, Upload};
use super::error::Failure;
use super::headers::{self, Hop, Upgrade};
use super::metrics::Counters;
use super::settings::Limits;
use super::tunnel;
use super::upstream::{App, Line};
use super::worker::Load;
use crate::lifecycle::ledger::{Guard, Kind, Writer};
use crate::lifecycle::machine::Phase;
use crate::lifecycle::tasks::Tasks;
use crate::net::activity::{Activity, Expired};

/// What every request of one worker and route needs.
pub(super) struct Service {
    pub(super) app: App,
    /// Whether the app's last failure has been logged and no answer has come since.
    pub(super) app_down: AtomicBool,
    pub(super) limits: Limits,
    pub(super) writer: Writer,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) counters: Arc<Counters>,
    pub(super) tasks: Tasks,
    /// This worker's requests in flight, and how many it may have.
    pub(super) room: Arc<Room>,
}

/// How many requests one worker has in flight, of how many.
pub(super) struct Room {
    pub(super) taken: AtomicUsize,
    pub(super) size: usize,
}

/// The client at the other end of a connection, for as long as the connection or a tunnel made of it lives.
pub(super) struct Client {
    pub(super) hop: Hop,
    pub(super) activity: Arc<Activity>,
    /// Held for its drop: the connection's part of the limit on connections.
    pub(super) _permit: OwnedSemaphorePermit,
    /// Held for its drop: the connection's part of the worker's load.
    pub(super) _load: Load,
}

/// A request under way: its entry in the ledger, its connection to the app, and what is noted when it ends.
pub(super) struct Flight {
    service: Arc<Service>,
    client: Arc<Client>,
    guard: Option<Guard>,
    began: Instant,
    line: Option<Line>,
    upload: Option<Upload>,
    status: Option<StatusCode>,
}

impl Service {
    /// Answers a request: with the app's answer, or with the reason why there is none.
    ///
    /// # Cancellation
    /// Dropped when the client leaves; the request to the app is then cancelled with its connection.
    pub(super) async fn handle(
        self: Arc<Self>,
        client: Arc<Client>,
        request: Request<Incoming>,
    ) -> Result<Response<Delivery>, Infallible> {
        let mut flight = self.begin(client);
        let answer = if self.room.taken.load(Relaxed) > self.room.size {
            Err(Failure::Full)
        } else {
            self.forward(&mut flight, request).await
        };
        let phase = *self.phase.borrow();
        let mut response = match answer {
            Ok(Answer::Tunnel(response, client, app)) => {
                flight.status = Some(response.status());
                self.tasks.spawn_connection(tunnel::join(client, app, flight.into_tunnel()));
                return Ok(response);
            }
            Ok(Answer::Plain(response)) => response.map(AnswerBody::App),
            Err(failure) => {
                self.failed(&failure);
                failure.answer(phase.rank() >= 4)
            }
        };
        if phase.is_shedding() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        flight.status = Some(response.status());
        flight.client.activity.answer();
        Ok(response.map(|body| Delivery::new(body, flight)))
    }

    fn begin(self: &Arc<Self>, client: Arc<Client>) -> Flight {
        let began = Instant::now();
        client.activity.begin();
        self.writer.arrived(began);
        self.room.taken.fetch_add(1, Relaxed);
        Flight {
            service: self.clone(),
            client,
            guard: Some(self.writer.begin(Kind::Request)),
            began,
            line: None,
            upload: None,
            status: None,
        }
    }

    async fn forward(&self, flight: &mut Flight, mut request: Request<Incoming>) -> Result<Answer, Failure> {
        let client = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
        let (mut head, body) = request.into_parts();
        let upgrade = headers::prepare_request(&mut head, &flight.client.hop, self.app.authority())?;
        let body = self.body(flight, &head, body)?;
        let mut response = self.exchange(flight, head, body).await?;
        match (response.status() == StatusCode::SWITCHING_PROTOCOLS, upgrade, client) {
            (true, Upgrade::Asked, Some(client)) => {
                let app = hyper::upgrade::on(&mut response);
                let (head, _) = response.into_parts();
                Ok(Answer::Tunnel(Response::from_parts(head, Delivery::nothing()), client, app))
            }
            (true, _, _) => Err(Failure::Unasked),
            (false, _, _) => {
                let (mut head, body) = response.into_parts();
                headers::prepare_answer(&mut head);
                head.version = Version::HTTP_11;
                Ok(Answer::Plain(Response::from_parts(head, body)))
            }
        }
    }

    fn body(&self, flight: &mut Flight, head: &request::Parts, body: Incoming) -> Result<RequestBody, Failure> {
        if body.is_end_stream() {
            return Ok(RequestBody::Empty);
        }
        if let Some(limit) = self.limits.body_bytes
            && let Some(length) = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok())
            && length.parse::<u64>().is_ok_and(|length| length > limit)
        {
            return Err(Failure::BodyTooLarge);
        }
        let upload = Upload::begin();
        flight.upload = Some(upload.clone());
        Ok(RequestBody::Client { body, activity: flight.client.activity.clone(), left: self.limits.body_bytes, upload })
    }

    /// Sends the request over an unused connection, or else a new one. A second time only where the first provably
    /// did nothing: not a byte was sent, or the app closed an old connection without a byte of answer and the
    /// request is idempotent (RFC 9110 §9.2.2) and has no body.
    async fn exchange(
        &self,
        flight: &mut Flight,
        mut head: request::Parts,
        mut body: RequestBody,
    ) -> Result<Response<Incoming>, Failure> {
        let mut line = match self.app.reuse(flight.began).await {
            Some(line) => line,
            None => self.connect().await?,
        };
        loop {
            let again = line.reused && matches!(body, RequestBody::Empty) && is_idempotent(&head.method);
            let copy = again.then(|| head.clone());
            let sending = line.send(Request::from_parts(head, body));
            match self.until_expired(flight, sending).await? {
                Ok(response) => {
                    self.answered();
                    flight.line = Some(line);
                    return Ok(response);
                }
                Err(mut error) => match (error.take_message(), copy) {
                    (Some(unsent), _) if line.reused => (head, body) = unsent.into_parts(),
                    (None, Some(copy)) if !line.heard() => (head, body) = (copy, RequestBody::Empty),
                    _ => return Err(flight.why(error.into_error())),
                },
            }
            self.counters.retry();
            line = self.connect().await?;
        }
    }

    async fn connect(&self) -> Result<Line, Failure> {
        self.counters.connect();
        self.app.connect().await
    }

    /// Waits for the app's answer, or until the sweeper finds that a limit has passed.
    async fn until_expired<F, M>(
        &self,
        flight: &Flight,
        sending: F,
    ) -> Result<Result<Response<Incoming>, TrySendError<M>>, Failure>
    where
        F: Future<Output = Result<Response<Incoming>, TrySendError<M>>>,
    {
        let mut sending = pin!(sending);
        poll_fn(|cx| match flight.client.activity.expired() {
            Expired::No => sending.as_mut().poll(cx).map(Ok),
            Expired::Body => Poll::Ready(Err(Failure::BodyTimeout)),
            Expired::Answer => Poll::Ready(Err(Failure::AnswerTimeout)),
        })
        .await
    }

    fn failed(&self, failure: &Failure) {
        self.counters.failure(failure);
        // Once, not once a request: an app that is down under load must not fill the disk.
        if failure.is_the_apps() && !self.app_down.swap(true, Relaxed) {
            let source = std::error::Error::source(failure).map(ToString::to_string);
            tracing::warn!(app = %self.app, error = %failure, source, "the app does not answer");
        }
    }

    fn answered(&self) {
        if self.app_down.load(Relaxed) {
            self.app_down.store(false, Relaxed);
            tracing::info!(app = %self.app, "the app answers again");
        }
    }
}

enum Answer {
    Plain(Response<Incoming>),
    Tunnel(Response<Delivery>, OnUpgrade, OnUpgrade),
}

fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

impl Flight {
    /// The answer is complete: the connection to the app can carry the next request, unless the app answered before
    /// it had the whole of this one.
    pub(super) fn answer_ended(&mut self) {
        if let Some(line) = self.line.take()
            && self.upload.as_ref().is_none_or(|upload| upload.progress() == Progress::Done)
        {
            self.service.app.keep(line, Instant::now());
        }
    }

    /// The app broke off in the middle of its answer.
    pub(super) fn answer_broke(&mut self, error: &hyper::Error) {
        self.service.counters.broken();
        tracing::debug!(%error, "the app broke off in the middle of an answer");
    }

    /// Why sending failed: the client's body, or the app.
    fn why(&self, error: hyper::Error) -> Failure {
        match self.upload.as_ref().map(Upload::progress) {
            Some(Progress::TooLarge) => Failure::BodyTooLarge,
            Some(Progress::Broken) => Failure::BadBody,
            _ if error.is_parse() => Failure::BadAnswer(error),
            _ => Failure::Closed(error),
        }
    }

    fn into_tunnel(mut self) -> Self {
        self.client.activity.tunnel();
        self.guard = self.guard.take().map(Guard::into_tunnel);
        self
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let now = Instant::now();
        self.client.activity.end();
        self.service.room.taken.fetch_sub(1, Relaxed);
        match self.status {
            Some(status) => self.service.counters.request(status.as_u16(), now.saturating_duration_since(self.began)),
            None => self.service.counters.abandoned(),
        }
    }
}
