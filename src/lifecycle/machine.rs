//! The phases of the process and the rules that lead from one to the next. Pure: it is told the time and what was
//! observed, and does no IO.

use std::time::{Duration, Instant};

use super::drain::Settings;

/// After a drain whose deadline has passed, requests that arrived since get this long to end before the exit.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// How long closing lasts at least: connections that the kernel has accepted already are taken meanwhile.
const BACKLOG: Duration = Duration::from_millis(100);

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not every check has run once, or no flags are applied yet.
    Starting,
    /// Everything as ever.
    Serving,
    /// A drain has begun; traffic is served as ever while endpoints are taken out elsewhere.
    LameDuck {
        /// When shedding begins.
        until: Instant,
        /// When the drain ends at the latest.
        deadline: Instant,
        /// Whether the process was told to end.
        ending: Ending,
    },
    /// Clients are asked to leave: `Connection: close` on each answer, idle connections closed.
    Shedding {
        /// When it began: nothing counts as quiet before it has been so for a while since then.
        since: Instant,
        /// When it ends at the latest.
        deadline: Instant,
        /// Whether the process was told to end.
        ending: Ending,
    },
    /// Nothing is in flight, or the deadline has passed. What still comes is served.
    Drained {
        /// How the drain ended.
        outcome: Outcome,
        /// The drain's deadline.
        deadline: Instant,
        /// Whether the process was told to end.
        ending: Ending,
    },
    /// New connections are refused, requests under way finish.
    Closing {
        /// When it began: accept loops get a moment to take what the kernel has accepted already.
        since: Instant,
        /// How the drain ended.
        outcome: Outcome,
        /// When the process ends, whatever is under way.
        deadline: Instant,
    },
    /// The process ends now.
    Stopped {
        /// How it ended.
        outcome: Outcome,
    },
}

/// What happens once a drain is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The process stays until it is told to end (a `preStop` hook drained it).
    Stay,
    /// The process ends (a signal came).
    Exit,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was in flight any more.
    Clean,
    /// The deadline passed with something in flight.
    Cut,
    /// A second signal came.
    Aborted,
}

impl Outcome {
    /// The name in logs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Cut => "cut",
            Self::Aborted => "aborted",
        }
    }
}

/// What may move the process from one phase to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The first round of checks is done and the first flags are applied.
    Started,
    /// A `preStop` hook or a person asks for a drain.
    Drain,
    /// The first SIGTERM or SIGINT.
    Terminate,
    /// The second one.
    Abort,
    /// The app was gone and answers again: what looked like the end of the pod was a restart of the app.
    Resume,
    /// Time has passed.
    Tick(Traffic),
}

/// What the ledger shows at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Requests, tunnels and work leases under way.
    pub in_flight: u64,
    /// Client connections that may carry another request.
    pub connections: u64,
    /// When the last request arrived, if ever.
    pub last_arrival: Option<Instant>,
}

/// The phase that follows. An event that means nothing in a phase leaves it as it is, so that hooks, which are
/// delivered at least once, may come again.
pub fn step(phase: Phase, event: Event, now: Instant, settings: &Settings) -> Phase {
    use Phase::{Closing, Drained, LameDuck, Serving, Shedding, Starting, Stopped};
    match (phase, event) {
        (Stopped { .. }, _) => phase,
        (_, Event::Abort) => Stopped { outcome: Outcome::Aborted },
        (Starting, Event::Started) => Serving,
        (Starting | Serving, Event::Drain) => lame_duck(now, settings, Ending::Stay),
        (Starting | Serving, Event::Terminate) => lame_duck(now, settings, Ending::Exit),
        (LameDuck { until, deadline, .. }, Event::Terminate) => LameDuck { until, deadline, ending: Ending::Exit },
        (LameDuck { until, deadline, ending }, Event::Tick(_)) if now >= until => {
            Shedding { since: now, deadline, ending }
        }
        (Shedding { since, deadline, .. }, Event::Terminate) => Shedding { since, deadline, ending: Ending::Exit },
        (Shedding { since, deadline, ending }, Event::Tick(traffic)) => {
            if is_quiet(traffic, since, now, settings.quiet) {
                Drained { outcome: Outcome::Clean, deadline, ending }
            } else if now >= deadline {
                let outcome = if traffic.in_flight == 0 { Outcome::Clean } else { Outcome::Cut };
                Drained { outcome, deadline, ending }
            } else {
                phase
            }
        }
        (Drained { outcome, deadline, .. }, Event::Terminate)
        | (Drained { outcome, deadline, ending: Ending::Exit }, Event::Tick(_)) => {
            Closing { since: now, outcome, deadline: deadline.max(now + LAST_GRACE) }
        }
        (Drained { ending: Ending::Stay, .. }, Event::Resume) => Serving,
        (Closing { since, outcome, deadline }, Event::Tick(traffic)) => {
            let backlog_taken = now.saturating_duration_since(since) >= BACKLOG;
            if traffic.in_flight == 0 && traffic.connections == 0 && backlog_taken {
                Stopped { outcome }
            } else if now >= deadline {
                Stopped { outcome: if traffic.in_flight == 0 { outcome } else { Outcome::Cut } }
            } else {
                phase
            }
        }
        _ => phase,
    }
}

