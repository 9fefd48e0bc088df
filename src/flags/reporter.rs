//! Tells Redis once an hour which flags were evaluated here, so that the fleet knows which are not used any more.

use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::contract::{BULK, DEFINITIONS, Keys, report};
use super::executor::denied;
use super::store::Snapshot;
use super::usage::usage;
use crate::net::redis::Endpoint;

/// To connect, and for each answer.
const LIMIT: Duration = Duration::from_secs(5);

/// When reports are made.
#[derive(Debug, Clone)]
pub struct Pace {
    /// The first, at some time within this: a fleet that starts at once does not report at once. 5 min.
    pub first: Duration,
    /// The next, jittered by a tenth. 1 h.
    pub every: Duration,
    /// The next after Redis refused for want of a permission. 1 d.
    pub refused: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { first: 5 * minute, every: 60 * minute, refused: 24 * 60 * minute }
    }
}

/// Reports for some scopes.
pub struct Reporter {
    endpoint: Endpoint,
    /// With the cursor of each.
    scopes: Vec<(Keys, u64)>,
    pace: Pace,
}

impl Reporter {
    /// Will report for these scopes.
    pub fn new(endpoint: Endpoint, scopes: &[Keys]) -> Self {
        Self { endpoint, scopes: scopes.iter().map(|keys| (keys.clone(), 0)).collect(), pace: Pace::default() }
    }

    /// Other times than the default ones.
    pub fn paced(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Reports for ever. `evaluated` tells for a scope by its name which of its flags were evaluated, and when last.
    ///
    /// # Cancellation
    /// At any point.
    pub async fn run(mut self, evaluated: impl Fn(&str) -> Vec<(String, SystemTime)> + Send) {
        let mut told = false;
        let mut wait = self.pace.first.mul_f64(fastrand::f64());
        loop {
            sleep(wait).await;
            wait = self.pace.every.mul_f64(0.9 + fastrand::f64() / 5.0);
            let outcome = self.once(&evaluated, SystemTime::now()).await;
            match outcome {
                Ok(()) => told = false,
                Err(Unreported::Denied(error)) => {
                    wait = self.pace.refused;
                    if !std::mem::replace(&mut told, true) {
                        tracing::info!(error, "this user of redis may not report which flags are evaluated");
                    }
                }
                Err(Unreported::Failed(error)) => {
                    tracing::debug!(error, "evaluated flags not reported; the next report has them")
                }
            }
        }
    }

    /// One report of every scope. A connection of its own: one that is used once an hour is not worth keeping.
    async fn once(
        &mut self,
        evaluated: &impl Fn(&str) -> Vec<(String, SystemTime)>,
        now: SystemTime,
    ) -> Result<(), Unreported> {
        let mut connection =
            self.endpoint.connect(LIMIT).await.map_err(|error| Unreported::Failed(error.to_string()))?;
        for (keys, cursor) in &mut self.scopes {
            // As ages: how late it is Redis knows.
            let age = |(key, at)| (key, now.duration_since(at).unwrap_or_default());
            let ages: Vec<(String, Duration)> = evaluated(&keys.scope).into_iter().map(age).collect();
            match report(&mut connection, keys, &ages, *cursor).await {
                Ok(next) => *cursor = next,
                Err(error) if denied(&error) => return Err(Unreported::Denied(self.endpoint.scrub(&error))),
                Err(error) => return Err(Unreported::Failed(self.endpoint.scrub(&error))),
            }
        }
        Ok(())
    }
}

/// Which flags of a scope were evaluated in this process, and when last; and when all of them were fetched at once.
pub fn evaluated(snapshot: &Snapshot, scope: &str) -> Vec<(String, SystemTime)> {
    let usage = usage(snapshot);
    let name = format!("redis:{scope}");
    let of_scope = |layer: usize| snapshot.layers().get(layer).is_some_and(|layer| *layer.name == name);
    let flags = usage.flags.iter().filter(|seen| of_scope(seen.layer));
    let mut evaluated: Vec<_> = flags.filter_map(|seen| Some((seen.flag.to_string(), seen.evaluated?))).collect();
    evaluated.extend(usage.bulk.map(|at| (BULK.to_owned(), at)));
    evaluated.extend(usage.definitions.map(|at| (DEFINITIONS.to_owned(), at)));
    evaluated
}

/// Why nothing was reported.
enum Unreported {
    /// The user may not.
    Denied(String),
    /// Anything else.
    Failed(String),
}
