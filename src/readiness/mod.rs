//! Background checks of what the app depends on, and the verdict behind `/readyz`.
//!
//! A [`Prober`] per check asks its dependency over one reused connection and writes each outcome to the [`Board`].
//! The board holds the answer to `/readyz` rendered; a reader only compares one instant, so that a prober that is
//! wedged or gone turns to "stale" at the moment of reading and never reads green. What else decides readiness (the
//! phase, the flags) comes in as a [`Condition`]: a plain value that somebody above sets.

pub mod board;
mod brake;
pub mod checks;
pub mod history;
pub mod metrics;
pub mod prober;
pub mod settings;
pub mod verdict;

pub use board::{Board, Condition, Snapshot};
pub use brake::{Brake, Braking, Crowd, Patience, Place};
pub use metrics::Metrics;
pub use prober::Prober;
pub use settings::Settings;

use thiserror::Error;

use crate::telemetry::metrics::Registry;

/// A check that cannot be asked as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("check {check}: {reason}")]
pub struct Unusable {
    /// Its name.
    pub check: String,
    /// Why, without any credential.
    pub reason: String,
}

/// The board of all configured checks, and what has to run to keep it: each prober's [`Prober::run`], as a task that
/// must live. Nothing is asked before they run, and nothing is ready until they have.
///
/// Reads the system's certificates when a check verifies TLS: call it before anything is served.
pub fn set_up(settings: &Settings, registry: &mut Registry) -> Result<(Board, Vec<Prober>), Unusable> {
    let board = Board::new(settings);
    let metrics = Metrics::register(registry, &board);
    let probers = settings.checks.iter().zip(board.reporters()).map(|(check, reporter)| {
        let attempts = metrics.of_check(&check.name);
        Prober::new(check, reporter, attempts)
            .map_err(|reason| Unusable { check: check.name.clone(), reason: reason.to_string() })
    });
    let probers = probers.collect::<Result<_, _>>()?;
    Ok((board, probers))
}
