//! `drain`: how traffic is led away.

use std::time::Duration;

use super::super::reader::Section;
use super::super::values::{choice, duration, show_duration};
use crate::lifecycle::drain::{Readiness, Settings, Tunnels};

const HOUR: Duration = Duration::from_secs(3600);
/// Between the drain's deadline with the app's stop and the pod's end: for what nobody counts.
pub(in crate::config) const RESERVE: Duration = Duration::from_secs(2);
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn settings(section: &mut Section<'_>) -> Settings {
    let default = Settings::default();
    let delay = section.or(
        "delay",
        &duration(Duration::ZERO..=HOUR),
        default.delay,
        "How long traffic is served as ever after the drain began, while endpoints are taken out elsewhere.",
    );
    let quiet = section.or(
        "quiet",
        &duration(Duration::ZERO..=HOUR),
        default.quiet,
        "How long no request may have come before nothing in flight counts as drained.",
    );
    let app_stop = section.or(
        "app_stop",
        &duration(Duration::ZERO..=HOUR),
        default.app_stop,
        "How long the app takes to stop once it is told to.",
    );
    let grace = section.optional(
        "grace",
        &duration(Duration::from_secs(1)..=DAY),
        "unknown: nothing is compared with it",
        "The pod's `terminationGracePeriodSeconds`. `deadline` and the rest are compared with it, and the default of \
         `deadline` becomes what it leaves: `grace` less `app_stop` and 2 s.",
    );
    let left = grace.map(|grace| grace.saturating_sub(app_stop + RESERVE).max(Duration::from_millis(1)));
    let deadline = section.or_computed(
        "deadline",
        &duration(Duration::from_millis(1)..=DAY),
        (left.unwrap_or(default.deadline), "45s, or what `grace` leaves"),
        "From the start of the drain to its end. What is still in flight then is reset at once over HTTP/2, and over HTTP/1.1 \
         goes on until the process ends, which after SIGTERM is 2 s later. Longer than `delay` and `quiet` together.",
    );
    let readiness = section.or(
        "readiness",
        &choice(&[("keep", Readiness::Keep), ("fail", Readiness::Fail)]),
        default.readiness,
        "What `/readyz` says during the delay: the verdict as ever, or 503 at once.",
    );
    let tunnels = section.or(
        "tunnels",
        &choice(&[("wait", Tunnels::Wait), ("close", Tunnels::Close)]),
        default.tunnels,
        "When WebSockets get their Close (1001), and other tunnels end: `wait` leaves them until shortly before the \
         deadline, `close` ends them after the delay, spread over up to 10s.",
    );
    let restart_after = section.or(
        "restart_after",
        &duration(Duration::from_millis(100)..=HOUR).or_none(),
        default.restart_after,
        "How long after the app's `preStop` hook (`/drain`) the end of the pod is still awaited: a signal, or the \
         sidecar's own hook (`tidegate drain --self`). Then only the app restarts: requests are held until it is \
         back. `none` takes every hook for the end of the pod.",
    );
    // The ranges above keep the sum far from overflow. A wrong `quiet` does not hide that the delay alone is too long.
    let (least, of) = match section.sound(&["quiet"]) {
        true => (delay + quiet, "delay and quiet together"),
        false => (delay, "delay"),
    };
    if section.sound(&["delay", "deadline", "app_stop", "grace"]) && deadline <= least {
        let (what, remedy) = match grace.filter(|_| !section.given("deadline")) {
            // Nothing is left of it: the number that would be shown means nothing to anybody.
            Some(grace) if grace <= app_stop + RESERVE => (
                format!(
                    "leaves no time to drain: app_stop ({}) and 2s come after it, and {of} take {}",
                    show_duration(app_stop),
                    show_duration(least)
                ),
                format!(
                    "raise terminationGracePeriodSeconds and grace with it above {}, or shorten drain.delay and \
                     drain.app_stop",
                    show_duration(app_stop + RESERVE + least)
                ),
            ),
            Some(grace) => (
                format!(
                    "leaves a deadline of {} ({} less {} for app_stop and 2s), not longer than {of} ({})",
                    show_duration(deadline),
                    show_duration(grace),
                    show_duration(app_stop),
                    show_duration(least)
                ),
                format!(
                    "raise terminationGracePeriodSeconds and grace with it above {}, or shorten drain.delay",
                    show_duration(app_stop + RESERVE + least)
                ),
            ),
            None => (
                format!("not longer than {of} ({})", show_duration(least)),
                format!("write more than {}, or shorten drain.delay", show_duration(least)),
            ),
        };
        match section.given("deadline") || grace.is_none() {
            true => section.problem("deadline", Some(show_duration(deadline)), what, remedy),
            false => section.problem("grace", grace.map(show_duration), what, remedy),
        }
    }
    Settings {
        delay,
        quiet,
        deadline,
        readiness,
        restart_after,
        app_stop,
        restart_finish: default.restart_finish,
        grace,
        tunnels,
    }
}
