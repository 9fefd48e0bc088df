//! The probes of a running container, on their periods.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::container::Container;
use super::record::What;
use super::spec::Probe;

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup probe",
            Self::Readiness => "readiness probe",
            Self::Liveness => "liveness probe",
        }
    }
}

impl Container {
    /// Probes it until it is to be restarted, and says by which probe.
    pub(super) async fn probes(&self) -> Kind {
        if let Some(probe) = &self.spec.startup_probe {
            if !self.verdict(probe, Kind::Startup).await {
                return Kind::Startup;
            }
            self.record(What::Up);
        }
        self.state.send_modify(|state| state.is_up = true);
        tokio::select! {
            () = self.readiness() => unreachable!("it goes on as long as the container"),
            () = self.liveness() => Kind::Liveness,
        }
    }

    /// Follows the readiness probe.
    pub(super) async fn readiness(&self) {
        let Some(probe) = &self.spec.readiness_probe else {
            self.state.send_modify(|state| state.is_ready = true);
            return std::future::pending().await;
        };
        let mut turns = Turns::of(probe);
        loop {
            let is_ready = self.turn(probe, Kind::Readiness, &mut turns).await;
            if is_ready != self.state.borrow().is_ready {
                self.record(if is_ready { What::Ready } else { What::NotReady });
                self.state.send_modify(|state| state.is_ready = is_ready);
            }
        }
    }

    /// Follows the liveness probe until it fails.
    pub(super) async fn liveness(&self) {
        match &self.spec.liveness_probe {
            Some(probe) => while self.verdict(probe, Kind::Liveness).await {},
            None => std::future::pending().await,
        }
    }

    async fn verdict(&self, probe: &Probe, kind: Kind) -> bool {
        let mut turns = Turns::of(probe);
        loop {
            let passed = self.turn(probe, kind, &mut turns).await;
            if !passed || kind == Kind::Startup {
                return passed;
            }
        }
    }

    /// Attempts until there is a verdict: as many of one kind in a row as it takes.
    async fn turn(&self, probe: &Probe, kind: Kind, turns: &mut Turns) -> bool {
        loop {
            turns.next().await;
            let attempt = timeout(probe.timeout(), self.place.probe(&probe.handler)).await;
            let why = match attempt {
                Ok(Ok(_)) => None,
                Ok(Err(why)) => Some(why),
                Err(_) => Some(format!("no answer within {:?}", probe.timeout())),
            };
            let passed = why.is_none();
            if let Some(why) = why {
                self.record(What::Unhealthy(format!("{}: {why}", kind.name())));
            }
            turns.in_row = if turns.last == Some(passed) { turns.in_row + 1 } else { 1 };
            turns.last = Some(passed);
            if turns.in_row >= if passed { probe.success_threshold } else { probe.failure_threshold } {
                return passed;
            }
        }
    }
}

/// When a probe is tried, and what came of it. The first time is at once: the kubelet's periods do not begin with the
/// container, so that it may be.
struct Turns {
    delay: Option<Duration>,
    ticks: tokio::time::Interval,
    last: Option<bool>,
    in_row: u32,
}

impl Turns {
    fn of(probe: &Probe) -> Self {
        let mut ticks = interval(probe.period());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { delay: Some(probe.initial_delay()), ticks, last: None, in_row: 0 }
    }

    async fn next(&mut self) {
        if let Some(delay) = self.delay.take() {
            sleep(delay).await;
        }
        self.ticks.tick().await;
    }
}
