//! When a tunnel is to end for a drain's sake. Pure: the phase comes as an argument.

use std::time::{Duration, Instant};

use crate::lifecycle::drain::Tunnels;
use crate::lifecycle::machine::{Outcome, Phase};

/// How long before the drain's deadline tunnels are told to end, so that their ends can answer before the app is told to
/// stop: whoever asked for the drain learns at the deadline that it is over.
const LEAD: Duration = Duration::from_secs(3);
/// No more of shedding than one part in so many: a short drain leaves tunnels alone for most of it, too.
const SHARE: u32 = 4;
/// With `drain.tunnels: close`, over how long their ends are spread at most: their clients all come back.
const SPREAD: Duration = Duration::from_secs(10);
/// How long a tunnel has to end once the process is about to.
const LAST: Duration = Duration::from_millis(1_500);

/// The end of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leave {
    /// When both ends are told.
    pub(super) at: Instant,
    /// When it is over, whatever is missing.
    pub(super) by: Instant,
}

/// When tunnels end if this phase lasts; `None` while they may stay. `place` is this tunnel's own among all, from 0 to 1.
pub(super) fn leave(phase: Phase, tunnels: Tunnels, place: f64) -> Option<Leave> {
    match phase {
        Phase::Shedding { since, deadline, .. } => {
            let room = deadline.saturating_duration_since(since);
            let lead = (room / SHARE).min(LEAD);
            let at = match tunnels {
                Tunnels::Wait => deadline - lead,
                Tunnels::Close => since + (room - lead).min(SPREAD).mul_f64(place.clamp(0.0, 1.0)),
            };
            Some(Leave { at, by: deadline })
        }
        // One that began too late to be told in time.
        Phase::Drained { outcome: Outcome::Cut, deadline, .. } => Some(Leave { at: deadline, by: deadline }),
        // The app lives, and whether the process is to end is not known.
        Phase::Drained { .. }
        | Phase::Starting
        | Phase::Serving
        | Phase::Restarting { .. }
        | Phase::LameDuck { .. } => None,
        Phase::Closing { since, deadline, .. } => Some(Leave { at: since, by: deadline.min(since + LAST) }),
        Phase::Stopped { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::machine::Ending;

    const SECOND: Duration = Duration::from_secs(1);

    /// Seconds after the phase began, of `at` and `by`.
    fn check(phase: impl Fn(Instant) -> Phase, tunnels: Tunnels, place: f64, expected: Option<(f64, f64)>) {
        let start = Instant::now();
        let after = |instant: Instant| instant.saturating_duration_since(start).as_secs_f64();
        let told = leave(phase(start), tunnels, place).map(|leave| (after(leave.at), after(leave.by)));
        assert_eq!(told, expected);
    }

    fn shedding(room: Duration) -> impl Fn(Instant) -> Phase {
        move |since| Phase::Shedding { since, deadline: since + room, ending: Ending::Exit }
    }

    #[test]
    fn tunnels_stay_until_shortly_before_the_deadline() {
        check(|_| Phase::Serving, Tunnels::Wait, 0.5, None);
        check(shedding(35 * SECOND), Tunnels::Wait, 0.5, Some((32.0, 35.0)));
        check(shedding(SECOND), Tunnels::Wait, 0.5, Some((0.75, 1.0)));
        check(shedding(Duration::ZERO), Tunnels::Wait, 0.5, Some((0.0, 0.0)));
    }

    #[test]
    fn told_to_close_they_end_spread_over_the_beginning() {
        check(shedding(35 * SECOND), Tunnels::Close, 0.0, Some((0.0, 35.0)));
        check(shedding(35 * SECOND), Tunnels::Close, 0.5, Some((5.0, 35.0)));
        check(shedding(35 * SECOND), Tunnels::Close, 1.0, Some((10.0, 35.0)));
        check(shedding(4 * SECOND), Tunnels::Close, 1.0, Some((3.0, 4.0)));
        let lame = |now| Phase::LameDuck { until: now, deadline: now + SECOND, ending: Ending::Exit };
        check(lame, Tunnels::Close, 0.0, None);
    }

    #[test]
    fn a_drained_app_keeps_new_tunnels_unless_the_drain_was_cut_and_the_end_takes_all() {
        let drained = |outcome| move |now| Phase::Drained { outcome, deadline: now + SECOND, ending: Ending::Stay };
        check(drained(Outcome::Clean), Tunnels::Close, 0.0, None);
        check(drained(Outcome::Cut), Tunnels::Wait, 0.0, Some((1.0, 1.0)));
        let closing = |room| move |now| Phase::Closing { since: now, outcome: Outcome::Clean, deadline: now + room };
        check(closing(30 * SECOND), Tunnels::Wait, 0.0, Some((0.0, 1.5)));
        check(closing(SECOND), Tunnels::Wait, 0.0, Some((0.0, 1.0)));
    }
}
