//! What is asked for: how often each flag gave which variant, and when it was last evaluated. Counted on the way of an
//! evaluation by single atomic steps, kept with the flags in force, and gone with them.

pub mod exposure;

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::context::Context;
use super::evaluate::{self, ErrorCode, Failure, Reason, Resolution};
use super::model::{Flag, Variant};
use super::store::{Entry, Snapshot, Store};

/// Variants that are counted apart; what a flag has beyond is counted together.
const VARIANTS: usize = 16;

/// The reasons that are counted apart, by their names in metrics.
const REASONS: [&str; 6] = ["static", "targeting_match", "default", "disabled", "stale", "error"];
const ERROR: usize = 5;

/// Evaluates the flag `key` for an application: as [`evaluate::evaluate`] does, and counted. What nobody's code asked
/// for (a bulk answer, an explanation) is evaluated without.
///
/// # Errors
/// [`Failure`]: no such flag, or a rule that fails or gives what is no variant.
pub fn evaluate<'s>(
    snapshot: &'s Snapshot,
    key: &str,
    context: &Context<'_>,
    now: SystemTime,
) -> Result<Resolution<'s>, Failure> {
    let Some(entry) = snapshot.get(key) else {
        snapshot.totals.unknown.fetch_add(1, Relaxed);
        return Err(Failure { code: ErrorCode::FlagNotFound, details: format!("flag {key:?} does not exist") });
    };
    let answer = evaluate::evaluate_entry(snapshot, entry, context, now);
    entry.tally.count(entry.flag(), answer.as_ref().ok(), now);
    answer
}

/// How clients get many flags at once. The sidecar then sees nothing of what they do with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// All flags evaluated in one answer: clients that keep the values.
    Bulk,
    /// All definitions: clients that evaluate by themselves.
    Definitions,
}

/// Notes that a client fetched all flags of `snapshot`.
pub fn fetched(snapshot: &Snapshot, fetch: Fetch, now: SystemTime) {
    let at = match fetch {
        Fetch::Bulk => &snapshot.totals.bulk,
        Fetch::Definitions => &snapshot.totals.definitions,
    };
    note(at, seconds(now));
}

/// When flags were last asked for, in whole seconds, since the process began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Every flag in force, by key.
    pub flags: Vec<Seen>,
    /// When a client last fetched all values at once; which flags it uses is not known.
    pub bulk: Option<SystemTime>,
    /// When a client last fetched all definitions, or still held the stream; which flags it uses is not known.
    pub definitions: Option<SystemTime>,
}

/// One flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its key.
    pub flag: Arc<str>,
    /// Which of the snapshot's layers it is from.
    pub layer: usize,
    /// When it was last evaluated by itself; `None` for not since the process began.
    pub evaluated: Option<SystemTime>,
    /// How often, since the process began or its variants changed.
    pub count: u64,
}

/// When the flags in force were last asked for.
pub fn usage(snapshot: &Snapshot) -> Usage {
    let seen = |entry: &Entry| Seen {
        flag: entry.flag().key.clone(),
        layer: entry.layer(),
        evaluated: last_evaluated(entry),
        count: entry.tally.total(),
    };
    Usage {
        flags: snapshot.iter().map(seen).collect(),
        bulk: at(&snapshot.totals.bulk),
        definitions: at(&snapshot.totals.definitions),
    }
}

