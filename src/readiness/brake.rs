//! What the rest of a fleet means for a check that fails here. It comes in as a plain value and is believed for a while.

use std::sync::Arc;

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
    /// Its own class applies.
    Off {
        /// Why.
        says: Arc<str>,
    },
}

/// Whether a check ever passed in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    /// It did.
    Passed,
    /// It did not.
    Unproven,
}

impl Brake {
    /// The class that a failing critical check has at `now`, and what there is to say of it.
    pub(super) fn judge(&self, check: &str, past: Past, now: Instant) -> (Class, Arc<str>) {
        match (self, past) {
            (Self::Off { says }, _) => (Class::Critical, says.clone()),
            // A new version with a wrong password fails everywhere too: nothing is said to be ready that never was.
            (Self::Holds { .. }, Past::Unproven) => {
                (Class::Critical, format!("off, {check} has not passed since the start").into())
            }
            (Self::Holds { until, .. }, _) if now > *until => {
                (Class::Critical, format!("off, how many fail {check} was last told too long ago").into())
            }
            (Self::Holds { says, .. }, Past::Passed) => (Class::Degraded, says.clone()),
        }
    }

    /// The last instant at which the same is said.
    pub(super) fn until(&self) -> Option<Instant> {
        match self {
            Self::Holds { until, .. } => Some(*until),
            Self::Off { .. } => None,
        }
    }
}
