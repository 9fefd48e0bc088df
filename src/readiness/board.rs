//! The latest result of every check and condition, with the answer to `/readyz` rendered. Knows neither how a check
//! is made nor what a condition stands for.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::readiness::brake::{Bout, Brake, Braking, Case, Past, Patience, Place};
use crate::readiness::history::{History, Turn};
use crate::readiness::settings::{Class, Settings};
use crate::readiness::verdict::{Health, Line, Standing, State, Thresholds, Verdict, one_line};

/// The longest time over which the instances that an outage of many took out come back.
const LONGEST_RETURN: Duration = Duration::from_secs(30);

/// The board. Clones are the same board.
#[derive(Debug, Clone)]
pub struct Board {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    history: History,
    snapshot: watch::Sender<Arc<Snapshot>>,
    first_round_done: watch::Sender<bool>,
}

/// Everything known at one moment. Never changes; a later result makes another snapshot.
#[derive(Debug, Clone)]
pub struct Snapshot {
    conditions: Vec<ConditionEntry>,
    checks: Vec<CheckEntry>,
    ready: bool,
    body: Bytes,
    /// From the first instant after this on, a result is too old and `ready` and `body` are no longer true.
    fresh_until: Option<Instant>,
}

#[derive(Debug, Clone)]
struct CheckEntry {
    name: Arc<str>,
    class: Class,
    shared: bool,
    thresholds: Thresholds,
    max_staleness: Duration,
    health: Health,
    /// What was last told of the fleet.
    brake: Option<Brake>,
    /// How long the fleet is waited for; `None` where nobody asks it.
    patience: Option<Patience>,
    /// How long the same check may take to fail on another instance.
    elsewhere: Duration,
    /// Since when it fails, or last did.
    bout: Option<Bout>,
    /// Over how long the instances that an outage of many took out come back.
    spread: Duration,
    /// Until when this one waits for that.
    returns: Option<Instant>,
}

#[derive(Debug, Clone)]
struct ConditionEntry {
    name: Arc<str>,
    class: Class,
    /// Why it does not hold; `None` when it does.
    reason: Option<Arc<str>>,
}

impl CheckEntry {
    /// Whether a brake may hold for it.
    fn brakes(&self) -> bool {
        self.shared && self.class == Class::Critical
    }

    /// What the brake does about it at `now`, what its failing means then, and what the brake says.
    fn braked(&self, standing: &Standing, now: Instant) -> (Braking, Class, Option<Arc<str>>) {
        match standing {
            Standing::Failed(_) if self.brakes() => {
                let (braking, says) = self.case().judge(self.brake.as_ref(), now);
                (braking, braking.class(), says)
            }
            _ => (Braking::Off, self.class, None),
        }
    }

    /// What is said of it at `now`.
    fn standing(&self, now: Instant) -> Standing {
        match self.health.standing(self.max_staleness, now) {
            Standing::Ok if self.returns.is_some_and(|until| now <= until) => Standing::Returning,
            standing => standing,
        }
    }

    /// Whether the instance serves at `now`, as far as this goes.
    fn place(&self, now: Instant) -> Place {
        let standing = self.standing(now);
        match self.braked(&standing, now) {
            (_, Class::Critical, _) if !standing.passes() => Place::Out,
            _ => Place::In,
        }
    }

    fn case(&self) -> Case<'_> {
        let past = if self.health.proven() { Past::Passed } else { Past::Unproven };
        let Self { patience, elsewhere, bout, .. } = *self;
        Case { check: &self.name, past, bout, patience, elsewhere }
    }

    /// Takes in one more result.
    fn after(&mut self, result: Result<(), &str>, now: Instant) {
        let failed = self.health.proven() && self.health.state() == State::Failed;
        let left = failed && self.brakes() && self.place(now) == Place::Out;
        self.health = self.health.after(result, self.thresholds, now);
        if left && self.health.state() == State::Ok {
            self.returns = self.bout.and_then(|bout| bout.returns(now, self.spread, fastrand::f64()));
        }
        if self.health.fails() {
            let apart = self.elsewhere + self.patience.map_or(Duration::ZERO, |patience| patience.report);
            self.bout = Some(Bout::after(self.bout, now, apart));
        }
    }
}

