//! The half of a client library that moves bytes, polled only while somebody waits for its other half: no task of
//! its own that could outlive the check.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

type Connection<E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send>>;

/// A connection's driving future. Between two attempts it is not polled, so that what the other side did meanwhile
/// (closed the connection, said why) is seen when the next attempt begins.
pub(super) struct Driver<E> {
    future: Option<Connection<E>>,
    error: Option<E>,
}

impl<E> Driver<E> {
    pub(super) fn new(connection: impl Future<Output = Result<(), E>> + Send + 'static) -> Self {
        Self { future: Some(Box::pin(connection)), error: None }
    }

    /// Runs `work` to its end with the connection driven beside it. Work that waits for a connection that has ended
    /// gets the library's error: the driver is dropped with it.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Some(future) = &mut self.future
                && let Poll::Ready(end) = future.as_mut().poll(context)
            {
                self.error = end.err();
                self.future = None;
            }
            work.as_mut().poll(context)
        })
        .await
    }

    /// Whether the connection has ended.
    pub(super) fn ended(&self) -> bool {
        self.future.is_none()
    }

    /// What the connection ended with.
    pub(super) fn take_error(&mut self) -> Option<E> {
        self.error.take()
    }
}

impl<E> fmt::Debug for Driver<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("ended", &self.ended()).finish_non_exhaustive()
    }
}
