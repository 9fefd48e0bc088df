//! One direction of a tunnel: bytes from one end to the other, up to a frame's end when a Close is to be put behind it.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::walker::{Place, Walker};

/// What is read at once, and so the most that waits for an end that does not read.
const READ: usize = 16 * 1024;
/// Reads a turn, so that one busy tunnel does not keep the thread.
const TURNS: usize = 16;

thread_local! {
    /// Everything is read into this first and mostly written from it, too: a tunnel without stuck bytes has no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// See the module's text.
pub(super) struct Flow {
    /// `None` for what are no WebSocket frames.
    walker: Option<Walker>,
    order: Order,
    /// Read and not yet taken; those before `taken` are.
    stuck: Vec<u8>,
    taken: usize,
    ended: Option<End>,
    /// Whether the sink is to be closed behind what is stuck, and whether it is.
    finish: Finish,
    /// Whether the sink takes nothing any more.
    refused: bool,
    unflushed: bool,
    /// Whether it was told something since it moved last.
    ordered: bool,
    passed: u64,
}

enum Order {
    /// Pass everything.
    Pass,
    /// Pass the frame under way, then say this and discard the rest.
    Tell(Vec<u8>),
    /// Read on, so that the source is not reset while it still sends, and look for its Close.
    Discard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finish {
    No,
    Asked,
    Done,
}

/// How a source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It closed.
    Closed,
    /// It is gone.
    Broken,
}

impl Flow {
    /// A direction that has carried nothing yet.
    pub(super) fn new(walker: Option<Walker>) -> Self {
        Self {
            walker,
            order: Order::Pass,
            stuck: Vec::new(),
            taken: 0,
            ended: None,
            finish: Finish::No,
            refused: false,
            unflushed: false,
            ordered: false,
            passed: 0,
        }
    }

    /// Moves what can be moved.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) {
        self.ordered = false;
        for _ in 0..TURNS {
            let blocked = self.poll_stuck(cx, to).is_pending();
            if !blocked && self.finish == Finish::Asked && Pin::new(&mut *to).poll_shutdown(cx).is_ready() {
                self.finish = Finish::Done;
            }
            if self.ended.is_some() || (blocked && !matches!(self.order, Order::Discard)) {
                return self.flush(cx, to);
            }
            if self.poll_read(cx, from, to).is_pending() {
                return self.flush(cx, to);
            }
        }
        cx.waker().wake_by_ref();
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            match ready!(Pin::new(from).poll_read(cx, &mut buf)) {
                Err(_) => self.ended = Some(End::Broken),
                Ok(()) if buf.filled().is_empty() => self.ended = Some(End::Closed),
                Ok(()) => self.take(cx, buf.filled(), to),
            }
            Poll::Ready(())
        })
    }

    fn take(&mut self, cx: &mut Context<'_>, bytes: &[u8], to: &mut (impl AsyncWrite + Unpin)) {
        let passing = match (&self.order, &mut self.walker) {
            (Order::Pass, _) => bytes.len(),
            (Order::Tell(_), Some(walker)) => walker.walk_to_boundary(bytes),
            (Order::Tell(_), None) | (Order::Discard, _) => 0,
        };
        let (passing, rest) = bytes.split_at(passing);
        if let (Order::Pass, Some(walker)) = (&self.order, &mut self.walker) {
            walker.walk(passing);
        }
        self.passed += passing.len() as u64;
        self.write(cx, passing, to);
        self.tell_at_boundary();
        if let Some(walker) = &mut self.walker {
            walker.walk(rest);
        }
    }

    /// Once the frame that was under way is through.
    fn tell_at_boundary(&mut self) {
        let Order::Tell(close) = &mut self.order else { return };
        match self.walker.as_ref().map_or(Place::Opaque, Walker::place) {
            Place::Inside => return,
            Place::Boundary => self.stuck.append(close),
            // The source has just said so itself, or what it sends are no frames after all.
            Place::Closed | Place::Opaque => {}
        }
        self.order = Order::Discard;
    }

    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8], to: &mut (impl AsyncWrite + Unpin)) {
        if bytes.is_empty() || self.refused {
            return;
        }
        let written = match Pin::new(to).poll_write(cx, bytes) {
            Poll::Pending => 0,
            Poll::Ready(Ok(written)) if written > 0 => written,
            Poll::Ready(_) => return self.refuse(),
        };
        self.unflushed |= written > 0;
        self.stuck.extend_from_slice(&bytes[written..]);
    }

    fn poll_stuck(&mut self, cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin)) -> Poll<()> {
        while self.taken < self.stuck.len() {
            match ready!(Pin::new(&mut *to).poll_write(cx, &self.stuck[self.taken..])) {
                Ok(written) if written > 0 => self.taken += written,
                _ => self.refuse(),
            }
            self.unflushed = true;
        }
        self.stuck = Vec::new();
        self.taken = 0;
        Poll::Ready(())
    }

    fn flush(&mut self, cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin)) {
        if self.unflushed && !self.refused && self.finish != Finish::Done {
            match Pin::new(to).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(_)) => self.refuse(),
            }
        }
    }

    fn refuse(&mut self) {
        self.refused = true;
        self.finish = Finish::Done;
        self.order = Order::Discard;
        self.stuck = Vec::new();
        self.taken = 0;
    }

    /// Passes the frame under way, then says `close`, then discards what still comes.
    pub(super) fn tell(&mut self, close: Vec<u8>) {
        if matches!(self.order, Order::Pass) {
            self.order = Order::Tell(close);
            self.ordered = true;
            self.tell_at_boundary();
        }
    }

    /// Passes nothing more, a frame under way or not.
    pub(super) fn discard(&mut self) {
        if !matches!(self.order, Order::Discard) {
            self.order = Order::Discard;
            self.ordered = true;
        }
    }

    /// Closes the sink once it has taken what is stuck.
    pub(super) fn finish(&mut self) {
        if self.finish == Finish::No {
            self.finish = Finish::Asked;
            self.ordered = true;
        }
    }

    /// Where the source is among its frames.
    pub(super) fn place(&self) -> Place {
        self.walker.as_ref().map_or(Place::Opaque, Walker::place)
    }

    /// How the source ended.
    pub(super) fn ended(&self) -> Option<End> {
        self.ended
    }

    /// Whether the sink takes nothing any more.
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether nothing more will be done here: the source has ended and the sink is closed.
    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some() && self.finish == Finish::Done
    }

    /// Whether everything that was to be said is said.
    pub(super) fn is_said(&self) -> bool {
        self.stuck.is_empty() && !matches!(self.order, Order::Tell(_))
    }

    /// Whether its Close is said, and nothing more will be.
    pub(super) fn is_told(&self) -> bool {
        self.stuck.is_empty() && matches!(self.order, Order::Discard)
    }

    /// Whether it was told something that it has not begun to do.
    pub(super) fn is_ordered(&self) -> bool {
        self.ordered
    }

    /// How many bytes have been passed since this was asked last.
    pub(super) fn take_passed(&mut self) -> u64 {
        std::mem::take(&mut self.passed)
    }
}