impl Board {
    /// All checks pending: not ready, unless there are none.
    pub fn new(settings: &Settings) -> Self {
        let checks = settings.checks.iter().map(|check| CheckEntry {
            name: check.name.as_str().into(),
            class: check.class,
            shared: check.shared,
            thresholds: Thresholds { rise: check.rise, fall: check.fall },
            max_staleness: check.max_staleness,
            health: Health::pending(),
            brake: None,
            patience: None,
            // Attempts begin an interval apart, a tenth more or less.
            elsewhere: check.interval.mul_f64(1.1) + check.timeout,
            bout: None,
            spread: (check.interval * 2).min(LONGEST_RETURN),
            returns: None,
        });
        let empty = Snapshot {
            conditions: Vec::new(),
            checks: checks.collect(),
            ready: false,
            body: Bytes::new(),
            fresh_until: None,
        };
        // The history begins with the first change. What could be said before that nobody has asked: without a check and
        // before the first condition it is "ready".
        let (snapshot, _) = empty.rendered(Instant::now());
        let history = History::default();
        let first_round_done = watch::Sender::new(snapshot.checks.is_empty());
        Self { inner: Arc::new(Inner { history, snapshot: watch::Sender::new(Arc::new(snapshot)), first_round_done }) }
    }

    /// What is known now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.snapshot.borrow().clone()
    }

    /// Told of every new snapshot. That results grow too old is no event: ask the snapshot with the time of asking.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.inner.snapshot.subscribe()
    }

    /// The last turns of checks, conditions and the verdict, the oldest first.
    pub fn history(&self) -> Vec<Turn> {
        self.inner.history.turns()
    }

    /// Turns true, for good, when every check has had its first result, good or bad.
    pub fn first_round_done(&self) -> watch::Receiver<bool> {
        self.inner.first_round_done.subscribe()
    }

    /// Adds something other than a check that readiness depends on. It fails for `reason` until somebody says that
    /// it holds. Its name may be excluded and asked for as a check's.
    pub fn condition(&self, name: &str, class: Class, reason: &str) -> Condition {
        let mut index = 0;
        self.change(Instant::now(), |snapshot| {
            index = snapshot.conditions.len();
            snapshot.conditions.push(ConditionEntry {
                name: name.into(),
                class,
                reason: Some(one_line(reason).into()),
            });
        });
        Condition { board: self.clone(), index }
    }

    /// The shared checks that a brake may hold for: those of class critical.
    pub fn shared(&self) -> Vec<Arc<str>> {
        self.snapshot().checks.iter().filter(|check| check.brakes()).map(|check| check.name.clone()).collect()
    }

    /// From now on somebody asks the fleet about each check that fails, and the word is waited for.
    pub fn ask(&self, patience: Patience) {
        self.change(Instant::now(), |snapshot| {
            for check in &mut snapshot.checks {
                check.patience = Some(patience);
            }
        });
    }

    /// Makes an event of what changed by time alone, such as a result that grew too old.
    pub fn look(&self, now: Instant) {
        let snapshot = self.snapshot();
        if snapshot.fresh_until.is_some_and(|until| now > until)
            && snapshot.answer(now) != (snapshot.ready, snapshot.body.clone())
        {
            self.change(now, |_| {});
        }
    }

    /// Takes in what the brake says of each check that it says something of.
    pub fn brake(&self, said: impl Fn(&str) -> Option<Brake>) {
        self.change(Instant::now(), |snapshot| {
            for check in &mut snapshot.checks {
                check.brake = said(&check.name);
                if let (Some(bout), Some(brake)) = (check.bout, &check.brake) {
                    check.bout = Some(bout.told(brake));
                }
            }
        });
    }

    /// One writer per check, in the order of the settings.
    pub(super) fn reporters(&self) -> impl Iterator<Item = Reporter> {
        (0..self.snapshot().checks.len()).map(|index| Reporter { board: self.clone(), index })
    }

    fn change(&self, now: Instant, edit: impl FnOnce(&mut Snapshot)) {
        self.inner.snapshot.send_modify(|current| {
            let mut next = Snapshot::clone(current);
            edit(&mut next);
            let (next, verdict) = next.rendered(now);
            self.inner.history.note(&verdict, SystemTime::now());
            *current = Arc::new(next);
        });
    }
}

/// The one writer of a check's results.
#[derive(Debug)]
pub(super) struct Reporter {
    board: Board,
    index: usize,
}

