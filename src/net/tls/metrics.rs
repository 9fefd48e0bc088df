//! Metrics of certificates. The label `listener` is bounded by the configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::telemetry::metrics::Registry;

/// What became of each listener's certificates; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Reloads(Arc<Mutex<BTreeMap<String, Listener>>>);

#[derive(Debug, Clone)]
struct Listener {
    expires: SystemTime,
    failures: u64,
    good: bool,
}

impl Reloads {
    /// None yet, exported by `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let reloads = Self::default();
        registry.register_collector(Box::new(reloads.clone()));
        reloads
    }

    /// The listener's files are in force; the first of their certificates expires then.
    pub(super) fn loaded(&self, listener: &str, expires: SystemTime) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(listener.to_owned()).or_insert(Listener { expires, failures: 0, good: true });
        (known.expires, known.good) = (expires, true);
    }

    /// When the first of the listener's certificates in force expires.
    pub(super) fn expires(&self, listener: &str) -> Option<SystemTime> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(listener).map(|known| known.expires)
    }

    /// The listener's files were not taken.
    pub(super) fn failed(&self, listener: &str) {
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(listener) {
            known.failures += 1;
            known.good = false;
        }
    }
}

impl Collector for Reloads {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let now = SystemTime::now();
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let gauge = ConstGauge::new(0_f64).metric_type();
        let help = "How long until the first of the listener's certificates expires; negative once one has";
        let mut family = encoder.encode_descriptor("tls_certificate_expiry_seconds", help, None, gauge)?;
        for (listener, state) in &all {
            let left = match state.expires.duration_since(now) {
                Ok(left) => left.as_secs_f64(),
                Err(over) => -over.duration().as_secs_f64(),
            };
            ConstGauge::new(left).encode(family.encode_family(&[("listener", listener.as_str())])?)?;
        }
        let help = "Whether the listener's files, as they are now, are in force";
        let mut family = encoder.encode_descriptor("tls_reload_ok", help, None, gauge)?;
        for (listener, state) in &all {
            ConstGauge::new(i64::from(state.good)).encode(family.encode_family(&[("listener", listener.as_str())])?)?;
        }
        let help = "Times that the listener's files changed and were not taken";
        let counter = ConstCounter::new(0_u64).metric_type();
        let mut family = encoder.encode_descriptor("tls_reload_failures", help, None, counter)?;
        for (listener, state) in &all {
            ConstCounter::new(state.failures).encode(family.encode_family(&[("listener", listener.as_str())])?)?;
        }
        Ok(())
    }
}
