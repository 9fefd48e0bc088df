//! Keeps the brake of each shared check that fails here, from one count to the next, and tells what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::brake::{Count, Position, Ruling, State, Why};
use super::metrics::{CheckLabels, Metrics};
use super::settings::Brake as Policy;

/// Checks that fail, by name, and whether the instance still serves as far as they go.
pub type Failing = BTreeMap<Arc<str>, Position>;
/// What the brake says of those that do.
pub type Rulings = BTreeMap<Arc<str>, Ruling>;

/// See the module's text.
pub(super) struct Judge {
    policy: Policy,
    metrics: Metrics,
    rulings: watch::Sender<Rulings>,
    /// How long a brake that held is kept while nobody can be asked.
    keep: Duration,
    /// Of each check that failed lately.
    brakes: BTreeMap<Arc<str>, Memory>,
}

/// What is remembered of a check from one count to the next.
#[derive(Debug, Clone, Copy)]
struct Memory {
    state: State,
    /// The last count that could be trusted.
    count: Count,
    /// When that was asked for.
    at: Instant,
    /// Whether the check has failed ever since.
    course: Course,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    Fails,
    /// It has passed in between, and Redis was told so.
    Recovered,
}

impl Judge {
    pub(super) fn new(policy: Policy, metrics: Metrics, keep: Duration) -> Self {
        let (rulings, _) = watch::channel(Rulings::new());
        Self { policy, metrics, rulings, keep, brakes: BTreeMap::new() }
    }

    pub(super) fn rulings(&self) -> watch::Receiver<Rulings> {
        self.rulings.subscribe()
    }

    /// Other than the one it was made with.
    pub(super) fn keep(&mut self, keep: Duration) {
        self.keep = keep;
    }

    /// Takes in counts that were asked for at `asked` and are believed for `good`, one for each check that fails.
    pub(super) fn counted<'a>(
        &mut self,
        counts: impl Iterator<Item = (&'a Arc<str>, Position, Count)>,
        asked: Instant,
        good: Duration,
    ) {
        let mut rulings = Rulings::new();
        for (check, position, count) in counts {
            rulings.insert(check.clone(), self.rule(check, (position, count), asked, good));
        }
        for (_, memory) in self.brakes.iter_mut().filter(|(check, _)| !rulings.contains_key(*check)) {
            memory.course = Course::Recovered;
        }
        self.publish(rulings);
    }

    /// Nobody counts, and why: a brake that held is kept for a while, one that did not does not begin to.
    pub(super) fn uncounted(&self, failing: &Failing, why: Why) {
        let now = Instant::now();
        let off = || Ruling::uncounted(why, &self.policy);
        let ruling = |check: &Arc<str>| self.kept(check, now).unwrap_or_else(off);
        self.publish(failing.keys().map(|check| (check.clone(), ruling(check))).collect());
    }

    /// What is said of a check without a count to trust, if its brake held when there was one.
    fn kept(&self, check: &Arc<str>, now: Instant) -> Option<Ruling> {
        let Memory { state, count, at, course } = *self.brakes.get(check)?;
        let kept = Ruling::Kept { count, until: at + self.keep };
        let held = matches!(state, State::Holding { .. }) && course == Course::Fails;
        (held && kept.holds(now)).then_some(kept)
    }

    fn rule(
        &mut self,
        check: &Arc<str>,
        (position, count): (Position, Count),
        asked: Instant,
        good: Duration,
    ) -> Ruling {
        if count.young {
            // Neither for nor against.
            return self.kept(check, asked).unwrap_or_else(|| Ruling::uncounted(Why::Young, &self.policy));
        }
        let before = self.brakes.get(check).filter(|memory| {
            // One that was not asked for so long begins anew.
            let most = match (memory.state, memory.course) {
                (State::Holding { .. }, Course::Fails) => self.policy.hold.max(self.keep),
                _ => self.policy.hold,
            };
            asked.saturating_duration_since(memory.at) <= most
        });
        let state = before.map_or(State::IDLE, |memory| match memory.course {
            Course::Fails => memory.state,
            Course::Recovered => memory.state.again(count, &self.policy),
        });
        let state = state.after(count, position, &self.policy, asked, fastrand::f64());
        self.brakes.insert(check.clone(), Memory { state, count, at: asked, course: Course::Fails });
        Ruling::of(state, count, &self.policy, asked + good)
    }

    fn publish(&self, rulings: Rulings) {
        let now = Instant::now();
        self.rulings.send_if_modified(|said| {
            for check in said.keys().chain(rulings.keys()).collect::<BTreeSet<_>>() {
                self.tell(check, rulings.get(check), now);
            }
            let changed = *said != rulings;
            *said = rulings;
            changed
        });
    }

    /// Says where the brake of a check stands, if that is news.
    fn tell(&self, check: &Arc<str>, ruling: Option<&Ruling>, now: Instant) {
        let label = CheckLabels { check: check.clone() };
        let gauge = self.metrics.holds.get_or_create_owned(&label);
        // What had been said may have expired unnoticed; the gauge knows what was told last.
        let (before, after) = (gauge.get() == 1, ruling.is_some_and(|ruling| ruling.holds(now)));
        gauge.set(i64::from(after));
        let said = ruling.map_or_else(|| format!("{check} passes again"), |ruling| ruling.says(check));
        if after && !before {
            self.metrics.turns.get_or_create(&label).inc();
            tracing::warn!(check = &**check, said, "the brake holds: a shared check that fails counts as degraded");
        } else if before && !after {
            tracing::info!(check = &**check, said, "the brake is off");
        }
    }
}
