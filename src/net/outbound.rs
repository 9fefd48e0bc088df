//! An answer's body: whole, as nearly all are, or a stream that lasts.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};

use super::rpc;

/// Why a streamed answer breaks off.
pub type Broken = Box<dyn StdError + Send + Sync>;

/// See the module's text.
pub enum Outbound {
    /// Made before its first byte is sent.
    Whole(Full<Bytes>),
    /// Of a call: a message or a stream of them, and how it ended.
    Call(rpc::Body),
    /// Made while it is sent; it is polled only when its client takes what came before, so a body that waits for news
    /// keeps the latest and not a queue.
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = Broken> + Send>>),
}

impl Outbound {
    /// A body that lasts.
    pub fn stream<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Broken>,
    {
        Self::Stream(Box::pin(body.map_err(Into::into)))
    }
}

impl From<Full<Bytes>> for Outbound {
    fn from(body: Full<Bytes>) -> Self {
        Self::Whole(body)
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(body) => {
                let frame = Pin::new(body).poll_frame(cx);
                frame.map(|frame| frame.map(|frame| frame.map_err(|never: Infallible| match never {})))
            }
            Self::Call(body) => {
                let frame = Pin::new(body).poll_frame(cx);
                frame.map(|frame| frame.map(|frame| frame.map_err(|never: Infallible| match never {})))
            }
            Self::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Call(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Call(body) => body.size_hint(),
            Self::Stream(body) => body.size_hint(),
        }
    }
}
