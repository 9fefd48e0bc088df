//! A bounded line of requests that wait for their turn, first come, first served. Knows not what they wait for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::metrics::{Counts, End};

/// Who waits, in the order of their tickets. Its owner locks it.
pub(super) struct Queue {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
}

struct Waiting {
    since: Instant,
    call: oneshot::Sender<()>,
}

/// What owns a queue, and what one waits for in it.
pub(in crate::proxy) trait Lane {
    /// A place in the line: the one of `ticket` for who had one before, else the last.
    fn join(&self, ticket: Option<u64>, since: Instant) -> Result<(u64, oneshot::Receiver<()>), Refused>;
    /// Gives up a place. One that was called meanwhile gives back what it was called for.
    fn leave(&self, ticket: u64);
    /// Who was called has no need any more of what it was called for.
    fn give_back(&self);
    /// How long one waits here at most.
    fn patience(&self) -> Duration;
    /// What is counted.
    fn counts(&self) -> &Counts;
}

/// Why a request does not get its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Refused {
    /// As many wait as may.
    Full,
    /// What is waited for has been away for longer than anybody waits: it is not worth beginning.
    Away,
    /// The wait was too long.
    TooLong,
}

/// What one has waited for; given back when dropped.
pub(in crate::proxy) struct Turn<L: Lane>(Option<Arc<L>>);

impl<L: Lane> Turn<L> {
    /// What was waited for, not to be given back by itself.
    pub(in crate::proxy) fn take(mut self) -> Option<Arc<L>> {
        self.0.take()
    }
}

impl<L: Lane> Drop for Turn<L> {
    fn drop(&mut self) {
        if let Some(lane) = self.0.take() {
            lane.give_back();
        }
    }
}

/// Waits in `lane` since `since`. `ticket` is noted, so that who comes again has the same place.
///
/// # Cancellation
/// Dropped, it leaves the line at once.
pub(in crate::proxy) async fn wait<L: Lane>(
    lane: &Arc<L>,
    ticket: &mut Option<u64>,
    since: Instant,
) -> Result<Turn<L>, Refused> {
    let joined = lane.join(*ticket, since);
    let (number, call) = joined.inspect_err(|why| lane.counts().refused(*why))?;
    *ticket = Some(number);
    let mut place = Place { lane: Some(lane.clone()), ticket: number, call, end: End::Left, since };
    let until = tokio::time::Instant::from_std(since + lane.patience());
    if tokio::time::timeout_at(until, &mut place.call).await.is_err() {
        place.end = End::TimedOut;
        return Err(Refused::TooLong);
    }
    lane.counts().waited(End::Passed, since.elapsed());
    Ok(Turn(place.lane.take()))
}

/// A place in a line. The call cannot be missed: it comes while the lane is locked, and so does the leaving, before the
/// receiver is dropped.
struct Place<L: Lane> {
    lane: Option<Arc<L>>,
    ticket: u64,
    call: oneshot::Receiver<()>,
    end: End,
    since: Instant,
}

impl<L: Lane> Drop for Place<L> {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take() {
            lane.leave(self.ticket);
            lane.counts().waited(self.end, self.since.elapsed());
        }
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { next: 0, waiting: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Since when the one waits that has waited for longest.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(_, first)| first.since)
    }

    pub(super) fn join(&mut self, ticket: Option<u64>, since: Instant) -> (u64, oneshot::Receiver<()>) {
        let ticket = ticket.unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        let (call, called) = oneshot::channel();
        self.waiting.insert(ticket, Waiting { since, call });
        (ticket, called)
    }

    /// Whether it was still there.
    pub(super) fn leave(&mut self, ticket: u64) -> bool {
        self.waiting.remove(&ticket).is_some()
    }

    /// Calls the first, if there is one.
    pub(super) fn call(&mut self) -> bool {
        match self.waiting.pop_first() {
            Some((_, first)) => first.call.send(()).is_ok(),
            None => false,
        }
    }
}
