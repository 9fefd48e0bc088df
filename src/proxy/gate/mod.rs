//! The gate before the app: while it is closed, requests wait in one line, in the order of their arrival, with their
//! bodies unread; when it opens they go through in that order, a few at first. One gate for each route, shared by all
//! workers.
//!
//! A request is in the ledger before it looks at the gate, and who closes the gate looks at the ledger afterwards. So
//! either that look counts the request, or the request sees that the gate is closed.

mod flaps;
mod keeper;
mod manual;
pub(super) mod metrics;
pub(super) mod queue;
pub mod restart;
pub(super) mod room;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use self::flaps::Flaps;
pub use self::keeper::Keeper;
pub use self::manual::{Hold, Manual, NotHeld};
use self::metrics::Counts;
use self::queue::{Lane, Queue, Refused, Turn};
use super::settings::{self, Route, Upstream};

/// Requests that go through at once when a gate opens; each answer lets two more go, and time more still.
const FIRST: usize = 16;

/// Somebody closed it: newcomers wait, and so does who has been called already.
const CLOSED: u8 = 1;
/// Somebody waits: newcomers wait behind.
const QUEUED: u8 = 2;

/// Why a gate is closed. It opens when no reason is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The app refuses connections.
    Refuses,
    /// The check that `hold.check` names fails.
    Check,
    /// `tidegate hold`.
    Manual,
    /// The app restarts.
    Restart,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Refuses, Self::Check, Self::Manual, Self::Restart];

    /// The name in logs, metrics and `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuses => "app_refuses",
            Self::Check => "check",
            Self::Manual => "manual",
            Self::Restart => "restart",
        }
    }
}

/// The gates of all routes, and the hold that a person has asked for. Cheap to clone.
#[derive(Clone)]
pub struct Gates {
    gates: Arc<[Arc<Gate>]>,
    manual: Arc<Mutex<Option<Manual>>>,
    settings: settings::Hold,
}

/// What one gate is doing, or all together.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Why requests are held, and since when; nothing while it is open.
    pub reasons: Vec<(Reason, Instant)>,
    /// Requests held now.
    pub held: usize,
    /// Since when the one is held that has been for longest.
    pub oldest: Option<Instant>,
}

/// One route, and what its gate is doing.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The listener's name, which is its address.
    pub listener: Arc<str>,
    /// The app behind it.
    pub app: Upstream,
    /// What its gate is doing.
    pub status: Status,
}

/// One route's gate.
pub(super) struct Gate {
    listener: Arc<str>,
    app: Upstream,
    settings: settings::Hold,
    /// [`CLOSED`] and [`QUEUED`]: all that a request reads while the gate is open.
    signs: AtomicU8,
    state: Mutex<State>,
    /// Told when the keeper has something to do.
    work: Notify,
    counts: Counts,
}

struct State {
    flaps: Flaps,
    closed: [Option<Closed>; Reason::ALL.len()],
    queue: Queue,
    /// Requests that were called and have no answer yet.
    trial: usize,
    /// How many of them there may be.
    window: usize,
}

#[derive(Clone, Copy)]
struct Closed {
    since: Instant,
    /// When it ends by itself.
    until: Option<Instant>,
    /// Whether the log has it, and will have its end.
    told: bool,
}

impl Gates {
    /// One for each route, which listens at the address beside it.
    pub(super) fn new(routes: &[Route], addresses: &[SocketAddr], settings: &settings::Hold) -> Self {
        let gate = |(route, address): (&Route, &SocketAddr)| {
            let closed = [None; Reason::ALL.len()];
            let state = State { flaps: Flaps::default(), closed, queue: Queue::new(), trial: 0, window: FIRST };
            Arc::new(Gate {
                listener: address.to_string().into(),
                app: route.upstream.clone(),
                settings: settings.clone(),
                signs: AtomicU8::new(0),
                state: Mutex::new(state),
                work: Notify::new(),
                counts: Counts::default(),
            })
        };
        let gates = routes.iter().zip(addresses).map(gate).collect();
        Self { gates, manual: Arc::default(), settings: settings.clone() }
    }

    pub(super) fn of_route(&self, route: usize) -> Arc<Gate> {
        self.gates[route].clone()
    }

    /// The tasks that open gates again: one each, to be run on one event loop.
    pub fn keepers(&self) -> Vec<Keeper> {
        self.gates.iter().map(|gate| Keeper::new(gate.clone())).collect()
    }

    /// Where the apps are, one for each gate.
    pub fn apps(&self) -> Vec<Upstream> {
        self.gates.iter().map(|gate| gate.app.clone()).collect()
    }

    /// Closes every gate. Nothing happens where `hold.max_requests` is 0.
    pub fn close(&self, reason: Reason) {
        self.gates.iter().for_each(|gate| gate.close(reason, None));
    }

    /// Closes the gate before `app`, which refuses connections.
    pub fn refuses(&self, app: &Upstream) {
        self.gates.iter().filter(|gate| gate.app == *app).for_each(|gate| gate.close(Reason::Refuses, None));
    }

    /// Takes a reason away from every gate.
    pub fn open(&self, reason: Reason) {
        self.gates.iter().for_each(|gate| gate.open(reason));
    }

    /// What each is doing.
    pub fn standings(&self) -> Vec<Standing> {
        let standing = |gate: &Arc<Gate>| Standing {
            listener: gate.listener.clone(),
            app: gate.app.clone(),
            status: gate.status(),
        };
        self.gates.iter().map(standing).collect()
    }

