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
use super::line::Line;
use super::upload::{Cut, Upload};
use crate::lifecycle::tasks::Tasks;
use crate::proxy::body::BodyError;
use crate::proxy::lines::Form;

/// A request under way whose answer has not begun.
pub(in crate::proxy) struct Exchange(Box<Line>);

/// An answer's body on its way from the app.
pub(in crate::proxy) struct Download(Box<Line>);

/// How far the request on a connection has come. It lives with the connection: what is written once where it stays need
/// not be moved from hand to hand.
pub(super) struct Course {
    pub(super) upload: Upload,
    decoder: Decoder,
    bounds: Bounds,
    /// Whether a byte of the answer has come.
    heard: bool,
    /// What of the answer's body is still to come.
    body: Body,
    /// Held for its drop, which ends the rest of the request that is still being sent.
    rest: Option<oneshot::Sender<()>>,
}

impl Course {
    /// That of a connection which has carried nothing yet.
    pub(super) fn new() -> Self {
        let bounds = Bounds { bytes: 0, fields: 0 };
        Self {
            upload: Upload::none(),
            decoder: Decoder::new(bounds),
            bounds,
            heard: false,
            body: Body::new(Framing::Length(0), bounds),
            rest: None,
        }
    }
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
    pub(in crate::proxy) fn new(mut line: Box<Line>, upload: Upload, bounds: Bounds, form: Form) -> Self {
        let course = &mut line.course;
        course.upload = upload;
        course.decoder = Decoder::in_form(bounds, form);
        (course.bounds, course.heard) = (bounds, false);
        Self(line)
    }

    /// Sends what can be sent, and is ready with what the app says next: the head of its answer, in the end.
    pub(in crate::proxy) fn poll_head(&mut self, cx: &mut Context<'_>, asked: &Method) -> Poll<Result<Heard, Lost>> {
        let Line { input, output: way, course: Course { upload, decoder, heard, .. }, .. } = &mut *self.0;
        if let Some(output) = way {
            match upload.poll(cx, output) {
                Poll::Ready(Ok(())) | Poll::Pending => {}
                Poll::Ready(Err(Cut::Body(error))) => return Poll::Ready(Err(Lost::Body(error))),
                // What came before the request is no answer to it.
                Poll::Ready(Err(Cut::Line(error))) if !upload.is_begun() => return Poll::Ready(Err(error.into())),
                // An app may answer and close before it has read everything (RFC 9112 §9.5): the answer counts.
                Poll::Ready(Err(Cut::Line(_))) => {
                    *way = None;
                    upload.abandon();
                }
            }
        }
        if !upload.is_begun() && way.is_some() {
            return Poll::Pending;
        }
        loop {
            // What came with an interim answer.
            if *heard && let Some(heard) = decoder.head(&mut input.buffer.bytes, asked)? {
                if matches!(&heard, Heard::Interim(parts) if parts.status == StatusCode::CONTINUE) {
                    upload.go_on();
                }
                return Poll::Ready(Ok(heard));
            }
            if ready!(input.poll_fill(cx, None))? == 0 {
                return Poll::Ready(Err(Broken::Closed.into()));
            }
            *heard = true;
        }
    }

    /// The request as it was at first, if it may be sent again after its connection was lost: the app had closed an
    /// unused connection, and saw nothing of the request, or at least answered nothing to one that
    /// `repeats` without harm.
    pub(in crate::proxy) fn rewound(mut self, repeats: bool) -> Option<Upload> {
        let reused = self.0.reused;
        let Course { upload, heard, .. } = &mut self.0.course;
        let unseen = !upload.is_begun();
        if reused && !*heard && (unseen || repeats) { upload.hand_over().rewound() } else { None }
    }

    /// Whether all of the request was sent.
    pub(in crate::proxy) fn is_sent(&self) -> bool {
        self.0.course.upload.is_done()
    }

    /// The answer's body, after its head. What is left of the request goes on in a task of its own: the client may
    /// take the answer only when it has sent everything.
    pub(in crate::proxy) fn into_download(mut self, framing: Framing, keeps: bool, tasks: &Tasks) -> Download {
        let Line { output, course, .. } = &mut *self.0;
        course.body = Body::new(framing, course.bounds);
        if course.upload.is_done() {
            course.upload.settle();
            // Gone when the connection is not to be used again.
            if !keeps {
                *output = None;
            }
        } else {
            let (upload, out) = (course.upload.hand_over(), output.take());
            if let Some(out) = out
                && !course.body.is_end()
            {
                let (alive, gone) = oneshot::channel();
                tasks.spawn_connection(upload.finish(out, gone));
                course.rest = Some(alive);
            }
        }
        Download(self.0)
    }

    /// The connection itself, after it has changed its protocol.
    pub(in crate::proxy) fn into_tunnel(self) -> Result<Box<Line>, Malformed> {
        let mut line = self.0;
        if line.output.is_none() || !line.course.upload.is_done() {
            return Err(Malformed::SwitchedEarly);
        }
        line.course = Course::new();
        line.keep_alive();
        Ok(line)
    }
}

impl Download {
    /// The next part of the body.
    pub(in crate::proxy) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Line { input, course: Course { body, .. }, .. } = &mut *self.0;
        loop {
            if let Some(frame) = body.next(&mut input.buffer.bytes)? {
                return Poll::Ready(Some(Ok(frame)));
            }
            if body.is_end() {
                return Poll::Ready(None);
            }
            if ready!(input.poll_fill(cx, body.certain()))? == 0 {
                body.closed()?;
            }
        }
    }

    /// See [`Body::whole`].
    pub(in crate::proxy) fn whole(&mut self, out: &mut Vec<u8>) -> Option<usize> {
        let Line { input, course, .. } = &mut *self.0;
        course.body.whole(&mut input.buffer.bytes, out)
    }

    /// Reads small parts from now on: whoever takes them is slow, and not the only one.
    pub(in crate::proxy) fn stay_small(&mut self) {
        self.0.input.buffer.stay_small();
    }

    /// Whether all of the body was given.
    pub(in crate::proxy) fn is_end(&self) -> bool {
        self.0.course.body.is_end()
    }

    /// The length of what is still to be given.
    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        self.0.course.body.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The connection, if it can carry another request: the answer has ended, was all that came, and did not come
    /// before the end of its request.
    pub(in crate::proxy) fn into_line(self) -> Option<Box<Line>> {
        let mut line = self.0;
        line.reused = true;
        let is_free = line.output.is_some() && line.course.body.is_end() && line.input.buffer.bytes.is_empty();
        is_free.then_some(line)
    }
}
