//! A socket that tells its connection's [`Activity`] what moves, and closes in a way that loses no answer.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::activity::Activity;

/// How long a closed connection is read on: bytes that meet a fully closed socket make the kernel send RST, which
/// can destroy an answer that the client has not read yet (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);

/// See the module's text.
pub struct Socket<I> {
    io: I,
    activity: Arc<Activity>,
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<I> Socket<I> {
    /// Watches `io`.
    pub fn new(io: I, activity: Arc<Activity>) -> Self {
        Self { io, activity, lingering: None }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Socket<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.activity.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Half-closes, then reads and forgets what still arrives until the client has closed too or [`LINGER`] is over.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.lingering = Some(Box::pin(sleep(LINGER)));
        }
        if let Some(over) = &mut self.lingering
            && over.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Ok(()));
        }
        let mut scratch = [0; 4096];
        // A bounded number of reads a turn: a client that never stops must not keep the thread.
        for _ in 0..16 {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf)) {
                Ok(()) if buf.filled().is_empty() => return Poll::Ready(Ok(())),
                Ok(()) => {}
                Err(_) => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<I> Socket<I> {
    fn note(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => self.activity.write_blocked(),
            Poll::Ready(_) => self.activity.write_moved(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test(start_paused = true)]
    async fn a_close_reads_on_until_the_client_has_closed() {
        let (ours, mut client) = duplex(64);
        let mut socket = Socket::new(ours, Arc::new(Activity::new()));
        let closing = async { socket.shutdown().await.expect("closed") };
        let leaving = async move {
            client.write_all(&[b'x'; 500]).await.expect("still taken after our half-close");
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.expect("our half-close");
            assert!(rest.is_empty());
        };
        tokio::join!(closing, leaving);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_closes_is_left_in_the_end() {
        let (ours, _client) = duplex(64);
        let mut socket = Socket::new(ours, Arc::new(Activity::new()));
        let began = tokio::time::Instant::now();
        socket.shutdown().await.expect("closed");
        assert!(began.elapsed() >= LINGER);
    }
}
