//! One request of an HTTP/2 connection: a task that answers it, sends the answer as fast as the client makes room for
//! it, and ends by itself when the client takes the request back or a limit of its own has passed.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TE, UPGRADE};
use http::{HeaderMap, Method, Request, Response, StatusCode, request, response};
use http_body::Body as _;

use super::body::Body;
use super::duplex::{Duplex, Side};
use super::head::{self, Content};
use super::interim::Interims;
use super::meter::Meter;
use crate::net::activity::{Activity, Order};
use crate::net::sweep::Swept;
use crate::proxy::body::{Delivery, Inbound};
use crate::proxy::downstream::head::{Bad, Bounds};
use crate::proxy::grpc;
use crate::proxy::metrics::listener::Protocol;
use crate::proxy::metrics::{Counters, Reset};
use crate::proxy::observe::Refusal;
use crate::proxy::service::{Answer, Client, Service};
use crate::proxy::tunnel::{self, Speaks};
use crate::proxy::websocket;

/// What is told of a target that is too long.
const SEEN: usize = 4 * 1024;
/// What one answer may ask of its connection's window at a time. More would only wait in our memory.
const PIECE: usize = 64 * 1024;
/// What a client must make room for within `limits.send_timeout`, or for the rest of a part of the answer. Over HTTP/1.1
/// the kernel asks for more than this before it lets anybody write again; a window can be opened byte by byte.
const PROGRESS: usize = 4 * 1024;

/// A request that has come, with all that its task needs.
pub(super) struct Stream {
    pub(super) service: Arc<Service>,
    pub(super) client: Arc<Client>,
    pub(super) swept: Swept,
    pub(super) meter: Arc<Meter>,
    pub(super) counters: Arc<Counters>,
    pub(super) bounds: Bounds,
    pub(super) interims: Interims,
    pub(super) respond: SendResponse<Bytes>,
    /// The connection, which has this request under way.
    pub(super) _under_way: UnderWay,
}

/// A request under way on a connection.
pub(super) struct UnderWay(Arc<Activity>);

