//! What is told of requests to those who operate: counts, lines of the access log, and spans. The request's path notes
//! facts in [`Notes`]; all else is done here, at its beginning and at its end.

pub mod access;
mod json;
mod kept;
mod notes;
mod span;
pub mod trace;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::{StatusCode, request};

use self::access::Log;
use self::kept::{Kept, Part, X_REQUEST_ID};
use self::notes::Ended;
pub(super) use self::notes::Notes;
use self::trace::{Parent, Place, TRACESTATE};
use super::flag_headers::Flags;
use super::headers::Hop;
use super::metrics::listener::{Counts, Protocol};
use crate::net::otlp::Spans;
use crate::telemetry::writer::Lines;

/// Who is told of requests, and asked about them.
#[derive(Clone, Default)]
pub struct Outlets {
    /// Evaluates the flags that the app is told.
    pub flags: Option<Arc<dyn Flags>>,
    /// The lines of the access log.
    pub access: Option<Lines>,
    /// The spans of traces.
    pub spans: Option<Spans>,
}

/// One worker's observer of one listener's requests.
pub(super) struct Observer {
    listener: Arc<str>,
    counts: Arc<Counts>,
    log: Option<Log>,
    spans: Option<Spans>,
}

/// Why, and how, something that was to be a request was refused.
pub(super) struct Refusal<'w> {
    pub(super) status: StatusCode,
    pub(super) why: &'w str,
    pub(super) protocol: Protocol,
    /// How long its head was awaited.
    pub(super) took: Duration,
    /// The length of the answer's body.
    pub(super) bytes: usize,
}

/// Counts the bytes of one request's body.
pub(super) struct Meter {
    counts: Arc<Counts>,
    own: Option<Arc<AtomicU64>>,
}

impl Observer {
    pub(super) fn new(listener: Arc<str>, counts: Arc<Counts>, log: access::Settings, outlets: &Outlets) -> Self {
        let spans = outlets.spans.clone();
        Self { listener, counts, log: Log::new(log, outlets.access.as_ref()), spans }
    }

    /// Notes a request that came by `hop`.
    pub(super) fn begin(&self, head: &request::Parts, hop: &Hop) -> Notes {
        let mut notes = Notes::of(head);
        if !self.looks() {
            return notes;
        }
        let parent = Parent::of(&head.headers);
        notes.place = match &self.spans {
            Some(spans) => Some(Place::recording(parent, || spans.samples())),
            None => parent.map(Place::passing),
        };
        let recorded = notes.place.is_some_and(|place| place.span.is_some());
        let sampled = self.log.as_ref().is_some_and(Log::samples);
        if sampled || recorded || self.log.as_ref().is_some_and(Log::wants_failures) {
            let mut kept = Kept::of(head, hop.address(), sampled);
            if recorded {
                kept.field(Part::TraceState, &head.headers, &TRACESTATE);
                kept.keep(Part::Scheme, hop.scheme());
            }
            notes.kept = Some(kept);
        }
        notes
    }

    /// Whether more is told of requests than what is counted, so that their heads are looked into.
    pub(super) fn looks(&self) -> bool {
        self.log.is_some() || self.spans.is_some()
    }

    /// What came by `hop`, and began with `seen`, was refused before it was a request.
    pub(super) fn refused(&self, hop: &Hop, seen: &[u8], refusal: &Refusal<'_>) {
        let Some(log) = &self.log else { return };
        let sampled = log.samples();
        let wanted = sampled || (log.wants_failures() && refusal.status.is_server_error());
        if !wanted {
            return;
        }
        let notes = Notes::refused(refusal.protocol, refusal.bytes);
        let kept = Kept::of_refused(seen, hop.address(), refusal.why, sampled);
        let (status, took) = (Some(refusal.status), refusal.took);
        log.write(&kept, &Ended { listener: &self.listener, notes: &notes, status, took });
    }

    /// Tells the app of the trace, and notes what was added to a request on its way.
    pub(super) fn prepared(&self, notes: &mut Notes, head: &mut request::Parts) {
        if let Some(place) = &notes.place {
            place.tell(&mut head.headers);
        }
        if let Some(kept) = &mut notes.kept {
            kept.field(Part::RequestId, &head.headers, &X_REQUEST_ID);
        }
    }

    /// Counts the body of the request that `notes` are of.
    pub(super) fn meter(&self, notes: &mut Notes) -> Meter {
        let own = notes.kept.as_mut().map(|kept| kept.received.get_or_insert_default().clone());
        Meter { counts: self.counts.clone(), own }
    }

    /// A connection to the app was opened.
    pub(super) fn connected(&self, notes: &mut Notes, took: Duration) {
        self.counts.connected(took);
        notes.connected(took);
    }

    /// The app's answer has begun, so long after the request was let go to the app.
    pub(super) fn begun(&self, notes: &mut Notes, after: Duration) {
        self.counts.begun(after);
        notes.begun(after);
    }

    /// A part of an answer's body went to the client.
    pub(super) fn delivered(&self, notes: &mut Notes, bytes: usize) {
        self.counts.sent(bytes);
        notes.delivered(bytes);
    }

    /// The request has ended.
    pub(super) fn ended(&self, notes: &Notes, status: Option<StatusCode>, took: Duration) {
        if let Some(status) = status {
            self.counts.answered(notes.verb(), notes.protocol(), notes.counted(status).as_u16(), took);
        }
        let Some(kept) = &notes.kept else { return };
        let ended = Ended { listener: &self.listener, notes, status, took };
        if let (Some(spans), Some(place)) = (&self.spans, &notes.place)
            && let Some(id) = place.span
        {
            span::send(spans, place, id, kept, &ended);
        }
        if let Some(log) = &self.log {
            log.write(kept, &ended);
        }
    }
}

impl Meter {
    /// Bytes have come.
    pub(super) fn add(&self, bytes: usize) {
        self.counts.received(bytes);
        if let Some(own) = &self.own {
            own.fetch_add(bytes as u64, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
