//! What the webhook counts. Labels are a few words each, never a name of anybody's.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::review::Kind;
use crate::telemetry::metrics::Registry;

/// Seconds; the API server waits 10 by default.
const BUCKETS: [f64; 7] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.1, 1.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    reviews: Family<Outcome, Counter>,
    took: Histogram,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { reviews: Family::default(), took: Histogram::new(BUCKETS) };
        for outcome in Kind::ALL.map(Kind::as_str).into_iter().chain(["malformed"]) {
            _ = metrics.reviews.get_or_create(&Outcome { outcome }).get();
        }
        registry.register("webhook_reviews", "Reviews answered, by what they came to", metrics.reviews.clone());
        let help = "How long reviews took, from their whole body on";
        registry.register("webhook_review_duration_seconds", help, metrics.took.clone());
        metrics
    }

    pub(super) fn answered(&self, kind: Option<Kind>, took: Duration) {
        let outcome = kind.map_or("malformed", Kind::as_str);
        self.reviews.get_or_create(&Outcome { outcome }).inc();
        self.took.observe(took.as_secs_f64());
    }
}
