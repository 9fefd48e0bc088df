//! What the rest of a fleet means for a check that fails here. It comes in as a plain value and is believed for a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::readiness::settings::Class;

/// What the brake says of a critical check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brake {
    /// It counts as degraded, because it fails for most.
    Holds {
        /// For how many.
        says: Arc<str>,
        /// The last instant at which this is believed.
        until: Instant,
    },
    /// It fails for few so far: its own class applies once the others' reports could be in.
    Few {
        /// What is said until then.
        asks: Arc<str>,
        /// What is said from then on.
        says: Arc<str>,
    },
    /// Its own class applies.
    Off {
        /// Why.
        says: Arc<str>,
        /// Whether it may be an outage of many all the same.
        crowd: Crowd,
    },
}

/// Whether a check fails for many, as far as anybody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Crowd {
    /// It fails for few.
    Few,
    /// It fails for many, or nobody knows.
    Many,
}

/// What the brake does about a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Braking {
    /// Nothing.
    Off,
    /// The check counts as degraded while others are asked.
    Asks,
    /// The check counts as degraded.
    Holds,
}

impl Braking {
    /// The word in the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Asks => "asks",
            Self::Holds => "holds",
        }
    }

    /// The class of a failing critical check.
    pub(super) fn class(self) -> Class {
        match self {
            Self::Off => Class::Critical,
            Self::Asks | Self::Holds => Class::Degraded,
        }
    }
}

/// Whether a check ever passed in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    /// It did.
    Passed,
    /// It did not.
    Unproven,
}

/// How long a failing check waits for what the fleet has to say, before it counts as this instance's own fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the first word: then nobody answers, and the check's own class applies.
    pub word: Duration,
    /// For a report of another instance to arrive, once its own check has failed there.
    pub report: Duration,
}

/// Whether an instance serves, as far as one failing check goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It does.
    In,
    /// It does not.
    Out,
}

/// A time in which a check fails, short recoveries included: one that comes and goes is not asked about anew each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bout {
    /// The first failed attempt.
    since: Instant,
    /// The last one.
    last: Instant,
    /// Whether it ever failed for many in this time.
    crowd: Crowd,
}

impl Bout {
    /// The bout after one more failed attempt. It is another one when nothing failed for longer than `apart`.
    pub(super) fn after(before: Option<Self>, now: Instant, apart: Duration) -> Self {
        let goes_on = before.filter(|bout| now.saturating_duration_since(bout.last) <= apart);
        goes_on.map_or(Self { since: now, last: now, crowd: Crowd::Few }, |bout| Self { last: now, ..bout })
    }

    /// With what was just told of the fleet.
    pub(super) fn told(self, brake: &Brake) -> Self {
        Self { crowd: self.crowd.max(brake.crowd()), ..self }
    }

    /// Until when an instance that this had taken out stays out, after the check passed again at `now`: where many were,
    /// they do not all come back at once. `chance` is from 0 to 1.
    pub(super) fn returns(self, now: Instant, spread: Duration, chance: f64) -> Option<Instant> {
        (self.crowd == Crowd::Many).then(|| now + spread.mul_f64(chance.clamp(0.0, 1.0)))
    }
}

impl Brake {
    fn crowd(&self) -> Crowd {
        match self {
            Self::Holds { .. } => Crowd::Many,
            Self::Few { .. } => Crowd::Few,
            Self::Off { crowd, .. } => *crowd,
        }
    }
}

/// What decides between the fleet and a check of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) check: &'a str,
    pub(super) past: Past,
    pub(super) bout: Option<Bout>,
    /// `None` where no fleet is asked.
    pub(super) patience: Option<Patience>,
    /// How long the same check may take to fail on another instance.
    pub(super) elsewhere: Duration,
}

impl Case<'_> {
    /// What the brake does about a failing critical check at `now`, and what there is to say of it. `brake` is what was told of the
    /// fleet since it fails.
    pub(super) fn judge(&self, brake: Option<&Brake>, now: Instant) -> (Braking, Option<Arc<str>>) {
        let check = self.check;
        let (braking, says) = match (brake, self.past) {
            (None, Past::Passed) if self.asking(brake).is_some_and(|until| now <= until) => {
                (Braking::Asks, format!("the fleet is asked how many fail {check}").into())
            }
            // No fleet is asked.
            (None, _) if self.patience.is_none() => return (Braking::Off, None),
            (None, Past::Passed) => (Braking::Off, format!("off, nobody told in time how many fail {check}").into()),
            // A new version with a wrong password fails everywhere too: nothing is said to be ready that never was.
            (_, Past::Unproven) => (Braking::Off, format!("off, {check} has not passed since the start").into()),
            (Some(Brake::Few { asks, .. }), _) if self.asking(brake).is_some_and(|until| now <= until) => {
                (Braking::Asks, asks.clone())
            }
            (Some(Brake::Off { says, .. } | Brake::Few { says, .. }), _) => (Braking::Off, says.clone()),
            (Some(Brake::Holds { until, .. }), _) if now > *until => {
                (Braking::Off, format!("off, how many fail {check} was last told too long ago").into())
            }
            (Some(Brake::Holds { says, .. }), _) => (Braking::Holds, says.clone()),
        };
        (braking, Some(says))
    }

    /// The last instant at which the same is said, if it is said for a while only.
    pub(super) fn until(&self, brake: Option<&Brake>) -> Option<Instant> {
        match brake {
            Some(Brake::Holds { until, .. }) => Some(*until),
            Some(Brake::Off { .. }) => None,
            Some(Brake::Few { .. }) | None => self.asking(brake),
        }
    }

    /// Until when others are waited for.
    fn asking(&self, brake: Option<&Brake>) -> Option<Instant> {
        let (patience, bout) = (self.patience?, self.bout?);
        let wait = if brake.is_none() { patience.word } else { self.elsewhere + patience.report };
        bout.since.checked_add(wait)
    }
}
