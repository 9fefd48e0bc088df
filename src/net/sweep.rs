//! The sweeper: one task an event loop, which looks at every connection of that loop once or twice a second and ends
//! what has been idle or stuck beyond the limits, or what a drain wants gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::activity::{Activity, Cut, Expired, Order, Stage, look};
use crate::lifecycle::machine::{Outcome, Phase};

/// Between two sweeps; a limit is passed by up to twice this before it acts.
const PERIOD: Duration = Duration::from_millis(500);
/// Between two sweeps while connections are asked to leave.
const PERIOD_SHEDDING: Duration = Duration::from_millis(100);
/// While shedding, a connection idle for less than this is left alone: its client may have just written a request.
const SHED_IDLE: u64 = 1_000;
/// While shedding, closes are spread over this long, so that clients do not all reconnect at once.
const SHED_SPREAD: u64 = 1_000;
/// While shedding, an incomplete head gets no more than this.
const SHED_HEAD: u64 = 5_000;

/// A connection that never carried a request is idle for no longer than this: whoever keeps connections in reserve
/// closes those that were of use last, and a crowd that never speaks must not take all places for long.
const UNUSED: u64 = 60_000;

/// How long a connection may be in each state, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From a head's first byte to its end.
    pub head: u64,
    /// Between two requests.
    pub idle: u64,
    /// Between two parts of a request's body.
    pub body: u64,
    /// Between two writes of an answer.
    pub send: u64,
    /// From the end of a request to the head of its answer.
    pub answer: Option<u64>,
    /// From a request's head to the end of its answer.
    pub request: Option<u64>,
    /// Whether a drain asks these connections to leave.
    pub shed: Shed,
}

/// Whether a listener's connections are asked to leave in a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// Those of the app's clients are.
    Yes,
    /// Those of the kubelet, Prometheus and the app itself stay to the end, and are told of it then.
    No,
}

/// The connections of one event loop. Cheap to clone.
#[derive(Clone)]
pub struct Sweeper {
    limits: Limits,
    connections: Arc<Mutex<Connections>>,
}

#[derive(Default)]
struct Connections {
    next: u64,
    open: HashMap<u64, Arc<Activity>>,
}

/// A connection known to the sweeper; forgotten when dropped.
pub struct Swept {
    id: u64,
    activity: Arc<Activity>,
    connections: Arc<Mutex<Connections>>,
}

impl Sweeper {
    /// A sweeper with no connections.
    pub fn new(limits: Limits) -> Self {
        Self { limits, connections: Arc::default() }
    }

    /// Adds a connection opened now.
    pub fn open(&self) -> Swept {
        self.add(Activity::new())
    }

    /// Adds a request that has come on an HTTP/2 `connection`, of which each has the limits of a connection for itself: one
    /// that stalls is ended, and the others go on.
    pub fn open_stream(&self, connection: Arc<Activity>) -> Swept {
        self.add(Activity::stream(connection))
    }

    fn add(&self, activity: Activity) -> Swept {
        let activity = Arc::new(activity);
        let mut connections = lock(&self.connections);
        let id = connections.next;
        connections.next += 1;
        connections.open.insert(id, activity.clone());
        Swept { id, activity, connections: self.connections.clone() }
    }

    /// How many connections are open.
    pub fn count(&self) -> usize {
        lock(&self.connections).open.len()
    }

    /// Closes the connection that has been without a request for longest, if there is one.
    pub fn close_longest_idle(&self) {
        let connections = lock(&self.connections);
        let idle = connections.open.values().filter(|a| a.stage() == Stage::Idle && a.order() == Order::None);
        if let Some(longest) = idle.min_by_key(|activity| activity.idle_since()) {
            longest.give(Order::Close);
        }
    }

    /// Sweeps for as long as it is polled.
    pub async fn run(self, mut phase: watch::Receiver<Phase>) {
        let mut shedding_since = None;
        let mut is_cut = false;
        loop {
            let current = *phase.borrow_and_update();
            if !current.is_shedding() {
                (shedding_since, is_cut) = (None, false);
            }
            if current.is_shedding() && self.limits.shed == Shed::Yes {
                shedding_since.get_or_insert_with(look);
            }
            if current.outcome() == Some(Outcome::Cut) && self.limits.shed == Shed::Yes && !is_cut {
                // The deadline has passed. A stream is told so while there is still somebody to tell it; a tunnel has an
                // ending of its own.
                is_cut = true;
                let open = lock(&self.connections);
                let streams = open.open.values().filter(|open| open.is_stream() && open.stage() != Stage::Tunnel);
                streams.for_each(|stream| stream.cut(Cut::DrainDeadline));
            }
            if let (Phase::Stopped { outcome }, Shed::Yes) = (current, self.limits.shed) {
                // What is left ends with the process. It ends here, so that it is told of. A connection of HTTP/2 is left to
                // tell its client what became of its requests.
                let by = if outcome == Outcome::Aborted { Cut::Aborted } else { Cut::DrainDeadline };
                let open = lock(&self.connections);
                let left = open
                    .open
                    .values()
                    .filter(|open| matches!(open.stage(), Stage::Waiting | Stage::Answering) && !open.is_multiplexed());
                left.for_each(|open| open.cut(by));
            }
            let ends = matches!(current, Phase::Closing { .. }) && self.limits.shed == Shed::No;
            if ends {
                // So that a client's next request goes elsewhere, and is not lost with the connection.
                lock(&self.connections).open.values().for_each(|activity| activity.give(Order::Close));
            }
            let period = if shedding_since.is_some() || ends { PERIOD_SHEDDING } else { PERIOD };
            tokio::select! {
                () = tokio::time::sleep(period) => {}
                Ok(()) = phase.changed() => continue,
            }
            let now = look();
            for (id, activity) in &lock(&self.connections).open {
                act(activity, decide(activity, *id, &self.limits, shedding_since, now));
            }
        }
    }
}

