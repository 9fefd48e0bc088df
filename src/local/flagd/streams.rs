//! Streams that are open: how many there may be, what they wait for, and how they ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use crate::net::rpc::{Code, Status};
use crate::telemetry::metrics::Registry;

/// Streams of all kinds at once.
pub const MAX: usize = 1024;

/// Whose client took nothing for this long was too slow, whoever ended it then: the listener cuts it about here.
const SLOW: Duration = Duration::from_secs(9);

/// What a stream carries.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Kind {
    Events,
    Sync,
    Health,
    Reflection,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum End {
    /// The client left.
    Client,
    /// The client took nothing for too long.
    Slow,
    /// The client's own time was over.
    Deadline,
    /// The sidecar ends.
    Shutdown,
}

impl EncodeLabelValue for Kind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let name = match self {
            Kind::Events => "events",
            Kind::Sync => "sync",
            Kind::Health => "health",
            Kind::Reflection => "reflection",
        };
        name.encode(encoder)
    }
}

impl EncodeLabelValue for End {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let name = match self {
            End::Client => "client",
            End::Slow => "slow",
            End::Deadline => "deadline",
            End::Shutdown => "shutdown",
        };
        name.encode(encoder)
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfKind {
    kind: Kind,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    kind: Kind,
    reason: End,
}

/// What is counted; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    open: Family<OfKind, Gauge>,
    ended: Family<Ended, Counter>,
    refused: Counter,
}

/// Registers the metrics.
pub fn register(registry: &mut Registry) -> Metrics {
    let metrics = Metrics::default();
    for kind in [Kind::Events, Kind::Sync, Kind::Health, Kind::Reflection] {
        drop(metrics.open.get_or_create(&OfKind { kind }));
        for reason in [End::Client, End::Slow, End::Deadline, End::Shutdown] {
            drop(metrics.ended.get_or_create(&Ended { kind, reason }));
        }
    }
    registry.register("flagd_streams", "Streams of the flagd protocols that are open", metrics.open.clone());
    registry.register("flagd_streams_ended", "Streams that ended, by reason", metrics.ended.clone());
    registry.register("flagd_streams_refused", "Streams beyond the limit", metrics.refused.clone());
    metrics
}

/// The places for streams. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    open: Arc<AtomicUsize>,
    metrics: Metrics,
}

impl Streams {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { open: Arc::default(), metrics }
    }

    /// A place for one more.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when none is left.
    pub(super) fn place(&self, kind: Kind) -> Result<Place, Status> {
        if self.open.fetch_add(1, Relaxed) >= MAX {
            self.open.fetch_sub(1, Relaxed);
            self.metrics.refused.inc();
            return Err(Status::new(Code::ResourceExhausted, format!("{MAX} streams are open, which is the limit")));
        }
        self.metrics.open.get_or_create(&OfKind { kind }).inc();
        Ok(Place { streams: self.clone(), kind, given: None, end: None })
    }
}

/// A stream's place, left when dropped.
#[derive(Debug)]
pub(super) struct Place {
    streams: Streams,
    kind: Kind,
    /// Since when the client has not asked for the next message.
    given: Option<Instant>,
    end: Option<End>,
}

impl Place {
    /// The client has room for another message.
    pub(super) fn asked(&mut self) {
        self.given = None;
    }

    /// A message was given away.
    pub(super) fn gave(&mut self) {
        self.given = Some(Instant::now());
    }

    /// The stream is at its end.
    pub(super) fn ends(&mut self, end: End) {
        self.end = Some(end);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.open.fetch_sub(1, Relaxed);
        let Metrics { open, ended, .. } = &self.streams.metrics;
        open.get_or_create(&OfKind { kind: self.kind }).dec();
        let slow = self.given.is_some_and(|given| given.elapsed() > SLOW);
        let reason = self.end.unwrap_or(if slow { End::Slow } else { End::Client });
        ended.get_or_create(&Ended { kind: self.kind, reason }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{registry, render};

    #[test]
    fn places_are_counted_bounded_and_given_back() {
        let mut registry = registry();
        let streams = Streams::new(register(&mut registry));
        let mut places: Vec<Place> = (0..MAX).map(|_| streams.place(Kind::Events).expect("a place")).collect();
        assert_eq!(streams.place(Kind::Sync).map(drop).map_err(|status| status.code), Err(Code::ResourceExhausted));
        places[0].ends(End::Shutdown);
        places.drain(..2);
        assert!(streams.place(Kind::Sync).is_ok());
        let text = render(&registry);
        for line in [
            r#"tidegate_flagd_streams{kind="events"} 1022"#,
            r#"tidegate_flagd_streams_ended_total{kind="events",reason="shutdown"} 1"#,
            r#"tidegate_flagd_streams_ended_total{kind="events",reason="client"} 1"#,
            r#"tidegate_flagd_streams_ended_total{kind="sync",reason="client"} 1"#,
            "tidegate_flagd_streams_refused_total 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in {text}");
        }
    }
}