/// A check that turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transition {
    pub(super) from: State,
    pub(super) to: State,
}

impl Reporter {
    /// Takes one result in; says so when it turned the check.
    pub(super) fn report(&self, result: Result<(), &str>, now: Instant) -> Option<Transition> {
        let mut transition = None;
        self.board.change(now, |snapshot| {
            let entry = &mut snapshot.checks[self.index];
            let from = entry.health.state();
            entry.after(result, now);
            let to = entry.health.state();
            transition = (from != to).then_some(Transition { from, to });
        });
        if self.board.snapshot().checks.iter().all(|check| check.health.finished().is_some()) {
            self.board.inner.first_round_done.send_if_modified(|done| !std::mem::replace(done, true));
        }
        transition
    }
}

/// The one writer of a condition. When it is dropped, the condition fails: nobody is left who could say otherwise.
#[derive(Debug)]
pub struct Condition {
    board: Board,
    index: usize,
}

impl Condition {
    /// It holds.
    pub fn hold(&self) {
        self.set(None);
    }

    /// It does not, and why: a short text without credentials, which everybody may read.
    pub fn fail(&self, reason: &str) {
        self.set(Some(reason));
    }

    fn set(&self, reason: Option<&str>) {
        self.board.change(Instant::now(), |snapshot| {
            snapshot.conditions[self.index].reason = reason.map(|reason| one_line(reason).into());
        });
    }
}

impl Drop for Condition {
    fn drop(&mut self) {
        self.fail("its owner has stopped");
    }
}

impl Snapshot {
    /// Whether we are ready at `now`, and the body that says so. Costs a comparison, unless a result is too old.
    pub fn answer(&self, now: Instant) -> (bool, Bytes) {
        if self.fresh_until.is_none_or(|until| now <= until) {
            return (self.ready, self.body.clone());
        }
        let verdict = self.verdict(now, |_| false);
        (verdict.ready(), verdict.body(None))
    }

    /// What is said at `now` about each check and condition, leaving out those whose name is `excluded`.
    pub fn verdict(&self, now: Instant, mut excluded: impl FnMut(&str) -> bool) -> Verdict {
        let conditions = self.conditions.iter().map(|condition| {
            let standing = condition.reason.clone().map_or(Standing::Ok, Standing::Failed);
            Line {
                name: condition.name.clone(),
                class: condition.class,
                listed: false,
                standing,
                braking: Braking::Off,
                brake: None,
            }
        });
        let checks = self.checks.iter().map(|check| {
            let standing = check.standing(now);
            let (braking, class, brake) = check.braked(&standing, now);
            Line { name: check.name.clone(), class, listed: true, standing, braking, brake }
        });
        let mut lines: Vec<Line> = conditions.chain(checks).collect();
        for line in &mut lines {
            if excluded(&line.name) {
                line.standing = Standing::Excluded;
            }
        }
        Verdict { lines }
    }

    /// The shared checks that fail at `now`, and whether the instance serves all the same: one that is about to turn is among
    /// them, one whose results are too old is not, for nobody knows of it.
    pub fn failing(&self, now: Instant) -> impl Iterator<Item = (&Arc<str>, Place)> {
        let fails = move |check: &&CheckEntry| {
            let stale = matches!(check.health.standing(check.max_staleness, now), Standing::Stale(_));
            check.brakes() && check.health.fails() && !stale
        };
        self.checks.iter().filter(fails).map(move |check| (&check.name, check.place(now)))
    }

    /// What is said at `now` about one check or condition; `None` when there is none of that name.
    pub fn line(&self, name: &str, now: Instant) -> Option<Line> {
        self.verdict(now, |_| false).lines.into_iter().find(|line| &*line.name == name)
    }

    fn rendered(mut self, now: Instant) -> (Self, Verdict) {
        let verdict = self.verdict(now, |_| false);
        self.ready = verdict.ready();
        self.body = verdict.body(None);
        // One that is too old already keeps this in the past: its age is told anew at each reading.
        let ends = self.checks.iter().filter_map(|check| check.health.finished()?.checked_add(check.max_staleness));
        let brakes = self.checks.iter().filter_map(|check| check.case().until(check.brake.as_ref()));
        let returns = self.checks.iter().filter_map(|check| check.returns);
        self.fresh_until = ends.chain(brakes.chain(returns).filter(|until| *until >= now)).min();
        (self, verdict)
    }
}
