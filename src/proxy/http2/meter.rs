//! What an HTTP/2 client may ask of us beside requests: frames that cost work and move nothing (PING, SETTINGS, PRIORITY,
//! empty frames), and requests taken back before they are answered (CVE-2023-44487). The h2 crate bounds the memory
//! that these take, and not their number.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::farewell;
use super::frames::{Frame, Walker};
use crate::net::activity::{Activity, now_ms};

/// Control frames at once, and a second. Pings that measure a path and updates of windows come with data, which earns
/// them: these are for what comes without.
const CONTROL: (u64, u64) = (2_000, 200);
/// Requests taken back at once, at least, and a second. Twice what may be under way: a client may give up everything.
const RESETS: (u64, u64) = (500, 50);

/// One connection's allowances. All on one thread; the atomics only make the type shareable.
pub(in crate::proxy) struct Meter {
    control: Allowance,
    resets: Allowance,
}

impl Meter {
    /// For a connection of so many streams at once.
    pub(super) fn new(streams: u32) -> Self {
        let (resets, again) = RESETS;
        Self {
            control: Allowance::new(CONTROL.0, CONTROL.1),
            resets: Allowance::new(resets.max(u64::from(streams) * 2), again),
        }
    }

    /// The client has taken a request back that had no answer yet, or not all of it.
    pub(super) fn reset(&self) {
        self.resets.spend();
    }

    /// So much of an answer goes to the client, who may well say something about it: up to two updates of windows for
    /// each frame of it, and a ping.
    pub(super) fn sent(&self, bytes: usize) {
        self.control.earn(4 + (bytes as u64) / 2048);
    }

    /// Which allowance is used up.
    pub(super) fn flood(&self) -> Option<Flood> {
        match (self.control.is_spent(), self.resets.is_spent()) {
            (true, _) => Some(Flood::Control),
            (false, true) => Some(Flood::Resets),
            (false, false) => None,
        }
    }
}

/// What a connection was ended for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Flood {
    /// Frames that move nothing.
    Control,
    /// Requests taken back.
    Resets,
    /// What the h2 crate counts itself: heads without end, malformed requests, the smallest of frames.
    Protocol,
}

/// A number that goes down with use and up with time, both within bounds.
struct Allowance {
    most: u64,
    a_second: u64,
    left: AtomicU64,
    filled: AtomicU64,
    spent: AtomicBool,
}

impl Allowance {
    fn new(most: u64, a_second: u64) -> Self {
        let filled = AtomicU64::new(now_ms());
        Self { most, a_second, left: AtomicU64::new(most), filled, spent: AtomicBool::new(false) }
    }

    fn spend(&self) {
        match self.left.load(Relaxed).checked_sub(1) {
            Some(left) => self.left.store(left, Relaxed),
            None => self.fill(),
        }
    }

    /// Looks at the time only when nothing is left, as it seldom is.
    fn fill(&self) {
        let (now, before) = (now_ms(), self.filled.load(Relaxed));
        self.filled.store(now, Relaxed);
        match (now.saturating_sub(before) * self.a_second / 1000).min(self.most).checked_sub(1) {
            Some(left) => self.left.store(left, Relaxed),
            None => self.spent.store(true, Relaxed),
        }
    }

    fn earn(&self, more: u64) {
        self.left.store((self.left.load(Relaxed) + more).min(self.most), Relaxed);
    }

    fn is_spent(&self) -> bool {
        self.spent.load(Relaxed)
    }
}

/// A socket whose incoming frames are counted. Once too many have come it gives no more of them.
pub(super) struct Metered<I> {
    io: I,
    /// What was read of it before.
    ahead: BytesMut,
    walker: Walker,
    meter: Arc<Meter>,
    activity: Arc<Activity>,
    /// Bytes of the preface still to come, which is no frame.
    preface: usize,
    /// Whether the client owes an answer that is waited for no longer.
    overdue: Arc<AtomicBool>,
}

impl<I> Metered<I> {
    /// Counts what comes over `io`, after what was read `ahead`: first the preface (RFC 9113 section 3.4).
    pub(super) fn new(
        io: I,
        ahead: BytesMut,
        meter: Arc<Meter>,
        activity: Arc<Activity>,
        overdue: Arc<AtomicBool>,
    ) -> Self {
        Self { io, ahead, walker: Walker::default(), meter, activity, preface: 24, overdue }
    }

    /// Whether the next byte begins a frame.
    fn is_between_frames(&self) -> bool {
        self.preface == 0 && self.ahead.is_empty() && self.walker.is_between_frames()
    }

    fn count(&mut self, read: &[u8]) {
        let skipped = self.preface.min(read.len());
        self.preface -= skipped;
        let (meter, activity) = (&self.meter, &self.activity);
        self.walker.walk(&read[skipped..], |frame| match frame {
            Frame::Data => meter.control.earn(2),
            Frame::Head => {
                activity.head_ended();
                meter.control.earn(4);
            }
            Frame::Control => meter.control.spend(),
        });
        match self.walker.is_within_head() {
            true => self.activity.head_begun(),
            false => self.activity.head_ended(),
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Metered<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.meter.flood().is_some() {
            // The connection's task sees it in the same turn.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if self.overdue.load(Relaxed) && self.is_between_frames() {
            self.overdue.store(false, Relaxed);
            self.ahead.extend_from_slice(&farewell::ANSWER);
        }
        if !self.ahead.is_empty() {
            let fits = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(fits));
            if self.ahead.is_empty() {
                self.ahead = BytesMut::new();
            }
            self.count(&buf.filled()[before..]);
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.count(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Metered<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_requests_on_pays_for_what_does_not() {
        let meter = Meter::new(256);
        for _ in 0..CONTROL.0 {
            meter.control.spend();
        }
        assert_eq!(meter.flood(), None);
        meter.sent(16 * 1024);
        for _ in 0..12 {
            meter.control.spend();
        }
        assert_eq!(meter.flood(), None);
        meter.control.spend();
        assert_eq!(meter.flood(), Some(Flood::Control));
    }

    #[test]
    fn a_client_may_take_back_all_its_requests_and_not_go_on_so() {
        let meter = Meter::new(1_000);
        for _ in 0..2_000 {
            meter.reset();
        }
        assert_eq!(meter.flood(), None);
        meter.reset();
        assert_eq!(meter.flood(), Some(Flood::Resets));
    }
}
