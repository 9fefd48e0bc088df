//! Opens a gate again: looks whether the app accepts connections, ends holds at their limit, and lets more and more
//! of those through that wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::{Gate, Reason};
use crate::net::resolve::{self, Purpose};
use crate::proxy::settings::{Address, Upstream};

/// Between two looks at an app that refuses; ever longer while it does, as a part of how long it has.
const LOOK: Duration = Duration::from_millis(50);
const LONGEST_LOOK: Duration = Duration::from_millis(500);
const LOOK_PART: u32 = 16;
/// An app that takes longer to accept is not there.
const ACCEPTS: Duration = Duration::from_millis(500);
/// How often twice as many may be without an answer: an app whose answers take long must not keep the others waiting.
const WIDEN: Duration = Duration::from_millis(100);

/// See the module's text.
pub struct Keeper {
    gate: Arc<Gate>,
    /// When the app is looked at next, and when more may go.
    look: Instant,
    widen: Instant,
}

impl Keeper {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        let now = Instant::now();
        Self { gate, look: now, widen: now }
    }

    /// Keeps the gate for as long as it is polled.
    pub async fn run(mut self) {
        loop {
            match self.tend(Instant::now()).await {
                None => self.gate.work.notified().await,
                Some(next) => {
                    let pause = next.saturating_duration_since(Instant::now());
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = self.gate.work.notified() => {}
                    }
                }
            }
        }
    }

    /// Does what is due, and tells when something will be.
    async fn tend(&mut self, now: Instant) -> Option<Instant> {
        self.gate.tell_flaps(now);
        let (closed, waits, flaps) = {
            let state = self.gate.lock();
            (state.closed, !state.queue.is_empty(), state.flaps.due())
        };
        for (reason, closed) in Reason::ALL.into_iter().zip(closed) {
            if closed.and_then(|closed| closed.until).is_some_and(|until| now >= until) {
                self.gate.open(reason);
            }
        }
        let mut due =
            closed.iter().flatten().filter_map(|closed| closed.until).filter(|until| now < *until).chain(flaps).min();
        if let Some(refuses) = closed[Reason::Refuses as usize] {
            if now >= self.look {
                if accepts(&self.gate.app).await {
                    self.gate.open(Reason::Refuses);
                }
                let part = now.saturating_duration_since(refuses.since) / LOOK_PART;
                self.look = Instant::now() + part.clamp(LOOK, LONGEST_LOOK);
            }
            due = due.into_iter().chain([self.look]).min();
        }
        if waits && closed.iter().all(Option::is_none) {
            if now >= self.widen {
                self.gate.widen();
                self.widen = now + WIDEN;
            }
            due = due.into_iter().chain([self.widen]).min();
        }
        due
    }
}

impl Gate {
    pub(super) fn widen(&self) {
        let mut state = self.lock();
        state.window = (state.window * 2).min(self.settings.max_requests.max(super::FIRST));
        self.advance(&mut state);
    }
}

/// Whether an app accepts connections.
pub(super) async fn accepts(app: &Upstream) -> bool {
    let connected = async {
        match &app.address {
            Address::Tcp { host, port } => {
                let addresses = resolve::addresses(Purpose::Upstream, host, *port).await?;
                tokio::net::TcpStream::connect(addresses.as_slice()).await.map(drop)
            }
            Address::Unix(path) => tokio::net::UnixStream::connect(path).await.map(drop),
        }
    };
    matches!(timeout(ACCEPTS, connected).await, Ok(Ok(())))
}
