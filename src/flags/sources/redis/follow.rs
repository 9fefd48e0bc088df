//! What an event means to somebody who holds a revision. Pure.

use std::collections::BTreeMap;

use crate::flags::contract::{Event, What};
use crate::flags::metrics::Reason;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is no newer than what is held: told before the snapshot was read, or of another history.
    Old,
    /// It is the very next change.
    Apply { set: BTreeMap<String, String>, del: Vec<String> },
    /// Read a snapshot.
    Resync(Reason),
}

/// Judges `event` against the revision and incarnation held, if any.
pub(super) fn judge(held: Option<(u64, &str)>, event: Event) -> Verdict {
    let Some((rev, incarnation)) = held else { return Verdict::Resync(Reason::Gap) };
    // Another history: its revisions cannot be compared with ours, not even to be older.
    if event.incarnation.is_some_and(|theirs| theirs != incarnation) {
        return Verdict::Resync(Reason::Incarnation);
    }
    if event.rev <= rev {
        return Verdict::Old;
    }
    if event.prev != rev {
        return Verdict::Resync(Reason::Gap);
    }
    match event.what {
        What::Flags { set, del } => Verdict::Apply { set, del },
        What::Untold => Verdict::Resync(Reason::Untold),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(rev: u64, prev: u64, incarnation: Option<&str>, told: bool) -> Event {
        let flags = What::Flags { set: BTreeMap::new(), del: vec!["a".to_owned()] };
        let what = if told { flags } else { What::Untold };
        Event { rev, prev, incarnation: incarnation.map(str::to_owned), at: None, what }
    }

    #[test]
    fn only_the_very_next_change_is_applied() {
        let apply = || Verdict::Apply { set: BTreeMap::new(), del: vec!["a".to_owned()] };
        let cases = [
            (event(43, 42, Some("i"), true), apply()),
            (event(43, 42, None, true), apply()),
            (event(50, 42, Some("i"), true), apply()),
            (event(42, 41, Some("i"), true), Verdict::Old),
            (event(1, 0, None, true), Verdict::Old),
            (event(41, 40, Some("i"), false), Verdict::Old),
            (event(44, 43, Some("i"), true), Verdict::Resync(Reason::Gap)),
            (event(43, 41, Some("i"), true), Verdict::Resync(Reason::Gap)),
            (event(43, 42, Some("i"), false), Verdict::Resync(Reason::Untold)),
            (event(1, 0, Some("j"), true), Verdict::Resync(Reason::Incarnation)),
            (event(43, 42, Some("j"), true), Verdict::Resync(Reason::Incarnation)),
        ];
        for (event, expected) in cases {
            let text = format!("{event:?}");
            assert_eq!(judge(Some((42, "i")), event), expected, "{text}");
        }
        assert_eq!(judge(None, event(1, 0, None, true)), Verdict::Resync(Reason::Gap));
    }
}
