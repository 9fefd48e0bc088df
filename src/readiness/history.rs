//! The last turns of the checks, the conditions and the verdict, for people who ask what happened before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::verdict::Verdict;

/// Turns that are kept.
const MOST: usize = 64;

/// The verdict's name among those of checks.
const READYZ: &str = "readyz";

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    turns: VecDeque<Turn>,
    /// What each was last said to be.
    last: BTreeMap<Arc<str>, &'static str>,
}

/// One that turned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// When.
    pub at: SystemTime,
    /// The check or condition, or `readyz` for the verdict.
    pub name: Arc<str>,
    /// What it was said to be until then: `ok`, `pending`, `failed`, `stale`; of the verdict `ready`, `not ready`.
    pub from: &'static str,
    /// What it is since.
    pub to: &'static str,
    /// Why, when it does not pass.
    pub why: Option<String>,
}

impl History {
    /// Takes in what is said at `at`; what is said for the first time is no turn.
    pub(super) fn note(&self, verdict: &Verdict, at: SystemTime) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for line in &verdict.lines {
            let why = || (!line.standing.passes()).then(|| line.standing.to_string());
            inner.turn(&line.name, line.standing.as_str(), at, why);
        }
        let word = if verdict.ready() { "ready" } else { "not ready" };
        inner.turn(READYZ, word, at, || verdict.error());
    }

    /// The turns that are kept, the oldest first.
    pub(super) fn turns(&self) -> Vec<Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).turns.iter().cloned().collect()
    }
}

impl Inner {
    fn turn(&mut self, name: &str, to: &'static str, at: SystemTime, why: impl FnOnce() -> Option<String>) {
        let Some(word) = self.last.get_mut(name) else {
            self.last.insert(name.into(), to);
            return;
        };
        let from = std::mem::replace(word, to);
        if from == to {
            return;
        }
        if self.turns.len() == MOST {
            self.turns.pop_front();
        }
        self.turns.push_back(Turn { at, name: name.into(), from, to, why: why() });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::readiness::settings::Class;
    use crate::readiness::verdict::{Line, Standing};

    fn verdict(db: Standing) -> Verdict {
        Verdict {
            lines: vec![Line { name: "db".into(), class: Class::Critical, listed: true, standing: db, brake: None }],
        }
    }

    #[test]
    fn only_what_turned_is_kept_and_no_more_than_so_much() {
        let history = History::default();
        let at = SystemTime::UNIX_EPOCH;
        history.note(&verdict(Standing::Pending), at);
        history.note(&verdict(Standing::Pending), at);
        assert_eq!(history.turns(), []);
        history.note(&verdict(Standing::Ok), at + Duration::from_secs(1));
        history.note(&verdict(Standing::Failed("connection refused".into())), at + Duration::from_secs(2));
        let said: Vec<_> = history
            .turns()
            .iter()
            .map(|turn| format!("{} {} {}: {:?}", turn.name, turn.from, turn.to, turn.why.as_deref()))
            .collect();
        assert_eq!(
            said,
            [
                "db pending ok: None",
                "readyz not ready ready: None",
                "db ok failed: Some(\"connection refused\")",
                "readyz ready not ready: Some(\"db: connection refused\")"
            ]
        );
        for _ in 0..MOST {
            history.note(&verdict(Standing::Ok), at);
            history.note(&verdict(Standing::Failed("gone".into())), at);
        }
        assert_eq!(history.turns().len(), MOST);
    }
}
