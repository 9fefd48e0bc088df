//! What holds for every change of a share, by real evaluation.

use std::collections::HashMap;
use std::time::SystemTime;

use proptest::prelude::*;

use super::super::compile;
use super::super::context::{Context, Object, Value};
use super::super::evaluate::evaluate;
use super::super::model::{Evaluators, FlagSet};
use super::super::store::{Layer, Snapshot};
use super::{Share, with_share};

const KEYS: usize = 2000;

/// The variant of each key.
fn variants(definition: &str) -> Vec<String> {
    let flag = compile::flag("f", definition, &Evaluators::default()).unwrap_or_else(|e| panic!("{e}: {definition}"));
    let set = FlagSet { flags: [("f".into(), flag.into())].into(), ..FlagSet::default() };
    let layer = Layer { name: "test".into(), flag_set_id: None, revision: 1, set: set.into() };
    let snapshot = Snapshot::merge(vec![layer.into()], Default::default(), 1, false);
    let variant = |key: usize| {
        let key = Value::String(format!("user-{key}").into());
        let context = Context::new(Object::new(vec![("targetingKey".into(), key)]));
        let resolution = evaluate(&snapshot, "f", &context, SystemTime::UNIX_EPOCH).expect("a variant");
        resolution.variant.expect("a variant").name().to_owned()
    };
    (0..KEYS).map(variant).collect()
}

fn share() -> impl Strategy<Value = Share> {
    prop_oneof![(0u32..=100).prop_map(|n| n * 1000), 0u32..=100_000]
        .prop_map(|n| format!("{}.{:03}%", n / 1000, n % 1000).parse().expect("within bounds"))
}

/// A flag without targeting, or with any weights.
fn definition() -> impl Strategy<Value = String> {
    let weights = proptest::collection::vec((prop::sample::select(vec!["a", "b", "c"]), 0u32..200), 0..6);
    (weights, any::<bool>()).prop_map(|(weights, keyed)| {
        let mut flag = serde_json::json!({
            "state": "ENABLED", "variants": {"a": 1, "b": 2, "c": 3}, "defaultVariant": "b",
        });
        if weights.iter().any(|(_, weight)| *weight > 0) {
            let mut arguments: Vec<serde_json::Value> =
                weights.into_iter().map(|pair| serde_json::json!(pair)).collect();
            if keyed {
                arguments.insert(0, serde_json::json!({"cat": ["x", {"var": "targetingKey"}]}));
            }
            flag["targeting"] = serde_json::json!({ "fractional": arguments });
        }
        flag.to_string()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn keys_move_to_the_growing_variant_and_from_the_shrinking_one_and_nowhere_else(
        definition in definition(), shares in proptest::collection::vec(share(), 1..5)
    ) {
        let (mut definition, mut before) = (definition.clone(), variants(&definition));
        let mut has = super::share(&definition, "a").expect("plain");
        for share in shares {
            definition = with_share(&definition, "a", share).expect("plain");
            prop_assert_eq!(super::share(&definition, "a"), Ok(share));
            let after = variants(&definition);
            for (key, (before, after)) in before.iter().zip(&after).enumerate() {
                let fits = before == after || if share >= has { after == "a" } else { before == "a" };
                prop_assert!(fits, "user-{key} went from {before} to {after} as a went from {has} to {share}: {definition}");
            }
            let count = after.iter().filter(|variant| *variant == "a").count() as f64 / KEYS as f64;
            let expected = f64::from(share.thousandths()) / 100_000.0;
            prop_assert!((count - expected).abs() < 0.06, "{count}, not {expected}");
            (before, has) = (after, share);
        }
    }

    #[test]
    fn a_rollout_step_by_step_ends_where_one_step_does_for_the_plain_flag(from in share(), to in share(), steps in 2u32..40) {
        let plain = r#"{"state":"ENABLED","variants":{"a":1,"b":2},"defaultVariant":"b"}"#;
        let mut definition = plain.to_owned();
        for step in 1..=steps {
            definition = with_share(&definition, "a", Share::between(from, to, step, steps)).expect("plain");
        }
        let mut counts: HashMap<bool, f64> = HashMap::new();
        for (stepwise, at_once) in variants(&definition).iter().zip(variants(&with_share(plain, "a", to).expect("plain"))) {
            *counts.entry(*stepwise == at_once).or_default() += 1.0;
        }
        prop_assert_eq!(counts.get(&false), None);
    }
}
