//! flagd's conformance suite of evaluations, as `tests/data/flags/testbed.json` has it.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate::flags::compile;
use tidegate::flags::context::{Context, Value};
use tidegate::flags::evaluate::evaluate;
use tidegate::flags::model::{FlagSet, Kind};
use tidegate::flags::settings::Bucketing;
use tidegate::flags::store::{Layer, Snapshot};

/// Flags that flagd takes and answers with an error at each evaluation. Here they are refused when they are loaded.
const REFUSED: [&str; 2] = ["error-targeting-flag", "ref-to-nonexistent-evaluator-flag"];

#[derive(Deserialize)]
struct File<'f> {
    #[serde(borrow)]
    sets: std::collections::BTreeMap<String, Set<'f>>,
    #[serde(borrow)]
    cases: Vec<&'f RawValue>,
}

#[derive(Deserialize)]
struct Set<'f> {
    #[serde(borrow, rename = "$evaluators")]
    evaluators: &'f RawValue,
    #[serde(borrow)]
    flags: std::collections::BTreeMap<String, &'f RawValue>,
}

/// Set, bucketing version, key, type, context, value, default, reason, error code, metadata.
type Case<'f> = (
    String,
    Option<String>,
    String,
    String,
    &'f RawValue,
    &'f RawValue,
    &'f RawValue,
    Option<String>,
    Option<String>,
    Option<serde_json::Map<String, serde_json::Value>>,
);

impl Set<'_> {
    fn snapshot(&self) -> Snapshot {
        let evaluators = compile::evaluators(self.evaluators.get()).unwrap_or_else(|invalid| panic!("{invalid}"));
        let mut set = FlagSet::default();
        for (key, definition) in &self.flags {
            match compile::flag(key, definition.get(), &evaluators) {
                Ok(flag) => drop(set.flags.insert(key.as_str().into(), Arc::new(flag))),
                Err(invalid) => assert!(REFUSED.contains(&key.as_str()), "{invalid}"),
            }
        }
        let layer = Layer { name: "testbed".into(), flag_set_id: None, revision: 1, set: Arc::new(set) };
        Snapshot::merge(vec![Arc::new(layer)], Arc::default(), 1, false)
    }
}

/// JSON by value: `0.0` is `0`.
fn same(a: &str, b: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("values are JSON");
    match (read(a), read(b)) {
        (serde_json::Value::Number(a), serde_json::Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

fn kinds(name: &str) -> &'static [Kind] {
    match name {
        "Boolean" => &[Kind::Boolean],
        "String" => &[Kind::String],
        "Integer" | "Float" => &[Kind::Integer, Kind::Float],
        "Object" => &[Kind::Object],
        other => panic!("there is no type {other}"),
    }
}

/// What is wrong with the answer to one case.
fn wrong(snapshot: &Snapshot, case: &Case<'_>) -> Option<String> {
    let (_, _, key, kind, context, value, default, reason, error, metadata) = case;
    if REFUSED.contains(&key.as_str()) {
        return (error.as_deref() != Some("PARSE_ERROR")).then(|| "a refused flag is to be evaluated".to_owned());
    }
    let Ok(Value::Object(attributes)) = serde_json::from_str(context.get()) else { panic!("a context is an object") };
    let answer = evaluate(snapshot, key, &Context::new(attributes), UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let mismatch = answer.as_ref().is_ok_and(|answer| !kinds(kind).contains(&answer.entry.flag().kind()));
    let got = match &answer {
        Ok(_) if mismatch => ("ERROR", default.get(), Some("TYPE_MISMATCH")),
        Ok(answer) => (answer.reason.name(), answer.variant.map_or(default.get(), |v| v.value_json()), None),
        Err(failure) => ("ERROR", default.get(), Some(failure.code.name())),
    };
    if reason.as_deref().is_some_and(|reason| reason != got.0) {
        return Some(format!("the reason is {got:?}"));
    }
    if value.get() != "null" && !same(value.get(), got.1) {
        return Some(format!("the value is {got:?}"));
    }
    if (error.is_some() || value.get() == "null") && error.as_deref() != got.2 {
        return Some(format!("the error is {got:?}"));
    }
    let (Some(metadata), Ok(answer)) = (metadata, &answer) else { return None };
    let missing = metadata
        .iter()
        .find(|(name, value)| !answer.entry.metadata().get(name).is_some_and(|given| same(given, &value.to_string())));
    missing.map(|(name, _)| format!("metadata {name:?} is not in {}", answer.entry.metadata_json()))
}

#[test]
fn every_scenario_of_the_flagd_testbed_is_answered_as_there() {
    let file: File<'_> =
        serde_json::from_str(include_str!("../data/flags/testbed.json")).expect("the vectors are sound");
    let mut failures = Vec::new();
    let mut counts = [0; 4];
    for raw in &file.cases {
        let case: Case<'_> = serde_json::from_str(raw.get()).expect("a case is sound");
        let version = match case.1.as_deref() {
            None | Some("v2") => Bucketing::V2,
            Some("v1") => Bucketing::V1,
            Some("v3") => Bucketing::V3,
            Some(other) => panic!("there is no version {other}"),
        };
        counts[case.1.as_deref().map_or(0, |_| 1 + version as usize)] += 1;
        let snapshot = file.sets[&case.0].snapshot().with_bucketing(version);
        if let Some(wrong) = wrong(&snapshot, &case) {
            failures.push(format!("{wrong}: {raw}"));
        }
    }
    assert!(counts.iter().all(|count| *count >= 30), "cases by version: {counts:?}");
    assert!(failures.is_empty(), "{} wrong:\n{}", failures.len(), failures.join("\n"));
}