impl UnderWay {
    pub(super) fn begin(connection: Arc<Activity>) -> Self {
        connection.begin();
        Self(connection)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Why a stream ends before its answer does.
enum End {
    /// The client took it back, or its connection is gone.
    Left,
    /// Ours to say: the reason that the client is told.
    Ours(Reason, Reset),
}

impl Stream {
    /// Serves the request to its end.
    pub(super) async fn run(mut self, request: Request<RecvStream>) {
        match self.serve(request).await {
            Ok(()) => {}
            Err(End::Left) => {
                self.meter.reset();
                self.counters.reset(Reset::Client);
            }
            Err(End::Ours(reason, by)) => {
                tracing::debug!(?reason, ?by, "a stream is reset");
                self.counters.reset(by);
                self.respond.send_reset(reason);
            }
        }
    }

    async fn serve(&mut self, request: Request<RecvStream>) -> Result<(), End> {
        let (mut head, stream) = request.into_parts();
        if head.headers.len() > self.bounds.fields {
            return self.refuse_head(&head, &Bad::TooLarge);
        }
        if head.uri.path_and_query().is_some_and(|target| target.as_str().len() > self.bounds.target) {
            return self.refuse_head(&head, &Bad::LongTarget);
        }
        if let Some(protocol) = head.extensions.get::<h2::ext::Protocol>() {
            return match protocol.as_str() {
                websocket::NAME => self.connect(head, stream).await,
                // RFC 9220 section 3: another that is known nowhere here.
                _ => self.refuse(StatusCode::NOT_IMPLEMENTED),
            };
        }
        let body = Body::new(stream, &head.headers, self.interims.clone());
        let content = if body.is_end_stream() { Content::None } else { Content::Follows };
        if head::request(&mut head, content).is_err() {
            self.counters.malformed();
            return Err(End::Ours(Reason::PROTOCOL_ERROR, Reset::Client));
        }
        let asked = head.method.clone();
        match self.answer(Box::new(head), Inbound::Http2(body)).await? {
            Answer::Plain(head, body) => self.deliver(&asked, head, body).await,
            // Nobody can ask for one over HTTP/2 (RFC 9113 section 8.6).
            Answer::Tunnel(..) => Err(End::Ours(Reason::INTERNAL_ERROR, Reset::App)),
        }
    }

    /// A WebSocket (RFC 8441), asked of the app as HTTP/1.1 asks for it.
    async fn connect(&mut self, mut head: request::Parts, stream: RecvStream) -> Result<(), End> {
        head.method = Method::GET;
        if head::request(&mut head, Content::None).is_err() {
            self.counters.malformed();
            return Err(End::Ours(Reason::PROTOCOL_ERROR, Reset::Client));
        }
        let key = websocket::key();
        head.headers.remove(TE);
        head.headers.insert(UPGRADE, HeaderValue::from_static(websocket::NAME));
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(SEC_WEBSOCKET_KEY, key.clone());
        let (response, far, flight) = match self.answer(Box::new(head), Inbound::Nothing).await? {
            Answer::Tunnel(response, far, flight) if websocket::is_accepted(response.headers(), &key) => {
                (response, far, flight)
            }
            Answer::Plain(head, body) if !head.status.is_success() => {
                return self.deliver(&Method::CONNECT, head, body).await;
            }
            // Over HTTP/2 a success would open the tunnel that the app has not opened.
            Answer::Tunnel(..) | Answer::Plain(..) => return self.refuse(StatusCode::BAD_GATEWAY),
        };
        let (mut head, ()) = response.into_parts();
        let speaks = Speaks::of(&head.headers);
        head.status = StatusCode::OK;
        head.headers.remove(SEC_WEBSOCKET_ACCEPT);
        head::answer(&mut head, None);
        let sent = self.respond.send_response(Response::from_parts(head, ()), false).map_err(|e| refused(&e))?;
        let client = Duplex::new(sent, stream, Side::Client(self.meter.clone()));
        tunnel::join(client, far, speaks, flight).await;
        Ok(())
    }

    async fn answer(&mut self, head: Box<request::Parts>, body: Inbound) -> Result<Answer, End> {
        // Boxed: each layer around a future of a kilobyte keeps one place for it as an argument and one for polling it.
        let mut answering = Box::pin(self.service.clone().handle(self.client.clone(), head, None, body));
        let (activity, respond, interims) = (self.swept.activity(), &mut self.respond, &self.interims);
        poll_fn(|cx| {
            obey(activity, cx)?;
            if let Poll::Ready(reset) = respond.poll_reset(cx) {
                tracing::trace!(?reset, "a client took its request back");
                return Poll::Ready(Err(End::Left));
            }
            let answer = answering.as_mut().poll(cx);
            for interim in interims.take() {
                respond.send_informational(interim).map_err(|error| refused(&error))?;
            }
            answer.map(Ok)
        })
        .await
    }

    /// Refuses what is no request that is taken, and tells of it.
    fn refuse_head(&mut self, head: &request::Parts, bad: &Bad) -> Result<(), End> {
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        let mut seen = format!("{} {target}", head.method).into_bytes();
        seen.truncate(SEEN);
        let (status, protocol) = (bad.status(), Protocol::Http2);
        let refusal = Refusal { status, why: &bad.to_string(), protocol, took: Duration::ZERO, bytes: 0 };
        self.service.observer.refused(&self.client.hop, &seen, &refusal);
        self.refuse(status)
    }

    fn refuse(&mut self, status: StatusCode) -> Result<(), End> {
        self.counters.malformed();
        let mut response = Response::new(());
        *response.status_mut() = status;
        self.respond.send_response(response, true).map(drop).map_err(|_| End::Left)
    }

    async fn deliver(&mut self, asked: &Method, mut head: Box<response::Parts>, mut body: Delivery) -> Result<(), End> {
        let is_end = body.is_end_stream();
        let is_call = grpc::content_type(&head.headers).is_some();
        head::answer(&mut head, body.size_hint().exact().filter(|_| !is_end));
        let ends = is_end || *asked == Method::HEAD;
        let response = Response::from_parts(*head, ());
        let sent = self.respond.send_response(response, ends).map_err(|error| refused(&error))?;
        self.meter.sent(0);
        if ends {
            return Ok(());
        }
        let mut sending = Sending { activity: self.swept.activity(), meter: &self.meter, stream: sent };
        loop {
            let frame = sending.attending(|cx| Pin::new(&mut body).poll_frame(cx)).await?;
            match frame.transpose() {
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let is_last = body.is_end_stream();
                        sending.data(data, is_last).await?;
                        if is_last {
                            return Ok(());
                        }
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        return sending.trailers(trailers);
                    }
                },
                Ok(None) => return sending.end(),
                Err(broken) if is_call && broken.is_gone() => return sending.trailers(grpc::gone()),
                // Never a clean end: what the client has is not the whole of it.
                Err(broken) => return Err(End::Ours(broken.reason(), Reset::App)),
            }
        }
    }
}

