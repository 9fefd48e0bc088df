//! A request's body on its way to an app that speaks HTTP/2, sent as the app makes room for it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::{Body as _, Frame};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::head;
use crate::proxy::body::{BodyError, RequestBody};

/// What may be sent at a time.
const PIECE: usize = 64 * 1024;
/// What is kept of a body for the case that the app refuses its request unseen: nearly every message of gRPC.
const KEPT: usize = 64 * 1024;
/// How long the app may take to say whether it wants a body that its client asks about. Not every app knows to.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module's text.
pub(in crate::proxy) struct Upload {
    body: RequestBody,
    /// What was taken from the body, to be sent again; none when that is too much.
    kept: Option<Vec<Part>>,
    /// How much of that is data.
    kept_bytes: usize,
    /// How many of the kept parts have been sent on this connection.
    at: usize,
    /// What is being sent.
    data: Bytes,
    /// Whether nothing follows it.
    is_last: bool,
    is_done: bool,
    /// Ends the wait for the app's 100.
    patience: Option<Pin<Box<Sleep>>>,
}

/// A part of a body; cheap to clone.
#[derive(Clone)]
enum Part {
    Data(Bytes, Follows),
    Trailers(HeaderMap),
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Follows {
    More,
    Nothing,
}

/// Why a request is not sent to its end.
pub(super) enum Cut {
    /// By the client.
    Body(BodyError),
    /// By the app, which may yet have answered.
    Stream,
}

impl Upload {
    /// The body of one request.
    pub(in crate::proxy) fn new(body: RequestBody) -> Self {
        let patience = body.is_expected().then(|| Box::pin(sleep(PATIENCE)));
        let is_done = body.is_end_stream();
        let kept = Some(Vec::new());
        Self { body, kept, kept_bytes: 0, at: 0, data: Bytes::new(), is_last: false, is_done, patience }
    }

    /// Whether there is nothing (left) to send.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// As it was before anything was sent; only if that is still known.
    pub(super) fn rewound(mut self) -> Option<Self> {
        let kept = self.kept.as_ref()?;
        (self.at, self.data, self.is_last) = (0, Bytes::new(), false);
        self.is_done = kept.is_empty() && matches!(self.body, RequestBody::Empty);
        Some(self)
    }

    /// Nobody reads it any more: the client is no longer waited for either.
    pub(super) fn abandon(&mut self) {
        self.body.abandon();
        (self.kept, self.data, self.is_done) = (None, Bytes::new(), true);
    }

    /// The app has begun to answer: the request is its, for good or bad.
    pub(super) fn settle(&mut self) {
        if let Some(kept) = &self.kept
            && self.at == kept.len()
        {
            self.kept = None;
        }
    }

    /// Sends on; ready when all of it is sent.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, stream: &mut SendStream<Bytes>) -> Poll<Result<(), Cut>> {
        while !self.is_done {
            if !self.data.is_empty() {
                ready!(self.poll_send(cx, stream))?;
                continue;
            }
            match ready!(self.poll_part(cx)).map_err(Cut::Body)? {
                Part::Data(data, follows) => {
                    (self.data, self.is_last) = (data, follows == Follows::Nothing);
                    if self.data.is_empty() && self.is_last {
                        self.end(stream)?;
                    }
                }
                Part::Trailers(trailers) => {
                    self.is_done = true;
                    stream.reserve_capacity(0);
                    stream.send_trailers(trailers).map_err(|_| Cut::Stream)?;
                }
                Part::End => self.end(stream)?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, stream: &mut SendStream<Bytes>) -> Poll<Result<(), Cut>> {
        stream.reserve_capacity(self.data.len().min(PIECE));
        if stream.capacity() == 0 {
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Cut::Stream)),
            }
        }
        let piece = self.data.split_to(stream.capacity().min(self.data.len()));
        let ends = self.is_last && self.data.is_empty();
        self.is_done = ends;
        Poll::Ready(stream.send_data(piece, ends).map_err(|_| Cut::Stream))
    }

    fn end(&mut self, stream: &mut SendStream<Bytes>) -> Result<(), Cut> {
        self.is_done = true;
        stream.reserve_capacity(0);
        stream.send_data(Bytes::new(), true).map_err(|_| Cut::Stream)
    }

    /// What comes next: what was kept, and then what the client sends.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, BodyError>> {
        if let Some(part) = self.kept.as_ref().and_then(|kept| kept.get(self.at)) {
            self.at += 1;
            return Poll::Ready(Ok(part.clone()));
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending()
            && let Some(over) = &mut self.patience
        {
            ready!(over.as_mut().poll(cx));
            self.patience = None;
            self.body.call_for();
            // So that the client is told, by the task that has polled this one.
            cx.waker().wake_by_ref();
        }
        let part = match ready!(frame).transpose()?.map(Frame::into_data) {
            Some(Ok(data)) if self.body.is_end_stream() => Part::Data(data, Follows::Nothing),
            Some(Ok(data)) => Part::Data(data, Follows::More),
            Some(Err(frame)) => {
                let mut trailers = frame.into_trailers().unwrap_or_default();
                head::strip(&mut trailers);
                Part::Trailers(trailers)
            }
            None => Part::End,
        };
        self.patience = None;
        if let Part::Data(data, _) = &part {
            self.kept_bytes += data.len();
        }
        match &mut self.kept {
            Some(kept) if self.kept_bytes <= KEPT => {
                kept.push(part.clone());
                self.at += 1;
            }
            _ => self.kept = None,
        }
        Poll::Ready(Ok(part))
    }

    /// Sends the rest while the answer is delivered already, until all of it is sent, the app wants no more of it, or
    /// `gone` says that the answer has ended.
    pub(super) async fn finish(mut self, mut stream: SendStream<Bytes>, gone: oneshot::Receiver<()>) {
        self.kept = None;
        let sending = std::future::poll_fn(|cx| {
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Cut::Stream));
            }
            self.poll(cx, &mut stream)
        });
        let sent = tokio::select! {
            biased;
            // Nothing is ever sent: it resolves when the sender is dropped.
            _ = gone => return,
            sent = sending => sent,
        };
        match sent {
            Ok(()) => {}
            Err(Cut::Stream) => self.abandon(),
            Err(Cut::Body(error)) => {
                tracing::debug!(%error, "a request broke off while it was answered");
                stream.send_reset(Reason::CANCEL);
            }
        }
    }
}