impl Swept {
    /// What the connection is doing.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }
}

impl Drop for Swept {
    fn drop(&mut self) {
        lock(&self.connections).open.remove(&self.id);
    }
}

fn lock(connections: &Mutex<Connections>) -> MutexGuard<'_, Connections> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Leave,
    Close,
    Cut(Cut),
    Expire(Expired),
}

fn act(activity: &Activity, act: Act) {
    match act {
        Act::Leave => {}
        Act::Close => activity.give(Order::Close),
        Act::Cut(by) => activity.cut(by),
        Act::Expire(expired) => activity.expire(expired),
    }
}

/// What to do with a connection. `id` spreads closes.
fn decide(activity: &Activity, id: u64, limits: &Limits, shedding_since: Option<u64>, now: u64) -> Act {
    // What was noted may be noted up to a period too early.
    let longer = |since: u64, limit: u64| now.saturating_sub(since) > limit + PERIOD.as_millis() as u64;
    let stage = activity.stage();
    if activity.is_multiplexed() {
        return decide_multiplexed(activity, id, limits, shedding_since, longer);
    }
    if stage == Stage::Tunnel {
        return Act::Leave;
    }
    if activity.write_since().is_some_and(|since| longer(since, limits.send)) {
        return Act::Cut(Cut::ClientTooSlow);
    }
    match stage {
        Stage::Tunnel => Act::Leave,
        Stage::Idle => {
            let shed_late = |since: u64| shedding_since.is_some_and(|shed| longer(since.max(shed), SHED_HEAD));
            let idle_since = activity.idle_since();
            match (activity.head_since(), shedding_since) {
                (Some(since), _) if longer(since, limits.head) || shed_late(since) => Act::Cut(Cut::ClientTooSlow),
                (Some(_), _) => Act::Leave,
                (None, Some(shedding)) if longer(idle_since.max(shedding), SHED_IDLE + spread(id)) => Act::Close,
                (None, _) if longer(idle_since, limits.idle) => Act::Close,
                (None, _) if !activity.is_used() && longer(idle_since, UNUSED) => Act::Close,
                (None, _) => Act::Leave,
            }
        }
        Stage::Waiting | Stage::Answering => {
            let body_late = activity.body_since().is_some_and(|since| longer(since, limits.body));
            let overdue = limits.request.is_some_and(|limit| longer(activity.begun(), limit));
            match stage {
                Stage::Waiting if overdue => Act::Expire(Expired::Request),
                Stage::Answering if overdue => Act::Cut(Cut::RequestTimeout),
                Stage::Waiting if body_late => Act::Expire(Expired::Body),
                // On a stream both sides may speak at their leisure; a connection of HTTP/1.1 is held up by it.
                Stage::Answering if body_late && !activity.is_stream() => Act::Cut(Cut::ClientTooSlow),
                Stage::Waiting
                    if activity.body_since().is_none()
                        && limits.answer.is_some_and(|limit| longer(activity.waiting_since(), limit)) =>
                {
                    Act::Expire(Expired::Answer)
                }
                _ => Act::Leave,
            }
        }
    }
}

/// The same for an HTTP/2 connection, whose requests are looked at each for itself.
fn decide_multiplexed(
    activity: &Activity,
    id: u64,
    limits: &Limits,
    shedding_since: Option<u64>,
    longer: impl Fn(u64, u64) -> bool,
) -> Act {
    let (write, head, idle_since) = (activity.write_since(), activity.head_since(), activity.idle_since());
    if write.is_some_and(|since| longer(since, limits.send)) || head.is_some_and(|since| longer(since, limits.head)) {
        return Act::Cut(Cut::ClientTooSlow);
    }
    let is_idle = activity.stage() == Stage::Idle;
    match (activity.closing_since(), shedding_since) {
        // It was asked to leave, has nothing under way, and does not go.
        (Some(since), _) if is_idle && longer(since.max(idle_since), SHED_HEAD) => Act::Cut(Cut::ClientTooSlow),
        (Some(_), _) => Act::Leave,
        // GOAWAY loses no request (RFC 9113 section 6.8), so that there is no need to wait for a pause between two.
        (None, Some(shedding)) if activity.is_used() && longer(shedding, spread(id)) => Act::Close,
        (None, Some(shedding)) if is_idle && longer(shedding.max(idle_since), SHED_IDLE + spread(id)) => Act::Close,
        (None, _) if is_idle && longer(idle_since, limits.idle) => Act::Close,
        (None, _) if !activity.is_used() && longer(idle_since, UNUSED) => Act::Close,
        (None, _) => Act::Leave,
    }
}

/// A number below [`SHED_SPREAD`] that differs from connection to connection (Fibonacci hashing).
fn spread(id: u64) -> u64 {
    (id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % SHED_SPREAD
}

#[cfg(test)]
mod tests;
