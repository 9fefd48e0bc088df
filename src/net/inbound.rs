//! A request's body as it comes in, with the waiting noted in its connection's activity: what stalls is found by the
//! sweeper, and no request arms a timer. Over HTTP/2 a body that waits has a timer of its own: the connection's other
//! requests go on, and say nothing of it.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::{Sleep, sleep};

use super::activity::{Activity, Expired};

/// Over HTTP/2 a body may stall this long, as over HTTP/1.1 on the listeners that speak both.
const STALL: Duration = Duration::from_secs(10);

/// See the module's text.
pub struct Inbound {
    body: Incoming,
    activity: Arc<Activity>,
    stalls: Option<Pin<Box<Sleep>>>,
}

/// Why a body ends early.
#[derive(Debug, Error)]
pub enum InboundError {
    /// It broke off or is badly framed.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// It stopped coming for longer than the sweeper allows.
    #[error("the client stopped sending")]
    Stalled,
}

impl Inbound {
    /// The body of a request on the connection of `activity`.
    pub fn new(body: Incoming, activity: Arc<Activity>) -> Self {
        Self { body, activity, stalls: None }
    }

    /// What the request's connection is doing.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = InboundError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.activity.body_moved();
                self.stalls = None;
                Poll::Ready(frame.map(|frame| frame.map_err(InboundError::Broken)))
            }
            Poll::Pending if self.activity.is_multiplexed() => {
                ready!(self.stalls.get_or_insert_with(|| Box::pin(sleep(STALL))).as_mut().poll(cx));
                Poll::Ready(Some(Err(InboundError::Stalled)))
            }
            Poll::Pending if self.activity.expired() == Expired::Body => Poll::Ready(Some(Err(InboundError::Stalled))),
            Poll::Pending => {
                self.activity.body_blocked();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
