//! The wire to one client: what it has sent and nobody has used yet, and what goes out before an answer. Shared by the
//! connection's task and whoever reads the request's body; both run on one thread, so nobody ever waits for the lock.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{StatusCode, Version, response};
use http_body::Frame;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::answer;
use super::head::{Bad, Bounds, Decoder, Head};
use crate::net::edge::Io;
use crate::net::socket::{PREFACE, Socket};
use crate::proxy::buffer::Buffer;
use crate::proxy::upstream::decode::{self, Framing, Malformed};

/// What a head is read into: on the stack, so that a connection between two requests holds no memory for it.
const ROOM: usize = 8 * 1024;
/// What is told of a request that is refused: no more of a line is logged.
const SEEN: usize = 4 * 1024;
/// What may be read of the requests behind one that is under way. Reading is how a client's leaving is noticed.
const AHEAD: usize = 64 * 1024;
/// What may be read of a body that nobody takes because its request is held: many may be, and for the same reason.
const AHEAD_HELD: usize = 16 * 1024;
/// What may wait of interim answers; the rest is not sent (they are hints, and 100 comes first).
const INTERIM: usize = 64 * 1024;

/// Why no more comes from a client.
#[derive(Debug, Error)]
pub(in crate::proxy) enum Lost {
    /// It left in the middle of something.
    #[error("the client left")]
    Closed,
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It sent something that is no body.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Why there is no next request.
#[derive(Debug)]
pub(super) enum NoHead {
    /// What came must be refused.
    Bad(Bad),
    /// The client left, or the connection failed.
    Lost(Lost),
    /// The client speaks HTTP/2.
    Http2,
}

/// See the module's text. Cheap to clone.
#[derive(Clone)]
pub(in crate::proxy) struct Wire(Arc<Mutex<State>>);

struct State {
    /// Gone when the connection has become a tunnel.
    socket: Option<Socket<Io>>,
    unread: Buffer,
    /// The body of the request under way.
    body: decode::Body,
    bounds: decode::Bounds,
    /// Whether the client waits for 100.
    expects: bool,
    /// Whether it knows of answers before the real one: HTTP/1.0 does not.
    interims: bool,
    /// Answers before the real one, not sent yet.
    interim: Vec<u8>,
    /// Whether some were written that TLS may still keep.
    unflushed: bool,
    /// Nothing has been asked yet: the first bytes tell what the client speaks.
    fresh: bool,
}

impl Wire {
    pub(super) fn new(socket: Socket<Io>, bounds: Bounds) -> Self {
        let bounds = decode::Bounds { bytes: bounds.bytes, fields: bounds.fields };
        Self(Arc::new(Mutex::new(State {
            socket: Some(socket),
            unread: Buffer::default(),
            body: decode::Body::new(Framing::Length(0), bounds),
            bounds,
            expects: false,
            interims: false,
            interim: Vec::new(),
            unflushed: false,
            fresh: true,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head of the next request, with whose body the wire goes on; `None` when the client has closed instead.
    pub(super) fn poll_head(&self, cx: &mut Context<'_>, decoder: &mut Decoder) -> Poll<Result<Option<Head>, NoHead>> {
        let mut state = self.state();
        let State { socket, unread, fresh, .. } = &mut *state;
        let Some(socket) = socket else { return Poll::Ready(Ok(None)) };
        let head = loop {
            if !unread.bytes.is_empty() {
                match if *fresh { preface(&unread.bytes) } else { Preface::None } {
                    Preface::Whole => return Poll::Ready(Err(NoHead::Http2)),
                    Preface::Begun => {}
                    Preface::None => {
                        if let Some((head, length)) = decoder.head(&unread.bytes).map_err(NoHead::Bad)? {
                            unread.bytes.advance(length);
                            break head;
                        }
                    }
                }
                if ready!(unread.poll_fill(cx, Pin::new(socket), None)).map_err(NoHead::io)? == 0 {
                    return Poll::Ready(Err(NoHead::Lost(Lost::Closed)));
                }
                continue;
            }
            let mut room = [const { MaybeUninit::uninit() }; ROOM];
            let mut read = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut *socket).poll_read(cx, &mut read)).map_err(NoHead::io)?;
            match read.filled() {
                [] => return Poll::Ready(Ok(None)),
                read if *fresh && preface(read) != Preface::None => unread.bytes.extend_from_slice(read),
                read => match decoder.head(read) {
                    Ok(Some((head, length))) => {
                        unread.bytes.extend_from_slice(&read[length..]);
                        break head;
                    }
                    Ok(None) => unread.bytes.extend_from_slice(read),
                    Err(bad) => {
                        // For who tells of it.
                        unread.bytes.extend_from_slice(read);
                        return Poll::Ready(Err(NoHead::Bad(bad)));
                    }
                },
            }
        };
        state.fresh = false;
        state.body = decode::Body::new(head.framing, state.bounds);
        state.expects = head.expects;
        state.interims = head.parts.version == Version::HTTP_11;
        Poll::Ready(Ok(Some(head)))
    }

    /// Whether nothing has come of a next request.
    pub(super) fn is_silent(&self) -> bool {
        self.state().unread.bytes.is_empty()
    }

    /// How what has come of a next request begins.
    pub(super) fn seen(&self) -> Vec<u8> {
        let bytes = &self.state().unread.bytes;
        bytes[..bytes.len().min(SEEN)].to_vec()
    }

    /// Whether all of the request under way has come and was used.
    pub(super) fn is_body_read(&self) -> bool {
        self.state().body.is_end()
    }

    /// Gives back memory that a connection without a request has no need of.
    pub(super) fn rest(&self) {
        let mut state = self.state();
        if state.unread.bytes.is_empty() {
            state.unread = Buffer::default();
        }
        state.interim = Vec::new();
    }

    /// Ready when the client has left, as far as can be known without using what it has sent.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.body.is_end() { state.poll_ahead(cx, AHEAD) } else { Poll::Pending }
    }

    /// The same for a request that is held, so that nobody else reads its body.
    pub(super) fn poll_gone_held(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.state().poll_ahead(cx, AHEAD_HELD)
    }

    /// Queues an answer that comes before the real one, for the connection's task to send. 100 is for those who wait
    /// for it.
    pub(in crate::proxy) fn interim(&self, parts: &response::Parts) {
        let mut state = self.state();
        let wanted = state.interims && (state.expects || parts.status != StatusCode::CONTINUE);
        if wanted && state.interim.len() < INTERIM {
            answer::interim(parts, &mut state.interim);
        }
        if parts.status == StatusCode::CONTINUE {
            state.expects = false;
        }
    }

    /// Sends what is queued; ready when nothing is.
    pub(super) fn poll_interim(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        let State { socket: Some(socket), interim, unflushed, .. } = &mut *state else { return Poll::Ready(Ok(())) };
        while !interim.is_empty() {
            let written = ready!(Pin::new(&mut *socket).poll_write(cx, interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            interim.drain(..written);
            *unflushed = true;
        }
        if *unflushed {
            // A client that waits for 100 sends nothing that would make anybody flush later.
            ready!(Pin::new(socket).poll_flush(cx))?;
            *unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends some of three pieces, in their order.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, pieces: [&[u8]; 3]) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        let Some(socket) = &mut state.socket else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        let written = match pieces {
            [only, [], []] => Pin::new(socket).poll_write(cx, only),
            pieces => Pin::new(socket).poll_write_vectored(cx, &pieces.map(io::IoSlice::new)),
        };
        match ready!(written)? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => Poll::Ready(Ok(written)),
        }
    }

    /// Ready when all that was written has left for the kernel: TLS keeps what it has encrypted and the kernel does not
    /// take.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state().socket {
            Some(socket) => Pin::new(socket).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Closes in a way that loses no answer; see [`Socket`].
    pub(super) fn poll_close(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state().socket {
            Some(socket) => Pin::new(socket).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Makes the close to come a reset: the only way to break off an answer whose end is that of the connection.
    pub(super) fn break_off(&self) {
        if let Some(socket) = &self.state().socket
            && let Err(error) = socket2::SockRef::from(socket.inner().tcp()).set_linger(Some(std::time::Duration::ZERO))
        {
            tracing::debug!(%error, "a connection cannot be reset");
        }
    }

    /// The connection as it is, and what was read of it; once.
    pub(super) fn take_socket(&self) -> Option<(Socket<Io>, BytesMut)> {
        let mut state = self.state();
        let socket = state.socket.take()?;
        Some((socket, std::mem::take(&mut state.unread.bytes)))
    }

    /// The connection itself, and what was read of it beyond HTTP; once.
    pub(super) fn take(&self) -> Option<(Io, BytesMut)> {
        self.take_socket().map(|(socket, unread)| (socket.into_inner(), unread))
    }

    /// The next part of the request's body.
    pub(super) fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Lost>>> {
        let mut state = self.state();
        let State { socket, unread, body, expects, .. } = &mut *state;
        loop {
            if let Some(frame) = body.next(&mut unread.bytes)? {
                *expects = false;
                return Poll::Ready(Some(Ok(frame)));
            }
            if body.is_end() {
                return Poll::Ready(None);
            }
            let Some(socket) = socket else { return Poll::Ready(Some(Err(Lost::Closed))) };
            if ready!(unread.poll_fill(cx, Pin::new(socket), body.certain()))? == 0 {
                return Poll::Ready(Some(Err(Lost::Closed)));
            }
        }
    }

    /// Bytes of the request's body still to come, if its framing tells.
    pub(super) fn left(&self) -> Option<u64> {
        self.state().body.left()
    }

    /// Whether the client waits for 100 before it sends a body.
    pub(super) fn expects(&self) -> bool {
        self.state().expects
    }
}

impl State {
    /// Reads until so much lies unread; ready when there is nothing more to read, ever.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<()> {
        let Self { socket: Some(socket), unread, .. } = self else { return Poll::Pending };
        while unread.bytes.len() < most {
            let mut room = [const { MaybeUninit::uninit() }; ROOM];
            let mut read = ReadBuf::uninit(&mut room);
            match ready!(Pin::new(&mut *socket).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => unread.bytes.extend_from_slice(read.filled()),
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

/// How much of the preface of HTTP/2 (RFC 9113 section 3.4) there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preface {
    Whole,
    Begun,
    None,
}

fn preface(read: &[u8]) -> Preface {
    let compared = read.len().min(PREFACE.len());
    match () {
        () if read[..compared] != PREFACE[..compared] => Preface::None,
        () if compared == PREFACE.len() => Preface::Whole,
        () => Preface::Begun,
    }
}

impl NoHead {
    fn io(error: io::Error) -> Self {
        Self::Lost(Lost::Io(error))
    }
}