fn lame_duck(now: Instant, settings: &Settings, ending: Ending) -> Phase {
    Phase::LameDuck { until: now + settings.delay, deadline: now + settings.deadline, ending }
}

/// Drained means more than an empty ledger: a keep-alive connection between two requests has nothing in flight and
/// is about to. So connections must be gone too, and nothing may have arrived for a while.
fn is_quiet(traffic: Traffic, since: Instant, now: Instant, quiet: Duration) -> bool {
    let last = traffic.last_arrival.map_or(since, |arrival| arrival.max(since));
    traffic.in_flight == 0 && traffic.connections == 0 && now.saturating_duration_since(last) >= quiet
}

impl Phase {
    /// Every name, in order.
    pub const NAMES: [&'static str; 7] =
        ["starting", "serving", "lame_duck", "shedding", "drained", "closing", "stopped"];

    /// The place in the order of [`Phase::NAMES`].
    pub fn rank(self) -> usize {
        match self {
            Self::Starting => 0,
            Self::Serving => 1,
            Self::LameDuck { .. } => 2,
            Self::Shedding { .. } => 3,
            Self::Drained { .. } => 4,
            Self::Closing { .. } => 5,
            Self::Stopped { .. } => 6,
        }
    }

    /// The name in logs, metrics and `status`.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self.rank()]
    }

    /// Whether a drain has begun.
    pub fn is_draining(self) -> bool {
        self.rank() >= 2
    }

    /// Whether clients are asked to leave.
    pub fn is_shedding(self) -> bool {
        self.rank() >= 3
    }

    /// Whether the process is about to end.
    pub fn is_closing(self) -> bool {
        self.rank() >= 5
    }

    /// How the drain ended, once it has.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Drained { outcome, .. } | Self::Closing { outcome, .. } | Self::Stopped { outcome } => Some(outcome),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BUSY: Traffic = Traffic { in_flight: 1, connections: 1, last_arrival: None };
    const EMPTY: Traffic = Traffic { in_flight: 0, connections: 0, last_arrival: None };

