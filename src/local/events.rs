//! Event streams (the HTML standard, section 9.2): OFREP's, which tells its clients to evaluate again, and the native
//! one, which names the flags that changed. A stream that waits for its reader keeps the latest state and no queue.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::Full as Whole;
use tokio::sync::watch;

use super::answer;
use super::streams::{Full, Place, Streams};
use crate::flags::changes;
use crate::flags::store::{Snapshot, Store};
use crate::lifecycle::machine::Phase;
use crate::net::activity::Activity;
use crate::net::outbound::Outbound;

/// Where OFREP's stream is, which [`super::ofrep`] tells clients.
pub(super) const OFREP_PATH: &str = "/ofrep/v1/events";

/// A stream that has nothing to say says so this often: below the idle times of common proxies (60 s).
const HEARTBEAT: Duration = Duration::from_secs(20);
/// Readers come back after a time between these, in milliseconds: all of a sidecar's at once would be a herd.
const COME_BACK: std::ops::Range<u32> = 1_000..4_000;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What is streamed, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `refetchEvaluation`, as ADR 0008 of the protocol has it.
    Ofrep,
    /// `ready`, `change`, `keep_alive` and `shutdown`.
    Native,
}

/// The streams' source. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Events {
    store: Arc<Store>,
    streams: Streams,
    /// The phase, whose end ends the streams; `None` outlives everything.
    phase: Option<watch::Receiver<Phase>>,
    /// This process, in the ids of events: the generations of another life are other snapshots.
    life: u32,
    /// The last change that was put into words, which all readers but those that lag have to be told.
    last: Arc<Mutex<Option<Worded>>>,
}

#[derive(Debug)]
struct Worded {
    from: u64,
    to: u64,
    event: Bytes,
}

impl Events {
    pub(super) fn new(store: Arc<Store>, streams: Streams, phase: Option<watch::Receiver<Phase>>) -> Self {
        Self { store, streams, phase, life: fastrand::u32(..), last: Arc::default() }
    }

    /// Opens a stream on the connection of `activity`.
    pub(super) fn open(&self, dialect: Dialect, headers: &HeaderMap, activity: Arc<Activity>) -> Response<Outbound> {
        let revision = self.store.load().generation();
        let protocol = match dialect {
            Dialect::Ofrep => "ofrep",
            Dialect::Native => "native",
        };
        let place = match self.streams.open(protocol, activity) {
            Ok(place) => place,
            Err(full) => return refused(full, revision).map(Outbound::Whole),
        };
        let reader = Reader {
            events: self.clone(),
            dialect,
            generations: self.store.subscribe(),
            known: headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).map(str::to_owned),
            told: None,
            begun: false,
            ended: false,
        };
        let mut response = Response::new(Outbound::stream(Feed { next: Some(Box::pin(reader.next())), place }));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // nginx and its kin would hold events back in a buffer.
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        headers.insert(answer::REVISION, HeaderValue::from(revision));
        response
    }

    /// The id of the event that tells of a generation.
    fn id(&self, generation: u64) -> String {
        format!("{:08x}-{generation}", self.life)
    }

    /// The native event that tells what became of `old` in `new`. A thousand readers are told the same, so it is put
    /// into words once.
    fn change(&self, old: &Snapshot, new: &Snapshot) -> Bytes {
        let (from, to) = (old.generation(), new.generation());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worded) = last.as_ref().filter(|worded| (worded.from, worded.to) == (from, to)) {
            return worded.event.clone();
        }
        // Thousands of flags as a tree of values first would hold up whoever asks for one meanwhile.
        let mut event = format!("id: {}\nevent: change\ndata: {{\"flags\":", self.id(to));
        event.push_str(&changes::json(&changes::between(old, new)));
        event.push_str(&format!(",\"revision\":{to},\"stale\":{}}}\n\n", new.stale()));
        let event = Bytes::from(event);
        *last = Some(Worded { from, to, event: event.clone() });
        event
    }
}

/// The answer when there are too many streams.
fn refused(full: Full, revision: u64) -> Response<Whole<Bytes>> {
    let mut response = answer::problem(StatusCode::SERVICE_UNAVAILABLE, &full.to_string(), revision);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(fastrand::u32(5..15)));
    response
}

