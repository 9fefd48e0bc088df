//! `hold`: how requests wait while the app is away.

use std::time::Duration;

use super::super::reader::Section;
use super::super::values::{Type, duration, integer};
use crate::lifecycle::drain;
use crate::proxy::settings::Hold;
use crate::readiness;

pub(super) fn settings(section: &mut Section<'_>, checks: &readiness::Settings) -> Hold {
    let default = Hold::default();
    let most = u32::try_from(default.max_requests).expect("the default is small");
    let max_requests = section.or(
        "max_requests",
        &integer(0..=1_000_000),
        most,
        "Requests of one listener that wait while the app is away. Beyond: 503 with `Retry-After`. 0 holds nothing, and \
         takes every `/drain` for the end of the pod.",
    );
    let max_wait = section.or(
        "max_wait",
        &duration(Duration::from_millis(100)..=Duration::from_secs(600)),
        default.max_wait,
        "How long a request waits. Beyond: 503 with `Retry-After`. Once the app has been away for longer, requests are \
         answered so at once.",
    );
    let check = section.optional(
        "check",
        &Type::text("name of a check", "app", |text| Ok(text.to_owned())),
        "none: only an app that refuses connections is away",
        "A check of `checks` that says that the app is away while it fails; it closes every listener.",
    );
    let known = |name: &String| checks.checks.iter().any(|check| check.name == *name);
    if let Some(name) = check.clone().filter(|name| !known(name)) {
        let names: Vec<_> = checks.checks.iter().map(|check| check.name.as_str()).collect();
        let remedy = match names.as_slice() {
            [] => "add it to checks, or remove the key".to_owned(),
            names => format!("write one of: {}", names.join(", ")),
        };
        section.problem("check", Some(name), "no check of that name", remedy);
    }
    Hold { max_requests: usize::try_from(max_requests).expect("usize holds 32 bits here"), max_wait, check }
}

/// What holding means for restarts of the app: those that are held meanwhile have half of their time for what is still
/// under way, and half for the app's return.
pub(super) fn limit_restarts(hold: &Hold, drain: &mut drain::Settings) {
    drain.restart_finish = hold.max_wait / 2;
    if hold.max_requests == 0 {
        drain.restart_after = None;
    }
}