    /// Plays events at the given seconds and returns the names of the phases after each.
    fn play(events: &[(u64, Event)]) -> Vec<&'static str> {
        let start = Instant::now();
        let settings = Settings::default();
        let mut phase = Phase::Starting;
        let mut names = Vec::new();
        for (at, event) in events {
            phase = step(phase, *event, start + Duration::from_secs(*at), &settings);
            names.push(phase.as_str());
        }
        names
    }

    #[test]
    fn a_hook_drains_and_a_signal_ends() {
        use Event::{Drain, Started, Terminate, Tick};
        assert_eq!(
            play(&[
                (0, Started),
                (1, Drain),
                (10, Tick(EMPTY)),
                (11, Tick(EMPTY)),
                (12, Tick(EMPTY)),
                (20, Tick(EMPTY)),
                (21, Terminate),
                (22, Tick(EMPTY)),
            ]),
            ["serving", "lame_duck", "lame_duck", "shedding", "drained", "drained", "closing", "stopped"]
        );
    }

    #[test]
    fn a_signal_alone_runs_the_whole_sequence() {
        use Event::{Started, Terminate, Tick};
        assert_eq!(
            play(&[
                (0, Started),
                (1, Terminate),
                (11, Tick(BUSY)),
                (12, Tick(BUSY)),
                (14, Tick(EMPTY)),
                (14, Tick(EMPTY)),
                (14, Tick(EMPTY)),
                (15, Tick(EMPTY))
            ]),
            ["serving", "lame_duck", "shedding", "shedding", "drained", "closing", "closing", "stopped"]
        );
    }

    #[test]
    fn a_drain_before_the_start_is_complete_is_a_drain() {
        assert_eq!(play(&[(0, Event::Drain), (1, Event::Started)]), ["lame_duck", "lame_duck"]);
    }

    #[test]
    fn hooks_may_come_twice() {
        use Event::{Drain, Started};
        assert_eq!(play(&[(0, Started), (1, Drain), (5, Drain)]), ["serving", "lame_duck", "lame_duck"]);
        let start = Instant::now();
        let settings = Settings::default();
        let first = step(Phase::Serving, Drain, start, &settings);
        assert_eq!(step(first, Drain, start + SECOND, &settings), first, "a second hook must not move the deadline");
    }

    #[test]
    fn a_stuck_request_is_cut_at_the_deadline() {
        use Event::{Started, Terminate, Tick};
        let start = Instant::now();
        let settings = Settings::default();
        let mut phase = Phase::Serving;
        for (at, event) in [(0, Terminate), (10, Tick(BUSY)), (44, Tick(BUSY))] {
            phase = step(phase, event, start + at * SECOND, &settings);
        }
        assert_eq!(phase.as_str(), "shedding");
        phase = step(phase, Tick(BUSY), start + 45 * SECOND, &settings);
        assert_eq!(phase.outcome(), Some(Outcome::Cut));
        phase = step(phase, Tick(BUSY), start + 45 * SECOND, &settings);
        assert_eq!(phase.as_str(), "closing");
        phase = step(phase, Tick(BUSY), start + 48 * SECOND, &settings);
        assert_eq!(phase, Phase::Stopped { outcome: Outcome::Cut });
        assert_eq!(step(phase, Started, start + 50 * SECOND, &settings), phase, "stopped is the end");
    }

    #[test]
    fn a_deadline_with_nothing_in_flight_cuts_nothing() {
        let start = Instant::now();
        let settings = Settings::default();
        let shedding = Phase::Shedding { since: start, deadline: start + SECOND, ending: Ending::Stay };
        let noisy = Traffic { last_arrival: Some(start + SECOND), ..EMPTY };
        let drained = step(shedding, Event::Tick(noisy), start + SECOND, &settings);
        assert_eq!(drained.outcome(), Some(Outcome::Clean), "never quiet, and yet nothing was lost");
    }

    #[test]
    fn an_app_that_came_back_ends_a_drain_that_was_no_end() {
        use Event::{Drain, Resume, Started, Terminate, Tick};
        let drained = [(0, Started), (1, Drain), (11, Tick(EMPTY)), (13, Tick(EMPTY))];
        assert_eq!(play(&[&drained[..], &[(14, Resume)]].concat()).last(), Some(&"serving"));
        assert_eq!(play(&[&drained[..], &[(14, Terminate), (14, Resume)]].concat()).last(), Some(&"closing"));
        assert_eq!(play(&[(0, Started), (1, Drain), (2, Resume)]).last(), Some(&"lame_duck"));
    }

    #[test]
    fn an_idle_connection_or_a_recent_arrival_is_not_quiet() {
        let now = Instant::now();
        let since = now - 2 * SECOND;
        let quiet = |traffic| is_quiet(traffic, since, now, SECOND);
        assert!(quiet(EMPTY));
        assert!(!quiet(Traffic { connections: 1, ..EMPTY }));
        assert!(!quiet(Traffic { in_flight: 1, ..EMPTY }));
        assert!(!quiet(Traffic { last_arrival: Some(now - SECOND / 2), ..EMPTY }));
        assert!(quiet(Traffic { last_arrival: Some(now - SECOND), ..EMPTY }));
        assert!(!is_quiet(EMPTY, now - SECOND / 2, now, SECOND), "shedding itself lasts at least as long");
    }

    #[test]
    fn a_second_signal_aborts_from_everywhere() {
        use Event::{Abort, Started, Terminate};
        for events in [&[(0, Abort)][..], &[(0, Started), (0, Abort)], &[(0, Terminate), (1, Abort)]] {
            assert_eq!(play(events).last(), Some(&"stopped"));
        }
    }
}
