//! What one connection is doing, as its socket, its service and the sweeper see it. All of them live on one thread;
//! the atomics only make the type shareable.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

/// The time of the sweepers' last look, for everything that only a sweeper compares: reading a clock for each request
/// and each part of a body would cost more than all the rest of the bookkeeping.
static LAST_LOOK: AtomicU64 = AtomicU64::new(1);

/// Milliseconds on a clock of this process, as of the last [`look`]; never 0, which means "not". So a time noted is up
/// to the sweepers' period too early, which they allow for.
pub fn now_ms() -> u64 {
    LAST_LOOK.load(Relaxed)
}

/// Brings [`now_ms`] up to date, and returns it.
pub fn look() -> u64 {
    static BORN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let now = BORN.elapsed().as_millis() as u64 + 1;
    LAST_LOOK.fetch_max(now, Relaxed);
    now
}

/// What a connection's request is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// No request under way.
    Idle,
    /// A request has come, its answer has not begun.
    Waiting,
    /// The answer is on its way to the client.
    Answering,
    /// Upgraded: no limit of time applies.
    Tunnel,
}

/// What the sweeper wants of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Nothing.
    None,
    /// Close when no request is under way.
    Close,
    /// Close at once.
    Cut,
}

/// Why something is cut that its client might have liked to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cut {
    /// The client takes its answer, or sends its request, too slowly.
    ClientTooSlow,
    /// The request as a whole has taken too long.
    RequestTimeout,
    /// A drain's deadline has passed.
    DrainDeadline,
    /// The process was told to end at once.
    Aborted,
}

impl Cut {
    const ALL: [Self; 4] = [Self::ClientTooSlow, Self::RequestTimeout, Self::DrainDeadline, Self::Aborted];

    /// Every name, in the order of the variants.
    pub const NAMES: [&'static str; 4] = ["client_too_slow", "request_timeout", "drain_deadline", "aborted"];

    /// The name in logs, spans and metrics.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// Which limit a waiting request has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Expired {
    /// None.
    No,
    /// The client stopped sending the request's body.
    Body,
    /// The app has not begun to answer.
    Answer,
    /// The request has taken too long.
    Request,
}

/// See the module's text. Times are of [`now_ms`], 0 for "not".
#[derive(Debug)]
pub struct Activity {
    stage: AtomicU8,
    order: AtomicU8,
    expired: AtomicU8,
    /// The place of a [`Cut`] in [`Cut::ALL`], plus one.
    cut_by: AtomicU8,
    /// Requests begun and not ended: one at most, or any number over HTTP/2.
    under_way: AtomicU32,
    /// HTTP/2: what is read need not be a request, and one request's end says nothing of the others.
    multiplexed: AtomicBool,
    /// Bytes were read that belong to no request begun so far.
    unclaimed: AtomicBool,
    /// Whether a request has ever come.
    used: AtomicBool,
    head_since: AtomicU64,
    idle_since: AtomicU64,
    waiting_since: AtomicU64,
    begun: AtomicU64,
    body_since: AtomicU64,
    write_since: AtomicU64,
    /// Since when the order to close is in force.
    closing_since: AtomicU64,
    /// The multiplexed connection that this is one request of.
    connection: Option<Arc<Activity>>,
    /// Whether the client may be silent in the middle of its request's body.
    unhurried: AtomicBool,
    /// The connection's task. (A `Notify` would cost a registration with each poll of the connection.)
    task: Mutex<Option<Waker>>,
}

impl Default for Activity {
    fn default() -> Self {
        Self::new()
    }
}

impl Activity {
    /// A connection opened now.
    pub fn new() -> Self {
        let now = now_ms();
        Self {
            stage: AtomicU8::new(Stage::Idle as u8),
            order: AtomicU8::new(Order::None as u8),
            expired: AtomicU8::new(Expired::No as u8),
            cut_by: AtomicU8::new(0),
            under_way: AtomicU32::new(0),
            multiplexed: AtomicBool::new(false),
            unclaimed: AtomicBool::new(false),
            used: AtomicBool::new(false),
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(now),
            waiting_since: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            body_since: AtomicU64::new(0),
            write_since: AtomicU64::new(0),
            closing_since: AtomicU64::new(0),
            connection: None,
            unhurried: AtomicBool::new(false),
            task: Mutex::new(None),
        }
    }

