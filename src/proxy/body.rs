//! The bodies that stream through: never buffered whole, bounded where asked, and noted in the connection's activity.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

use super::service::Flight;
use crate::net::activity::{Activity, Expired};

/// A request's body on its way to the app.
pub(super) enum RequestBody {
    /// There is none, so that the request can be sent again.
    Empty,
    /// The client's.
    Client {
        /// What the client sends.
        body: Incoming,
        /// Told what is waited for.
        activity: Arc<Activity>,
        /// Bytes that may still come.
        left: Option<u64>,
        /// Told how it ends.
        upload: Upload,
    },
}

/// How far a request's body has come; shared by the body and the service.
#[derive(Debug, Clone)]
pub(super) struct Upload(Arc<AtomicU8>);

/// A state of [`Upload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Progress {
    Under,
    Done,
    TooLarge,
    Broken,
}

impl Upload {
    /// An upload under way.
    pub(super) fn begin() -> Self {
        Self(Arc::new(AtomicU8::new(Progress::Under as u8)))
    }

    /// How far it has come.
    pub(super) fn progress(&self) -> Progress {
        match self.0.load(Ordering::Relaxed) {
            0 => Progress::Under,
            1 => Progress::Done,
            2 => Progress::TooLarge,
            _ => Progress::Broken,
        }
    }

    fn set(&self, progress: Progress) {
        self.0.store(progress as u8, Ordering::Relaxed);
    }
}

/// Why a request's body ends early.
#[derive(Debug, Error)]
pub(super) enum BodyError {
    #[error(transparent)]
    Client(#[from] hyper::Error),
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error("the client stopped sending")]
    Timeout,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Self::Client { body, activity, left, upload } = &mut *self else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
            if activity.expired() == Expired::Body {
                return Poll::Ready(Some(Err(BodyError::Timeout)));
            }
            activity.body_blocked();
            return Poll::Pending;
        };
        activity.body_moved();
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(left) = left {
                    match left.checked_sub(length) {
                        Some(rest) => *left = rest,
                        None => {
                            upload.set(Progress::TooLarge);
                            return Poll::Ready(Some(Err(BodyError::TooLarge)));
                        }
                    }
                }
                if body.is_end_stream() {
                    upload.set(Progress::Done);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                upload.set(Progress::Broken);
                Some(Err(error.into()))
            }
            None => {
                upload.set(Progress::Done);
                None
            }
        })
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

/// An answer's body on its way to the client.
pub(super) enum AnswerBody {
    /// The app's.
    App(Incoming),
    /// Our own text.
    Text(Option<Bytes>),
}

/// An answer's body, with what is released when it ends.
pub(super) struct Delivery {
    body: AnswerBody,
    flight: Option<Flight>,
}

impl Delivery {
    /// Delivers `body` and then ends `flight`.
    pub(super) fn new(body: AnswerBody, mut flight: Flight) -> Self {
        if body.is_end_stream() {
            flight.answer_ended();
        }
        Self { body, flight: Some(flight) }
    }

    /// The empty body of an answer that is followed by a tunnel.
    pub(super) fn nothing() -> Self {
        Self { body: AnswerBody::Text(None), flight: None }
    }
}

impl AnswerBody {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::App(body) => body.is_end_stream(),
            Self::Text(text) => text.is_none(),
        }
    }
}

impl Body for Delivery {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        let frame = match &mut this.body {
            AnswerBody::App(body) => ready!(Pin::new(body).poll_frame(cx)),
            AnswerBody::Text(text) => text.take().map(|text| Ok(Frame::data(text))),
        };
        if let Some(flight) = &mut this.flight {
            match &frame {
                Some(Ok(_)) if !this.body.is_end_stream() => {}
                Some(Ok(_)) | None => flight.answer_ended(),
                Some(Err(error)) => flight.answer_broke(error),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            AnswerBody::App(body) => body.size_hint(),
            AnswerBody::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}
