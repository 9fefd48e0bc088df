//! One connection to the app: its two directions, which can be used apart, and the memory it reads into.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

use super::exchange::Course;
use crate::net::listen;
use crate::proxy::buffer::Buffer;

/// See the module's text. Dropping it closes the connection.
pub(in crate::proxy) struct Line {
    pub(super) input: Input,
    /// Gone when the app reads no more, or the connection is not to be used again.
    pub(super) output: Option<Output>,
    /// Whether it has carried a request before.
    pub(super) reused: bool,
    /// How far its request has come.
    pub(super) course: Course,
}

/// What comes from the app.
pub(super) struct Input {
    reader: Reader,
    pub(super) buffer: Buffer,
}

/// What goes to the app.
pub(super) struct Output {
    writer: Writer,
}

enum Reader {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

enum Writer {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
}

/// How to find out whether an unused connection is still open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Look {
    /// By what the event loop has heard: free, and late by what it has not looked for yet.
    Heard,
    /// By asking the kernel, for a request that could not be sent again.
    Asked,
}

impl Line {
    pub(super) fn tcp(stream: TcpStream) -> Box<Self> {
        let (reader, writer) = stream.into_split();
        Self::new(Reader::Tcp(reader), Writer::Tcp(writer))
    }

    pub(super) fn unix(stream: UnixStream) -> Box<Self> {
        let (reader, writer) = stream.into_split();
        Self::new(Reader::Unix(reader), Writer::Unix(writer))
    }

    fn new(reader: Reader, writer: Writer) -> Box<Self> {
        let input = Input { reader, buffer: Buffer::default() };
        Box::new(Self { input, output: Some(Output { writer }), reused: false, course: Course::new() })
    }

    /// Whether the app has neither closed nor said anything: what comes before a request is no answer to it.
    pub(super) fn is_quiet(&self, look: Look) -> bool {
        let mut byte = [0];
        let read = match &self.input.reader {
            Reader::Tcp(half) => half.try_read(&mut byte),
            Reader::Unix(half) => half.try_read(&mut byte),
        };
        would_block(&read) && (look == Look::Heard || would_block(&self.peek()))
    }

    fn peek(&self) -> io::Result<usize> {
        let mut byte = [MaybeUninit::uninit()];
        match &self.input.reader {
            Reader::Tcp(half) => SockRef::from(AsRef::<TcpStream>::as_ref(half)).peek(&mut byte),
            Reader::Unix(half) => SockRef::from(AsRef::<UnixStream>::as_ref(half)).peek(&mut byte),
        }
    }

    /// Lets the kernel find out when an app's machine is gone: a tunnel may wait for it for ever.
    pub(super) fn keep_alive(&self) {
        if let Reader::Tcp(half) = &self.input.reader
            && let Err(error) = SockRef::from(AsRef::<TcpStream>::as_ref(half)).set_tcp_keepalive(&listen::keepalive())
        {
            tracing::debug!(%error, "no keep-alive for a tunnel to the app");
        }
    }

    /// Gives back the memory that an unused connection has no need of.
    pub(super) fn rest(&mut self) {
        self.input.buffer.rest();
        self.course.upload.rest();
    }
}

fn would_block(read: &io::Result<usize>) -> bool {
    read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

impl Input {
    /// Reads once, more than nothing unless the app has closed. `expected` bytes are known to come, if any.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, expected: Option<u64>) -> Poll<io::Result<usize>> {
        match &mut self.reader {
            Reader::Tcp(half) => self.buffer.poll_fill(cx, Pin::new(half), expected),
            Reader::Unix(half) => self.buffer.poll_fill(cx, Pin::new(half), expected),
        }
    }
}

impl Output {
    /// Writes as much of three pieces, in their order, as the kernel takes at once.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, pieces: [&[u8]; 3]) -> Poll<io::Result<usize>> {
        match &mut self.writer {
            Writer::Tcp(half) => write(Pin::new(half), cx, pieces),
            Writer::Unix(half) => write(Pin::new(half), cx, pieces),
        }
    }

    /// Lets go of this direction without closing it: many an app takes the end of its input for the client's leaving.
    pub(super) fn forget(self) {
        match self.writer {
            Writer::Tcp(half) => half.forget(),
            Writer::Unix(half) => half.forget(),
        }
    }
}

fn write(half: Pin<&mut impl AsyncWrite>, cx: &mut Context<'_>, pieces: [&[u8]; 3]) -> Poll<io::Result<usize>> {
    match pieces {
        [only, [], []] => half.poll_write(cx, only),
        pieces => half.poll_write_vectored(cx, &pieces.map(IoSlice::new)),
    }
}

/// For tunnels: what was read already comes first.
impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let unread = &mut self.input.buffer.bytes;
        if !unread.is_empty() {
            let length = unread.len().min(buf.remaining());
            buf.put_slice(&unread[..length]);
            unread.advance(length);
            if unread.is_empty() {
                // A tunnel lives long, and never reads into this.
                *unread = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        match &mut self.input.reader {
            Reader::Tcp(half) => Pin::new(half).poll_read(cx, buf),
            Reader::Unix(half) => Pin::new(half).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.output {
            Some(output) => output.poll_write(cx, [buf, &[], &[]]),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets have no buffer of their own to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.output {
            Some(Output { writer: Writer::Tcp(half) }) => Pin::new(half).poll_shutdown(cx),
            Some(Output { writer: Writer::Unix(half) }) => Pin::new(half).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
