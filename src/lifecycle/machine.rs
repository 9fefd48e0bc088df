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
    /// Only the app restarts: new requests are held, those in flight finish, and the hook lets the app go.
    Restarting {
        /// When the hook came: should the pod end after all, its drain began then.
        began: Instant,
        /// How far it is.
        stage: Stage,
    },
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

/// How far a restart of the app is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The gates are to be closed.
    Closing,
    /// They are closed: what went to the app before is waited for.
    Finishing {
        /// When the app is let go at the latest.
        until: Instant,
    },
    /// The hook has returned, and the app is told to stop.
    Released {
        /// When an app that has not gone by then is not restarting.
        until: Instant,
    },
}

/// What happens once a drain is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Not known: the app's `preStop` hook came, which it does when the pod ends and when the app's container alone
    /// restarts.
    Unknown {
        /// When, without a word of the pod's end, it is a restart.
        until: Instant,
        /// When the hook came.
        since: Instant,
    },
    /// The process stays until it is told to end (a person drained it, or the pod ends).
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
    /// The app's `preStop` hook asks for a drain: the pod ends, or the app's container restarts.
    Hook,
    /// The pod ends for certain, or a person asks for a drain.
    Drain,
    /// The first SIGTERM or SIGINT.
    Terminate,
    /// The second one.
    Abort,
    /// The gates are closed.
    Held,
    /// The app refuses connections.
    Gone,
    /// The app was gone and answers again: what looked like the end of the pod was a restart of the app.
    Resume,
    /// A person wants requests to go through.
    Release,
    /// Time has passed.
    Tick(Traffic),
}

/// What the ledger shows at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Requests, tunnels and work leases under way.
    pub in_flight: u64,
    /// Of these, requests that have gone to the app.
    pub dispatched: u64,
    /// Client connections that may carry another request.
    pub connections: u64,
    /// When the last request arrived, if ever.
    pub last_arrival: Option<Instant>,
}

/// The phase that follows. An event that means nothing in a phase leaves it as it is, so that hooks, which are
/// delivered at least once, may come again.
pub fn step(phase: Phase, event: Event, now: Instant, settings: &Settings) -> Phase {
    use Phase::{Closing, Drained, LameDuck, Restarting, Serving, Shedding, Starting, Stopped};
    match (phase, event) {
        (Stopped { .. }, _) => phase,
        (_, Event::Abort) => Stopped { outcome: Outcome::Aborted },
        (Starting, Event::Started) => Serving,
        (Starting | Serving, Event::Hook) => {
            let unknown = |after| Ending::Unknown { until: now + after, since: now };
            lame_duck(now, settings, settings.restart_after.map_or(Ending::Stay, unknown))
        }
        (Starting | Serving, Event::Drain) => lame_duck(now, settings, Ending::Stay),
        (Starting | Serving, Event::Terminate) => lame_duck(now, settings, Ending::Exit),
        (Restarting { began, .. }, Event::Drain) => lame_duck(began, settings, Ending::Stay),
        (Restarting { began, .. }, Event::Terminate) => lame_duck(began, settings, Ending::Exit),
        (Restarting { began, stage }, event) => restarting(began, stage, event, now, settings),
        (LameDuck { until, deadline, ending: Ending::Unknown { .. } }, Event::Drain) => {
            LameDuck { until, deadline, ending: Ending::Stay }
        }
        (LameDuck { until, deadline, .. }, Event::Terminate) => LameDuck { until, deadline, ending: Ending::Exit },
        // Nobody is asked to leave before it is known whether it is for good.
        (LameDuck { ending: Ending::Unknown { until, since }, .. }, Event::Tick(_)) if now >= until => {
            Restarting { began: since, stage: Stage::Closing }
        }
        (LameDuck { ending: Ending::Unknown { .. }, .. }, Event::Tick(_)) => phase,
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

/// What follows in a restart of the app. An app that is gone is held for as every app is that refuses connections, so
/// that the phase has nothing more to do then.
fn restarting(began: Instant, stage: Stage, event: Event, now: Instant, settings: &Settings) -> Phase {
    let to = |stage| Phase::Restarting { began, stage };
    let released = Stage::Released { until: now + settings.app_stop };
    match (stage, event) {
        (_, Event::Release) | (Stage::Released { .. }, Event::Gone) => Phase::Serving,
        (Stage::Closing, Event::Held) => to(Stage::Finishing { until: now + settings.restart_finish }),
        (Stage::Finishing { until }, Event::Tick(traffic)) if traffic.dispatched == 0 || now >= until => to(released),
        (Stage::Released { until }, Event::Tick(_)) if now >= until => Phase::Serving,
        _ => to(stage),
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
    pub const NAMES: [&'static str; 8] =
        ["starting", "serving", "restarting", "lame_duck", "shedding", "drained", "closing", "stopped"];

    /// The place in the order of [`Phase::NAMES`].
    pub fn rank(self) -> usize {
        match self {
            Self::Starting => 0,
            Self::Serving => 1,
            Self::Restarting { .. } => 2,
            Self::LameDuck { .. } => 3,
            Self::Shedding { .. } => 4,
            Self::Drained { .. } => 5,
            Self::Closing { .. } => 6,
            Self::Stopped { .. } => 7,
        }
    }

    /// The name in logs, metrics and `status`.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self.rank()]
    }

    /// Whether a drain has begun.
    pub fn is_draining(self) -> bool {
        self.rank() >= 3
    }

    /// Whether a drain has begun that is no restart of the app: whoever is told to go elsewhere should.
    pub fn is_leaving(self) -> bool {
        match self {
            Self::LameDuck { ending, .. } => !matches!(ending, Ending::Unknown { .. }),
            _ => self.is_shedding(),
        }
    }

    /// Whether clients are asked to leave.
    pub fn is_shedding(self) -> bool {
        self.rank() >= 4
    }

    /// Whether the process is about to end.
    pub fn is_closing(self) -> bool {
        self.rank() >= 6
    }

    /// Whether the app restarts, and its hook has returned.
    pub fn is_released(self) -> bool {
        matches!(self, Self::Restarting { stage: Stage::Released { .. }, .. })
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
mod tests;
