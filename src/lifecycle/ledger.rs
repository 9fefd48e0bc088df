//! The ledger of everything under way: requests until their answer's last byte, tunnels, declared work, and the
//! connections they come on. Each entry knows the epoch (the revision of migrations) visible when it began.
//!
//! Written on every request, so each thread has a shard of its own and writers never share a cache line; read by
//! summing the shards.

mod ages;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::ages::{Ages, Slot};
use super::machine::Traffic;

/// Epochs that can be told apart at one time. Adjacent stages of a migration differ by one, and nobody advances
/// while an older epoch is in flight, so two would do; more only keep unrelated migrations apart.
const SLOTS: usize = 8;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request, until the last byte of its answer is handed to the kernel or its client is gone.
    Request,
    /// An upgraded connection (WebSocket and others).
    Tunnel,
    /// Background work that the app declared.
    Work,
    /// A request that has not gone to the app yet: it waits before a closed gate, or for a place. It has seen no epoch,
    /// and begins anew as a request when it goes on.
    Waiting,
}

const KINDS: usize = 4;

/// The kinds that have seen an epoch.
const BOUND: [Kind; 3] = [Kind::Request, Kind::Tunnel, Kind::Work];

/// How much of each kind is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests in flight.
    pub requests: u64,
    /// Open tunnels.
    pub tunnels: u64,
    /// Work leases held.
    pub work: u64,
    /// Requests that have not gone to the app yet.
    pub waiting: u64,
    /// Client connections that may carry another request.
    pub connections: u64,
}

impl Counts {
    /// What is on its way to the app and back, or waits for that.
    pub fn proxied(self) -> u64 {
        self.requests + self.tunnels + self.waiting
    }

    /// Requests, those that wait among them, tunnels and work together.
    pub fn in_flight(self) -> u64 {
        self.requests + self.tunnels + self.work + self.waiting
    }
}

/// The epoch new entries belong to, and which epoch each slot stands for.
struct Epochs {
    current: AtomicU64,
    slot: AtomicU64,
    /// The oldest epoch counted in each slot.
    labels: [AtomicU64; SLOTS],
    born: Instant,
}

/// One thread's part. Aligned so that two never share a cache line (or the pair that a CPU prefetches).
#[repr(align(128))]
struct Shard {
    counts: [[AtomicU64; SLOTS]; KINDS],
    connections: AtomicU64,
    /// Milliseconds since `born` of the last arrival, plus one; 0 for never.
    last_arrival: AtomicU64,
    ages: Ages,
    epochs: Arc<Epochs>,
}

/// The ledger. See the module's text.
pub struct Ledger {
    epochs: Arc<Epochs>,
    /// Until when somebody holds requests by hand, in milliseconds of `Epochs::born`.
    held_until: AtomicU64,
    shards: Box<[Arc<Shard>]>,
}

/// Where one thread writes. Cheap to clone.
#[derive(Clone)]
pub struct Writer(Arc<Shard>);

/// An entry; gone when dropped.
pub struct Guard {
    shard: Arc<Shard>,
    kind: Kind,
    slot: usize,
    /// Of a request.
    age: Option<Slot>,
}

/// A client connection that may carry another request; gone when dropped.
pub struct ConnectionGuard(Arc<Shard>);

impl Ledger {
    /// A ledger for `shards` writing threads, at epoch 0.
    pub fn new(shards: usize) -> Self {
        let epochs = Arc::new(Epochs {
            current: AtomicU64::new(0),
            slot: AtomicU64::new(0),
            labels: Default::default(),
            born: Instant::now(),
        });
        let shard = || {
            Arc::new(Shard {
                counts: Default::default(),
                connections: AtomicU64::new(0),
                last_arrival: AtomicU64::new(0),
                ages: Ages::default(),
                epochs: epochs.clone(),
            })
        };
        Self { shards: (0..shards.max(1)).map(|_| shard()).collect(), epochs, held_until: AtomicU64::new(0) }
    }

    /// The writer of thread `index`; indices beyond the number of shards share.
    pub fn shard(&self, index: usize) -> Writer {
        Writer(self.shards[index % self.shards.len()].clone())
    }

    /// What is under way now.
    pub fn counts(&self) -> Counts {
        let of = |kind: Kind| -> u64 {
            self.shards.iter().flat_map(|s| &s.counts[kind as usize]).map(|c| c.load(Ordering::SeqCst)).sum()
        };
        Counts {
            requests: of(Kind::Request),
            tunnels: of(Kind::Tunnel),
            work: of(Kind::Work),
            waiting: of(Kind::Waiting),
            connections: self.shards.iter().map(|s| s.connections.load(Ordering::SeqCst)).sum(),
        }
    }

