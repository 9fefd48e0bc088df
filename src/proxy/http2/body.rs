//! A request's body as it comes over HTTP/2: taken from its stream part by part, whose window is opened again only
//! then, so that an app that is slow slows its client and nobody else.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};
use http_body::{Body, Frame, SizeHint};

use super::head;

/// See the module's text.
pub(in crate::proxy) struct Inbound {
    stream: RecvStream,
    /// What is still to come, where the head told.
    left: Option<u64>,
    /// Its data has ended.
    ended: bool,
    wanted: Wanted,
}

/// Whether somebody waits for a body that its client holds back (`Expect: 100-continue`, RFC 9110 section 10.1.1).
#[derive(Clone, Default)]
pub(super) struct Wanted(Option<Arc<AtomicBool>>);

impl Wanted {
    /// Somebody does, for the first time since this was asked last.
    pub(super) fn take(&self) -> bool {
        self.0.as_ref().is_some_and(|wanted| wanted.swap(false, Relaxed))
    }
}

impl Inbound {
    /// The body of a request with these header fields.
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let expects = headers.get(EXPECT).is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let wanted = Wanted(expects.then(Arc::default));
        Self { left: if stream.is_end_stream() { Some(0) } else { length }, stream, ended: false, wanted }
    }

    /// Tells whether the client is waited for.
    pub(super) fn wanted(&self) -> Wanted {
        self.wanted.clone()
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.ended {
            let Poll::Ready(part) = self.stream.poll_data(cx) else {
                // Once is enough.
                if let Some(wanted) = self.wanted.0.take() {
                    wanted.store(true, Relaxed);
                }
                return Poll::Pending;
            };
            // Nothing is held back any more.
            self.wanted = Wanted::default();
            match part {
                Some(Ok(data)) => {
                    self.stream.flow_control().release_capacity(data.len())?;
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
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
