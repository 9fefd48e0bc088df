//! Whether the client of an HTTP/2 answer takes it. HTTP/1.1 needs nothing of the kind: there a client that takes nothing
//! blocks its socket, which the sweeper sees; here it may take other answers and leave one.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// An answer whose client takes nothing for this long is given up, as over HTTP/1.1 on the same listeners.
const UNTAKEN: Duration = Duration::from_secs(10);

tokio::task_local! {
    static REQUEST: Arc<Parts>;
}

/// Parts of the answer made, and parts asked for: an odd number while one was made and none is asked for.
#[derive(Debug, Default)]
struct Parts(AtomicU64);

impl Parts {
    fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn asked(&self) {
        self.0.store(self.count().next_multiple_of(2), Relaxed);
    }

    fn made(&self) {
        self.0.store(self.count() + 1, Relaxed);
    }
}

/// Runs a request of an HTTP/2 connection to its end, or until its client has taken nothing of its answer for too
/// long; dropped then, it is reset.
///
/// A type, and the request boxed, because an `async fn` around a future of a kilobyte is several of them: each layer
/// keeps one place for its argument and another for what it polls, and spawning copies them all.
pub(super) struct Watch<F> {
    request: Pin<Box<F>>,
    parts: Arc<Parts>,
    /// The part that the client has not taken, and until when it may.
    untaken: Option<(u64, Pin<Box<Sleep>>)>,
}

/// Watches a request.
pub(super) fn watch<F: Future<Output = ()>>(request: F) -> Watch<F> {
    Watch { request: Box::pin(request), parts: Arc::default(), untaken: None }
}

impl<F: Future<Output = ()>> Future for Watch<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if REQUEST.sync_scope(this.parts.clone(), || this.request.as_mut().poll(cx)).is_ready() {
            return Poll::Ready(());
        }
        let count = this.parts.count();
        if count.is_multiple_of(2) {
            // The request waits for something else than its client's room: itself, or the next part.
            this.untaken = None;
            return Poll::Pending;
        }
        // Another part than before begins its time anew.
        if this.untaken.as_ref().is_none_or(|(part, _)| *part != count) {
            this.untaken = Some((count, Box::pin(sleep(UNTAKEN))));
        }
        if let Some((_, over)) = &mut this.untaken {
            ready!(over.as_mut().poll(cx));
            tracing::debug!("an answer is given up: its client takes nothing of it");
        }
        Poll::Ready(())
    }
}

/// An answer's body that tells whether it waits for its client; outside of [`watch`] it tells nobody.
pub(super) struct Offered<B> {
    body: B,
    parts: Option<Arc<Parts>>,
}

impl<B> Offered<B> {
    /// The body of the answer to the request that is being run.
    pub(super) fn new(body: B) -> Self {
        Self { body, parts: REQUEST.try_with(Arc::clone).ok() }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Offered<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        // hyper asks for a part when the client has room for one.
        if let Some(parts) = &self.parts {
            parts.asked();
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let (Poll::Ready(Some(Ok(_))), Some(parts)) = (&frame, &self.parts) {
            parts.made();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, Full};
    use tokio::time::Instant;

    use super::*;

    /// A body of so many parts.
    struct Endless(u32);

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
            self.0 = left;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_given_up_and_a_slow_client_is_waited_for() {
        for (pause, expected) in [(9, 20), (11, 1)] {
            let taken = Cell::new(0);
            let began = Instant::now();
            watch(async {
                let mut body = Offered::new(Endless(20));
                while body.frame().await.is_some() {
                    taken.set(taken.get() + 1);
                    sleep(Duration::from_secs(pause)).await;
                }
            })
            .await;
            assert_eq!(taken.get(), expected, "a part every {pause} s");
            assert!(expected > 1 || began.elapsed() < Duration::from_secs(pause));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_waits_for_news_is_not_given_up() {
        let ended = Cell::new(false);
        watch(async {
            sleep(Duration::from_secs(60)).await;
            let mut body = Offered::new(Full::new(Bytes::from_static(b"x")));
            while body.frame().await.is_some() {}
            sleep(Duration::from_secs(1)).await;
            ended.set(true);
        })
        .await;
        assert!(ended.get());
    }

    #[test]
    fn a_watched_request_is_not_copied_with_its_task() {
        let request = async {
            let state = [0_u8; 4096];
            tokio::task::yield_now().await;
            std::hint::black_box(state);
        };
        let watched = watch(request);
        assert!(size_of_val(&watched) <= 64, "{} bytes", size_of_val(&watched));
    }
}