    /// One request of an HTTP/2 `connection`, which has limits and an end of its own.
    pub fn stream(connection: Arc<Self>) -> Self {
        Self { connection: Some(connection), ..Self::new() }
    }

    // What the socket tells.

    /// The connection speaks HTTP/2: no time runs for heads, which may not be what is read when something is (a client
    /// that never completes one is idle).
    pub fn multiplexed(&self) {
        self.multiplexed.store(true, Relaxed);
        self.head_since.store(0, Relaxed);
    }

    /// Whether it speaks HTTP/2.
    pub fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Relaxed)
    }

    /// Over HTTP/2: a part of a head was read, and the rest is awaited.
    pub fn head_begun(&self) {
        if self.head_since.load(Relaxed) == 0 {
            self.head_since.store(now_ms(), Relaxed);
        }
    }

    /// Over HTTP/2: the head is complete.
    pub fn head_ended(&self) {
        self.head_since.store(0, Relaxed);
    }

    /// Bytes were read.
    pub fn read(&self) {
        if self.multiplexed.load(Relaxed) {
            return;
        }
        self.unclaimed.store(true, Relaxed);
        if self.stage() == Stage::Idle && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(now_ms(), Relaxed);
        }
    }

    /// What comes before HTTP is done: the connection is as one just opened.
    pub fn admitted(&self) {
        self.unclaimed.store(false, Relaxed);
        self.head_since.store(0, Relaxed);
        self.idle_since.store(now_ms(), Relaxed);
    }

    /// The kernel takes no more bytes.
    pub fn write_blocked(&self) {
        if self.write_since.load(Relaxed) == 0 {
            self.write_since.store(now_ms(), Relaxed);
        }
    }

    /// The kernel has taken bytes.
    pub fn write_moved(&self) {
        self.write_since.store(0, Relaxed);
    }

    // What the service tells.

    /// A request's head is complete.
    pub fn begin(&self) {
        let now = now_ms();
        self.unclaimed.store(false, Relaxed);
        self.used.store(true, Relaxed);
        if !self.is_multiplexed() {
            self.head_since.store(0, Relaxed);
        }
        self.waiting_since.store(now, Relaxed);
        self.begun.store(now, Relaxed);
        self.under_way.store(self.under_way.load(Relaxed) + 1, Relaxed);
        self.set(Stage::Waiting);
    }

    /// The request's body is a conversation: its client speaks when it has something to say.
    pub fn unhurried(&self) {
        self.unhurried.store(true, Relaxed);
    }

    /// The request's body waits for the client.
    pub fn body_blocked(&self) {
        if self.body_since.load(Relaxed) == 0 {
            // What began in the far future is never late, and no end of the request either.
            let since = if self.unhurried.load(Relaxed) { u64::MAX } else { now_ms() };
            self.body_since.store(since, Relaxed);
        }
    }

    /// A part of the request's body has come, or its end: the app's time begins anew.
    pub fn body_moved(&self) {
        self.body_since.store(0, Relaxed);
        self.unclaimed.store(false, Relaxed);
        self.waiting_since.store(now_ms(), Relaxed);
    }

    /// The request waits for its turn: the app's time does not run.
    pub fn hold(&self) {
        self.waiting_since.store(u64::MAX, Relaxed);
    }

    /// Whether the request waits for its turn.
    pub fn is_held(&self) -> bool {
        self.waiting_since.load(Relaxed) == u64::MAX
    }

    /// The request goes on: the app's time begins.
    pub fn release(&self) {
        self.waiting_since.store(now_ms(), Relaxed);
    }

    /// The answer's head is there.
    pub fn answer(&self) {
        self.set(Stage::Answering);
    }

    /// The connection has become a tunnel.
    pub fn tunnel(&self) {
        self.set(Stage::Tunnel);
    }

    /// The request is done, or given up.
    pub fn end(&self) {
        let now = now_ms();
        self.body_since.store(0, Relaxed);
        self.expired.store(Expired::No as u8, Relaxed);
        let others = self.under_way.load(Relaxed).saturating_sub(1);
        self.under_way.store(others, Relaxed);
        if others > 0 {
            return;
        }
        self.idle_since.store(now, Relaxed);
        if self.is_multiplexed() {
            return self.set(Stage::Idle);
        }
        // A pipelined head, or a part of one, has been read already: its time runs.
        let head = if self.unclaimed.load(Relaxed) { now } else { 0 };
        self.head_since.store(head, Relaxed);
        self.set(Stage::Idle);
    }

    /// Which limit the request under way has passed.
    pub fn expired(&self) -> Expired {
        match self.expired.load(Relaxed) {
            1 => Expired::Body,
            2 => Expired::Answer,
            3 => Expired::Request,
            _ => Expired::No,
        }
    }

    // What the sweeper reads and orders.

    /// What is waited for.
    pub fn stage(&self) -> Stage {
        match self.stage.load(Relaxed) {
            0 => Stage::Idle,
            1 => Stage::Waiting,
            2 => Stage::Answering,
            _ => Stage::Tunnel,
        }
    }

    /// Since when a head is incomplete.
    pub fn head_since(&self) -> Option<u64> {
        since(&self.head_since)
    }

    /// Whether this is one request of a multiplexed connection, and not a connection.
    pub fn is_stream(&self) -> bool {
        self.connection.is_some()
    }

    /// Since when the order to close is in force.
    pub fn closing_since(&self) -> Option<u64> {
        since(&self.closing_since)
    }

    /// Whether a request has ever come.
    pub fn is_used(&self) -> bool {
        self.used.load(Relaxed)
    }

    /// Since when no request has been under way; meaningful in [`Stage::Idle`].
    pub fn idle_since(&self) -> u64 {
        self.idle_since.load(Relaxed)
    }

    /// Since when the app is waited for; meaningful in [`Stage::Waiting`].
    pub fn waiting_since(&self) -> u64 {
        self.waiting_since.load(Relaxed)
    }

    /// Since when the request is under way; meaningful in [`Stage::Waiting`] and [`Stage::Answering`].
    pub fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    /// Since when the client owes a part of the body.
    pub fn body_since(&self) -> Option<u64> {
        since(&self.body_since)
    }

    /// Since when the client takes no bytes.
    pub fn write_since(&self) -> Option<u64> {
        since(&self.write_since)
    }

    /// Tells a waiting request that its time is over.
    pub fn expire(&self, expired: Expired) {
        self.expired.store(expired as u8, Relaxed);
        self.wake();
    }

    /// Gives an order to the connection's task. A milder one does not replace a harsher one.
    pub fn give(&self, order: Order) {
        if order as u8 > self.order.load(Relaxed) {
            if order == Order::Close {
                self.closing_since.store(now_ms(), Relaxed);
            }
            self.order.store(order as u8, Relaxed);
            self.wake();
        }
    }

    /// Orders to close at once, for a reason that is kept: the first one.
    pub fn cut(&self, by: Cut) {
        if self.cut_by.load(Relaxed) == 0 {
            self.cut_by.store(by as u8 + 1, Relaxed);
        }
        self.give(Order::Cut);
    }

    /// Why it was cut, it or the connection that it is a request of.
    pub fn cut_by(&self) -> Option<Cut> {
        let own = usize::from(self.cut_by.load(Relaxed)).checked_sub(1).and_then(|at| Cut::ALL.get(at).copied());
        own.or_else(|| self.connection.as_ref()?.cut_by())
    }

    // What the connection's task waits for.

    /// Makes `task` the one that is woken when an order is given or a request has expired.
    pub fn attend(&self, task: &Waker) {
        let mut known = self.task();
        if !known.as_ref().is_some_and(|known| known.will_wake(task)) {
            *known = Some(task.clone());
        }
    }

    /// The order in force.
    pub fn order(&self) -> Order {
        match self.order.load(Relaxed) {
            0 => Order::None,
            1 => Order::Close,
            _ => Order::Cut,
        }
    }

    fn wake(&self) {
        if let Some(task) = self.task().take() {
            task.wake();
        }
    }

    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, stage: Stage) {
        self.stage.store(stage as u8, Relaxed);
    }
}

fn since(ms: &AtomicU64) -> Option<u64> {
    Some(ms.load(Relaxed)).filter(|ms| *ms > 0)
}

#[cfg(test)]
mod tests;
