//! What holds for `fractional` whatever the weights, keys and flags: bounds, growth, order, distribution.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::compile;
use super::super::context::{Base, Context, Object, Value};
use super::super::settings::Bucketing;
use super::Evaluator;
use super::interpret::{Root, Scope};
use super::observe::Unobserved;

/// The versions whose arithmetic is exact; version 1 rounds.
const EXACT: [Bucketing; 2] = [Bucketing::V2, Bucketing::V3];

/// `fractional` over these weights; each bucket's variant is its place.
fn spread(weights: &[u32]) -> Evaluator {
    let buckets: Vec<serde_json::Value> =
        weights.iter().enumerate().map(|(at, weight)| serde_json::json!([at.to_string(), weight])).collect();
    let rule = serde_json::json!({ "fractional": buckets }).to_string();
    compile::rule_alone(&rule).unwrap_or_else(|invalid| panic!("{invalid}"))
}

/// The place of the bucket that a user of a flag falls into.
fn place(rule: &Evaluator, version: Bucketing, flag: &str, user: &str) -> Option<usize> {
    let context = Context::new(Object::new(vec![("targetingKey".into(), Value::String(user.into()))]));
    let base = Base::default();
    let root = Root::new(&context, &base, flag, 0, version, Unobserved);
    let val = rule.rule.evaluate(&Scope::new(&root)).expect("it costs little");
    val.as_str().filter(|name| !name.is_empty()).map(|name| name.parse().expect("variants are places"))
}

fn weights() -> impl Strategy<Value = Vec<u32>> {
    vec(prop_oneof![0u32..5, 0u32..1000, 0u32..10_000_000], 2..8)
}

fn version() -> impl Strategy<Value = Bucketing> {
    prop::sample::select(Bucketing::ALL.to_vec())
}

fn exact() -> impl Strategy<Value = Bucketing> {
    prop::sample::select(EXACT.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn everyone_falls_into_a_bucket_that_has_a_weight(weights in weights(), user in "\\PC{1,12}", version in exact()) {
        let place = place(&spread(&weights), version, "flag", &user);
        match place {
            Some(place) => prop_assert!(weights[place] > 0),
            None => prop_assert!(weights.iter().all(|weight| *weight == 0)),
        }
    }

    #[test]
    fn nobody_leaves_a_variant_whose_weight_alone_is_raised(
        weights in weights(), at in 0usize..8, by in 1u32..1_000_000, user in "\\PC{1,12}", version in exact()
    ) {
        let at = at % weights.len();
        let mut raised = weights.clone();
        raised[at] += by;
        let (before, after) = (place(&spread(&weights), version, "flag", &user), place(&spread(&raised), version, "flag", &user));
        prop_assert!(before != Some(at) || after == Some(at), "{before:?} became {after:?}");
    }

    #[test]
    fn nobody_leaves_a_variant_that_is_raised_at_the_expense_of_later_ones(
        weights in weights(), at in 0usize..8, from in 0usize..8, part in 0u32..=100, user in "\\PC{1,12}", version in exact()
    ) {
        let at = at % (weights.len() - 1);
        let from = at + 1 + from % (weights.len() - at - 1);
        let by = u32::try_from(u64::from(weights[from]) * u64::from(part) / 100).expect("a part of it");
        let mut raised = weights.clone();
        raised[at] += by;
        raised[from] -= by;
        let (before, after) = (place(&spread(&weights), version, "flag", &user), place(&spread(&raised), version, "flag", &user));
        prop_assert!(before != Some(at) || after == Some(at), "{before:?} became {after:?}");
        // Those before it are as they were, whoever pays; and when the next one pays, so are all but these two.
        if before.is_some_and(|before| before < at || (from == at + 1 && before > from)) {
            prop_assert_eq!(before, after);
        }
    }

    #[test]
    fn scaling_all_weights_moves_nobody(weights in vec(0u32..1000, 2..8), by in 1u32..1000, user in "\\PC{1,12}", version in exact()) {
        let scaled: Vec<u32> = weights.iter().map(|weight| weight * by).collect();
        prop_assert_eq!(
            place(&spread(&weights), version, "flag", &user), place(&spread(&scaled), version, "flag", &user)
        );
    }

    #[test]
    fn the_same_user_always_falls_into_the_same_bucket(weights in weights(), user in "\\PC{0,12}", version in version()) {
        let rule = spread(&weights);
        let first = place(&rule, version, "flag", &user);
        prop_assert_eq!(first, place(&rule, version, "flag", &user));
        prop_assert_eq!(first, place(&spread(&weights), version, "flag", &user));
    }
}

const USERS: usize = 20_000;

fn users() -> impl Iterator<Item = String> {
    (0..USERS).map(|n| format!("user-{n}"))
}

/// Six standard deviations of a fair draw: once in 500 million.
fn fair(count: usize, of: usize, share: f64) -> bool {
    let expected = of as f64 * share;
    (count as f64 - expected).abs() <= 6.0 * (expected * (1.0 - share)).sqrt()
}

#[test]
fn shares_are_as_large_as_their_weights_in_every_version() {
    for version in Bucketing::ALL {
        for weights in
            [&[50, 50][..], &[1, 99], &[10, 20, 30, 40], &[1, 1, 1], &[0, 7, 0, 3], &[25_000, 25_000, 50_000]]
        {
            let rule = spread(weights);
            let mut counts = vec![0; weights.len()];
            for user in users() {
                counts[place(&rule, version, "flag", &user).expect("all have a key")] += 1;
            }
            let total: u32 = weights.iter().sum();
            for (weight, count) in weights.iter().zip(&counts) {
                let share = f64::from(*weight) / f64::from(total);
                assert!(fair(*count, USERS, share), "{version:?}: {counts:?} of {weights:?}");
            }
        }
    }
}

#[test]
fn who_is_in_one_rollout_is_no_likelier_to_be_in_another() {
    let rule = spread(&[20, 80]);
    for version in Bucketing::ALL {
        let both = users().filter(|user| ["a", "b"].iter().all(|flag| place(&rule, version, flag, user) == Some(0)));
        let both = both.count();
        assert!(fair(both, USERS, 0.04), "{version:?}: {both} of {USERS}, not 4 %");
    }
}
