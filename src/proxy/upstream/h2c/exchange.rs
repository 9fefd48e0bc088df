//! One request and its answer on a stream of a connection to an app that speaks HTTP/2.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Response, request, response};
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;

use super::head::{self, Target};
use super::upload::{Cut, Upload};
use super::{Leased, STREAMS};
use crate::lifecycle::tasks::Tasks;
use crate::proxy::http2::{Duplex, Side};
use crate::proxy::upstream::decode::Bounds;
use crate::proxy::upstream::{Broken, Lost};

/// A request under way whose answer has not begun.
pub(in crate::proxy) struct Call {
    answer: ResponseFuture,
    stream: SendStream<Bytes>,
    upload: Upload,
    bounds: Bounds,
    leased: Leased,
    interims: usize,
}

/// What the app says next.
pub(in crate::proxy) enum Heard {
    /// An answer of 1xx before the real one.
    Interim(response::Parts),
    /// The answer.
    Answer(Response<RecvStream>),
}

/// An answer's body on its way from the app.
pub(in crate::proxy) struct Download {
    stream: RecvStream,
    /// What is still to come, where the head told.
    left: Option<u64>,
    has_ended: bool,
    _leased: Leased,
    /// Held for its drop, which ends the rest of the request that is still being sent.
    _upload: Option<oneshot::Sender<()>>,
}

impl Call {
    /// Begins a request; gives its body back with the reason when nothing of it was sent.
    pub(in crate::proxy) async fn begin(
        leased: Leased,
        parts: &request::Parts,
        target: Target,
        stand_in: &HeaderValue,
        upload: Upload,
        bounds: Bounds,
    ) -> Result<Self, (Upload, h2::Error)> {
        let Some(request) = head::request(parts, target, stand_in) else {
            return Err((upload, Reason::PROTOCOL_ERROR.into()));
        };
        let ends = upload.is_done() && target == Target::Resource;
        let sent = match leased.0.sender.clone().ready().await {
            Ok(mut sender) => sender.send_request(request, ends),
            Err(error) => Err(error),
        };
        match sent {
            Ok((answer, stream)) => Ok(Self { answer, stream, upload, bounds, leased, interims: 0 }),
            Err(error) => {
                leased.is_gone();
                Err((upload, error))
            }
        }
    }

    /// Sends what can be sent, and is ready with what the app says next: its answer, in the end.
    pub(in crate::proxy) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Heard, Lost>> {
        match self.upload.poll(cx, &mut self.stream) {
            Poll::Ready(Ok(())) | Poll::Pending => {}
            Poll::Ready(Err(Cut::Body(error))) => return Poll::Ready(Err(Lost::Body(error))),
            // The app may have answered all the same; if not, the answer's own error says why.
            Poll::Ready(Err(Cut::Stream)) => {}
        }
        match self.answer.poll_informational(cx) {
            Poll::Ready(Some(interim)) => {
                self.interims += 1;
                if self.interims > STREAMS {
                    return Poll::Ready(Err(Broken::Http2(Reason::ENHANCE_YOUR_CALM.into()).into()));
                }
                let (parts, ()) = interim.map_err(Broken::Http2)?.into_parts();
                return Poll::Ready(Ok(Heard::Interim(parts)));
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        let answer = ready!(Pin::new(&mut self.answer).poll(cx)).map_err(Broken::Http2)?;
        if answer.headers().len() > self.bounds.fields {
            return Poll::Ready(Err(Broken::Malformed(crate::proxy::upstream::decode::Malformed::TooLarge).into()));
        }
        self.upload.settle();
        Poll::Ready(Ok(Heard::Answer(answer)))
    }

    /// The request as it was at first, if it may be sent again: the app says that it has not looked at it (RFC 9113
    /// sections 6.8 and 8.7).
    pub(in crate::proxy) fn rewound(self, error: &Broken) -> Option<Upload> {
        let Broken::Http2(error) = error else { return None };
        if error.is_go_away() {
            self.leased.is_gone();
        }
        if is_unprocessed(error) { self.upload.rewound() } else { None }
    }

    /// The answer's body, after its head. What is left of the request goes on in a task of its own: the client may
    /// take the answer only when it has sent everything.
    pub(in crate::proxy) fn into_download(
        self,
        stream: RecvStream,
        parts: &response::Parts,
        tasks: &Tasks,
    ) -> Download {
        let has_ended = stream.is_end_stream();
        let mut rest = None;
        if !self.upload.is_done() && !has_ended {
            let (alive, gone) = oneshot::channel();
            tasks.spawn_connection(self.upload.finish(self.stream, gone));
            rest = Some(alive);
        }
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Download {
            stream,
            left: if has_ended { Some(0) } else { length },
            has_ended,
            _leased: self.leased,
            _upload: rest,
        }
    }

    /// Whether all of the request was sent.
    pub(in crate::proxy) fn is_sent(&self) -> bool {
        self.upload.is_done()
    }

    /// Both directions, after the app has agreed to a tunnel.
    pub(in crate::proxy) fn into_tunnel(self, answer: RecvStream) -> Duplex {
        Duplex::new(self.stream, answer, Side::App(self.leased))
    }
}

/// Whether the app has done nothing about a request: it has refused it, or it goes and has said that this one is beyond
/// what it will look at. (The error of a request that was lost with its connection is another.)
pub(in crate::proxy) fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}

impl Download {
    /// The next part of the body.
    pub(in crate::proxy) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.is_end() {
            return Poll::Ready(None);
        }
        match ready!(self.stream.poll_data(cx)).transpose().map_err(Broken::Http2)? {
            Some(data) => {
                // The window is opened as fast as the client takes what came before.
                self.stream.flow_control().release_capacity(data.len()).map_err(Broken::Http2)?;
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                self.has_ended = self.stream.is_end_stream();
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            None => {
                let trailers = ready!(self.stream.poll_trailers(cx)).map_err(Broken::Http2)?;
                self.has_ended = true;
                Poll::Ready(trailers.map(|mut trailers| {
                    head::strip(&mut trailers);
                    Ok(Frame::trailers(trailers))
                }))
            }
        }
    }

    /// Whether all of the body was given.
    pub(in crate::proxy) fn is_end(&self) -> bool {
        self.has_ended
    }

    /// The length of what is still to be given.
    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
