//! A scope as it was at an earlier revision: today's content with the log's changes undone, newest first. Refuses to guess
//! where the log does not tell everything. Pure.

use std::ops::ControlFlow;
use std::time::SystemTime;

use thiserror::Error;

use super::contract::{Entry, Place};
use super::document::Document;
use super::plan::Change;

/// Why a scope cannot be told as it was.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Lost {
    /// There is no such revision yet.
    #[error("revision {asked} has not been made; the scope is at revision {now}")]
    Ahead {
        /// What was asked for.
        asked: u64,
        /// The scope's.
        now: u64,
    },
    /// Before the first.
    #[error("revision 0 is before the scope was made; revision 1 is the first")]
    Before,
    /// The log is cut off before it.
    #[error("the log reaches back to revision {reaches} only, which is after {asked}")]
    Cut {
        /// What was asked for.
        asked: u64,
        /// The earliest that can be told.
        reaches: u64,
    },
    /// A revision is not in the log.
    #[error("revision {0} is not in the log: who made it keeps none, so what it changed is not known")]
    Unlogged(u64),
    /// What the log says was written last is not what is there.
    #[error("{key} is not as revision {rev} of the log left it: somebody wrote it without the log")]
    Unlike {
        /// The flag, or `$evaluators`, `$metadata`.
        key: String,
        /// The last revision that wrote it.
        rev: u64,
    },
}

/// A revision that is undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// The revision.
    pub rev: u64,
    /// Who made it.
    pub actor: String,
    /// When.
    pub at: Option<SystemTime>,
    /// Why.
    pub note: String,
    /// What it changed.
    pub keys: Vec<String>,
}

/// A scope on its way back.
#[derive(Debug)]
pub struct Rewind {
    document: Document,
    now: u64,
    to: u64,
    undone: Vec<Undone>,
    /// Operations that the oldest undone revision had, as far as its writer said.
    of: u64,
    /// Whether the log has been seen to go on beyond what is undone.
    reached: bool,
    lost: Option<Lost>,
}

impl Rewind {
    /// Starts from `document`, which is revision `now` of the scope.
    ///
    /// # Errors
    /// [`Lost::Ahead`], [`Lost::Before`].
    pub fn new(document: Document, now: u64, to: u64) -> Result<Self, Lost> {
        match to {
            0 => Err(Lost::Before),
            to if to > now => Err(Lost::Ahead { asked: to, now }),
            to => Ok(Self { document, now, to, undone: Vec::new(), of: 0, reached: to == now, lost: None }),
        }
    }

    /// Undoes one entry of the log; they come newest first. Breaks when nothing more is needed.
    pub fn undo(&mut self, entry: Entry) -> ControlFlow<()> {
        if entry.rev > self.now {
            // Written after the document was read.
            return ControlFlow::Continue(());
        }
        if let Err(lost) = self.check(&entry) {
            self.lost = Some(lost);
            return ControlFlow::Break(());
        }
        if self.reached {
            return ControlFlow::Break(());
        }
        let place = if entry.key.starts_with('$') && ["$evaluators", "$metadata"].contains(&entry.key.as_str()) {
            Place::Meta
        } else {
            Place::Flags
        };
        let key = if place == Place::Meta { entry.key[1..].to_owned() } else { entry.key.clone() };
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let change = Change { place, key, before: text(entry.after), after: text(entry.before) };
        if change.now(&self.document) != change.before.as_ref() {
            self.lost = Some(Lost::Unlike { key: entry.key, rev: entry.rev });
            return ControlFlow::Break(());
        }
        change.apply(&mut self.document);
        match self.undone.last_mut().filter(|undone| undone.rev == entry.rev) {
            Some(undone) => undone.keys.push(entry.key),
            None => {
                let Entry { rev, actor, at, note, .. } = entry;
                self.undone.push(Undone { rev, actor, at, note, keys: vec![entry.key] });
            }
        }
        self.of = entry.of;
        ControlFlow::Continue(())
    }

    /// Whether this entry follows those before it, so that none is missing.
    fn check(&mut self, entry: &Entry) -> Result<(), Lost> {
        let last = self.undone.last().map_or(self.now + 1, |undone| undone.rev);
        if entry.rev == last {
            return Ok(());
        }
        if entry.rev > last {
            // The log of a history that ended before this one began.
            return Err(self.cut());
        }
        if entry.rev <= self.to {
            self.reached = true;
        }
        let next = entry.rev.max(self.to) + 1;
        if last > next { Err(Lost::Unlogged(last - 1)) } else { Ok(()) }
    }

    /// The scope at the revision asked for, and what was undone, newest first.
    ///
    /// # Errors
    /// [`Lost`].
    pub fn finish(mut self) -> Result<(Document, Vec<Undone>), Lost> {
        if let Some(lost) = self.lost.take() {
            return Err(lost);
        }
        // The log may end in the middle of the last revision that is undone, unless its writer said how many there are.
        let whole = self.undone.last().is_some_and(|last| last.rev == self.to + 1 && last.keys.len() as u64 == self.of);
        if self.reached || whole { Ok((self.document, self.undone)) } else { Err(self.cut()) }
    }

