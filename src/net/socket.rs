//! A socket that tells its connection's [`Activity`] what moves, can look at the first bytes before anybody reads
//! them, and closes in a way that loses no answer.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::activity::Activity;

/// How long a closed connection is read on: bytes that meet a fully closed socket make the kernel send RST, which
/// can destroy an answer that the client has not read yet (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);

/// What every HTTP/2 connection begins with (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, or anything else that is no HTTP/2.
    Http1,
    /// HTTP/2.
    Http2,
}

/// See the module's text.
pub struct Socket<I> {
    io: I,
    /// What was looked at and is still to be read.
    ahead: BytesMut,
    activity: Arc<Activity>,
    lingering: Option<Pin<Box<Sleep>>>,
    half_closed: bool,
}

impl<I> Socket<I> {
    /// Watches `io`.
    pub fn new(io: I, activity: Arc<Activity>) -> Self {
        Self { io, ahead: BytesMut::new(), activity, lingering: None, half_closed: false }
    }

    /// What is watched.
    pub fn inner(&self) -> &I {
        &self.io
    }

    /// What was watched, to be used otherwise. All that was looked at must have been read.
    pub fn into_inner(self) -> I {
        self.io
    }
}

impl<I: AsyncRead + Unpin> Socket<I> {
    /// Looks at the first bytes, which are read later all the same. To be asked before anything else is read for good.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn protocol(&mut self) -> io::Result<Protocol> {
        loop {
            let looked = self.ahead.len().min(PREFACE.len());
            if self.ahead[..looked] != PREFACE[..looked] {
                return Ok(Protocol::Http1);
            }
            if looked == PREFACE.len() {
                return Ok(Protocol::Http2);
            }
            let mut more = [0; PREFACE.len()];
            let read = self.io.read(&mut more[looked..]).await?;
            self.activity.read();
            if read == 0 {
                return Ok(Protocol::Http1);
            }
            self.ahead.extend_from_slice(&more[looked..looked + read]);
        }
    }

    /// Takes back what was read last, to be read again.
    pub fn unread(&mut self, read: &[u8]) {
        let behind = std::mem::replace(&mut self.ahead, BytesMut::from(read));
        self.ahead.unsplit(behind);
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Socket<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if !self.ahead.is_empty() {
            let fits = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(fits));
            if self.ahead.is_empty() {
                self.ahead = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
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
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if flushed.is_pending() {
            self.activity.write_blocked();
        } else {
            self.activity.write_moved();
        }
        flushed
    }

    /// Half-closes, then reads and forgets what still arrives until the client has closed too or [`LINGER`] is over.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // From the first on: TLS has a word of its own to say, which a client that takes nothing would hold up for ever.
        let over = self.lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !self.half_closed {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.half_closed = true;
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
    use tokio::io::{AsyncWriteExt as _, duplex};

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

    async fn check(sent: &[&[u8]], expected: Protocol) {
        let (ours, mut client) = duplex(1024);
        let mut socket = Socket::new(ours, Arc::new(Activity::new()));
        let sending = async {
            for part in sent {
                client.write_all(part).await.expect("taken");
                tokio::task::yield_now().await;
            }
            client.shutdown().await.expect("closed");
        };
        let reading = async {
            assert_eq!(socket.protocol().await.expect("not broken"), expected, "{sent:?}");
            let mut all = Vec::new();
            socket.read_to_end(&mut all).await.expect("read");
            assert_eq!(all, sent.concat(), "nothing that was looked at is lost");
        };
        tokio::join!(sending, reading);
    }

    #[tokio::test]
    async fn the_preface_tells_the_protocol_however_it_arrives() {
        check(&[PREFACE, b"more"], Protocol::Http2).await;
        check(&[b"P", b"RI * HTTP/2.0\r\n", b"\r\nSM\r\n\r\n", b"more"], Protocol::Http2).await;
        check(&[b"POST / HTTP/1.1\r\n\r\n"], Protocol::Http1).await;
        check(&[b"P", b"UT / HTTP/1.1\r\n\r\n"], Protocol::Http1).await;
        check(&[b"PRI * HTTP/2.0\r\n"], Protocol::Http1).await;
        check(&[b""], Protocol::Http1).await;
    }

    /// TLS whose last word the client's kernel does not take.
    struct Stuck(tokio::io::DuplexStream);

    impl AsyncRead for Stuck {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Stuck {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_cannot_keep_a_connection_from_closing() {
        let (ours, _client) = duplex(64);
        let mut socket = Socket::new(Stuck(ours), Arc::new(Activity::new()));
        let closed = tokio::time::timeout(LINGER * 2, socket.shutdown()).await;
        closed.expect("in time").expect("closed");
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
