//! What is told of requests to those who operate: counts, and lines of the access log. The request's path notes
//! facts in [`Notes`]; all else is done here, at its beginning and at its end.

pub mod access;
mod json;
mod kept;
mod notes;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::{Request, StatusCode, request};

use self::access::Log;
use self::kept::{Kept, Part, X_REQUEST_ID};
use self::notes::Ended;
pub(super) use self::notes::Notes;
use super::flag_headers::Flags;
use super::metrics::listener::Counts;
use crate::telemetry::writer::Lines;

/// Who is told of requests, and asked about them.
#[derive(Clone, Default)]
pub struct Outlets {
    /// Evaluates the flags that the app is told.
    pub flags: Option<Arc<dyn Flags>>,
    /// The lines of the access log.
    pub access: Option<Lines>,
}

/// One worker's observer of one listener's requests.
pub(super) struct Observer {
    listener: Arc<str>,
    counts: Arc<Counts>,
    log: Option<Log>,
}

/// Counts the bytes of one request's body.
pub(super) struct Meter {
    counts: Arc<Counts>,
    own: Option<Arc<AtomicU64>>,
}

impl Observer {
    pub(super) fn new(listener: Arc<str>, counts: Arc<Counts>, log: access::Settings, outlets: &Outlets) -> Self {
        Self { listener, counts, log: Log::new(log, outlets.access.as_ref()) }
    }

    /// Notes a request that came from `client`.
    pub(super) fn begin<B>(&self, request: &Request<B>, client: &[u8]) -> Notes {
        let mut notes = Notes::of(request);
        if let Some(log) = &self.log {
            let sampled = log.samples();
            if sampled || log.wants_failures() {
                notes.kept = Some(Kept::of(request, client, sampled));
            }
        }
        notes
    }

    /// Notes what was added to a request on its way to the app.
    pub(super) fn prepared(&self, notes: &mut Notes, head: &request::Parts) {
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
            self.counts.answered(notes.verb(), notes.protocol(), status.as_u16(), took);
        }
        if let (Some(log), Some(kept)) = (&self.log, &notes.kept) {
            log.write(kept, &Ended { listener: &self.listener, notes, status, took });
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
