//! The only writer of the phase: it feeds the machine with requests, signals and the passing of time, and tells
//! every reader through one `watch` channel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::drain::Settings;
use super::leases::Leases;
use super::ledger::Ledger;
use super::machine::{Event, Outcome, Phase, step};

/// How often the ledger is looked at while a drain goes on, and expired work leases are released.
const TICK: Duration = Duration::from_millis(50);

/// The way to ask for a change of phase, and to read the phase. Cheap to clone.
#[derive(Clone)]
pub struct Lifecycle {
    events: mpsc::Sender<Event>,
    phase: watch::Receiver<Phase>,
}

/// Runs the machine; see [`Driver::run`].
pub struct Driver {
    events: mpsc::Receiver<Event>,
    phase: watch::Sender<Phase>,
    settings: Settings,
    ledger: Arc<Ledger>,
    leases: Arc<Leases>,
}

/// A lifecycle in phase `Starting`, and the driver that must be run for anything to happen.
pub fn new(settings: Settings, ledger: Arc<Ledger>, leases: Arc<Leases>) -> (Lifecycle, Driver) {
    let (events_in, events) = mpsc::channel(16);
    let (phase, phase_out) = watch::channel(Phase::Starting);
    (Lifecycle { events: events_in, phase: phase_out }, Driver { events, phase, settings, ledger, leases })
}

impl Lifecycle {
    /// Where the process is now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// A reader of the phase.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Passes an event to the machine. The driver is gone only when the process is ending, when nothing is left to
    /// be asked.
    pub async fn send(&self, event: Event) {
        if self.events.send(event).await.is_err() {
            tracing::debug!(?event, "the lifecycle has ended");
        }
    }

    /// Begins a drain, or joins the one under way, and returns how it ended.
    ///
    /// # Cancellation
    /// A caller that goes away does not stop the drain.
    pub async fn drain(&self) -> Outcome {
        self.send(Event::Drain).await;
        let mut phase = self.phase.clone();
        match phase.wait_for(|phase| phase.outcome().is_some()).await {
            Ok(phase) => phase.outcome().unwrap_or(Outcome::Aborted),
            Err(_) => Outcome::Aborted,
        }
    }

    /// The app's `preStop` hook: as [`Lifecycle::drain`], or `None` when it turns out that only the app restarts, and
    /// nothing that went to it is under way any more.
    ///
    /// # Cancellation
    /// A caller that goes away changes nothing.
    pub async fn hook(&self) -> Option<Outcome> {
        let mut phase = self.phase.clone();
        phase.borrow_and_update();
        self.send(Event::Hook).await;
        // A restart may be over before this has looked: then it has seen another phase in between.
        let mut begun = false;
        let ended = phase.wait_for(|phase| {
            begun |= phase.is_draining() || matches!(phase, Phase::Restarting { .. });
            phase.outcome().is_some() || phase.is_released() || (begun && *phase == Phase::Serving)
        });
        match ended.await {
            Ok(phase) => phase.outcome(),
            Err(_) => Some(Outcome::Aborted),
        }
    }
}

impl Driver {
    /// Runs until the machine has stopped, and returns how. Readers of the phase take the driver's drop for the end of the
    /// process.
    pub async fn run(&mut self) -> Outcome {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let phase = *self.phase.borrow();
            if let Phase::Stopped { outcome } = phase {
                return outcome;
            }
            let event = tokio::select! {
                Some(event) = self.events.recv() => event,
                _ = tick.tick() => {
                    self.leases.release_expired(Instant::now());
                    Event::Tick(self.ledger.traffic())
                }
            };
            self.enter(phase, step(phase, event, Instant::now(), &self.settings));
        }
    }

    fn enter(&self, from: Phase, to: Phase) {
        if from == to {
            return;
        }
        self.phase.send_replace(to);
        if from.rank() == to.rank() {
            return;
        }
        let counts = self.ledger.counts();
        tracing::info!(
            from = from.as_str(),
            to = to.as_str(),
            outcome = to.outcome().map(Outcome::as_str),
            requests = counts.requests,
            tunnels = counts.tunnels,
            work = counts.work,
            connections = counts.connections,
            "phase changed"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::ledger::Kind;

    fn quick() -> Settings {
        Settings {
            delay: Duration::ZERO,
            quiet: Duration::ZERO,
            deadline: Duration::from_secs(60),
            ..Settings::default()
        }
    }

    #[tokio::test]
    async fn a_drain_waits_for_the_ledger_and_two_callers_share_it() {
        let ledger = Arc::new(Ledger::new(1));
        let leases = Arc::new(Leases::new(ledger.shard(0)));
        let (lifecycle, mut driver) = new(quick(), ledger.clone(), leases);
        let request = ledger.shard(0).begin(Kind::Request);
        let calls = async {
            let release = async {
                let mut phase = lifecycle.watch();
                phase.wait_for(|phase| phase.is_shedding()).await.expect("the driver runs");
                drop(request);
            };
            let (first, second, ()) = tokio::join!(lifecycle.drain(), lifecycle.drain(), release);
            assert_eq!((first, second), (Outcome::Clean, Outcome::Clean));
            lifecycle.send(Event::Terminate).await;
        };
        let (ended, ()) = tokio::join!(driver.run(), calls);
        assert_eq!(ended, Outcome::Clean);
    }
}
