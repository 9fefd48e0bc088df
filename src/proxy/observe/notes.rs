//! What is noted of a request on its way, in plain values of its own: no lock, no allocation.

use std::time::Duration;

use http::{Request, StatusCode, request};

use super::kept::Kept;
use super::trace::Place;
use crate::proxy::metrics::listener::{Protocol, Verb};
use crate::proxy::tunnel::Carried;

/// A client that left before its answer began; nginx's number, which log tools know.
const LEFT: u16 = 499;

/// The errors of requests that are at fault themselves.
const REFUSED: [&str; 2] = ["http_request_error", "http_request_denied"];

/// See the module's text.
pub(in crate::proxy) struct Notes {
    verb: Verb,
    protocol: Protocol,
    retried: bool,
    /// Whether all of the answer was there.
    whole: bool,
    sent: u64,
    connect: Option<Duration>,
    first_byte: Option<Duration>,
    held: Option<Duration>,
    error: Option<&'static str>,
    counts_as: Option<StatusCode>,
    carried: Option<Carried>,
    /// The request's place in a trace, where traces matter.
    pub(super) place: Option<Place>,
    pub(super) kept: Option<Box<Kept>>,
}

impl Notes {
    pub(super) fn of(head: &request::Parts) -> Self {
        Self {
            verb: Verb::of(&head.method),
            protocol: Protocol::of(head.version),
            retried: false,
            whole: false,
            sent: 0,
            connect: None,
            first_byte: None,
            held: None,
            error: None,
            counts_as: None,
            carried: None,
            place: None,
            kept: None,
        }
    }

    /// Of what was refused before it was a request, with an answer of so many bytes.
    pub(super) fn refused(protocol: Protocol, bytes: usize) -> Self {
        let mut notes = Self::of(&Request::new(()).into_parts().0);
        (notes.verb, notes.protocol) = (Verb::Other, protocol);
        notes.failed("http_request_error");
        notes.delivered(bytes);
        notes.whole();
        notes
    }

    /// A connection to the app was opened for this request.
    pub(in crate::proxy) fn connected(&mut self, took: Duration) {
        self.connect = Some(took);
    }

    /// The app's answer has begun, so long after the request was let go to the app.
    pub(in crate::proxy) fn begun(&mut self, after: Duration) {
        self.first_byte = Some(after);
    }

    /// The request stood aside for so long before it was let go to the app, once more or for the first time.
    pub(in crate::proxy) fn stood(&mut self, took: Duration) {
        self.held = Some(self.held.unwrap_or_default() + took);
    }

    /// The request was sent a second time.
    pub(in crate::proxy) fn retried(&mut self) {
        self.retried = true;
    }

    /// There is no answer of the app, or no whole one, by this error type of RFC 9209 §2.3.
    pub(in crate::proxy) fn failed(&mut self, error: &'static str) {
        self.error = Some(error);
    }

    /// Whether it is known why there is no answer of the app, or no whole one.
    pub(in crate::proxy) fn has_error(&self) -> bool {
        self.error.is_some()
    }

    /// The answer that we gave in the app's place has a status of its own protocol; over plain HTTP it had been this one.
    pub(in crate::proxy) fn counts_as(&mut self, status: StatusCode) {
        self.counts_as = Some(status);
    }

    /// The tunnel that the request became has ended.
    pub(in crate::proxy) fn carried(&mut self, carried: Carried) {
        self.carried = Some(carried);
    }

    /// A part of the answer's body went to the client.
    pub(in crate::proxy) fn delivered(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// The answer is complete.
    pub(in crate::proxy) fn whole(&mut self) {
        self.whole = true;
    }

    pub(super) fn verb(&self) -> Verb {
        self.verb
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(super) fn is_retried(&self) -> bool {
        self.retried
    }

    /// The status that an answer of `status` is counted as.
    pub(super) fn counted(&self, status: StatusCode) -> StatusCode {
        self.counts_as.unwrap_or(status)
    }

    /// What went through its tunnel.
    pub(super) fn tunnel(&self) -> Option<Carried> {
        self.carried
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn connect(&self) -> Option<Duration> {
        self.connect
    }

    pub(super) fn first_byte(&self) -> Option<Duration> {
        self.first_byte
    }

    /// How long the request stood aside.
    pub(in crate::proxy) fn held(&self) -> Option<Duration> {
        self.held
    }
}

/// A request that has ended.
pub(super) struct Ended<'n> {
    pub(super) listener: &'n str,
    pub(super) notes: &'n Notes,
    /// None was sent when the client left before, or the request was cut.
    pub(super) status: Option<StatusCode>,
    pub(super) took: Duration,
}

impl Ended<'_> {
    /// The answer's status; none when we ended the request before there was one.
    pub(super) fn status(&self) -> Option<u16> {
        let left = self.notes.error.is_none().then_some(LEFT);
        self.status.map(|status| status.as_u16()).or(left)
    }

    /// Why the client has no whole answer of the app.
    pub(super) fn error(&self) -> Option<&'static str> {
        self.notes.error.or(if self.notes.whole { None } else { Some("client_left") })
    }

    /// Whether somebody may want to know: a 5xx, an answer that is not the app's or not the whole of it, a client that
    /// left. A request that was refused for what it is has not failed: its client has.
    pub(super) fn has_failed(&self) -> bool {
        self.status.is_some_and(|status| status.is_server_error())
            || self.error().is_some_and(|error| !REFUSED.contains(&error))
    }
}
