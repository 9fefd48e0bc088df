//! What the checks count. Labels are the configured checks' names and three results.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric as _, LabelValueEncoder,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric as _};
use tokio::time::Instant;

use crate::readiness::board::Board;
use crate::readiness::verdict::Standing;
use crate::telemetry::metrics::Registry;

/// Metrics of all checks.
#[derive(Debug, Clone)]
pub struct Metrics {
    attempts: Family<AttemptLabels, Counter>,
    durations: Family<CheckLabels, Histogram, fn() -> Histogram>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Ending {
    Ok,
    Failed,
    Timeout,
}

impl EncodeLabelValue for Ending {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let name = match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    check: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    check: String,
    result: Ending,
}

impl Metrics {
    /// Registers `check_attempts_total`, `check_duration_seconds`, and, computed from the board at each scrape so
    /// that a result too old shows there as well, `check_up` and `ready`.
    pub fn register(registry: &mut Registry, board: &Board) -> Self {
        let attempts = Family::default();
        let durations = Family::new_with_constructor(buckets as fn() -> Histogram);
        registry.register("check_attempts", "Attempts at a check, by result", attempts.clone());
        registry.register("check_duration_seconds", "How long an attempt at a check took", durations.clone());
        registry.register_collector(Box::new(Standings { board: board.clone() }));
        Self { attempts, durations }
    }

    /// The metrics of one check; its series exist from here on, at zero.
    pub(super) fn of_check(&self, name: &str) -> CheckMetrics {
        let attempts = |result| {
            let labels = AttemptLabels { check: name.to_owned(), result };
            self.attempts.get_or_create_owned(&labels)
        };
        CheckMetrics {
            ok: attempts(Ending::Ok),
            failed: attempts(Ending::Failed),
            timeout: attempts(Ending::Timeout),
            duration: self.durations.get_or_create_owned(&CheckLabels { check: name.to_owned() }),
        }
    }
}

/// 1 ms to 16 s: a check's timeout is in seconds, a healthy one takes a millisecond.
fn buckets() -> Histogram {
    Histogram::new([0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
}

/// One check's metrics.
#[derive(Debug, Clone)]
pub(super) struct CheckMetrics {
    ok: Counter,
    failed: Counter,
    timeout: Counter,
    duration: Histogram,
}

impl CheckMetrics {
    /// Counts one attempt.
    pub(super) fn count(&self, ending: Ending, took: Duration) {
        match ending {
            Ending::Ok => self.ok.inc(),
            Ending::Failed => self.failed.inc(),
            Ending::Timeout => self.timeout.inc(),
        };
        self.duration.observe(took.as_secs_f64());
    }
}

/// `check_up` and `ready`, as `/readyz` would say at the moment of the scrape.
#[derive(Debug)]
struct Standings {
    board: Board,
}

impl Collector for Standings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let verdict = self.board.snapshot().verdict(Instant::now(), |_| false);
        let mut up =
            encoder.encode_descriptor("check_up", "Whether a check passes (1) or not (0)", None, MetricType::Gauge)?;
        for line in verdict.lines.iter().filter(|line| line.listed) {
            let labels = CheckLabels { check: line.name.to_string() };
            gauge(matches!(line.standing, Standing::Ok | Standing::Returning)).encode(up.encode_family(&labels)?)?;
        }
        let help = "Whether /readyz says ready (1) or not (0)";
        let ready = encoder.encode_descriptor("ready", help, None, ConstGauge::<i64>::TYPE)?;
        gauge(verdict.ready()).encode(ready)
    }
}

fn gauge(holds: bool) -> ConstGauge<i64> {
    ConstGauge::new(i64::from(holds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::settings::{Check, Kind, Settings};
    use crate::telemetry::metrics::{registry, render};

    #[test]
    fn a_check_has_all_its_series_before_its_first_attempt() {
        let check = Check::new("db", Kind::Tcp { address: "127.0.0.1:1".to_owned() });
        let board = Board::new(&Settings { checks: vec![check] });
        let mut registry = registry();
        let metrics = Metrics::register(&mut registry, &board);
        let counts = metrics.of_check("db");
        let text = render(&registry);
        for line in [
            "tidegate_check_up{check=\"db\"} 0\n",
            "tidegate_ready 0\n",
            "tidegate_check_attempts_total{check=\"db\",result=\"timeout\"} 0\n",
            "tidegate_check_duration_seconds_count{check=\"db\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }

        counts.count(Ending::Ok, Duration::from_millis(3));
        for reporter in board.reporters() {
            reporter.report(Ok(()), Instant::now());
        }
        let text = render(&registry);
        for line in [
            "tidegate_check_up{check=\"db\"} 1\n",
            "tidegate_ready 1\n",
            "tidegate_check_attempts_total{check=\"db\",result=\"ok\"} 1\n",
            "tidegate_check_duration_seconds_bucket{le=\"0.004\",check=\"db\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