/// What the sweeper wants, who wakes this task when there is something.
fn obey(activity: &Activity, cx: &Context<'_>) -> Result<(), End> {
    activity.attend(cx.waker());
    match activity.order() {
        Order::Cut => Err(End::Ours(Reason::CANCEL, Reset::Limit)),
        Order::None | Order::Close => Ok(()),
    }
}

fn refused(error: &h2::Error) -> End {
    // Either the stream is gone, or the answer is none that HTTP/2 can say.
    tracing::debug!(%error, "an answer cannot be sent");
    if error.is_reset() || error.is_io() || error.is_go_away() {
        End::Left
    } else {
        End::Ours(Reason::INTERNAL_ERROR, Reset::App)
    }
}

/// An answer's body on its way.
struct Sending<'a> {
    activity: &'a Activity,
    meter: &'a Meter,
    stream: SendStream<Bytes>,
}

impl Sending<'_> {
    /// Waits for something while the stream is alive.
    async fn attending<T>(&mut self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Result<T, End> {
        poll_fn(|cx| {
            obey(self.activity, cx)?;
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(End::Left));
            }
            poll(cx).map(Ok)
        })
        .await
    }

    /// Sends a part as the client makes room for it; what has no room waits here, and is noted as waiting.
    async fn data(&mut self, mut data: Bytes, is_last: bool) -> Result<(), End> {
        let mut progress = 0;
        while !data.is_empty() {
            self.stream.reserve_capacity(data.len().min(PIECE));
            let room = poll_fn(|cx| {
                obey(self.activity, cx)?;
                if self.stream.poll_reset(cx).is_ready() {
                    return Poll::Ready(Err(End::Left));
                }
                if self.stream.capacity() == 0 {
                    self.activity.write_blocked();
                    ready!(self.stream.poll_capacity(cx)).ok_or(End::Left)?.map_err(|error| refused(&error))?;
                }
                Poll::Ready(Ok(self.stream.capacity()))
            })
            .await?;
            if room == 0 {
                continue;
            }
            let piece = data.split_to(room.min(data.len()));
            progress += piece.len();
            if progress >= PROGRESS || data.is_empty() {
                progress = 0;
                self.activity.write_moved();
            }
            self.meter.sent(piece.len());
            self.send(piece, is_last && data.is_empty())?;
        }
        Ok(())
    }

    fn send(&mut self, data: Bytes, end: bool) -> Result<(), End> {
        self.stream.send_data(data, end).map_err(|error| refused(&error))
    }

    fn end(&mut self) -> Result<(), End> {
        self.stream.reserve_capacity(0);
        self.send(Bytes::new(), true)
    }

    fn trailers(&mut self, mut trailers: HeaderMap) -> Result<(), End> {
        head::strip_trailers(&mut trailers);
        self.stream.reserve_capacity(0);
        self.stream.send_trailers(trailers).map_err(|error| refused(&error))
    }
}
