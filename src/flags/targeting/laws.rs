//! What holds for every rule, context and key.

use std::time::SystemTime;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::compile::{self, Format};
use super::super::context::{Base, Context, Object, Value};
use super::super::explain::{Outcome, explain};
use super::super::settings::Bucketing;
use super::super::store::{Layer, Snapshot};
use super::interpret::{Root, Scope};
use super::observe::Unobserved;
use super::operators::variant_name;

const OPERATORS: [&str; 38] = [
    "var",
    "missing",
    "missing_some",
    "if",
    "?:",
    "and",
    "or",
    "!",
    "!!",
    "==",
    "===",
    "!=",
    "!==",
    "<",
    "<=",
    ">",
    ">=",
    "in",
    "+",
    "*",
    "-",
    "/",
    "%",
    "min",
    "max",
    "cat",
    "substr",
    "merge",
    "map",
    "filter",
    "all",
    "some",
    "none",
    "reduce",
    "log",
    "fractional",
    "sem_ver",
    "starts_with",
];

fn scalar() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<f64>().prop_map(|number| serde_json::json!(number)),
        (-3i64..100).prop_map(Into::into),
        "[a-c.0-9]{0,4}|\\PC{0,6}".prop_map(Into::into),
        prop::sample::select(vec!["", "a", "a.0", "$flagd.flagKey", "accumulator", "current", "1.2.3", ">="])
            .prop_map(Into::into),
    ]
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    scalar().prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::btree_map("[a-c]|\\PC{0,3}", inner, 0..5)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn rule() -> impl Strategy<Value = serde_json::Value> {
    scalar().prop_recursive(6, 60, 4, |inner| {
        (prop::sample::select(OPERATORS.to_vec()), vec(inner, 1..4))
            .prop_map(|(operator, arguments)| serde_json::json!({ operator: arguments }))
    })
}

/// The same value, the fields of every object in it the other way round.
fn reversed(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(reversed).collect()),
        Value::Object(object) => {
            let fields: Vec<_> =
                object.iter().map(|(name, value)| (name.to_owned().into(), reversed(value.clone()))).collect();
            Value::Object(Object::new(fields.into_iter().rev().collect()))
        }
        scalar => scalar,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn any_document_compiles_or_is_refused_with_reasons(json in json(), text in "\\PC{0,40}") {
        let flags = serde_json::json!({"flags": {"f": json, "g": {"state": "ENABLED", "variants": json, "targeting": json}}});
        for (text, format) in [
            (json.to_string(), Format::Json),
            (flags.to_string(), Format::Json),
            (flags.to_string(), Format::Yaml),
            (text.clone(), Format::Json),
            (text, Format::Yaml),
        ] {
            if let Err(compile::Invalid(problems)) = compile::document(&text, format) {
                prop_assert!(!problems.is_empty());
            }
        }
    }

    #[test]
    fn any_rule_over_any_context_gives_a_variant_a_default_or_an_error_the_same_again_and_as_explained(
        rule in rule(), context in json(), bucketing in prop::sample::select(Bucketing::ALL.to_vec())
    ) {
        let flags = serde_json::json!({"flags": {"f": {
            "state": "ENABLED", "variants": {"a": 1, "true": 2}, "defaultVariant": "a", "targeting": rule
        }}});
        let Ok(set) = compile::document(&flags.to_string(), Format::Json) else {
            // Scalars are no targeting; any operator is.
            prop_assert!(!rule.is_object());
            return Ok(());
        };
        let layer = Layer { name: "test".into(), flag_set_id: None, revision: 1, set: set.into() };
        let snapshot = Snapshot::merge(vec![layer.into()], Default::default(), 1, false).with_bucketing(bucketing);
        let text = context.to_string();
        let attributes = match serde_json::from_str(&text) {
            Ok(Value::Object(attributes)) => attributes,
            Ok(other) => Object::new(vec![("a".into(), other)]),
            Err(error) => panic!("{error}: {text}"),
        };
        let context = Context::new(attributes);
        let once = || match super::super::evaluate::evaluate(&snapshot, "f", &context, SystemTime::UNIX_EPOCH) {
            Ok(resolution) => (resolution.reason.name(), resolution.variant.map(|variant| variant.name().to_owned())),
            Err(failure) => (failure.code.name(), Some(failure.details)),
        };
        prop_assert_eq!(once(), once());
        let explained = match explain(&snapshot, "f", &context, SystemTime::UNIX_EPOCH).map(|found| found.outcome) {
            Ok(Outcome::Resolved { reason, variant, .. }) => (reason, variant),
            Ok(Outcome::Failed { error_code, error_details }) => (error_code, Some(error_details)),
            Err(failure) => panic!("{failure}"),
        };
        prop_assert_eq!(explained, once());
    }

    #[test]
    fn the_order_of_a_contexts_fields_never_matters(
        rule in rule(), context in json(), bucketing in prop::sample::select(Bucketing::ALL.to_vec())
    ) {
        let Ok(evaluator) = compile::rule_alone(&rule.to_string()) else { return Ok(()) };
        let text = serde_json::json!({ "a": context, "b": 1, "c": null, "targetingKey": "u" }).to_string();
        let evaluated = |reorder: fn(Value<'_>) -> Value<'_>| {
            let Value::Object(attributes) = reorder(serde_json::from_str(&text).expect("it was JSON")) else {
                panic!("an object stays one")
            };
            let (context, base) = (Context::new(attributes), Base::default());
            let root = Root::new(&context, &base, "flag", 0, bucketing, Unobserved);
            evaluator.rule.evaluate(&Scope::new(&root)).map(|val| variant_name(&val).map(|name| name.into_owned()))
        };
        prop_assert_eq!(evaluated(|value| value), evaluated(reversed));
    }
}
