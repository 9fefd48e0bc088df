//! `drain`: how traffic is led away.

use std::time::Duration;

use super::super::reader::Section;
use super::super::values::{choice, duration, show_duration};
use crate::lifecycle::drain::{Readiness, Settings, Tunnels};

const HOUR: Duration = Duration::from_secs(3600);
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
    let deadline = section.or(
        "deadline",
        &duration(Duration::from_millis(1)..=DAY),
        default.deadline,
        "From the start of the drain to its end, whatever is in flight. Longer than `delay` and `quiet` together.",
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
    // The ranges above keep the sum far from overflow. A wrong `quiet` does not hide that the delay alone is too long.
    let (least, of) = match section.sound(&["quiet"]) {
        true => (delay + quiet, "delay and quiet together"),
        false => (delay, "delay"),
    };
    if section.sound(&["delay", "deadline"]) && deadline <= least {
        section.problem(
            "deadline",
            Some(show_duration(deadline)),
            format!("not longer than {of} ({})", show_duration(least)),
            format!("write more than {}, or shorten drain.delay", show_duration(least)),
        );
    }
    Settings { delay, quiet, deadline, readiness, tunnels }
}
