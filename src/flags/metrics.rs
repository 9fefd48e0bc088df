//! Metrics of the flag sources. The label `source` is bounded by the configuration.

use std::sync::Arc;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric as _, LabelValueEncoder,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::sync::watch;

use super::schedule::State;
use super::status::{self, Status};
use crate::telemetry::metrics::Registry;

/// What the sources count; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) generation: Gauge,
    pub(super) stale: Gauge,
    pub(super) flags: Gauge,
    pub(super) overrides: Gauge,
    pub(super) up: Family<Source, Gauge>,
    pub(super) revision: Family<Source, Gauge>,
    pub(super) confirmed: Family<Source, Gauge>,
    pub(super) rejected: Family<Source, Counter>,
    pub(super) resyncs: Family<Resync, Counter>,
    pub(super) rewinds: Family<Source, Counter>,
    pub(super) propagation: Histogram,
    pub(super) disk_failures: Family<Source, Counter>,
    pub(super) schedules: Family<Scheduled, Gauge>,
    pub(super) schedule_steps: Family<Source, Counter>,
    pub(super) schedule_conflicts: Family<Source, Counter>,
}

/// The source a figure is of.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Source {
    pub(super) source: Arc<str>,
}

/// A snapshot that was read again.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Resync {
    pub(super) source: Arc<str>,
    pub(super) reason: Reason,
}

/// Schedules in a state.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Scheduled {
    pub(super) source: Arc<str>,
    pub(super) state: &'static str,
}

/// Why a snapshot is read.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Reason {
    /// The connection is new.
    Connected,
    /// An event does not follow what is held.
    Gap,
    /// An event is of another incarnation.
    Incarnation,
    /// An event is older than what is held: Redis went back in time.
    Behind,
    /// An event does not tell what changed.
    Untold,
    /// An event cannot be understood.
    Malformed,
    /// An event told of a definition that does not validate.
    Invalid,
    /// The reconcile found another revision.
    Reconcile,
}

impl Reason {
    #[cfg(test)]
    const ALL: [Self; 8] = [
        Self::Connected,
        Self::Gap,
        Self::Incarnation,
        Self::Behind,
        Self::Untold,
        Self::Malformed,
        Self::Invalid,
        Self::Reconcile,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Gap => "gap",
            Self::Incarnation => "incarnation",
            Self::Behind => "behind",
            Self::Untold => "untold",
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::Reconcile => "reconcile",
        }
    }
}

/// In lower case, as every other label's values; the derived one writes the variant's name.
impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl Metrics {
    /// Makes the counters of a source visible at zero: an alert on their increase has to see where they began.
    pub(super) fn begin(&self, source: &Arc<str>, in_redis: bool) {
        let label = Source { source: source.clone() };
        drop(self.rejected.get_or_create(&label));
        if in_redis {
            drop(self.disk_failures.get_or_create(&label));
            drop(self.rewinds.get_or_create(&label));
            drop(self.resyncs.get_or_create(&Resync { source: source.clone(), reason: Reason::Connected }));
        }
    }

    /// Makes the figures of a scope's schedules visible, its gauges at zero.
    pub(super) fn begin_schedules(&self, source: &Source) {
        for state in [State::Waiting, State::Running, State::Paused] {
            let label = Scheduled { source: source.source.clone(), state: state.name() };
            self.schedules.get_or_create(&label).set(0);
        }
        drop(self.schedule_steps.get_or_create(source));
        drop(self.schedule_conflicts.get_or_create(source));
    }
}

