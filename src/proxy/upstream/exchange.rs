//! One request and its answer on one connection, driven by whoever waits for it: both directions move at the same
//! time, so that neither side can starve the other.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use http::{Method, StatusCode};
use http_body::{Frame, SizeHint};
use thiserror::Error;
use tokio::sync::oneshot;

use super::decode::{Body, Bounds, Decoder, Framing, Heard, Malformed};
use super::line::{Input, Line, Output};
use super::upload::{Cut, Upload};
use crate::lifecycle::tasks::Tasks;
use crate::proxy::body::BodyError;
use crate::proxy::lines::Form;

/// A request under way whose answer has not begun.
pub(in crate::proxy) struct Exchange {
    upload: Upload,
    input: Input,
    /// Gone when the app reads no more.
    output: Option<Output>,
    decoder: Decoder,
    bounds: Bounds,
    reused: bool,
    /// Whether a byte of the answer has come.
    heard: bool,
}

/// An answer's body on its way from the app.
pub(in crate::proxy) struct Download {
    input: Input,
    /// Gone when the connection is not to be used again.
    output: Option<Output>,
    body: Body,
    /// Held for its drop, which ends the rest of the request that is still being sent.
    _upload: Option<oneshot::Sender<()>>,
}

/// Why a connection brought no answer, or no whole one.
#[derive(Debug, Error)]
pub(in crate::proxy) enum Broken {
    /// It was closed.
    #[error("the connection was closed")]
    Closed,
    /// It failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It brought something else.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The connection or its stream of HTTP/2 ended.
    #[error(transparent)]
    Http2(h2::Error),
}

impl Broken {
    /// Whether the app itself is gone, and has not said anything about this answer.
    pub(in crate::proxy) fn is_gone(&self) -> bool {
        match self {
            Self::Closed | Self::Io(_) => true,
            Self::Http2(error) => error.is_io() || error.is_go_away(),
            Self::Malformed(_) => false,
        }
    }

    /// What a client of HTTP/2 is told.
    pub(in crate::proxy) fn reason(&self) -> Reason {
        match self {
            // The app's own reason, which its client may know to read (as those of gRPC do).
            Self::Http2(error) if error.is_reset() && error.is_remote() => {
                error.reason().filter(|reason| *reason != Reason::NO_ERROR).unwrap_or(Reason::INTERNAL_ERROR)
            }
            Self::Closed | Self::Io(_) | Self::Malformed(_) | Self::Http2(_) => Reason::INTERNAL_ERROR,
        }
    }
}

/// Why there is no answer.
pub(in crate::proxy) enum Lost {
    /// The client's body cannot be sent.
    Body(BodyError),
    /// The connection to the app.
    Line(Broken),
}

impl<E: Into<Broken>> From<E> for Lost {
    fn from(error: E) -> Self {
        Self::Line(error.into())
    }
}

impl Exchange {
    /// Begins to send over `line`, for an answer in `form`.
    pub(in crate::proxy) fn new(line: Line, upload: Upload, bounds: Bounds, form: Form) -> Self {
        let Line { input, output, reused } = line;
        Self {
            upload,
            input,
            output: Some(output),
            decoder: Decoder::in_form(bounds, form),
            bounds,
            reused,
            heard: false,
        }
    }

