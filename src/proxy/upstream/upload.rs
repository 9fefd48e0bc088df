//! A request on its way to the app: head and body, written as fast as the app takes them and never read faster.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::request;
use http_body::{Body as _, Frame};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::encode::{self, Coding, Place, WrongLength};
use super::line::Output;
use crate::proxy::body::{BodyError, RequestBody};
use crate::proxy::lines;

/// How long the app may take to say whether it wants a body that its client asks about. Not every app knows to.
const PATIENCE: Duration = Duration::from_secs(1);
/// What an unused connection keeps of the memory that heads are written from.
const KEPT: usize = 8 * 1024;

/// See the module's text.
pub(in crate::proxy) struct Upload {
    body: RequestBody,
    coding: Coding,
    /// The head, or what frames a part of the body; written from `at`, before `data`.
    out: Vec<u8>,
    at: usize,
    data: Bytes,
    /// Written after `data`.
    tail: &'static [u8],
    stage: Stage,
    /// Whether the kernel has taken any byte.
    written: bool,
    /// Ends the wait for the app's 100.
    patience: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The client waits for 100, and so does the body: the app is to say whether it wants it (RFC 9110 section 10.1.1).
    Expecting,
    /// The head waits a moment for the first part of the body, which then costs no write of its own.
    Gathering,
    /// As before, and the client's connection was given its turn to read that part.
    Gathered,
    /// Parts follow as they come.
    Streaming,
    /// All that there is has been taken from the body.
    Ended,
}

/// Why a request is not sent to its end.
#[derive(Debug, Error)]
pub(super) enum Cut {
    /// By the client.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// By the app, which may yet have answered.
    #[error(transparent)]
    Line(#[from] io::Error),
}

impl From<WrongLength> for Cut {
    fn from(wrong: WrongLength) -> Self {
        Self::Body(wrong.into())
    }
}

impl Upload {
    /// Nothing to send.
    pub(super) fn none() -> Self {
        Self {
            body: RequestBody::Empty,
            coding: Coding::Length(0),
            out: Vec::new(),
            at: 0,
            data: Bytes::new(),
            tail: b"",
            stage: Stage::Ended,
            written: false,
            patience: None,
        }
    }

    /// What is to be sent, to be sent by somebody else.
    pub(super) fn hand_over(&mut self) -> Self {
        std::mem::replace(self, Self::none())
    }

    /// All is sent: lets go of everything but the memory that it was written from.
    pub(super) fn settle(&mut self) {
        (self.body, self.data, self.patience) = (RequestBody::Empty, Bytes::new(), None);
    }

    /// Gives back the memory that an unused connection has no need of.
    pub(super) fn rest(&mut self) {
        if self.out.capacity() > KEPT {
            (self.out, self.at) = (Vec::new(), 0);
        }
    }

    /// Memory for another head.
    pub(super) fn take_scratch(&mut self) -> Vec<u8> {
        self.at = 0;
        std::mem::take(&mut self.out)
    }

    /// A request that is written from `scratch`.
    pub(super) fn new(head: &request::Parts, body: RequestBody, mut scratch: Vec<u8>) -> Result<Self, WrongLength> {
        scratch.clear();
        let coding = encode::head(head, &mut scratch)?;
        Self::begun(scratch, coding, body)
    }

    /// A request whose head is written.
    pub(super) fn of_lines(lines: lines::Request, body: RequestBody) -> Result<Self, WrongLength> {
        Self::begun(lines.text, Coding::Length(lines.length), body)
    }

    fn begun(mut scratch: Vec<u8>, coding: Coding, body: RequestBody) -> Result<Self, WrongLength> {
        let stage = match () {
            () if body.is_end_stream() => Stage::Ended,
            () if body.is_expected() => Stage::Expecting,
            () => Stage::Gathering,
        };
        let patience = (stage == Stage::Expecting).then(|| Box::pin(sleep(PATIENCE)));
        if stage == Stage::Ended {
            coding.end(None, &mut scratch)?;
        }
        Ok(Self { body, coding, out: scratch, at: 0, data: Bytes::new(), tail: b"", stage, written: false, patience })
    }

    /// Whether nothing of it is left to send.
    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Ended && self.is_written()
    }

    /// Whether the kernel has taken any byte of it.
    pub(super) fn is_begun(&self) -> bool {
        self.written
    }