/// Registers the metrics.
pub fn register(registry: &mut Registry) -> Metrics {
    let metrics = Metrics {
        generation: Gauge::default(),
        stale: Gauge::default(),
        flags: Gauge::default(),
        overrides: Gauge::default(),
        up: Family::default(),
        revision: Family::default(),
        confirmed: Family::default(),
        rejected: Family::default(),
        resyncs: Family::default(),
        rewinds: Family::default(),
        // 0.25 ms to 8 s.
        propagation: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
        disk_failures: Family::default(),
        schedules: Family::default(),
        schedule_steps: Family::default(),
        schedule_conflicts: Family::default(),
    };
    let mut add = |name: &str, help: &str, metric: Gauge| registry.register(name, help, metric);
    add("flags_generation", "Snapshots put in force since the start", metrics.generation.clone());
    add("flags_stale", "1 while something is served that its source does not confirm", metrics.stale.clone());
    add("flags_in_force", "Flags in force, all layers merged", metrics.flags.clone());
    add("flags_overrides", "Flags forced in this process alone", metrics.overrides.clone());
    let mut add =
        |name: &str, help: &str, metric: &Family<Source, Gauge>| registry.register(name, help, metric.clone());
    add("flags_source_up", "1 while what the source last gave is in force", &metrics.up);
    add("flags_source_revision", "The source's revision of what is served", &metrics.revision);
    add(
        "flags_source_confirmed_timestamp_seconds",
        "When the source last confirmed what is served, since the epoch",
        &metrics.confirmed,
    );
    registry.register("flags_rejected", "Documents refused because they do not validate", metrics.rejected.clone());
    registry.register("flags_resyncs", "Snapshots read from Redis, by reason", metrics.resyncs.clone());
    registry.register("flags_rewinds", "Snapshots of a lower revision than the one held", metrics.rewinds.clone());
    registry.register(
        "flags_propagation_seconds",
        "From a write in Redis, by its clock, to the flag in force here",
        metrics.propagation.clone(),
    );
    registry.register(
        "flags_disk_failures",
        "Failed attempts to write the last known good",
        metrics.disk_failures.clone(),
    );
    registry.register(
        "flags_schedules",
        "Schedules by state, told by the instance that executes them",
        metrics.schedules.clone(),
    );
    registry.register("flags_schedule_steps", "Steps of schedules done here", metrics.schedule_steps.clone());
    registry.register(
        "flags_schedule_conflicts",
        "Schedules paused here because somebody else changed their flag",
        metrics.schedule_conflicts.clone(),
    );
    metrics
}

/// Registers `flags_source_age_seconds{source}`: it grows without an event, so it is computed when it is asked for.
pub fn register_ages(registry: &mut Registry, status: watch::Receiver<Status>) {
    registry.register_collector(Box::new(Ages { status }));
}

#[derive(Debug)]
struct Ages {
    status: watch::Receiver<Status>,
}

impl Collector for Ages {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let now = SystemTime::now();
        // The lock on the status is not held while text is written.
        let ages: Vec<(Arc<str>, f64)> = {
            let status = self.status.borrow();
            let age = |source: &status::Source| Some((source.name.clone(), source.age(now)?.as_secs_f64()));
            status.sources.iter().filter_map(age).collect()
        };
        let kind = ConstGauge::new(0_f64).metric_type();
        let help = "How long ago the source confirmed what is served";
        let mut family = encoder.encode_descriptor("flags_source_age_seconds", help, None, kind)?;
        for (source, age) in ages {
            ConstGauge::new(age).encode(family.encode_family(&[("source", &*source)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{registry, render};

    #[test]
    fn every_reason_is_exported_in_lower_case_and_documented() {
        let mut registry = registry();
        let metrics = register(&mut registry);
        let documented = include_str!("../../docs/METRICS.md")
            .lines()
            .find(|line| line.contains("`tidegate_flags_resyncs_total`"))
            .expect("it has a row");
        for reason in Reason::ALL {
            metrics.resyncs.get_or_create(&Resync { source: "redis:orders".into(), reason }).inc();
            let name = format!("{reason:?}").to_lowercase();
            let sample = format!("tidegate_flags_resyncs_total{{source=\"redis:orders\",reason=\"{name}\"}} 1\n");
            let text = render(&registry);
            assert!(text.contains(&sample), "{text}");
        }
        let names = Reason::ALL.map(Reason::as_str).join(", ");
        assert!(documented.contains(&format!("`reason`: {names} |")), "{documented} does not list {names}");
    }
}
