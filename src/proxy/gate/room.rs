//! How many requests one worker has in flight, of how many, and who waits for a place among them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::metrics::Counts;
use super::queue::{Lane, Queue, Refused};

/// The places of one worker, whose thread alone writes.
pub(in crate::proxy) struct Room {
    taken: AtomicUsize,
    size: usize,
    /// Whether somebody waits. Then all places are taken: who leaves hands over the place.
    waited_for: AtomicBool,
    queue: Mutex<Queue>,
    bound: usize,
    patience: Duration,
    counts: Arc<Counts>,
}

impl Room {
    /// A room of `size` places, for which `bound` requests may wait.
    pub(in crate::proxy) fn new(size: usize, bound: usize, patience: Duration, counts: Arc<Counts>) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            size,
            waited_for: AtomicBool::new(false),
            queue: Mutex::new(Queue::new()),
            bound,
            patience,
            counts,
        }
    }

    /// Takes a place, if one is free.
    pub(in crate::proxy) fn enter(&self) -> bool {
        let free = self.taken.load(Relaxed) < self.size;
        if free {
            self.taken.fetch_add(1, Relaxed);
        }
        free
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane for Room {
    fn join(&self, ticket: Option<u64>, since: Instant) -> Result<(u64, oneshot::Receiver<()>), Refused> {
        let mut queue = self.lock();
        if queue.len() >= self.bound {
            return Err(Refused::Full);
        }
        self.waited_for.store(true, Relaxed);
        Ok(queue.join(ticket, since))
    }

    fn leave(&self, ticket: u64) {
        let mut queue = self.lock();
        let waited = queue.leave(ticket);
        self.waited_for.store(!queue.is_empty(), Relaxed);
        drop(queue);
        if !waited {
            self.give_back();
        }
    }

    fn give_back(&self) {
        if self.waited_for.load(Relaxed) {
            let mut queue = self.lock();
            let called = queue.call();
            self.waited_for.store(!queue.is_empty(), Relaxed);
            if called {
                return;
            }
        }
        self.taken.fetch_sub(1, Relaxed);
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue;
    use super::*;

    fn room(size: usize, bound: usize) -> Arc<Room> {
        Arc::new(Room::new(size, bound, Duration::from_secs(5), Arc::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_goes_to_who_has_waited_for_longest() {
        let room = room(1, 2);
        assert!(room.enter() && !room.enter());
        let now = Instant::now();
        let (mut first_ticket, mut second_ticket, mut third_ticket) = (None, None, None);
        let mut first = Box::pin(queue::wait(&room, &mut first_ticket, now));
        let mut second = Box::pin(queue::wait(&room, &mut second_ticket, now));
        assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
        assert_eq!(queue::wait(&room, &mut third_ticket, now).await.err(), Some(Refused::Full));
        room.give_back();
        assert!(!room.enter(), "the place was handed over");
        assert!(futures_util::poll!(&mut second).is_pending());
        let turn = first.await.expect("its turn");
        drop(turn);
        drop(second.await.expect("its turn"));
        assert!(room.enter(), "nobody waits any more");
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_after_the_call_hands_the_place_on() {
        let room = room(1, 2);
        assert!(room.enter());
        let now = Instant::now();
        let (mut first_ticket, mut second_ticket) = (None, None);
        let mut first = Box::pin(queue::wait(&room, &mut first_ticket, now));
        let mut second = Box::pin(queue::wait(&room, &mut second_ticket, now));
        assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
        room.give_back();
        drop(first);
        drop(second.await.expect("called in the other's place"));
        assert!(room.enter() && !room.enter());
    }
}
