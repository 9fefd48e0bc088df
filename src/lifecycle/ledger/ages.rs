//! How long the oldest request has been under way, without a list of all of them: requests are counted in slots by when
//! they began, and the oldest slot that is not empty tells.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Beginnings that can be told apart at one time.
const SLOTS: usize = 32;
/// Requests that begin within so many milliseconds share a slot.
const WIDTH: u64 = 250;

/// One thread's requests by when they began.
#[derive(Default)]
pub(super) struct Ages {
    current: AtomicUsize,
    /// When the first request of each slot began.
    labels: [AtomicU64; SLOTS],
    counts: [AtomicU32; SLOTS],
}

/// The slot of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot(usize);

impl Ages {
    /// Enters a request that begins at `now`, in milliseconds of any clock.
    ///
    /// When every slot holds a request that lasts, the newest slot takes more: what began later is then taken for older
    /// than it is, and never for younger.
    pub(super) fn enter(&self, now: u64) -> Slot {
        let mut slot = self.current.load(Relaxed) % SLOTS;
        let empty = |slot: usize| self.counts[slot].load(Relaxed) == 0;
        if empty(slot) {
            self.labels[slot].store(now, Relaxed);
        } else if now.saturating_sub(self.labels[slot].load(Relaxed)) > WIDTH
            && let Some(next) = (1..SLOTS).map(|step| (slot + step) % SLOTS).find(|next| empty(*next))
        {
            slot = next;
            self.labels[slot].store(now, Relaxed);
            self.current.store(slot, Relaxed);
        }
        self.counts[slot].fetch_add(1, Relaxed);
        Slot(slot)
    }

    /// A request has ended.
    pub(super) fn leave(&self, Slot(slot): Slot) {
        self.counts[slot].fetch_sub(1, Relaxed);
    }

    /// When the oldest request began.
    pub(super) fn oldest(&self) -> Option<u64> {
        let held = |slot: &usize| self.counts[*slot].load(Relaxed) > 0;
        (0..SLOTS).filter(held).map(|slot| self.labels[slot].load(Relaxed)).min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_oldest_that_is_left_tells() {
        let ages = Ages::default();
        assert_eq!(ages.oldest(), None);
        let first = ages.enter(1_000);
        let second = ages.enter(9_000);
        let third = ages.enter(9_100);
        assert_eq!(ages.oldest(), Some(1_000));
        ages.leave(first);
        assert_eq!(ages.oldest(), Some(9_000));
        ages.leave(second);
        assert_eq!(ages.oldest(), Some(9_000), "those of one slot are as old as its first");
        ages.leave(third);
        assert_eq!(ages.oldest(), None);
        ages.enter(20_000);
        assert_eq!(ages.oldest(), Some(20_000));
    }

    proptest! {
        #[test]
        fn nothing_is_taken_for_younger_than_it_is(steps in proptest::collection::vec((0_u64..2_000, any::<bool>(), any::<prop::sample::Index>()), 1..300)) {
            let (ages, mut now, mut open) = (Ages::default(), 0, BTreeMap::new());
            for (id, (later, begins, which)) in steps.into_iter().enumerate() {
                now += later;
                if begins || open.is_empty() {
                    open.insert(id, (now, ages.enter(now)));
                } else {
                    let id = *which.get(&open.keys().copied().collect::<Vec<_>>());
                    let (_, slot) = open.remove(&id).expect("it is there");
                    ages.leave(slot);
                }
                let oldest = open.values().map(|(began, _)| *began).min();
                prop_assert_eq!(ages.oldest().is_some(), oldest.is_some());
                prop_assert!(ages.oldest() <= oldest, "{:?} {oldest:?}", ages.oldest());
                if open.len() < SLOTS {
                    prop_assert!(oldest.zip(ages.oldest()).is_none_or(|(is, told)| is - told <= WIDTH || open.len() > 1));
                }
            }
        }
    }
}
