//! The counters of evaluations as metrics, read when they are scraped. How many series there are is bounded: the flags
//! asked for most have their own, the others have one together.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use super::{ERROR, REASONS, Snapshot, Store, VARIANTS};
use crate::flags::store::Entry;
use crate::telemetry::metrics::Registry;

/// Flags that have series of their own.
const FLAGS: usize = 200;

/// The label of what is counted together, and of what does not exist. No flag's own key is spared: a key may be
/// anything, so it is also what a flag called so would have.
const OTHERS: &str = "(other)";
const UNKNOWN: &str = "(unknown)";
const NONE: &str = "(none)";

/// Exports the counters of `store`.
pub fn register(registry: &mut Registry, store: Arc<Store>) {
    registry.register_collector(Box::new(Exposures { store }));
}

#[derive(Debug)]
struct Exposures {
    store: Arc<Store>,
}

impl Collector for Exposures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.store.load();
        let help = "Evaluations of single flags, by flag, variant and reason";
        let metric = encoder.encode_descriptor("flag_evaluations", help, None, MetricType::Counter)?;
        write(&snapshot, metric)
    }
}

fn write(snapshot: &Snapshot, mut metric: MetricEncoder<'_>) -> fmt::Result {
    let mut asked: Vec<(u64, &Entry)> = snapshot.iter().map(|entry| (entry.tally.total(), entry)).collect();
    asked.retain(|(total, _)| *total > 0);
    asked.sort_by_key(|(total, _)| Reverse(*total));
    for (at, (total, entry)) in asked.iter().enumerate() {
        let told = entry.tally.told.swap(*total, Relaxed);
        if at < FLAGS {
            series(entry, &mut metric)?;
        } else {
            // What has come since it was last looked at, so that the sum never falls: a counter that does looks as if
            // the process had begun anew.
            snapshot.totals.others.fetch_add(total.saturating_sub(told), Relaxed);
        }
    }
    let others = snapshot.totals.others.load(Relaxed);
    sample(&mut metric, [("flag", OTHERS), ("variant", OTHERS), ("reason", OTHERS)], others)?;
    let unknown = snapshot.totals.unknown.load(Relaxed);
    sample(&mut metric, [("flag", UNKNOWN), ("variant", NONE), ("reason", REASONS[ERROR])], unknown)
}

/// The series of one flag that are not zero.
fn series(entry: &Entry, metric: &mut MetricEncoder<'_>) -> fmt::Result {
    let (flag, tally) = (entry.flag(), &entry.tally);
    for (at, count) in tally.counts.iter().enumerate() {
        let (column, reason) = (at / REASONS.len(), REASONS[at % REASONS.len()]);
        let variant = match flag.variants().get(column) {
            _ if column == tally.none() => NONE,
            Some(variant) if column < VARIANTS => variant.name(),
            _ => OTHERS,
        };
        match count.load(Relaxed) {
            0 => {}
            count => sample(metric, [("flag", flag.key()), ("variant", variant), ("reason", reason)], count)?,
        }
    }
    Ok(())
}

fn sample(metric: &mut MetricEncoder<'_>, labels: [(&str, &str); 3], count: u64) -> fmt::Result {
    ConstCounter::new(count).encode(metric.encode_family(&labels)?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ask, publish, store};
    use super::*;
    use crate::telemetry::metrics::{registry, render};

    fn lines(registry: &Registry) -> Vec<String> {
        let text = render(registry);
        let own = text.lines().filter_map(|line| line.strip_prefix("tidegate_flag_evaluations_total"));
        own.map(str::to_owned).collect()
    }

    fn registered(flags: &str) -> (Arc<Store>, Registry) {
        let store = Arc::new(store(flags));
        let mut registry = registry();
        register(&mut registry, store.clone());
        (store, registry)
    }

    #[test]
    fn evaluations_are_exported_by_flag_variant_and_reason() {
        let (store, registry) = registered(
            r#""a\"b":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on"},
            "bad":{"state":"ENABLED","variants":{"on":true},"targeting":{"cat":"x"}},
            "rest":{"state":"ENABLED","variants":{"on":true},"targeting":{"var":"x"}}"#,
        );
        let quiet = [
            r#"{flag="(other)",variant="(other)",reason="(other)"} 0"#,
            r#"{flag="(unknown)",variant="(none)",reason="error"} 0"#,
        ];
        assert_eq!(lines(&registry), quiet, "from the start, and nothing of what nobody asks for");
        for key in ["a\"b", "a\"b", "a\"b", "bad", "rest", "rest", "gone"] {
            ask(&store, key, 1);
        }
        let expected = [
            r#"{flag="a\"b",variant="on",reason="static"} 3"#,
            r#"{flag="rest",variant="(none)",reason="default"} 2"#,
            r#"{flag="bad",variant="(none)",reason="error"} 1"#,
            r#"{flag="(other)",variant="(other)",reason="(other)"} 0"#,
            r#"{flag="(unknown)",variant="(none)",reason="error"} 1"#,
        ];
        assert_eq!(lines(&registry), expected);
        publish(&store, "", 2);
        assert_eq!(lines(&registry).len(), 2, "flags that are gone have no series");
    }

    #[test]
    fn the_series_are_bounded_and_their_sum_never_falls() {
        let flag =
            |n: usize| format!(r#""f{n:04}":{{"state":"ENABLED","variants":{{"on":true}},"defaultVariant":"on"}}"#);
        let flags: Vec<String> = (0..FLAGS * 2).map(flag).collect();
        let (store, registry) = registered(&flags.join(","));
        let others = |lines: &[String]| {
            let line = lines.iter().find(|line| line.starts_with(r#"{flag="(other)""#)).expect("it is always there");
            line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a number")
        };
        let mut before = 0;
        for round in 0..4 {
            // Other flags are on top in each round.
            for n in 0..FLAGS * 2 {
                for _ in 0..=((n + round * 100) % (FLAGS * 2)) / 100 {
                    ask(&store, &format!("f{n:04}"), 1);
                }
            }
            let lines = lines(&registry);
            assert_eq!(lines.len(), FLAGS + 2);
            assert!(others(&lines) >= before, "it fell from {before} to {}", others(&lines));
            before = others(&lines);
        }
        assert!(before > 0);
    }

    #[test]
    fn a_flag_of_very_many_variants_has_few_series() {
        let variants: Vec<String> = (0..100).map(|n| format!(r#""v{n}":"{n}""#)).collect();
        let (store, registry) = registered(&format!(
            r#""many":{{"state":"ENABLED","variants":{{{}}},"targeting":{{"var":"v"}}}}"#,
            variants.join(",")
        ));
        for n in 0..100 {
            let text = format!(r#"{{"v":"v{n}"}}"#);
            let attributes = match serde_json::from_str(&text) {
                Ok(crate::flags::context::Value::Object(attributes)) => attributes,
                other => panic!("{other:?}"),
            };
            let context = crate::flags::context::Context::new(attributes);
            super::super::evaluate(&store.load(), "many", &context, std::time::SystemTime::now()).expect("it is there");
        }
        let lines = lines(&registry);
        assert_eq!(lines.len(), VARIANTS + 3);
        assert!(
            lines.contains(&r#"{flag="many",variant="(other)",reason="targeting_match"} 84"#.to_owned()),
            "{lines:?}"
        );
    }
}