/// When the flag was last evaluated by itself; `None` for not since the process began.
pub fn last_evaluated(entry: &Entry) -> Option<SystemTime> {
    at(&entry.tally.last)
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Sets a time, unless it is a later one already: a clock that was set back must not make what is used look unused.
fn note(at: &AtomicU64, seconds: u64) {
    // Most evaluations come within the second of the one before, and then write nothing.
    if at.load(Relaxed) < seconds {
        at.fetch_max(seconds, Relaxed);
    }
}

fn at(seconds: &AtomicU64) -> Option<SystemTime> {
    match seconds.load(Relaxed) {
        0 => None,
        seconds => Some(UNIX_EPOCH + Duration::from_secs(seconds)),
    }
}

/// What is counted of one flag.
#[derive(Debug)]
pub(super) struct Tally {
    /// When it was last evaluated, in seconds since the epoch; 0 for never.
    last: AtomicU64,
    /// By column (each variant, what is beyond [`VARIANTS`], none) and [`REASONS`].
    counts: Box<[AtomicU64]>,
    /// What [`exposure`] has seen of the total.
    told: AtomicU64,
}

impl Tally {
    pub(super) fn new(flag: &Flag) -> Self {
        let columns = flag.variants().len().min(VARIANTS + 1) + 1;
        let counts = (0..columns * REASONS.len()).map(|_| AtomicU64::new(0)).collect();
        Self { last: AtomicU64::new(0), counts, told: AtomicU64::new(0) }
    }

    /// The tally of `flag`, which takes the place of `before`: as long as it has the same variants, the same one.
    pub(super) fn succeeding(before: &Arc<Self>, former: &Arc<Flag>, flag: &Arc<Flag>) -> Arc<Self> {
        let same = || former.variants().iter().map(Variant::name).eq(flag.variants().iter().map(Variant::name));
        if Arc::ptr_eq(former, flag) || same() {
            return before.clone();
        }
        let tally = Self::new(flag);
        tally.last.store(before.last.load(Relaxed), Relaxed);
        Arc::new(tally)
    }

    fn count(&self, flag: &Flag, answer: Option<&Resolution<'_>>, now: SystemTime) {
        let (variant, reason) = match answer {
            Some(answer) => (answer.variant, reason(answer.reason)),
            None => (None, ERROR),
        };
        let column = match variant {
            Some(variant) => {
                let place = flag.variants().iter().position(|other| ptr::eq(other, variant));
                place.unwrap_or(VARIANTS).min(VARIANTS)
            }
            None => self.none(),
        };
        // Nothing is read from one of these on the word of another: relaxed is enough.
        if let Some(count) = self.counts.get(column * REASONS.len() + reason) {
            count.fetch_add(1, Relaxed);
        }
        note(&self.last, seconds(now));
    }

    /// The column of no variant.
    fn none(&self) -> usize {
        self.counts.len() / REASONS.len() - 1
    }

    fn total(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }
}

fn reason(reason: Reason) -> usize {
    match reason {
        Reason::Static => 0,
        Reason::TargetingMatch => 1,
        Reason::Default => 2,
        Reason::Disabled => 3,
        Reason::Stale => 4,
    }
}

/// What is counted of no flag.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Evaluations of flags that do not exist.
    unknown: AtomicU64,
    bulk: AtomicU64,
    definitions: AtomicU64,
    /// Evaluations of flags that were not exposed by themselves when they were counted.
    others: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::super::compile::{Format, document};
    use super::super::store::Layer;
    use super::*;

    pub(super) fn store(flags: &str) -> Store {
        let store = Store::new();
        publish(&store, flags, 1);
        store
    }

    pub(super) fn publish(store: &Store, flags: &str, generation: u64) {
        let set = document(&format!(r#"{{"flags":{{{flags}}}}}"#), Format::Json).expect("the flags are sound");
        let layer = Layer { name: "file:f".into(), flag_set_id: None, revision: generation, set: Arc::new(set) };
        store.publish(Snapshot::succeed(&store.load(), vec![Arc::new(layer)], Arc::default(), generation));
    }

    pub(super) fn ask(store: &Store, key: &str, second: u64) {
        let now = UNIX_EPOCH + Duration::from_secs(second);
        evaluate(&store.load(), key, &Context::default(), now).ok();
    }

    fn seen(store: &Store) -> Vec<(String, Option<u64>, u64)> {
        let second = |at: SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let line = |seen: Seen| (seen.flag.to_string(), seen.evaluated.map(second), seen.count);
        usage(&store.load()).flags.into_iter().map(line).collect()
    }

    const A: &str = r#""a":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}"#;
    const A_OFF: &str = r#""a":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"}"#;
    const A_OTHER: &str = r#""a":{"state":"ENABLED","variants":{"yes":true},"defaultVariant":"yes"}"#;
    const B: &str = r#""b":{"state":"DISABLED","variants":{"on":true}}"#;

    #[test]
    fn a_flag_keeps_its_count_and_time_while_it_lives() {
        let store = store(&format!("{A},{B}"));
        assert_eq!(seen(&store), [("a".into(), None, 0), ("b".into(), None, 0)]);
        ask(&store, "a", 100);
        ask(&store, "a", 90);
        ask(&store, "b", 110);
        ask(&store, "none", 120);
        assert_eq!(seen(&store), [("a".into(), Some(100), 2), ("b".into(), Some(110), 1)]);
        publish(&store, &format!("{A_OFF},{B}"), 2);
        ask(&store, "a", 101);
        assert_eq!(seen(&store), [("a".into(), Some(101), 3), ("b".into(), Some(110), 1)]);
        publish(&store, A_OTHER, 3);
        assert_eq!(seen(&store), [("a".into(), Some(101), 0)], "of other variants the counts are others");
        publish(&store, &format!("{A},{B}"), 4);
        assert_eq!(seen(&store), [("a".into(), Some(101), 0), ("b".into(), None, 0)], "who comes back begins anew");
    }

    #[test]
    fn who_holds_an_older_snapshot_still_counts() {
        let store = store(A);
        let before = store.load();
        publish(&store, A_OFF, 2);
        evaluate(&before, "a", &Context::default(), UNIX_EPOCH + Duration::from_secs(7)).expect("it is there");
        assert_eq!(seen(&store), [("a".into(), Some(7), 1)]);
    }

    #[test]
    fn a_selection_of_flags_counts_with_all_of_them() {
        let store = store(&format!("{A},{B}"));
        let selected = store.load().select(|_, flag| flag.key() == "a");
        evaluate(&selected, "a", &Context::default(), UNIX_EPOCH + Duration::from_secs(9)).expect("it is there");
        assert_eq!(seen(&store), [("a".into(), Some(9), 1), ("b".into(), None, 0)]);
    }

    #[test]
    fn fetches_of_all_flags_are_told_apart() {
        let store = store(A);
        let at = |second| UNIX_EPOCH + Duration::from_secs(second);
        fetched(&store.load(), Fetch::Bulk, at(5));
        publish(&store, A_OFF, 2);
        let usage = usage(&store.load());
        assert_eq!((usage.bulk, usage.definitions), (Some(at(5)), None));
        assert_eq!(usage.flags[0].evaluated, None);
        fetched(&store.load(), Fetch::Definitions, at(6));
        assert_eq!(super::usage(&store.load()).definitions, Some(at(6)));
    }
}
