//! What was read from a connection and not used yet, in memory that grows with what comes.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What is read into at first: most messages fit.
const ROOM: usize = 8 * 1024;
/// What is read into when one turns out to be large.
const MOST_ROOM: usize = 128 * 1024;
/// Space that is worth a read.
const LEAST_ROOM: usize = 1024;

/// See the module's text.
pub(super) struct Buffer {
    /// Read and not yet used.
    pub(super) bytes: BytesMut,
    room: usize,
    /// What `room` may grow to.
    most: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), room: ROOM, most: MOST_ROOM }
    }
}

impl Buffer {
    /// Reads once, more than nothing unless the other side has closed. `expected` bytes are known to come, if any.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        mut reader: Pin<&mut (impl AsyncRead + Unpin)>,
        expected: Option<u64>,
    ) -> Poll<io::Result<usize>> {
        let room = match expected.and_then(|expected| usize::try_from(expected).ok()) {
            Some(expected) if expected > self.room => {
                self.room = expected.min(self.most);
                self.room
            }
            _ => self.room,
        };
        // Memory that nobody looks at any more is used again; new memory is taken only when little is left, so that
        // a message in small parts does not pin a block for each.
        let spare = self.bytes.capacity() - self.bytes.len();
        if spare < room && !self.bytes.try_reclaim(room) && spare < LEAST_ROOM.max(room / 4) {
            self.bytes.reserve(room);
        }
        let read = ready!(pin!(reader.read_buf(&mut self.bytes)).poll(cx))?;
        if self.bytes.len() == self.bytes.capacity() {
            self.room = (self.room * 2).min(self.most);
        }
        Poll::Ready(Ok(read))
    }

    /// Grows no more: memory is short.
    pub(super) fn stay_small(&mut self) {
        (self.room, self.most) = (ROOM, ROOM);
    }

    /// Gives back memory that a connection without a request has no need of.
    pub(super) fn rest(&mut self) {
        if self.room > ROOM {
            *self = Self::default();
        }
        self.most = MOST_ROOM;
    }
}
