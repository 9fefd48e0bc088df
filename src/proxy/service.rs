//! The path of one request, from top to bottom.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue};
use http::{Method, Response, StatusCode, Version, request, response};
use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::body::{AnswerBody, Delivery, Inbound, RequestBody};
use super::downstream::{LargeParts, Wire};
use super::error::Failure;
use super::flag_headers::FlagHeaders;
use super::flight::Flight;
use super::gate::{Gate, room::Room};
use super::grpc;
use super::headers::{self, Hop, Upgrade};
use super::http2;
use super::lines::{self, Form};
use super::metrics::Counters;
use super::observe::Observer;
use super::settings::{Limits, Protocol};
use super::upstream::decode::Head;
use super::upstream::{App, Exchange, Far, Heard, Look, Lost};
use super::worker::Load;
use crate::lifecycle::drain::Tunnels;
use crate::lifecycle::ledger::Writer;
use crate::lifecycle::machine::Phase;
use crate::lifecycle::tasks::Tasks;
use crate::net::activity::{Activity, Expired};

/// Between two log lines about failures of one app.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// What every request of one worker and route needs.
pub(super) struct Service {
    pub(super) app: App,
    /// Whether a failure of the app has been logged and no answer has come since.
    pub(super) app_down: AtomicBool,
    /// When one was logged last.
    pub(super) app_down_said: Mutex<Option<Instant>>,
    pub(super) limits: Limits,
    pub(super) tunnels: Tunnels,
    pub(super) writer: Writer,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) counters: Arc<Counters>,
    pub(super) observer: Observer,
    pub(super) flags: Option<FlagHeaders>,
    pub(super) tasks: Tasks,
    /// What holds requests while the app is away.
    pub(super) gate: Arc<Gate>,
    /// This worker's requests in flight, and how many it may have.
    pub(super) room: Arc<Room>,
    /// This worker's answers that are read in large parts.
    pub(super) large: LargeParts,
}

/// The client at the other end of a connection, for as long as the connection or a tunnel made of it lives; over HTTP/2,
/// for as long as one request does.
pub(super) struct Client {
    pub(super) hop: Hop,
    /// What the connection is doing, or over HTTP/2 the request.
    pub(super) activity: Arc<Activity>,
    /// Where answers before the real one go.
    pub(super) early: Early,
    /// Held for its drop.
    pub(super) _place: Arc<Place>,
}

/// Where answers before the real one go.
pub(super) enum Early {
    /// To a client of HTTP/1.1.
    Http1(Wire),
    /// To one of HTTP/2.
    Http2(http2::Interims),
}

/// What a connection takes of what there is for all; given back when dropped.
pub(super) struct Place {
    /// Its part of the limit on connections.
    pub(super) _permit: OwnedSemaphorePermit,
    /// Its part of the worker's load.
    pub(super) _load: Load,
}

/// What a client is answered.
pub(super) enum Answer {
    /// An answer of HTTP.
    Plain(Box<response::Parts>, Delivery),
    /// An answer after which the client's connection and the app's are one.
    Tunnel(Response<()>, Far, Box<Flight>),
}

impl Client {
    /// Passes on an answer that comes before the real one (RFC 9110 section 15.2).
    pub(super) fn interim(&self, mut answer: response::Parts) {
        headers::prepare_answer(&mut answer);
        match &self.early {
            Early::Http1(wire) => wire.interim(&answer),
            Early::Http2(interims) => interims.queue(&answer),
        }
    }
}

