//! What became of spans, read when it is asked for.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;

use super::Spans;

/// Registers `trace_spans`, which is 0 where nothing is traced.
pub fn register(registry: &mut Registry, spans: Option<Spans>) {
    registry.register_collector(Box::new(Ended(spans)));
}

struct Ended(Option<Spans>);

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ended")
    }
}

impl Collector for Ended {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor("trace_spans", "Spans, by their end.", None, MetricType::Counter)?;
        let counts = self.0.as_ref().map(|spans| &spans.counts);
        let counts = counts.map(|counts| [&counts.exported, &counts.failed, &counts.rejected, &counts.dropped]);
        for (at, result) in ["exported", "failed", "rejected", "dropped"].into_iter().enumerate() {
            let count = counts.map_or(0, |counts| counts[at].load(Relaxed));
            ConstCounter::new(count).encode(family.encode_family(&[("result", result)])?)?;
        }
        Ok(())
    }
}