    /// What they are doing together: a reason counts from the first gate that it has closed.
    pub fn status(&self) -> Status {
        let mut all = Status::default();
        for gate in self.gates.iter() {
            let status = gate.status();
            for (reason, since) in status.reasons {
                match all.reasons.iter_mut().find(|(known, _)| *known == reason) {
                    Some((_, first)) => *first = since.min(*first),
                    None => all.reasons.push((reason, since)),
                }
            }
            all.held += status.held;
            all.oldest = status.oldest.into_iter().chain(all.oldest).min();
        }
        all
    }
}

impl Gate {
    /// Whether a request may pass that has not waited.
    pub(super) fn is_open(&self) -> bool {
        self.signs.load(SeqCst) == 0
    }

    /// Whether a request must wait that has waited already.
    pub(super) fn is_closed(&self) -> bool {
        self.signs.load(SeqCst) & CLOSED != 0
    }

    /// Whether requests are ever held here.
    pub(super) fn holds(&self) -> bool {
        self.settings.max_requests > 0
    }

    fn status(&self) -> Status {
        let state = self.lock();
        let reasons = Reason::ALL.into_iter().zip(state.closed);
        Status {
            reasons: reasons.filter_map(|(reason, closed)| Some((reason, closed?.since))).collect(),
            held: state.queue.len(),
            oldest: state.queue.oldest(),
        }
    }

    /// Holds requests for `reason`; since the first time that it was given.
    pub(super) fn close(&self, reason: Reason, until: Option<Instant>) {
        if !self.holds() {
            return;
        }
        let mut state = self.lock();
        let known = state.closed[reason as usize];
        let since = known.map_or_else(Instant::now, |known| known.since);
        let told = match known {
            Some(known) => known.told,
            // The other reasons are given by people and by what has thresholds of its own.
            None => reason != Reason::Refuses || state.flaps.is_told(since),
        };
        state.closed[reason as usize] = Some(Closed { since, until, told });
        self.sign(&state);
        drop(state);
        if known.is_none() && told {
            tracing::info!(listener = %self.listener, app = %self.app, reason = reason.as_str(), "requests are held");
        }
        self.work.notify_one();
    }

    /// Takes a reason away. When it was the last one, requests go through.
    pub(super) fn open(&self, reason: Reason) {
        let mut state = self.lock();
        let Some(Closed { since, told, .. }) = state.closed[reason as usize].take() else { return };
        if !state.is_closed() {
            state.window = FIRST;
        }
        let held = state.queue.len();
        self.advance(&mut state);
        drop(state);
        if told {
            let for_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            let (listener, app, reason) = (&self.listener, &self.app, reason.as_str());
            tracing::info!(%listener, %app, reason, for_ms, held, "requests are no longer held");
        }
    }

    /// Tells of an app that comes and goes what was left out, if that is due. What holds now is told with it.
    fn tell_flaps(&self, now: Instant) {
        let mut state = self.lock();
        let Some(times) = state.flaps.take(now) else { return };
        let refuses = &mut state.closed[Reason::Refuses as usize];
        let held = refuses.is_some();
        if let Some(refuses) = refuses {
            refuses.told = true;
        }
        drop(state);
        let (listener, app) = (&self.listener, &self.app);
        tracing::warn!(%listener, %app, times, held, "the app comes and goes: requests were held more often than told");
    }

    /// Calls who may go now, and says whether newcomers may pass.
    fn advance(&self, state: &mut State) {
        // Before anybody is called, who would look and find it closed.
        self.sign(state);
        while !state.is_closed() && state.trial < state.window && state.queue.call() {
            state.trial += 1;
        }
        self.sign(state);
    }

    fn sign(&self, state: &State) {
        let closed = if state.is_closed() { CLOSED } else { 0 };
        let queued = if state.queue.is_empty() { 0 } else { QUEUED };
        self.signs.store(closed | queued, SeqCst);
    }

    /// One that was called has its answer, or will have none.
    fn settle(&self, grown: usize) {
        let mut state = self.lock();
        state.trial = state.trial.saturating_sub(1);
        state.window = (state.window + grown).min(self.settings.max_requests.max(FIRST));
        self.advance(&mut state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_closed(&self) -> bool {
        self.closed.iter().any(Option::is_some)
    }

    /// Whether the app has been away for longer than anybody waits for it.
    fn is_away(&self, now: Instant, patience: Duration) -> bool {
        [Reason::Refuses, Reason::Check].into_iter().any(|reason| {
            let since = self.closed[reason as usize].map(|closed| closed.since);
            since.is_some_and(|since| now.saturating_duration_since(since) > patience)
        })
    }
}

impl Lane for Gate {
    /// A place in the line. Who comes again finds room: those who were called are counted in.
    fn join(&self, ticket: Option<u64>, since: Instant) -> Result<(u64, oneshot::Receiver<()>), Refused> {
        let mut state = self.lock();
        if ticket.is_none() && state.is_away(Instant::now(), self.settings.max_wait) {
            return Err(Refused::Away);
        }
        if ticket.is_none() && state.queue.len() + state.trial >= self.settings.max_requests {
            return Err(Refused::Full);
        }
        let joined = state.queue.join(ticket, since);
        self.advance(&mut state);
        drop(state);
        self.work.notify_one();
        Ok(joined)
    }

    fn leave(&self, ticket: u64) {
        let mut state = self.lock();
        if !state.queue.leave(ticket) {
            state.trial = state.trial.saturating_sub(1);
        }
        self.advance(&mut state);
    }

    fn give_back(&self) {
        self.settle(0);
    }

    fn patience(&self) -> Duration {
        self.settings.max_wait
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Turn<Gate> {
    /// The app has answered: it stands more at a time.
    pub(super) fn answered(self) {
        if let Some(gate) = self.take() {
            gate.settle(1);
        }
    }
}

#[cfg(test)]
mod tests;
