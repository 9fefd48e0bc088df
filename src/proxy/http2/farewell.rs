//! The end of a connection in two steps (RFC 9113 section 6.8): a GOAWAY that names no stream and a PING, and the last
//! GOAWAY when the client has answered that. A client that does not answer is waited for no longer than [`PATIENCE`].

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// Longer than any path takes there and back. A request that is on its way for longer is above the last stream of the
/// second GOAWAY, so that its client knows that nobody has looked at it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The answer to the PING that the h2 crate sends with the first GOAWAY. It sends the second one only when it reads
/// this, and has no other way to be told to.
pub(super) const ANSWER: [u8; 17] = [0, 0, 8, 6, 1, 0, 0, 0, 0, 0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];

/// See the module's text.
#[derive(Default)]
pub(super) struct Farewell {
    waited: Option<Pin<Box<Sleep>>>,
    is_over: bool,
    overdue: Arc<AtomicBool>,
}

impl Farewell {
    /// Tells the socket that the answer is overdue: it then reads as if it had come.
    pub(super) fn overdue(&self) -> Arc<AtomicBool> {
        self.overdue.clone()
    }

    /// The client is asked to leave.
    pub(super) fn begin(&mut self) {
        self.waited = Some(Box::pin(sleep(PATIENCE)));
    }

    /// Whether it has been asked.
    pub(super) fn has_begun(&self) -> bool {
        self.waited.is_some()
    }

    /// Ready once: when the client has been waited for long enough. (If it has answered meanwhile, a second answer changes
    /// nothing.)
    pub(super) fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(waited) = self.waited.as_mut().filter(|_| !self.is_over) else { return Poll::Pending };
        ready!(waited.as_mut().poll(cx));
        self.is_over = true;
        self.overdue.store(true, Relaxed);
        Poll::Ready(())
    }
}
