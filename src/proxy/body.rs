//! The bodies that stream through: never buffered whole, bounded where asked, and noted in the connection's activity.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;

use super::flag_headers::Names;
use super::flight::Flight;
use super::lines;
use super::observe::Meter;
use super::upstream::{Broken, Download, WrongLength, h2c};
use super::{downstream, http2};
use crate::net::activity::Activity;

/// What a client sends after a request's head, by the protocol that it speaks.
pub(super) enum Inbound {
    /// HTTP/1.1.
    Http1(downstream::Body),
    /// HTTP/2.
    Http2(http2::Body),
    /// None: what follows is no content, but a tunnel's.
    Nothing,
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut *self {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
            Self::Nothing => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Nothing => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Nothing => SizeHint::with_exact(0),
        }
    }
}

/// A request's body on its way to the app.
pub(super) enum RequestBody {
    /// There is none, so that the request can be sent again.
    Empty,
    /// The client's.
    Client {
        /// What the client sends.
        body: Inbound,
        /// Told what is waited for.
        activity: Arc<Activity>,
        /// Bytes that may still come.
        left: Option<u64>,
        /// Counts what has come.
        meter: Meter,
        /// Names that its trailers must not have, if there are such.
        barred: Option<Arc<Names>>,
    },
}

impl RequestBody {
    /// Nobody wants the rest: the client is not waited for any more.
    pub(super) fn abandon(&mut self) {
        if let Self::Client { activity, .. } = self {
            activity.body_moved();
        }
        *self = Self::Empty;
    }

    /// Whether the client waits for 100 before it sends it (RFC 9110 section 10.1.1).
    pub(super) fn is_expected(&self) -> bool {
        match self {
            Self::Empty | Self::Client { body: Inbound::Nothing, .. } => false,
            Self::Client { body: Inbound::Http1(body), .. } => body.is_expected(),
            Self::Client { body: Inbound::Http2(body), .. } => body.is_expected(),
        }
    }

    /// Tells the client to send it, if it still waits.
    pub(super) fn call_for(&self) {
        match self {
            Self::Empty | Self::Client { body: Inbound::Nothing, .. } => {}
            Self::Client { body: Inbound::Http1(body), .. } => body.call_for(),
            Self::Client { body: Inbound::Http2(body), .. } => body.call_for(),
        }
    }
}

/// Why a request's body ends early.
#[derive(Debug, Error)]
pub(super) enum BodyError {
    #[error(transparent)]
    Http1(#[from] downstream::Lost),
    #[error(transparent)]
    Http2(#[from] h2::Error),
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error(transparent)]
    Length(#[from] WrongLength),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Self::Client { body, activity, left, meter, barred } = &mut *self else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
            activity.body_blocked();
            return Poll::Pending;
        };
        activity.body_moved();
        if let Some(Ok(frame)) = &frame {
            let length = frame.data_ref().map_or(0, Bytes::len);
            meter.add(length);
            if let Some(left) = left {
                match left.checked_sub(length as u64) {
                    Some(rest) => *left = rest,
                    None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
                }
            }
        }
        let frame = match (frame, barred) {
            (Some(Ok(frame)), Some(barred)) if frame.is_trailers() => Some(Ok(without(barred, frame))),
            (frame, _) => frame,
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client { body, .. } => body.size_hint(),
        }
    }
}

/// Trailers without some names: there are apps that merge them with the head.
fn without(barred: &Names, frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            barred.strip(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// An answer's body on its way to the client.
pub(super) enum AnswerBody {
    /// The app's.
    App(Download),
    /// That of an app that speaks HTTP/2.
    Multiplexed(Box<h2c::Download>),
    /// Our own text.
    Text(Option<Bytes>),
}

/// An answer's body, with what is released when it ends.
pub(super) struct Delivery {
    /// The begin of the answer's head, where its client gets that as lines.
    pub(super) lines: Option<lines::Answer>,
    body: AnswerBody,
    flight: Option<Box<Flight>>,
    /// An error to be told with the next turn, when what came before it is on its way to the client.
    broken: Option<Broken>,
}

impl Delivery {
    /// Delivers `body` and then ends `flight`.
    pub(super) fn new(lines: Option<lines::Answer>, body: AnswerBody, flight: Box<Flight>) -> Self {
        let mut delivery = Self { lines, body, flight: Some(flight), broken: None };
        delivery.settle();
        delivery
    }

    /// Reads small parts from now on: whoever takes them is slow, and not the only one.
    pub(super) fn stay_small(&mut self) {
        if let AnswerBody::App(download) = &mut self.body {
            download.stay_small();
        }
    }

    /// Adds all of the body to `out`, if it has come already: tells whether it has.
    pub(super) fn take_whole(&mut self, out: &mut Vec<u8>) -> bool {
        let AnswerBody::App(download) = &mut self.body else { return false };
        let Some(length) = download.whole(out) else { return false };
        if let Some(flight) = &mut self.flight {
            flight.delivered(length);
        }
        self.settle();
        true
    }

    /// Frees the connection to the app as soon as the answer has come to its end.
    fn settle(&mut self) {
        let has_ended = match &self.body {
            AnswerBody::App(download) => download.is_end(),
            AnswerBody::Multiplexed(download) => download.is_end(),
            AnswerBody::Text(_) => false,
        };
        if !has_ended {
            return;
        }
        let ended = std::mem::replace(&mut self.body, AnswerBody::Text(None));
        match (ended, &mut self.flight) {
            (AnswerBody::App(download), Some(flight)) => flight.answer_ended(download),
            (AnswerBody::Multiplexed(_), Some(flight)) => flight.notes.whole(),
            _ => {}
        }
    }
}

impl Body for Delivery {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        if let Some(flight) = &mut this.flight {
            flight.goes_on();
        }
        if let Some(broken) = this.broken.take() {
            return Poll::Ready(Some(Err(broken)));
        }
        let frame = match &mut this.body {
            AnswerBody::App(download) => ready!(download.poll_frame(cx)),
            AnswerBody::Multiplexed(download) => ready!(download.poll_frame(cx)),
            AnswerBody::Text(text) => text.take().map(|text| Ok(Frame::data(text))),
        };
        if let Some(Err(error)) = frame {
            if let Some(flight) = &mut this.flight {
                flight.answer_broke(&error);
            }
            // At an error hyper throws away what it has not written yet: head and first part, if they came together
            // with it. A client that gets not a byte takes its connection for a stale one, and sends a POST again.
            this.broken = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let (Some(Ok(frame)), Some(flight)) = (&frame, &mut this.flight)
            && let Some(data) = frame.data_ref()
        {
            flight.delivered(data.len());
        }
        this.settle();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            AnswerBody::App(download) => download.is_end(),
            AnswerBody::Multiplexed(download) => download.is_end(),
            AnswerBody::Text(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            AnswerBody::App(download) => download.size_hint(),
            AnswerBody::Multiplexed(download) => download.size_hint(),
            AnswerBody::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}