    fn cut(&self) -> Lost {
        // Of the oldest revision seen some entries may be gone; undoing it may be undoing half of it.
        let whole = self.undone.last().is_some_and(|last| last.keys.len() as u64 == self.of);
        let reaches = self.undone.last().map_or(self.now, |last| if whole { last.rev - 1 } else { last.rev });
        Lost::Cut { asked: self.to, reaches }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(rev: u64, key: &str, before: &str, after: &str, of: u64) -> Entry {
        let op = if after.is_empty() { "del" } else { "set" }.to_owned();
        let (before, after) = (before.to_owned(), after.to_owned());
        let (actor, note) = (format!("actor{rev}"), String::new());
        Entry { id: String::new(), rev, at: None, actor, op, key: key.to_owned(), before, after, note, of }
    }

    fn document(flags: &[(&str, &str)], evaluators: Option<&str>) -> Document {
        let flags = flags.iter().map(|(key, json)| ((*key).to_owned(), (*json).to_owned())).collect();
        Document { flags, evaluators: evaluators.map(str::to_owned), metadata: None }
    }

    /// Revision 1 makes a and b, 2 the evaluators, 3 changes a and removes b, 4 makes c.
    fn log() -> Vec<Entry> {
        vec![
            entry(4, "c", "", "C4", 1),
            entry(3, "b", "B1", "", 2),
            entry(3, "a", "A1", "A3", 2),
            entry(2, "$evaluators", "", "E2", 1),
            entry(1, "b", "", "B1", 2),
            entry(1, "a", "", "A1", 2),
        ]
    }

    fn rewind(log: &[Entry], to: u64) -> Result<(Document, Vec<Undone>), Lost> {
        let mut rewind = Rewind::new(document(&[("a", "A3"), ("c", "C4")], Some("E2")), 4, to)?;
        for entry in log {
            if rewind.undo(entry.clone()).is_break() {
                break;
            }
        }
        rewind.finish()
    }

    #[test]
    fn every_revision_of_the_log_is_found_again() {
        let states = [
            document(&[("a", "A1"), ("b", "B1")], None),
            document(&[("a", "A1"), ("b", "B1")], Some("E2")),
            document(&[("a", "A3")], Some("E2")),
            document(&[("a", "A3"), ("c", "C4")], Some("E2")),
        ];
        for (to, expected) in (1..).zip(states) {
            let (there, undone) = rewind(&log(), to).expect("the log has it");
            assert_eq!(there, expected, "{to}");
            assert_eq!(undone.len() as u64, 4 - to);
        }
        let undone = rewind(&log(), 2).expect("the log has it").1;
        assert_eq!((undone[1].rev, undone[1].keys.as_slice()), (3, ["b".to_owned(), "a".to_owned()].as_slice()));
        assert_eq!(rewind(&log(), 5), Err(Lost::Ahead { asked: 5, now: 4 }));
        assert_eq!(rewind(&log(), 0), Err(Lost::Before));
    }

    #[test]
    fn a_log_that_was_cut_is_not_taken_for_the_whole_story() {
        let log = log();
        // Up to revision 3, whole: what came before it can be told; what came before 2 cannot.
        assert!(rewind(&log[..3], 2).is_ok());
        assert_eq!(rewind(&log[..3], 1), Err(Lost::Cut { asked: 1, reaches: 2 }));
        // The cut goes through revision 3.
        assert_eq!(rewind(&log[..2], 2), Err(Lost::Cut { asked: 2, reaches: 3 }));
        assert!(rewind(&log[..2], 3).is_ok());
        assert_eq!(rewind(&[], 2), Err(Lost::Cut { asked: 2, reaches: 4 }));
        // A writer that does not say how many: the next older entry tells that it was whole.
        let mut silent = log.clone();
        silent.iter_mut().for_each(|entry| entry.of = 0);
        assert!(rewind(&silent[..4], 2).is_ok());
        assert!(rewind(&silent[..3], 2).is_err());
    }

    #[test]
    fn what_was_written_without_the_log_is_noticed() {
        let mut holed = log();
        holed.remove(3);
        assert_eq!(rewind(&holed, 1), Err(Lost::Unlogged(2)));
        assert!(rewind(&holed, 2).is_ok(), "revision 2 itself is not undone");
        let mut unlike = log();
        unlike[2].after = "other".to_owned();
        assert_eq!(rewind(&unlike, 2), Err(Lost::Unlike { key: "a".to_owned(), rev: 3 }));
        assert_eq!(rewind(&log()[1..], 2), Err(Lost::Unlogged(4)));
    }

    #[test]
    fn what_is_written_meanwhile_and_what_an_older_history_left_are_told_apart() {
        let mut log = log();
        log.insert(0, entry(5, "d", "", "D5", 1));
        assert!(rewind(&log, 3).is_ok());
        let mut older = log[..3].to_vec();
        older.push(entry(900, "z", "", "Z", 1));
        assert!(matches!(rewind(&older, 1), Err(Lost::Cut { .. })));
    }
}
