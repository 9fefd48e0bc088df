//! The lifecycle's metrics: the phase and what is in flight, read when they are asked for.

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::driver::Lifecycle;
use super::ledger::Ledger;
use super::machine::Phase;

/// Registers `phase{phase}` (1 for the current one) and `in_flight{kind}`.
pub fn register(registry: &mut Registry, lifecycle: Lifecycle, ledger: Arc<Ledger>) {
    registry.register_collector(Box::new(State { lifecycle, ledger }));
}

struct State {
    lifecycle: Lifecycle,
    ledger: Arc<Ledger>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let current = self.lifecycle.phase().as_str();
        let phase = ConstGauge::new(0_i64);
        let mut family =
            encoder.encode_descriptor("phase", "1 for the phase the process is in.", None, phase.metric_type())?;
        for name in Phase::NAMES {
            let gauge = ConstGauge::new(i64::from(name == current));
            gauge.encode(family.encode_family(&[("phase", name)])?)?;
        }
        let counts = self.ledger.counts();
        let mut family = encoder.encode_descriptor(
            "in_flight",
            "Requests, tunnels and work leases under way, requests that wait, and open client connections.",
            None,
            phase.metric_type(),
        )?;
        let kinds = [
            ("request", counts.requests),
            ("tunnel", counts.tunnels),
            ("work", counts.work),
            ("waiting", counts.waiting),
            ("connection", counts.connections),
        ];
        for (kind, count) in kinds {
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&[("kind", kind)])?)?;
        }
        let age = self.ledger.oldest_request(Instant::now()).unwrap_or_default();
        let age = ConstGauge::new(age.as_secs_f64());
        let help = "How long the oldest request in flight has been under way; 0 without one.";
        let name = "in_flight_oldest_request";
        age.encode(encoder.encode_descriptor(name, help, Some(&Unit::Seconds), age.metric_type())?)
    }
}
