//! A document of flags, in JSON and in YAML, and the flags of it that compile over a context. The input is the document,
//! a NUL and the context; without a NUL the context is a fixed one.
#![no_main]

use std::sync::Arc;
use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use tidegate::flags::compile::{Format, document};
use tidegate::flags::context::{Context, Value};
use tidegate::flags::evaluate::evaluate_entry;
use tidegate::flags::store::{Layer, Snapshot};

const CONTEXT: &str =
    r#"{"targetingKey":"u","list":[1,"2",[3],{"a":4}],"text":"é\u0001","n":-1.5,"o":{"a":{"b":null}}}"#;

fuzz_target!(|input: &str| {
    let (text, context) = input.split_once('\0').unwrap_or((input, CONTEXT));
    let context = match serde_json::from_str(context) {
        Ok(Value::Object(attributes)) => Context::new(attributes),
        _ => Context::default(),
    };
    for format in [Format::Json, Format::Yaml] {
        let Ok(set) = document(text, format) else { continue };
        for flag in set.flags.values() {
            // What is kept of a definition must compile to the same again: it is written to disk and read back.
            let again = tidegate::flags::compile::flag(flag.key(), flag.definition(), &set.evaluators);
            assert_eq!(again.expect("a definition compiles again").definition(), flag.definition());
        }
        let layer = Layer { name: "fuzz".into(), flag_set_id: None, revision: 1, set: Arc::new(set) };
        let snapshot = Snapshot::merge(vec![Arc::new(layer)], Arc::default(), 1, false);
        for entry in snapshot.iter() {
            let _ = evaluate_entry(&snapshot, entry, &context, SystemTime::UNIX_EPOCH);
        }
    }
});