    /// What a drain wants to know.
    pub fn traffic(&self) -> Traffic {
        let counts = self.counts();
        let last = self.shards.iter().map(|s| s.last_arrival.load(Ordering::Relaxed)).max().unwrap_or(0);
        // What somebody does while requests are held is to end before the app is stopped.
        let held = u64::from(self.ms(Instant::now()) < self.held_until.load(Ordering::Relaxed));
        Traffic {
            in_flight: counts.in_flight() + held,
            dispatched: counts.requests,
            connections: counts.connections,
            last_arrival: (last > 0).then(|| self.epochs.born + Duration::from_millis(last - 1)),
        }
    }

    /// A drain waits until then, for somebody who holds requests; `None` ends that.
    pub fn hold_until(&self, until: Option<Instant>) {
        self.held_until.store(until.map_or(0, |until| self.ms(until)), Ordering::Relaxed);
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epochs.born).as_millis()).unwrap_or(u64::MAX)
    }

    /// How long the oldest request has been under way at `now`, to a quarter of a second and never less.
    pub fn oldest_request(&self, now: Instant) -> Option<Duration> {
        let began = self.shards.iter().filter_map(|shard| shard.ages.oldest()).min()?;
        Some(now.saturating_duration_since(self.epochs.born + Duration::from_millis(began.saturating_sub(1))))
    }

    /// The epoch of the oldest entry under way; the current epoch when there is none.
    pub fn oldest_epoch(&self) -> u64 {
        // Read first: an entry made while the shards are looked at belongs to this epoch or a later one.
        let current = self.epochs.current.load(Ordering::SeqCst);
        let held = |slot: usize| {
            let any = |s: &Shard| BOUND.iter().any(|kind| s.counts[*kind as usize][slot].load(Ordering::SeqCst) > 0);
            self.shards.iter().any(|shard| any(shard))
        };
        (0..SLOTS)
            .filter(|slot| held(*slot))
            .map(|slot| self.epochs.labels[slot].load(Ordering::SeqCst))
            .min()
            .map_or(current, |held| held.min(current))
    }

    /// Makes `epoch` the one that new entries belong to. An epoch not above the current one is ignored: a sidecar
    /// never goes back.
    ///
    /// One caller at a time. When the next slot still holds older entries the current slot is kept, with its older
    /// label: then an epoch is reported as older than it is, which only makes others wait.
    pub fn advance(&self, epoch: u64) {
        if epoch <= self.epochs.current.load(Ordering::SeqCst) {
            return;
        }
        let next = (self.epochs.slot.load(Ordering::SeqCst) as usize + 1) % SLOTS;
        let free = self.shards.iter().all(|s| s.counts.iter().all(|kind| kind[next].load(Ordering::SeqCst) == 0));
        if free {
            self.epochs.labels[next].store(epoch, Ordering::SeqCst);
            self.epochs.slot.store(next as u64, Ordering::SeqCst);
        }
        self.epochs.current.store(epoch, Ordering::SeqCst);
    }
}

