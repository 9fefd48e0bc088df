//! A histogram of durations that one thread writes and a scrape reads: fixed buckets, a step each, nothing allocated.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Upper bounds, in microseconds: from a connection on the same host to what nobody waits for.
const BOUNDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000, 60_000_000,
];

/// See the module's text.
#[derive(Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    /// Its type, for the line that declares it.
    pub(super) const TYPE: MetricType = MetricType::Histogram;

    /// Counts one duration.
    pub(super) fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        add(&self.buckets[bucket], 1);
        add(&self.micros, micros);
    }
}

/// Adds to what one thread alone writes: a load and a store, where a step that others could share costs ten times as much.
pub(super) fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Relaxed).wrapping_add(more), Relaxed);
}

/// Histograms of several threads, as one.
#[derive(Default)]
pub(super) struct Sum {
    buckets: [u64; BOUNDS.len() + 1],
    micros: u64,
}

impl Sum {
    /// The sum of all.
    pub(super) fn of<'h>(histograms: impl Iterator<Item = &'h Histogram>) -> Self {
        let mut sum = Self::default();
        for histogram in histograms {
            for (total, bucket) in sum.buckets.iter_mut().zip(&histogram.buckets) {
                *total += bucket.load(Relaxed);
            }
            sum.micros += histogram.micros.load(Relaxed);
        }
        sum
    }

    /// Whether anything was counted.
    pub(super) fn is_empty(&self) -> bool {
        self.buckets.iter().all(|count| *count == 0)
    }

    /// Writes the samples of one series.
    pub(super) fn encode(&self, labels: &impl EncodeLabelSet, family: &mut MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6).chain(std::iter::once(f64::INFINITY));
        let buckets: Vec<(f64, u64)> = bounds.zip(self.buckets.iter().copied()).collect();
        let mut series = family.encode_family(labels)?;
        series.encode_histogram::<NoLabelSet>(self.micros as f64 / 1e6, self.buckets.iter().sum(), &buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for (micros, bucket) in [(0, 0), (100, 0), (101, 1), (60_000_000, 15), (60_000_001, 16), (u64::MAX, 16)] {
            let before = histogram.buckets[bucket].load(Relaxed);
            histogram.observe(Duration::from_micros(micros));
            assert_eq!(histogram.buckets[bucket].load(Relaxed), before + 1, "{micros}");
        }
        let sum = Sum::of([&histogram, &histogram].into_iter());
        assert_eq!(sum.buckets.iter().sum::<u64>(), 12, "of all threads");
        assert!(!sum.is_empty() && Sum::default().is_empty());
    }
}
