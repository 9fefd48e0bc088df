//! A stream of HTTP/2 as bytes in both directions (RFC 8441 section 5): what a tunnel is made of, at either end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::Meter;
use crate::proxy::upstream::h2c::Leased;

/// What is sent at a time.
const PIECE: usize = 16 * 1024;

/// See the module's text. Dropping it before both directions have ended resets the stream, as a broken connection is
/// reset.
pub(in crate::proxy) struct Duplex {
    output: SendStream<Bytes>,
    input: RecvStream,
    unread: Bytes,
    has_ended: bool,
    side: Side,
}

/// Whose stream it is.
pub(in crate::proxy) enum Side {
    /// A client's, who may well say something about what it is sent.
    Client(Arc<Meter>),
    /// The app's, on a connection that others use too.
    #[expect(dead_code, reason = "held for its drop")]
    App(Leased),
}

impl Duplex {
    pub(in crate::proxy) fn new(output: SendStream<Bytes>, input: RecvStream, side: Side) -> Self {
        Self { output, input, unread: Bytes::new(), has_ended: false, side }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.unread.is_empty() && !this.has_ended {
            match ready!(this.input.poll_data(cx)) {
                Some(data) => this.unread = data.map_err(broken)?,
                None => this.has_ended = true,
            }
        }
        let length = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.unread[..length]);
        this.unread.advance(length);
        this.input.flow_control().release_capacity(length).map_err(broken)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.output.reserve_capacity(buf.len().min(PIECE));
        while self.output.capacity() == 0 {
            match ready!(self.output.poll_capacity(cx)) {
                Some(room) => drop(room.map_err(broken)?),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let length = self.output.capacity().min(buf.len());
        if let Side::Client(meter) = &self.side {
            meter.sent(length);
        }
        self.output.send_data(Bytes::copy_from_slice(&buf[..length]), false).map_err(broken)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task writes as soon as it can.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.output.reserve_capacity(0);
        Poll::Ready(self.output.send_data(Bytes::new(), true).map_err(broken))
    }
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
    }
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