impl Writer {
    /// Enters something into the ledger under the current epoch.
    pub fn begin(&self, kind: Kind) -> Guard {
        let shard = &self.0;
        loop {
            let slot = shard.epochs.slot.load(Ordering::SeqCst) as usize;
            shard.counts[kind as usize][slot].fetch_add(1, Ordering::SeqCst);
            // An advance between the two lines above has not seen this entry: enter it again under the new epoch.
            // (Sequential consistency: either the advance's reader sees the count, or this load sees the advance.)
            if shard.epochs.slot.load(Ordering::SeqCst) as usize == slot {
                // Of requests alone the arrival is noted, by this thread and just before.
                let arrived = || shard.ages.enter(shard.last_arrival.load(Ordering::Relaxed));
                let age = (kind == Kind::Request).then(arrived);
                return Guard { shard: shard.clone(), kind, slot, age };
            }
            shard.counts[kind as usize][slot].fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Notes that a request has arrived now. (A connection alone is not noted: a load balancer that opens and closes one
    /// each second to see whether somebody listens would keep a drain from ever being quiet.)
    pub fn arrived(&self, now: Instant) {
        let ms = now.saturating_duration_since(self.0.epochs.born).as_millis() as u64 + 1;
        self.0.last_arrival.store(ms, Ordering::Relaxed);
    }

    /// Counts a client connection.
    pub fn connection(&self) -> ConnectionGuard {
        self.0.connections.fetch_add(1, Ordering::SeqCst);
        ConnectionGuard(self.0.clone())
    }
}

impl Guard {
    /// The epoch visible when this began, or an older one (see [`Ledger::advance`]).
    pub fn epoch(&self) -> u64 {
        self.shard.epochs.labels[self.slot].load(Ordering::SeqCst)
    }

    /// Turns a request into a tunnel, without a moment in which neither is counted.
    pub fn into_tunnel(mut self) -> Self {
        self.shard.counts[Kind::Tunnel as usize][self.slot].fetch_add(1, Ordering::SeqCst);
        self.shard.counts[self.kind as usize][self.slot].fetch_sub(1, Ordering::SeqCst);
        self.kind = Kind::Tunnel;
        self.leave_age();
        self
    }

    fn leave_age(&mut self) {
        if let Some(age) = self.age.take() {
            self.shard.ages.leave(age);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.leave_age();
        self.shard.counts[self.kind as usize][self.slot].fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_waits_is_waited_for_by_a_drain_and_by_no_epoch() {
        let ledger = Ledger::new(1);
        ledger.advance(5);
        let waiting = ledger.shard(0).begin(Kind::Waiting);
        ledger.advance(6);
        assert_eq!(ledger.oldest_epoch(), 6, "it has seen none");
        assert_eq!(ledger.traffic(), Traffic { in_flight: 1, dispatched: 0, connections: 0, last_arrival: None });
        drop(waiting);
        assert_eq!(ledger.traffic().in_flight, 0);
    }

    #[test]
    fn entries_of_all_shards_are_counted_by_kind() {
        let ledger = Ledger::new(2);
        let request = ledger.shard(0).begin(Kind::Request);
        let tunnel = ledger.shard(1).begin(Kind::Request).into_tunnel();
        let work = ledger.shard(1).begin(Kind::Work);
        let connection = ledger.shard(0).connection();
        assert_eq!(ledger.counts(), Counts { requests: 1, tunnels: 1, work: 1, waiting: 0, connections: 1 });
        drop((request, tunnel, work, connection));
        assert_eq!(ledger.counts(), Counts::default());
    }

    #[test]
    fn the_oldest_epoch_is_that_of_the_oldest_entry() {
        let ledger = Ledger::new(2);
        assert_eq!(ledger.oldest_epoch(), 0);
        ledger.advance(17);
        assert_eq!(ledger.oldest_epoch(), 17, "nothing in flight: the current one");
        let old = ledger.shard(0).begin(Kind::Request);
        ledger.advance(18);
        let young = ledger.shard(1).begin(Kind::Request);
        assert_eq!((old.epoch(), young.epoch(), ledger.oldest_epoch()), (17, 18, 17));
        drop(old);
        assert_eq!(ledger.oldest_epoch(), 18);
        ledger.advance(3);
        assert_eq!(ledger.shard(0).begin(Kind::Work).epoch(), 18, "an epoch never goes back");
    }

    #[test]
    fn the_oldest_request_of_all_shards_tells_and_a_tunnel_is_none() {
        let ledger = Ledger::new(2);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let begin = |shard: usize, seconds| {
            ledger.shard(shard).arrived(at(seconds));
            ledger.shard(shard).begin(Kind::Request)
        };
        assert_eq!(ledger.oldest_request(at(100)), None);
        let (oldest, old, young) = (begin(0, 1), begin(1, 2), begin(0, 3));
        let work = ledger.shard(1).begin(Kind::Work);
        let seconds = |now| ledger.oldest_request(at(now)).map(|age| age.as_millis().div_ceil(1000));
        assert_eq!(seconds(100), Some(99));
        let tunnel = oldest.into_tunnel();
        assert_eq!(seconds(100), Some(98));
        drop((old, work));
        assert_eq!(seconds(100), Some(97));
        drop((young, tunnel));
        assert_eq!(seconds(100), None);
    }

    #[test]
    fn more_epochs_than_slots_report_older_never_younger() {
        let ledger = Ledger::new(1);
        let writer = ledger.shard(0);
        let mut held = Vec::new();
        for epoch in 1..=100 {
            ledger.advance(epoch);
            let guard = writer.begin(Kind::Request);
            assert!(guard.epoch() <= epoch);
            held.push(guard);
        }
        assert_eq!(ledger.oldest_epoch(), 1);
        held.clear();
        ledger.advance(101);
        assert_eq!(ledger.oldest_epoch(), 101);
    }

    #[test]
    fn an_entry_made_during_an_advance_is_seen_by_whoever_advanced() {
        let ledger = Arc::new(Ledger::new(2));
        let writers: Vec<_> = (0..2)
            .map(|index| {
                let writer = ledger.shard(index);
                let ledger = ledger.clone();
                std::thread::spawn(move || {
                    for _ in 0..20_000 {
                        let guard = writer.begin(Kind::Request);
                        assert!(ledger.oldest_epoch() <= guard.epoch(), "an entry in flight bounds the oldest epoch");
                    }
                })
            })
            .collect();
        for epoch in 1..2_000 {
            ledger.advance(epoch);
        }
        for writer in writers {
            writer.join().expect("no assertion failed");
        }
        assert_eq!(ledger.counts().in_flight(), 0);
    }

    #[test]
    fn arrivals_are_remembered() {
        let ledger = Ledger::new(2);
        assert_eq!(ledger.traffic().last_arrival, None);
        let now = Instant::now() + Duration::from_secs(5);
        ledger.shard(1).arrived(now);
        let seen = ledger.traffic().last_arrival.expect("an arrival");
        assert!(now.saturating_duration_since(seen) < Duration::from_millis(2), "within the clock's millisecond");
    }
}