    /// As it was before anything was sent; only if that is still known.
    pub(super) fn rewound(mut self) -> Option<Self> {
        if self.written {
            if !matches!(self.body, RequestBody::Empty) {
                return None;
            }
            self.at = 0;
            self.written = false;
        }
        Some(self)
    }

    /// The app has said that it wants the body.
    pub(super) fn go_on(&mut self) {
        if self.stage == Stage::Expecting {
            self.stage = Stage::Streaming;
        }
    }

    /// Nobody reads it any more: the client is no longer waited for either.
    pub(super) fn abandon(&mut self) {
        self.body.abandon();
        self.stage = Stage::Ended;
        (self.out, self.at, self.data, self.tail) = (Vec::new(), 0, Bytes::new(), b"");
    }

    /// Sends on; ready when all of it is sent.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, output: &mut Output) -> Poll<Result<(), Cut>> {
        loop {
            match self.stage {
                Stage::Gathering | Stage::Gathered => match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(frame) => {
                        self.stage = Stage::Streaming;
                        self.take(frame.transpose()?)?;
                    }
                    Poll::Pending if self.stage == Stage::Gathering => {
                        self.stage = Stage::Gathered;
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Poll::Pending => self.stage = Stage::Streaming,
                },
                _ if !self.is_written() => ready!(self.poll_write(cx, output))?,
                Stage::Expecting => {
                    if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
                        // The client did not wait after all.
                        self.stage = Stage::Streaming;
                        self.begin(frame.transpose()?)?;
                    } else if self.patience.as_mut().is_none_or(|over| over.as_mut().poll(cx).is_ready()) {
                        self.body.call_for();
                        self.stage = Stage::Streaming;
                        // So that the client is told, by the task that has polled this one.
                        cx.waker().wake_by_ref();
                    } else {
                        return Poll::Pending;
                    }
                }
                Stage::Streaming => {
                    let frame = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()?;
                    self.begin(frame)?;
                }
                Stage::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Sends the rest while the answer is delivered already, until all of it is sent or `gone` says that the answer
    /// has ended, and the connection with it.
    pub(super) async fn finish(mut self, mut output: Output, gone: oneshot::Receiver<()>) {
        let sending = std::future::poll_fn(|cx| self.poll(cx, &mut output));
        tokio::select! {
            biased;
            // Nothing is ever sent: it resolves when the sender is dropped.
            _ = gone => {}
            sent = sending => match sent {
                Ok(()) => output.forget(),
                // Closing this direction in the middle tells the app that the request is not whole.
                Err(error) => tracing::debug!(%error, "a request broke off while it was answered"),
            },
        }
    }

    /// Begins anew with a part of the body, after all before it was written.
    fn begin(&mut self, frame: Option<Frame<Bytes>>) -> Result<(), WrongLength> {
        self.out.clear();
        self.at = 0;
        self.tail = b"";
        self.take(frame)
    }

    fn take(&mut self, frame: Option<Frame<Bytes>>) -> Result<(), WrongLength> {
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => {
                let place = if self.body.is_end_stream() { Place::Last } else { Place::Within };
                self.tail = self.coding.part(&data, place, &mut self.out)?;
                self.data = data;
                if place == Place::Last {
                    self.coding.finish()?;
                    self.stage = Stage::Ended;
                }
            }
            Some(Err(other)) => {
                self.coding.end(other.into_trailers().ok().as_ref(), &mut self.out)?;
                self.stage = Stage::Ended;
            }
            None => {
                self.coding.end(None, &mut self.out)?;
                self.stage = Stage::Ended;
            }
        }
        Ok(())
    }

    fn is_written(&self) -> bool {
        self.at == self.out.len() && self.data.is_empty() && self.tail.is_empty()
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, output: &mut Output) -> Poll<io::Result<()>> {
        let head = &self.out[self.at..];
        let mut taken = ready!(output.poll_write(cx, [head, &self.data, self.tail]))?;
        if taken == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.written = true;
        let of_head = taken.min(head.len());
        self.at += of_head;
        taken -= of_head;
        let of_data = taken.min(self.data.len());
        self.data.advance(of_data);
        self.tail = &self.tail[taken - of_data..];
        Poll::Ready(Ok(()))
    }
}