    /// Sends what can be sent, and is ready with what the app says next: the head of its answer, in the end.
    pub(in crate::proxy) fn poll_head(&mut self, cx: &mut Context<'_>, asked: &Method) -> Poll<Result<Heard, Lost>> {
        if let Some(output) = &mut self.output {
            match self.upload.poll(cx, output) {
                Poll::Ready(Ok(())) | Poll::Pending => {}
                Poll::Ready(Err(Cut::Body(error))) => return Poll::Ready(Err(Lost::Body(error))),
                // What came before the request is no answer to it.
                Poll::Ready(Err(Cut::Line(error))) if !self.upload.is_begun() => return Poll::Ready(Err(error.into())),
                // An app may answer and close before it has read everything (RFC 9112 §9.5): the answer counts.
                Poll::Ready(Err(Cut::Line(_))) => {
                    self.output = None;
                    self.upload.abandon();
                }
            }
        }
        if !self.upload.is_begun() && self.output.is_some() {
            return Poll::Pending;
        }
        loop {
            // What came with an interim answer.
            if self.heard
                && let Some(heard) = self.decoder.head(&mut self.input.buffer.bytes, asked)?
            {
                if matches!(&heard, Heard::Interim(parts) if parts.status == StatusCode::CONTINUE) {
                    self.upload.go_on();
                }
                return Poll::Ready(Ok(heard));
            }
            if ready!(self.input.poll_fill(cx, None))? == 0 {
                return Poll::Ready(Err(Broken::Closed.into()));
            }
            self.heard = true;
        }
    }

    /// The request as it was at first, if it may be sent again after its connection was lost: the app had closed an
    /// unused connection, and saw nothing of the request, or at least answered nothing to one that
    /// `repeats` without harm.
    pub(in crate::proxy) fn rewound(self, repeats: bool) -> Option<Upload> {
        let unseen = !self.upload.is_begun();
        if self.reused && !self.heard && (unseen || repeats) { self.upload.rewound() } else { None }
    }

    /// Whether all of the request was sent.
    pub(in crate::proxy) fn is_sent(&self) -> bool {
        self.upload.is_done()
    }

    /// The answer's body, after its head. What is left of the request goes on in a task of its own: the client may
    /// take the answer only when it has sent everything.
    pub(in crate::proxy) fn into_download(self, framing: Framing, keeps: bool, tasks: &Tasks) -> Download {
        let body = Body::new(framing, self.bounds);
        let (mut output, mut rest) = (None, None);
        match self.output {
            Some(mut out) if self.upload.is_done() => {
                out.scratch = self.upload.into_scratch();
                output = Some(out).filter(|_| keeps);
            }
            Some(out) if !body.is_end() => {
                let (alive, gone) = oneshot::channel();
                tasks.spawn_connection(self.upload.finish(out, gone));
                rest = Some(alive);
            }
            _ => {}
        }
        Download { input: self.input, output, body, _upload: rest }
    }

    /// The connection itself, after it has changed its protocol.
    pub(in crate::proxy) fn into_tunnel(self) -> Result<Line, Malformed> {
        match self.output {
            Some(output) if self.upload.is_done() => {
                let line = Line { input: self.input, output, reused: true };
                line.keep_alive();
                Ok(line)
            }
            _ => Err(Malformed::SwitchedEarly),
        }
    }
}

impl Download {
    /// The next part of the body.
    pub(in crate::proxy) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if let Some(frame) = self.body.next(&mut self.input.buffer.bytes)? {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.body.is_end() {
                return Poll::Ready(None);
            }
            if ready!(self.input.poll_fill(cx, self.body.certain()))? == 0 {
                self.body.closed()?;
            }
        }
    }

    /// See [`Body::whole`].
    pub(in crate::proxy) fn whole(&mut self, out: &mut Vec<u8>) -> Option<usize> {
        self.body.whole(&mut self.input.buffer.bytes, out)
    }

    /// Reads small parts from now on: whoever takes them is slow, and not the only one.
    pub(in crate::proxy) fn stay_small(&mut self) {
        self.input.buffer.stay_small();
    }

    /// Whether all of the body was given.
    pub(in crate::proxy) fn is_end(&self) -> bool {
        self.body.is_end()
    }

    /// The length of what is still to be given.
    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        self.body.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The connection, if it can carry another request: the answer has ended, was all that came, and did not come
    /// before the end of its request.
    pub(in crate::proxy) fn into_line(self) -> Option<Line> {
        let Self { input, output, body, .. } = self;
        let output = output.filter(|_| body.is_end() && input.buffer.bytes.is_empty())?;
        Some(Line { input, output, reused: true })
    }
}
