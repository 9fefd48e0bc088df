//! When flags were last evaluated, as far as the fleet's reports tell, and which are not used any more.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::answer::moment;
use super::{Failure, Scope};
use crate::cli::complain;
use crate::flags::contract::schedules::prepare;
use crate::flags::contract::{Seen, seen};
use crate::flags::executor::denied;

/// Reports come once an hour; a fleet whose last one is older does not report any more.
const REPORTED: Duration = Duration::from_secs(3 * 3600);

/// What the fleet reported.
pub(super) struct Evaluated {
    seen: Seen,
    /// Whether this user may read it.
    readable: bool,
}

impl Evaluated {
    pub(super) async fn read(scope: &mut Scope) -> Result<Self, Failure> {
        match seen(&mut scope.connection, &scope.keys).await {
            Ok(seen) => Ok(Self { seen, readable: true }),
            // Listing flags is possible all the same.
            Err(error) if denied(&error) => Ok(Self { seen: Seen::default(), readable: false }),
            Err(error) => Err(scope.failed(&error)),
        }
    }

    /// When `key` was last evaluated, for people and for programs.
    pub(super) fn of(&self, key: &str) -> (String, Value) {
        let at = self.seen.flags.get(key).copied();
        let text = match (at, self.seen.since) {
            (Some(at), _) => moment(Some(at)),
            (None, Some(since)) => format!("never seen since {}", moment(Some(since))),
            (None, None) if self.readable => "no reports".to_owned(),
            (None, None) => "not readable".to_owned(),
        };
        (text, at.map(|at| moment(Some(at))).into())
    }

    /// The moment since which nobody may have evaluated what is unused for `age`, by the clock of Redis.
    ///
    /// # Errors
    /// The reports do not reach that far, or do not come any more.
    pub(super) async fn since(&self, scope: &mut Scope, age: Duration) -> Result<SystemTime, Failure> {
        let found = prepare(&mut scope.connection, &scope.keys, "", "").await.map_err(|e| scope.failed(&e))?;
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(found.now);
        let since = now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        let (first, last) = match (self.seen.since, self.seen.last) {
            (Some(first), Some(last)) => (first, last),
            _ if !self.readable => {
                return Err(Failure::failed("this user of redis may not read which flags were evaluated: +hgetall"));
            }
            _ => {
                return Err(Failure::failed(
                    "no sidecar reported which flags it evaluates; give theirs a user of redis that may write, see \
                     docs/REDIS.md",
                ));
            }
        };
        if first > since {
            return Err(Failure::failed(format!(
                "nothing is known of so long ago: sidecars report since {}",
                moment(Some(first))
            )));
        }
        if now.duration_since(last).is_ok_and(|silent| silent > REPORTED) {
            return Err(Failure::failed(format!(
                "sidecars do not report any more: the last report is of {}",
                moment(Some(last))
            )));
        }
        for (what, at) in [("values", self.seen.bulk), ("definitions", self.seen.definitions)] {
            if let Some(at) = at.filter(|at| *at > since) {
                complain(&format!(
                    "clients fetched all {what} at once, last at {}: which flags those use is not known",
                    moment(Some(at))
                ));
            }
        }
        Ok(since)
    }

    /// Whether nobody evaluated `key` since then. What was written since may be new: it has not had its time.
    pub(super) fn unused(&self, key: &str, written: Option<SystemTime>, since: SystemTime) -> bool {
        match self.seen.flags.get(key) {
            Some(at) => *at < since,
            None => written.is_none_or(|written| written < since),
        }
    }
}
