//! A request's body, read from the wire as it is asked for and never ahead.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};

use super::wire::{Lost, Wire};

/// See the module's text.
pub(in crate::proxy) struct Body(Wire);

impl Body {
    pub(super) fn new(wire: Wire) -> Self {
        Self(wire)
    }

    /// Whether the client waits for 100 before it sends it.
    pub(in crate::proxy) fn is_expected(&self) -> bool {
        self.0.expects()
    }

    /// Tells the client to send it, if it still waits.
    pub(in crate::proxy) fn call_for(&self) {
        if self.0.expects() {
            let (mut parts, ()) = Response::new(()).into_parts();
            parts.status = StatusCode::CONTINUE;
            self.0.interim(&parts);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Lost;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        self.0.poll_body(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_body_read()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
