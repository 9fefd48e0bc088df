//! The last turns of the checks, their brakes, the conditions and the verdict, for people who ask what happened before.

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
    last: BTreeMap<Subject, &'static str>,
}

/// What turns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// A check or condition.
    Check(Arc<str>),
    /// The brake of a check.
    Brake(Arc<str>),
    /// The verdict.
    Verdict,
}

impl Subject {
    fn name(&self) -> Arc<str> {
        match self {
            Self::Check(name) => name.clone(),
            Self::Brake(check) => format!("brake of {check}").into(),
            Self::Verdict => READYZ.into(),
        }
    }
}

/// One that turned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// When.
    pub at: SystemTime,
    /// The check or condition, `brake of CHECK`, or `readyz` for the verdict.
    pub name: Arc<str>,
    /// What it was said to be until then: `ok`, `pending`, `failed`, `stale`; of the verdict `ready`, `not ready`;
    /// of a brake `off`, `asks`, `holds`.
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
            inner.turn(Subject::Check(line.name.clone()), line.standing.as_str(), at, why);
            if line.listed {
                let says = || line.brake.as_deref().map(str::to_owned);
                inner.turn(Subject::Brake(line.name.clone()), line.braking.as_str(), at, says);
            }
        }
        let word = if verdict.ready() { "ready" } else { "not ready" };
        inner.turn(Subject::Verdict, word, at, || verdict.error());
    }

    /// The turns that are kept, the oldest first.
    pub(super) fn turns(&self) -> Vec<Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).turns.iter().cloned().collect()
    }
}

impl Inner {
    fn turn(&mut self, subject: Subject, to: &'static str, at: SystemTime, why: impl FnOnce() -> Option<String>) {
        let Some(word) = self.last.get_mut(&subject) else {
            self.last.insert(subject, to);
            return;
        };
        let from = std::mem::replace(word, to);
        if from == to {
            return;
        }
        if self.turns.len() == MOST {
            self.turns.pop_front();
        }
        self.turns.push_back(Turn { at, name: subject.name(), from, to, why: why() });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::readiness::brake::Braking;
    use crate::readiness::settings::Class;
    use crate::readiness::verdict::{Line, Standing};

    fn verdict(db: Standing) -> Verdict {
        Verdict {
            lines: vec![Line {
                name: "db".into(),
                class: Class::Critical,
                listed: true,
                standing: db,
                braking: Braking::Off,
                brake: None,
            }],
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

    #[test]
    fn a_brake_turns_too_and_says_why() {
        let history = History::default();
        let at = SystemTime::UNIX_EPOCH;
        let says = "db failing on 7 of 8 instances";
        for (braking, brake) in [(Braking::Off, None), (Braking::Holds, Some(says)), (Braking::Off, None)] {
            let mut verdict = verdict(Standing::Failed("down".into()));
            (verdict.lines[0].braking, verdict.lines[0].brake) = (braking, brake.map(Arc::from));
            history.note(&verdict, at);
        }
        let turns = history.turns();
        let told: Vec<_> = turns.iter().map(|turn| (&*turn.name, turn.to, turn.why.as_deref())).collect();
        assert_eq!(told, [("brake of db", "holds", Some(says)), ("brake of db", "off", None)]);
    }
}
