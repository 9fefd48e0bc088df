//! The hold that a person asks for: one at a time, with a limit of its own, so that nothing that happens to who asked
//! can leave the gates closed.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::{Gates, Reason};

/// A hold in force.
#[derive(Debug, Clone)]
pub struct Manual {
    id: u64,
    /// Who asked for it.
    pub by: String,
    /// When it ends by itself.
    pub until: Instant,
}

/// Requests are held for as long as this lives, and no longer than its limit.
pub struct Hold {
    gates: Gates,
    id: u64,
    until: Instant,
}

/// Why requests are not held for who asks.
#[derive(Debug, Error)]
pub enum NotHeld {
    /// Somebody else holds them.
    #[error("held already by {by}, for {} ms more at most", left.as_millis())]
    Already {
        /// Who.
        by: String,
        /// For how long at most.
        left: Duration,
    },
    /// Requests would be refused meanwhile.
    #[error(
        "{} is longer than hold.max_wait ({}), after which requests are refused; ask for less, or raise it",
        humantime::format_duration(*asked),
        humantime::format_duration(*most)
    )]
    TooLong {
        /// For so long.
        asked: Duration,
        /// `hold.max_wait`.
        most: Duration,
    },
    /// `hold.max_requests` is 0.
    #[error("hold.max_requests is 0: nothing is held here")]
    Off,
}

/// How long a hold lasts of which nothing is said.
const USUAL: Duration = Duration::from_secs(5);

impl Gates {
    /// Holds requests for `lasts`, or for [`USUAL`] if that may be, on behalf of `by`.
    pub fn hold(&self, by: &str, lasts: Option<Duration>) -> Result<Hold, NotHeld> {
        if self.settings.max_requests == 0 {
            return Err(NotHeld::Off);
        }
        let lasts = lasts.unwrap_or(USUAL.min(self.settings.max_wait));
        if lasts > self.settings.max_wait {
            return Err(NotHeld::TooLong { asked: lasts, most: self.settings.max_wait });
        }
        let now = Instant::now();
        let mut manual = self.manual.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = manual.as_ref().filter(|other| now < other.until) {
            return Err(NotHeld::Already { by: other.by.clone(), left: other.until - now });
        }
        let id = manual.as_ref().map_or(1, |last| last.id + 1);
        let until = now + lasts;
        *manual = Some(Manual { id, by: by.to_owned(), until });
        // While it is locked: nobody else's release may fall between.
        self.gates.iter().for_each(|gate| gate.close(Reason::Manual, Some(until)));
        drop(manual);
        tracing::info!(by, for_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX), "hold");
        Ok(Hold { gates: self.clone(), id, until })
    }

    /// The hold in force.
    pub fn manual(&self) -> Option<Manual> {
        let manual = self.manual.lock().unwrap_or_else(PoisonError::into_inner);
        manual.clone().filter(|manual| Instant::now() < manual.until)
    }

    /// Lets requests through whatever holds them, until something closes a gate anew; whether something did.
    pub fn release(&self) -> bool {
        let closed = !self.status().reasons.is_empty();
        if let Some(manual) = self.manual.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            manual.until = Instant::now();
        }
        Reason::ALL.into_iter().for_each(|reason| self.open(reason));
        closed
    }
}

impl Hold {
    /// When it ends by itself.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Lets it last until its limit, or a release.
    pub fn detach(&mut self) {
        self.id = 0;
    }

    /// Whether it ends with this value, and was not detached.
    pub fn is_owned(&self) -> bool {
        self.id != 0
    }

    /// Whether it is still in force.
    pub fn is_held(&self) -> bool {
        self.gates.manual().is_some_and(|manual| manual.id == self.id)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut manual = self.gates.manual.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(manual) = manual.as_mut().filter(|manual| manual.id == self.id) else { return };
        manual.until = Instant::now();
        self.gates.open(Reason::Manual);
    }
}