/// One stream, between two of its events.
struct Reader {
    events: Events,
    dialect: Dialect,
    generations: watch::Receiver<u64>,
    /// `Last-Event-ID`: what the reader was last told of, in an earlier stream.
    known: Option<String>,
    /// The snapshot that the reader was last told of.
    told: Option<Arc<Snapshot>>,
    begun: bool,
    ended: bool,
}

impl Reader {
    /// The next event, and the stream after it; `None` at the end.
    ///
    /// # Cancellation
    /// The stream is gone then; so is its connection.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.ended {
            return None;
        }
        if !self.begun {
            // Sent at once, so that a reader that waits for the head of the answer has it.
            self.begun = true;
            return Some((Bytes::from(format!("retry: {}\n\n", fastrand::u32(COME_BACK))), self));
        }
        loop {
            self.generations.borrow_and_update();
            let snapshot = Arc::clone(&self.events.store.load());
            // Before anything is applied there is nothing to be told of.
            let news = snapshot.generation() > 0
                && self.told.as_ref().is_none_or(|told| told.generation() != snapshot.generation());
            if news {
                let event = self.event(&snapshot);
                self.told = Some(snapshot);
                if let Some(event) = event {
                    return Some((event, self));
                }
            }
            tokio::select! {
                // The store lives as long as the process.
                Ok(()) = self.generations.changed() => {}
                () = ended(self.events.phase.as_mut()) => {
                    self.ended = true;
                    return match self.dialect {
                        // A comment: the end alone would do, but some readers want a byte to notice it by.
                        Dialect::Ofrep => Some((Bytes::from_static(b": shutdown\n\n"), self)),
                        Dialect::Native => Some((Bytes::from_static(b"event: shutdown\ndata: {}\n\n"), self)),
                    };
                }
                () = tokio::time::sleep(HEARTBEAT) => return Some((self.heartbeat(), self)),
            }
        }
    }

    /// What tells of `snapshot`; `None` when the reader knows.
    fn event(&mut self, snapshot: &Snapshot) -> Option<Bytes> {
        let id = self.events.id(snapshot.generation());
        let known = self.known.take().is_some_and(|known| known == id);
        match (self.dialect, &self.told) {
            (Dialect::Ofrep, _) if known => None,
            // Also at the beginning: between a client's evaluation and its stream the flags may have changed.
            (Dialect::Ofrep, _) => Some(refetch(&id)),
            (Dialect::Native, None) => {
                let data = serde_json::json!({
                    "revision": snapshot.generation(), "stale": snapshot.stale(), "missed": !known,
                });
                Some(Bytes::from(format!("id: {id}\nevent: ready\ndata: {data}\n\n")))
            }
            (Dialect::Native, Some(told)) => Some(self.events.change(told, snapshot)),
        }
    }

    fn heartbeat(&self) -> Bytes {
        match self.dialect {
            // A rule that reads the time may decide otherwise by now, and nothing else would say so.
            Dialect::Ofrep if self.told.as_ref().is_some_and(|told| told.timed()) => {
                refetch(&self.events.id(self.told.as_ref().map_or(0, |told| told.generation())))
            }
            Dialect::Ofrep => Bytes::from_static(b": keep-alive\n\n"),
            Dialect::Native => {
                let revision = self.told.as_ref().map_or(0, |told| told.generation());
                Bytes::from(format!("event: keep_alive\ndata: {{\"revision\":{revision}}}\n\n"))
            }
        }
    }
}

fn refetch(id: &str) -> Bytes {
    let data = format!("{{\"type\":\"refetchEvaluation\",\"etag\":\"{id}\"}}");
    Bytes::from(format!("id: {id}\nevent: message\ndata: {data}\n\n"))
}

/// Returns once the process closes: new connections are refused then, and there are moments left for the last words.
async fn ended(phase: Option<&mut watch::Receiver<Phase>>) {
    match phase {
        Some(phase) => drop(phase.wait_for(|phase| phase.is_closing()).await),
        None => std::future::pending().await,
    }
}

/// A reader as an answer's body; `None` once it has ended.
struct Feed {
    next: Option<Next>,
    place: Place,
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Reader)>> + Send>>;

impl Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.place.asked();
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        let event = ready!(next.as_mut().poll(cx));
        Poll::Ready(match event {
            Some((event, reader)) => {
                self.next = Some(Box::pin(reader.next()));
                self.place.gave();
                Some(Ok(Frame::data(event)))
            }
            None => {
                self.next = None;
                None
            }
        })
    }
}

#[cfg(test)]
mod tests;
