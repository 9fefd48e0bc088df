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
    /// Of each check that failed lately, with the moment of the last count.
    brakes: BTreeMap<Arc<str>, (State, Instant)>,
}

impl Judge {
    pub(super) fn new(policy: Policy, metrics: Metrics) -> Self {
        let (rulings, _) = watch::channel(Rulings::new());
        Self { policy, metrics, rulings, brakes: BTreeMap::new() }
    }

    pub(super) fn rulings(&self) -> watch::Receiver<Rulings> {
        self.rulings.subscribe()
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
        self.publish(rulings);
    }

    /// Nobody can be asked: what was said lately is believed until it expires.
    pub(super) fn unasked(&self, failing: &Failing) {
        let now = Instant::now();
        let said = self.rulings.borrow().clone();
        let ruling = |check: &Arc<str>| match said.get(check) {
            Some(ruling) if ruling.holds(now) => ruling.clone(),
            _ => Ruling::Off(Why::Unasked),
        };
        self.publish(failing.keys().map(|check| (check.clone(), ruling(check))).collect());
    }

    fn rule(
        &mut self,
        check: &Arc<str>,
        (position, count): (Position, Count),
        asked: Instant,
        good: Duration,
    ) -> Ruling {
        let before = self.brakes.get(check);
        // One that was not asked for so long begins anew.
        let remembered = before.filter(|(_, at)| asked.saturating_duration_since(*at) <= self.policy.hold);
        let before = remembered.map_or(State::IDLE, |(state, _)| *state);
        let state = before.after(count, position, &self.policy, asked, fastrand::f64());
        self.brakes.insert(check.clone(), (state, asked));
        let said = self.rulings.borrow().get(check).cloned();
        Ruling::of(state, count, &self.policy, asked, good).or(said).unwrap_or(Ruling::Off(Why::Young))
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
        let said = ruling.map(|ruling| ruling.says(check)).unwrap_or_default();
        if after && !before {
            self.metrics.turns.get_or_create(&label).inc();
            tracing::warn!(%check, said, "the brake holds: a shared check that fails counts as degraded");
        } else if before && !after {
            tracing::info!(%check, said, "the brake is off");
        }
    }
}
