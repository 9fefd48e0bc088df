//! Whether a drain fits into the time that the pod has to end. Not part of reading the configuration: a sidecar runs
//! with numbers that do not fit, and says so.

use std::time::Duration;

use super::problem::Problem;
use super::resolve::RESERVE;
use super::values::show_duration;
use super::{Problems, Settings};

/// What does not fit into `drain.grace`.
///
/// # Errors
/// One problem for each sum, with its parts.
pub fn budget(settings: &Settings) -> Result<(), Problems> {
    let drain = &settings.drain;
    let Some(grace) = drain.grace else { return Ok(()) };
    let mut problems = Vec::new();
    let mut judge = |parts: &[(&str, Duration)], fits: fn(Duration, Duration) -> bool, remedy: &str| {
        let sum = parts.iter().fold(RESERVE, |sum, (_, part)| sum.saturating_add(*part));
        if !fits(sum, grace) {
            let terms: Vec<_> = parts.iter().map(|(name, part)| format!("{name} {}", show_duration(*part))).collect();
            let reserve = show_duration(RESERVE);
            let wrong = format!("too short for {} + {reserve} = {}", terms.join(" + "), show_duration(sum));
            problems.push(Problem::new("drain.grace", wrong).value(show_duration(grace)).remedy(remedy));
        }
    };
    let mut parts = vec![("delay", drain.delay), ("quiet", drain.quiet)];
    parts.extend(settings.proxy.limits.request_timeout.map(|longest| ("limits.request_timeout", longest)));
    parts.push(("app_stop", drain.app_stop));
    let raise = "raise terminationGracePeriodSeconds, and grace with it, or shorten one of them";
    judge(&parts, |sum, grace| sum < grace, raise);
    judge(&[("deadline", drain.deadline), ("app_stop", drain.app_stop)], |sum, grace| sum <= grace, raise);
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}
