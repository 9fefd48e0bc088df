//! Work leases: background work (a queue consumer's message, a cron loop's round) that the app declares, so that a
//! drain waits for it as for a request.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::ledger::{Guard, Kind, Writer};

/// Leases held at one time; beyond, new ones are refused.
pub const MAX_LEASES: usize = 10_000;

/// The leases held.
pub struct Leases {
    ledger: Writer,
    held: Mutex<HashMap<String, Lease>>,
}

struct Lease {
    expires: Option<Instant>,
    #[expect(dead_code, reason = "held for its drop: the entry in the ledger")]
    guard: Guard,
}

/// [`MAX_LEASES`] are held.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{MAX_LEASES} work leases are held already")]
pub struct TooMany;

impl Leases {
    /// No leases; they will be entered through `ledger`.
    pub fn new(ledger: Writer) -> Self {
        Self { ledger, held: Mutex::default() }
    }

    /// Takes a lease, released by [`Leases::release`] or after `ttl`. Returns its id (32 hexadecimal digits).
    pub fn take(&self, ttl: Option<Duration>, now: Instant) -> Result<String, TooMany> {
        let mut held = self.lock();
        if held.len() >= MAX_LEASES {
            return Err(TooMany);
        }
        let id = format!("{:032x}", fastrand::u128(..));
        let expires = ttl.and_then(|ttl| now.checked_add(ttl));
        held.insert(id.clone(), Lease { expires, guard: self.ledger.begin(Kind::Work) });
        Ok(id)
    }

    /// Releases a lease; false when there is none of that id (any more).
    pub fn release(&self, id: &str) -> bool {
        self.lock().remove(id).is_some()
    }

    /// Releases those whose time is over: their holder crashed or forgot.
    pub fn release_expired(&self, now: Instant) {
        let mut held = self.lock();
        if held.is_empty() {
            return;
        }
        let before = held.len();
        held.retain(|_, lease| lease.expires.is_none_or(|expires| expires > now));
        let expired = before - held.len();
        if expired > 0 {
            tracing::warn!(expired, "work leases expired before they were released");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Lease>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::ledger::Ledger;

    #[test]
    fn a_lease_counts_until_released_or_expired() {
        let ledger = Ledger::new(1);
        let leases = Leases::new(ledger.shard(0));
        let now = Instant::now();
        let forever = leases.take(None, now).expect("room");
        leases.take(Some(Duration::from_secs(5)), now).expect("room");
        assert_eq!(ledger.counts().work, 2);
        leases.release_expired(now + Duration::from_secs(4));
        assert_eq!(ledger.counts().work, 2);
        leases.release_expired(now + Duration::from_secs(6));
        assert_eq!(ledger.counts().work, 1);
        assert!(leases.release(&forever));
        assert!(!leases.release(&forever), "twice is once");
        assert_eq!(ledger.counts().work, 0);
    }

    #[test]
    fn leases_are_bounded() {
        let ledger = Ledger::new(1);
        let leases = Leases::new(ledger.shard(0));
        for _ in 0..MAX_LEASES {
            leases.take(None, Instant::now()).expect("room");
        }
        assert_eq!(leases.take(None, Instant::now()), Err(TooMany));
    }
}
