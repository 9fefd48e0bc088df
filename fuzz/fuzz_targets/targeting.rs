//! A flag's definition and a context, by every bucketing version: the same twice, and as it is explained. The input is
//! the definition, a NUL and the context.
#![no_main]

use std::sync::Arc;
use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use tidegate::flags::compile::{evaluators, flag};
use tidegate::flags::context::{Context, Value};
use tidegate::flags::evaluate::evaluate;
use tidegate::flags::explain::{Outcome, explain};
use tidegate::flags::model::FlagSet;
use tidegate::flags::rebucket::{Sample, rebucket};
use tidegate::flags::settings::Bucketing;
use tidegate::flags::store::{Layer, Snapshot};

/// What a definition may refer to.
const EVALUATORS: &str =
    r#"{"a":{"==":[{"var":"a"},1]},"b":{"if":[{"$ref":"a"},"x",{"fractional":[["x",1],["y",2]]}]}}"#;

fuzz_target!(|input: &str| {
    let (definition, context) = input.split_once('\0').unwrap_or((input, "{}"));
    let shared = evaluators(EVALUATORS).expect("the evaluators are sound");
    let Ok(compiled) = flag("key", definition, &shared) else { return };
    let mut set = FlagSet::default();
    set.flags.insert("key".into(), Arc::new(compiled));
    set.evaluators = shared;
    let layer = Arc::new(Layer { name: "fuzz".into(), flag_set_id: None, revision: 1, set: Arc::new(set) });
    let context = match serde_json::from_str(context) {
        Ok(Value::Object(attributes)) => Context::new(attributes),
        _ => Context::default(),
    };
    let now = SystemTime::UNIX_EPOCH;
    for version in Bucketing::ALL {
        let snapshot = Snapshot::merge(vec![layer.clone()], Arc::default(), 1, false).with_bucketing(version);
        let evaluated = || match evaluate(&snapshot, "key", &context, now) {
            Ok(found) => (found.reason.name(), found.variant.map(|variant| variant.name().to_owned())),
            Err(failure) => (failure.code.name(), Some(failure.details)),
        };
        let explanation = explain(&snapshot, "key", &context, now).expect("the flag is there");
        assert!(serde_json::to_vec(&explanation).is_ok() && !explanation.to_string().is_empty());
        let explained = match explanation.outcome {
            Outcome::Resolved { reason, variant, .. } => (reason, variant),
            Outcome::Failed { error_code, error_details } => (error_code, Some(error_details)),
        };
        assert_eq!(evaluated(), explained);
        assert_eq!(evaluated(), explained);
        let samples: Vec<Sample<'_>> = Sample::generated(3).collect();
        let report = rebucket(&snapshot, version, version, &samples, now);
        assert!(report.flags.iter().all(|change| change.moved == 0));
    }
});
