//! A request's body as it comes over HTTP/2: taken from its stream part by part, whose window is opened again only
//! then, so that an app that is slow slows its client and nobody else.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};

use super::head;
use super::interim::Interims;

/// See the module's text.
pub(in crate::proxy) struct Body {
    stream: RecvStream,
    /// What is still to come, where the head told.
    left: Option<u64>,
    /// Its data has ended.
    ended: bool,
    interims: Interims,
}

impl Body {
    /// The body of a request with these header fields.
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap, interims: Interims) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { left: if stream.is_end_stream() { Some(0) } else { length }, stream, ended: false, interims }
    }

    /// Whether the client waits for 100 before it sends it.
    pub(in crate::proxy) fn is_expected(&self) -> bool {
        self.interims.expects()
    }

    /// Tells the client to send it, if it still waits.
    pub(in crate::proxy) fn call_for(&self) {
        self.interims.call_for_body();
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.ended {
            match ready!(self.stream.poll_data(cx)).transpose()? {
                Some(data) => {
                    self.interims.has_sent();
                    self.stream.flow_control().release_capacity(data.len())?;
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                None => self.ended = true,
            }
        }
        Poll::Ready(ready!(self.stream.poll_trailers(cx))?.map(|mut trailers| {
            head::strip(&mut trailers);
            Ok(Frame::trailers(trailers))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