impl Service {
    /// Answers a request, which may have its head in lines: with the app's answer, or with the reason why there is none.
    ///
    /// # Cancellation
    /// Dropped when the client leaves; the request to the app is then cancelled with its connection.
    pub(super) async fn handle(
        self: Arc<Self>,
        client: Arc<Client>,
        head: Box<request::Parts>,
        lines: Option<lines::Request>,
        body: Inbound,
    ) -> Answer {
        let mut flight = Flight::begin(&self, client, &head);
        if matches!(flight.client.early, Early::Http2(_)) {
            flight.grpc = grpc::content_type(&head.headers);
            if flight.grpc.is_some() {
                flight.client.activity.unhurried();
            }
        }
        let answer = match self.admit(&mut flight).await {
            Ok(()) => self.forward(&mut flight, head, lines, body).await,
            Err(failure) => {
                flight.has_body = !body.is_end_stream();
                Err(failure)
            }
        };
        let phase = *self.phase.borrow();
        let (mut head, body, lines) = match answer {
            Ok(Answered::Switched(response, app)) => {
                flight.status = Some(response.status());
                return Answer::Tunnel(response, app, flight.into_tunnel());
            }
            Ok(Answered::Plain(head, body, lines)) => (head, body, lines),
            Err(failure) => {
                self.failed(&failure);
                flight.notes.failed(failure.error_type());
                flight.notes.whole();
                let answer = match flight.grpc.take() {
                    Some(content_type) => {
                        flight.notes.counts_as(failure.http_status(phase.is_leaving()));
                        grpc::answer(&failure, content_type)
                    }
                    None => failure.answer(phase.is_leaving()),
                };
                let (mut head, body) = answer.into_parts();
                if flight.has_body {
                    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
                }
                (Box::new(head), body, None)
            }
        };
        if phase.is_shedding() {
            head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        flight.status = Some(head.status);
        flight.client.activity.answer();
        Answer::Plain(head, Delivery::new(lines, body, flight))
    }

    async fn forward(
        &self,
        flight: &mut Flight,
        mut head: Box<request::Parts>,
        mut lines: Option<lines::Request>,
        body: Inbound,
    ) -> Result<Answered, Failure> {
        let upgrade = match &mut lines {
            Some(lines) => {
                headers::prepare_lines(lines, &flight.client.hop);
                Upgrade::None
            }
            None => self.prepare(flight, &mut head)?,
        };
        let body = self.body(flight, lines.as_ref().map_or_else(|| length(&head), |lines| Some(lines.length)), body)?;
        if self.app.protocol() == Protocol::Http2 {
            // Boxed, as what is seldom run: a request's memory is written and moved as a whole.
            return Box::pin(self.call(flight, &head, upgrade, body)).await;
        }
        let (answer, exchange) = self.exchange(flight, &head, lines, body).await?;
        let Head { parts: mut head, lines, framing, keeps } = answer;
        match (head.status == StatusCode::SWITCHING_PROTOCOLS, upgrade) {
            (true, Upgrade::Asked) => {
                let far = Far::Line(exchange.into_tunnel()?);
                Ok(Answered::Switched(Response::from_parts(*head, ()), far))
            }
            (true, Upgrade::None) => Err(Failure::Unasked),
            (false, _) => {
                if lines.is_none() {
                    headers::prepare_answer(&mut head);
                }
                head.version = Version::HTTP_11;
                if !exchange.is_sent() {
                    // What is left of the request stands between this answer and the next request: say that none follows.
                    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
                }
                let download = exchange.into_download(framing, keeps, &self.tasks);
                Ok(Answered::Plain(head, AnswerBody::App(download), lines))
            }
        }
    }

    /// What may become of heads: lines where nobody looks into them.
    pub(super) fn form(&self) -> Form {
        let looked_into = self.flags.is_some() || self.observer.looks() || self.app.protocol() == Protocol::Http2;
        if looked_into { Form::Map } else { Form::Lines }
    }

    fn prepare(&self, flight: &mut Flight, head: &mut request::Parts) -> Result<Upgrade, Failure> {
        let upgrade = headers::prepare_request(head, &flight.client.hop, self.app.authority())?;
        self.observer.prepared(&mut flight.notes, head);
        if let Some(flags) = &self.flags {
            flags.set(&mut head.headers);
        }
        Ok(upgrade)
    }

    fn body(&self, flight: &mut Flight, length: Option<u64>, body: Inbound) -> Result<RequestBody, Failure> {
        if body.is_end_stream() {
            return Ok(RequestBody::Empty);
        }
        flight.has_body = true;
        if let Some(limit) = self.limits.body_bytes
            && length.is_some_and(|length| length > limit)
        {
            return Err(Failure::BodyTooLarge);
        }
        let meter = self.observer.meter(&mut flight.notes);
        let (activity, left) = (flight.client.activity.clone(), self.limits.body_bytes);
        Ok(RequestBody::Client { body, activity, left, meter, barred: self.flags.as_ref().map(FlagHeaders::names) })
    }

    /// Sends the request over an unused connection, or else a new one. A second time only where the first provably
    /// did nothing: not a byte was sent, or the app closed an old connection without a byte of answer and the
    /// request is idempotent (RFC 9110 §9.2.2) and has no body.
    async fn exchange(
        &self,
        flight: &mut Flight,
        head: &request::Parts,
        lines: Option<lines::Request>,
        body: RequestBody,
    ) -> Result<(Head, Exchange), Failure> {
        let repeats = matches!(body, RequestBody::Empty) && is_idempotent(&head.method);
        let form = if matches!(flight.client.early, Early::Http1(_)) { Form::Lines } else { Form::Map };
        let look = if repeats { Look::Heard } else { Look::Asked };
        let mut line = match self.app.reuse(flight.began, look) {
            Some(line) => line,
            None => Box::pin(self.connect(flight)).await?,
        };
        let mut upload = App::upload(&mut line, head, lines, body).map_err(|_| Failure::BadBody)?;
        loop {
            let mut exchange = Exchange::new(line, upload, self.app.bounds(), form);
            let heard = loop {
                match self.until_expired(flight, |cx| exchange.poll_head(cx, &head.method)).await? {
                    Ok(Heard::Interim(answer)) => flight.client.interim(*answer),
                    Ok(Heard::Answer(answer)) => break Ok(answer),
                    Err(lost) => break Err(lost),
                }
            };
            match heard {
                Ok(answer) => {
                    self.answered();
                    flight.heard();
                    return Ok((answer, exchange));
                }
                Err(Lost::Body(error)) => return Err(error.into()),
                Err(Lost::Line(error)) => upload = exchange.rewound(repeats).ok_or(error)?,
            }
            self.counters.retry();
            flight.notes.retried();
            line = Box::pin(self.connect(flight)).await?;
        }
    }

    /// Waits for the app's answer, or until the sweeper finds that a limit has passed.
    pub(super) async fn until_expired<T>(
        &self,
        flight: &Flight,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Failure> {
        poll_fn(|cx| match flight.client.activity.expired() {
            Expired::No => poll(cx).map(Ok),
            Expired::Body => Poll::Ready(Err(Failure::BodyTimeout)),
            Expired::Answer => Poll::Ready(Err(Failure::AnswerTimeout)),
            Expired::Request => Poll::Ready(Err(Failure::RequestTimeout)),
        })
        .await
    }

    fn failed(&self, failure: &Failure) {
        self.counters.failure(failure);
        if !failure.is_the_apps() || self.app_down.load(Relaxed) {
            return;
        }
        // Not once a request, nor at each turn: an app that fails every other request must not fill the disk.
        let now = Instant::now();
        let mut said = self.app_down_said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_AGAIN) {
            *said = Some(now);
            self.app_down.store(true, Relaxed);
            let source = std::error::Error::source(failure).map(ToString::to_string);
            tracing::warn!(app = %self.app, error = %failure, source, "a request got no answer from the app");
        }
    }

    pub(super) fn answered(&self) {
        if self.app_down.load(Relaxed) {
            self.app_down.store(false, Relaxed);
            tracing::info!(app = %self.app, "the app answers again");
        }
    }
}

/// What the app has said.
pub(super) enum Answered {
    /// With the begin of its head, where that is in lines.
    Plain(Box<response::Parts>, AnswerBody, Option<lines::Answer>),
    Switched(Response<()>, Far),
}

fn length(head: &request::Parts) -> Option<u64> {
    head.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}
