//! What an instance counts of its place in the fleet. The label `check` is one of the shared checks.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::telemetry::metrics::Registry;

/// Metrics of the registry and the brake. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(super) registered: Gauge,
    pub(super) live: Gauge,
    beats: Family<ResultLabels, Counter>,
    pub(super) holds: Family<CheckLabels, Gauge>,
    pub(super) turns: Family<CheckLabels, Counter>,
}

/// How a heartbeat ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It counts.
    Ok,
    /// Redis was away or did not answer.
    Failed,
    /// Redis answered that it does not count: also one that is a replica, or loads its data.
    Refused,
}

impl Ending {
    const ALL: [Self; 3] = [Self::Ok, Self::Failed, Self::Refused];

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CheckLabels {
    pub(super) check: Arc<str>,
}

impl Metrics {
    /// Registers `fleet_registered`, `fleet_instances`, `fleet_heartbeats_total`, and for these checks
    /// `brake_holds` and `brake_turns_total`.
    pub fn register(registry: &mut Registry, checks: &[Arc<str>]) -> Self {
        let metrics = Self::default();
        registry.register(
            "fleet_registered",
            "Whether the last heartbeat to the fleet counted",
            metrics.registered.clone(),
        );
        registry.register("fleet_instances", "Live instances as the last heartbeat learned", metrics.live.clone());
        registry.register("fleet_heartbeats", "Heartbeats to the fleet, by result", metrics.beats.clone());
        if !checks.is_empty() {
            let help = "Whether the brake holds for a check that fails here";
            registry.register("brake_holds", help, metrics.holds.clone());
            registry.register("brake_turns", "Times that the brake began to hold", metrics.turns.clone());
        }
        for ending in Ending::ALL {
            drop(metrics.beats.get_or_create(&ResultLabels { result: ending.name() }));
        }
        for check in checks {
            drop(metrics.holds.get_or_create(&CheckLabels { check: check.clone() }));
            drop(metrics.turns.get_or_create(&CheckLabels { check: check.clone() }));
        }
        metrics
    }

    /// Counts one heartbeat.
    pub(super) fn count(&self, ending: Ending) {
        self.beats.get_or_create(&ResultLabels { result: ending.name() }).inc();
        self.registered.set(i64::from(ending == Ending::Ok));
    }
}
