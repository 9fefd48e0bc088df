//! Answers on their way to a client: head and first part in one write where they fit, never read from the app faster
//! than the client takes them.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Response, StatusCode, response};
use http_body::{Body as _, Frame};

use super::Connection;
use super::answer::{self, Asked, Coding, Next, TooLong};
use super::wire::{Lost, Wire};
use crate::net::activity::{Order, now_ms};
use crate::proxy::body::Delivery;
use crate::proxy::metrics::listener::Protocol;
use crate::proxy::observe::Refusal;

/// Parts up to this size are copied behind what goes before them: one flat write costs less than a gathered one.
const FLAT: usize = 16 * 1024;
/// What a head, and what follows it at once, usually fits into.
const HEAD: usize = 2 * 1024;

/// What the kernel has not taken yet.
struct Outgoing {
    flat: Vec<u8>,
    at: usize,
    data: Bytes,
    tail: &'static [u8],
}

impl Connection {
    /// Sends an answer to its end, and tells what may follow.
    pub(super) async fn deliver(
        &self,
        parts: Box<response::Parts>,
        mut body: Delivery,
        asked: Asked,
    ) -> Result<Next, Lost> {
        let length = body.size_hint().exact();
        let (flat, mut coding, next) = match body.lines.take() {
            Some(lines) => answer::head_of_lines(&parts, lines, asked, length),
            None => {
                let mut flat = Vec::with_capacity(HEAD);
                let (coding, next) = answer::head(&parts, asked, length, &mut flat);
                (flat, coding, next)
            }
        };
        let mut out = Outgoing { flat, at: 0, data: Bytes::new(), tail: b"" };
        drop(parts);
        let is_small = length.is_some_and(|length| length <= FLAT as u64);
        let large = if is_small { None } else { self.service.large.take() };
        if large.is_none() {
            body.stay_small();
        }
        let mut state = State::Open;
        let has_length = matches!(coding, Coding::Length(_));
        if coding == Coding::Length(0) || (is_small && has_length && body.take_whole(&mut out.flat)) {
            state = State::Ended;
        } else if body.is_end_stream() {
            state = end(coding, None, asked, &mut out);
        }
        let broken = poll_fn(|cx| {
            self.activity().attend(cx.waker());
            if self.activity().order() == Order::Cut {
                // What the connection's end alone would end must not look whole.
                if coding == Coding::Close {
                    self.wire.break_off();
                }
                return Poll::Ready(Err(Lost::Closed));
            }
            ready!(self.wire.poll_interim(cx))?;
            loop {
                let mut waits = false;
                while state == State::Open && out.has_room() {
                    let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(cx) else {
                        waits = true;
                        break;
                    };
                    state = match frame.transpose() {
                        Ok(frame) => match out.take(frame, &mut coding, asked) {
                            Ok(State::Open) if body.is_end_stream() => end(coding, None, asked, &mut out),
                            Ok(state) => state,
                            Err(TooLong) => State::Broken,
                        },
                        Err(_) => State::Broken,
                    };
                }
                ready!(out.poll_write(cx, &self.wire))?;
                match state {
                    State::Ended => return Poll::Ready(Ok(None)),
                    State::Broken => return Poll::Ready(Ok(Some(coding))),
                    State::Open if waits && self.wire.poll_gone(cx).is_ready() => {
                        return Poll::Ready(Err(Lost::Closed));
                    }
                    State::Open if waits => return Poll::Pending,
                    State::Open => {}
                }
            }
        })
        .await?;
        match broken {
            None => Ok(next),
            Some(coding) => {
                if coding == Coding::Close {
                    self.wire.break_off();
                }
                Err(Lost::Closed)
            }
        }
    }

    /// Sends the head of an answer that makes the connection another protocol's.
    pub(super) async fn switch(&self, response: Response<()>, asked: Asked) -> Result<(), Lost> {
        let (parts, ()) = response.into_parts();
        let mut out = Outgoing { flat: Vec::with_capacity(HEAD), at: 0, data: Bytes::new(), tail: b"" };
        answer::head(&parts, asked, Some(0), &mut out.flat);
        self.send(out).await
    }

    /// Sends an answer of our own to what is no request.
    pub(super) async fn refuse(&self, status: StatusCode, why: &str) -> Result<(), Lost> {
        let text = format!("tidegate: {why}\n");
        let began = self.activity().head_since();
        let took = Duration::from_millis(began.map_or(0, |began| now_ms().saturating_sub(began)));
        let seen = self.wire.seen();
        let line = seen.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default();
        let old = line.trim_ascii_end().ends_with(b" HTTP/1.0");
        let protocol = if old { Protocol::Http10 } else { Protocol::Http11 };
        let refusal = Refusal { status, why, protocol, took, bytes: text.len() };
        self.service.observer.refused(&self.client.hop, &seen, &refusal);
        let mut out = Outgoing { flat: Vec::with_capacity(HEAD), at: 0, data: Bytes::new(), tail: b"" };
        answer::refusal(status, &text, &mut out.flat);
        self.send(out).await
    }

    async fn send(&self, mut out: Outgoing) -> Result<(), Lost> {
        poll_fn(|cx| {
            self.activity().attend(cx.waker());
            ready!(self.wire.poll_interim(cx))?;
            match out.poll_write(cx, &self.wire) {
                // It has been told to go for taking too long already.
                Poll::Pending if self.activity().order() == Order::Cut => Poll::Ready(Err(Lost::Closed)),
                written => written.map_err(Lost::from),
            }
        })
        .await
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// More of the body is to come.
    Open,
    /// All that there is has been taken.
    Ended,
    /// No more will come, and that must be seen.
    Broken,
}

/// Ends a body; `trailers` come only when all before them is written or flat.
fn end(coding: Coding, trailers: Option<&HeaderMap>, asked: Asked, out: &mut Outgoing) -> State {
    if !coding.is_whole() {
        return State::Broken;
    }
    if out.data.is_empty() {
        coding.end(trailers, asked, &mut out.flat);
    } else if coding == Coding::Chunked {
        out.tail = answer::CHUNK_END_AND_LAST;
    }
    State::Ended
}

impl Outgoing {
    fn has_room(&self) -> bool {
        self.data.is_empty() && self.flat.len() - self.at < FLAT
    }

    fn take(&mut self, frame: Option<Frame<Bytes>>, coding: &mut Coding, asked: Asked) -> Result<State, TooLong> {
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => {
                let tail = coding.part(&data, &mut self.flat)?;
                if data.len() <= FLAT {
                    self.flat.extend_from_slice(&data);
                    self.flat.extend_from_slice(tail);
                } else {
                    (self.data, self.tail) = (data, tail);
                }
                Ok(State::Open)
            }
            Some(Err(other)) => Ok(end(*coding, other.into_trailers().ok().as_ref(), asked, self)),
            None => Ok(end(*coding, None, asked, self)),
        }
    }

    /// Ready when all is written and on its way.
    fn poll_write(&mut self, cx: &mut Context<'_>, wire: &Wire) -> Poll<io::Result<()>> {
        loop {
            let flat = &self.flat[self.at..];
            if flat.is_empty() && self.data.is_empty() && self.tail.is_empty() {
                self.flat.clear();
                self.at = 0;
                return wire.poll_flush(cx);
            }
            let mut taken = ready!(wire.poll_write(cx, [flat, &self.data, self.tail]))?;
            let of_flat = taken.min(flat.len());
            self.at += of_flat;
            taken -= of_flat;
            let of_data = taken.min(self.data.len());
            self.data.advance(of_data);
            self.tail = &self.tail[taken - of_data..];
        }
    }
}
