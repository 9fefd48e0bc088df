//! Whether the client of an HTTP/2 answer takes it. HTTP/1.1 needs nothing of the kind: there a client that takes nothing
//! blocks its socket, which the sweeper sees; here it may take other answers and leave one.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::sleep;

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
pub(super) async fn watch(request: impl Future<Output = ()>) {
    let parts = Arc::new(Parts::default());
    let watched = async {
        let mut request = pin!(request);
        let mut untaken = 0;
        loop {
            // Until the request ends, or waits for its client to take another part than before.
            let waits = poll_fn(|cx| match request.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(false),
                Poll::Pending if parts.count() % 2 == 1 && parts.count() != untaken => Poll::Ready(true),
                Poll::Pending => Poll::Pending,
            });
            if !waits.await {
                return;
            }
            untaken = parts.count();
            let moves = poll_fn(|cx| match request.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(false),
                Poll::Pending if parts.count() == untaken => Poll::Pending,
                Poll::Pending => Poll::Ready(true),
            });
            tokio::select! {
                goes_on = moves => if !goes_on { return },
                () = sleep(UNTAKEN) => {
                    tracing::debug!("an answer is given up: its client takes nothing of it");
                    return;
                }
            }
        }
    };
    REQUEST.scope(parts.clone(), watched).await;
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
}
