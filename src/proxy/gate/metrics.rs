//! What is counted of requests that wait, by listener: how many, for how long, and how it ended. Shared by all workers:
//! only a request that waits writes here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::queue::Refused;
use super::{Gates, Reason};

/// Upper bounds of the histogram of waits, in microseconds.
const BOUNDS: [u64; 9] = [1_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000];

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The request went on.
    Passed,
    /// It had waited for too long.
    TimedOut,
    /// Its client left.
    Left,
}

/// The ends of [`End`] and then of [`Refused`]; only the last does not befall who waits for a place.
const ENDS: [&str; 5] = ["passed", "timeout", "left", "overflow", "away"];

/// Of one line, all workers together.
#[derive(Default)]
pub(in crate::proxy) struct Counts {
    ends: [AtomicU64; ENDS.len()],
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Counts {
    pub(super) fn waited(&self, end: End, took: Duration) {
        self.ends[end as usize].fetch_add(1, Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
    }

    /// No wait was begun.
    pub(super) fn refused(&self, why: Refused) {
        let end = match why {
            Refused::TooLong => 1,
            Refused::Full => 3,
            Refused::Away => 4,
        };
        self.ends[end].fetch_add(1, Relaxed);
    }
}

/// Registers the gates, and the queues for a place in flight.
pub(in crate::proxy) fn register(registry: &mut Registry, gates: Gates, queues: Arc<Counts>) {
    registry.register_collector(Box::new(Held { gates, queues }));
}

struct Held {
    gates: Gates,
    queues: Arc<Counts>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

impl Collector for Held {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let standings = self.gates.standings();
        let kind = ConstGauge::new(0_i64).metric_type();
        let help = "1 while requests are held for this reason.";
        let mut family = encoder.encode_descriptor("hold_closed", help, None, kind)?;
        for standing in &standings {
            for reason in Reason::ALL {
                let gauge =
                    ConstGauge::new(i64::from(standing.status.reasons.iter().any(|(known, _)| *known == reason)));
                gauge
                    .encode(family.encode_family(&[("listener", &*standing.listener), ("reason", reason.as_str())])?)?;
            }
        }
        let mut family = encoder.encode_descriptor("hold_requests", "Requests held now.", None, kind)?;
        for standing in &standings {
            let held = ConstGauge::new(i64::try_from(standing.status.held).unwrap_or(i64::MAX));
            held.encode(family.encode_family(&[("listener", &*standing.listener)])?)?;
        }
        let counter = ConstCounter::new(0_u64).metric_type();
        let histogram = Histogram::new(std::iter::empty()).metric_type();
        let help = "Requests that were to be held, by how it ended.";
        let mut family = encoder.encode_descriptor("hold_ended", help, None, counter)?;
        for gate in self.gates.gates.iter() {
            gate.counts.ends(&mut family, &[("listener", &gate.listener)], &ENDS)?;
        }
        let help = "How long requests were held.";
        let mut family = encoder.encode_descriptor("hold_wait", help, Some(&Unit::Seconds), histogram)?;
        for gate in self.gates.gates.iter() {
            gate.counts.waits(family.encode_family(&[("listener", &*gate.listener)])?)?;
        }
        let help = "Requests beyond the limit of those in flight, by how their wait ended.";
        let mut family = encoder.encode_descriptor("queue_ended", help, None, counter)?;
        self.queues.ends(&mut family, &[], &ENDS[..4])?;
        let help = "How long requests waited for a place among those in flight.";
        self.queues.waits(encoder.encode_descriptor("queue_wait", help, Some(&Unit::Seconds), histogram)?)
    }
}

impl Counts {
    fn ends(&self, family: &mut MetricEncoder<'_>, of: &[(&str, &str)], ends: &[&str]) -> fmt::Result {
        for (index, end) in ends.iter().enumerate() {
            let labels: Vec<(&str, &str)> = of.iter().copied().chain([("end", *end)]).collect();
            ConstCounter::new(self.ends[index].load(Relaxed)).encode(family.encode_family(&labels.as_slice())?)?;
        }
        Ok(())
    }

    fn waits(&self, mut metric: MetricEncoder<'_>) -> fmt::Result {
        let values: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6).chain(std::iter::once(f64::INFINITY));
        let buckets: Vec<(f64, u64)> = bounds.zip(values.iter().copied()).collect();
        let seconds = self.micros.load(Relaxed) as f64 / 1e6;
        metric.encode_histogram::<NoLabelSet>(seconds, values.iter().sum(), &buckets, None)
    }
}
