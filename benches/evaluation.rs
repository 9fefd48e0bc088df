//! What one evaluation costs: `cargo bench --bench evaluation`. Prints nanoseconds per operation beside the targets, and
//! a parse into `serde_json::Value` to compare with. Of many short rounds the best counts: other work on the machine
//! leaves some of them alone.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "shared with the other bench, which needs more of it")]
#[path = "compare/flags.rs"]
mod flags;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tidegate::flags::compile::{self, Format, document};
use tidegate::flags::context::{Context, Value};
use tidegate::flags::evaluate::evaluate;
use tidegate::flags::settings::Bucketing;
use tidegate::flags::store::{Layer, Snapshot, Store};
use tidegate::local::{Api, handle};
use tidegate::net::activity::Activity;

const CONTEXT: &str = r#"{"targetingKey":"user-48213","email":"ann.smith@example.com","country":"de","plan":"premium","appVersion":"4.12.3","age":34,"beta":true,"device":{"os":"android","model":"pixel 9","width":1080},"roles":["admin","editor"],"lang":"de-DE","x":1}"#;

/// 1 000 flags, of which the measured ones are a few: a lookup is part of an evaluation.
fn definitions() -> String {
    let filler: Vec<String> = (0..996)
        .map(|n| {
            format!(
                r#""filler-flag-{n}":{{"state":"ENABLED","variants":{{"on":true,"off":false}},"defaultVariant":"on"}}"#
            )
        })
        .collect();
    format!(
        r#"{{"$evaluators":{{"staff":{{"ends_with":[{{"var":"email"}},"@example.com"]}}}},"flags":{{
        "static":{{"state":"ENABLED","variants":{{"on":true,"off":false}},"defaultVariant":"on"}},
        "typical":{{"state":"ENABLED","variants":{{"on":true,"off":false}},"defaultVariant":"off","targeting":
            {{"if":[{{"and":[{{"in":[{{"var":"country"}},["at","de","ch"]]}},{{"==":[{{"var":"plan"}},"premium"]}},{{">=":[{{"var":"age"}},18]}}]}},
            {{"if":[{{"$ref":"staff"}},"on","off"]}},"off"]}}}},
        "semver":{{"state":"ENABLED","variants":{{"on":true,"off":false}},"defaultVariant":"off","targeting":
            {{"if":[{{"sem_ver":[{{"var":"appVersion"}},">=","4.10.0"]}},"on","off"]}}}},
        "fractional":{{"state":"ENABLED","variants":{{"a":"A","b":"B","c":"C","d":"D"}},"defaultVariant":"a","targeting":
            {{"fractional":[["a",25],["b",25],["c",25],["d",25]]}}}},
        {}}}}}"#,
        filler.join(",")
    )
}

fn layer(definitions: &str) -> Arc<Layer> {
    let set = document(definitions, Format::Json).expect("the definitions are sound");
    Arc::new(Layer { name: "bench".into(), flag_set_id: None, revision: 1, set: Arc::new(set) })
}

fn report(what: &str, target: &str, nanoseconds: f64) {
    println!("{what:<44} {nanoseconds:>8.0} ns   {target}");
}

/// The best round's nanoseconds per operation.
fn best(operation: impl FnMut()) -> f64 {
    best_of(400, 1_000, operation)
}

fn best_of(rounds: u32, operations: u32, mut operation: impl FnMut()) -> f64 {
    let round = |operation: &mut dyn FnMut()| {
        let began = Instant::now();
        for _ in 0..operations {
            operation();
        }
        began.elapsed().as_secs_f64() * 1e9 / f64::from(operations)
    };
    (0..rounds).map(|_| round(&mut operation)).fold(f64::INFINITY, f64::min)
}

fn main() {
    let definitions = definitions();
    let layer = layer(&definitions);
    let snapshot = Snapshot::merge(vec![layer.clone()], Arc::default(), 1, false);
    let Ok(Value::Object(attributes)) = serde_json::from_str(CONTEXT) else { panic!("the context is an object") };
    let context = Context::new(attributes);
    let now = SystemTime::now();
    println!("{} flags, a context of {} bytes", snapshot.len(), CONTEXT.len());
    for (key, target) in
        [("static", "target ≤ 100"), ("typical", "target ≤ 500"), ("semver", ""), ("fractional", "target ≤ 300")]
    {
        assert!(evaluate(&snapshot, key, &context, now).is_ok(), "{key} evaluates");
        let nanoseconds = best(|| {
            black_box(evaluate(black_box(&snapshot), black_box(key), black_box(&context), now)).ok();
        });
        report(&format!("evaluate {key}"), target, nanoseconds);
    }
    for (version, name) in [(Bucketing::V1, "v1"), (Bucketing::V3, "v3")] {
        let snapshot = Snapshot::merge(vec![layer.clone()], Arc::default(), 1, false).with_bucketing(version);
        let nanoseconds = best(|| {
            black_box(evaluate(black_box(&snapshot), black_box("fractional"), black_box(&context), now)).ok();
        });
        report(&format!("evaluate fractional, bucketing {name}"), "", nanoseconds);
    }
    let parse = best(|| {
        black_box(serde_json::from_str::<Value<'_>>(black_box(CONTEXT))).ok();
    });
    report("parse the context", "", parse);
    let baseline = best(|| {
        black_box(serde_json::from_str::<serde_json::Value>(black_box(CONTEXT))).ok();
    });
    report("parse it into serde_json::Value", "baseline", baseline);

    let merge = best_of(50, 1, || {
        black_box(Snapshot::merge(vec![layer.clone()], Arc::default(), 1, false));
    });
    report("merge the flags into a snapshot", "on each change", merge);
    let compile = best_of(50, 1, || {
        black_box(document(black_box(&definitions), Format::Json)).ok();
    });
    report("compile the flags", "on each load", compile);

    let large: Vec<(String, String)> =
        flags::large(10_000, 500, 0).into_iter().map(|(key, flag)| (key, flag.to_string())).collect();
    let none = tidegate::flags::model::Evaluators::default();
    let compile = best_of(10, 1, || {
        for (key, definition) in &large {
            black_box(compile::flag(key, black_box(definition), &none)).ok();
        }
    });
    report("compile a flag of 500 bytes, from Redis", "", compile / large.len() as f64);
    let text = format!(
        "{{\"flags\":{{{}}}}}",
        large.iter().map(|(key, flag)| format!("\"{key}\":{flag}")).collect::<Vec<_>>().join(",")
    );
    let layer = self::layer(&text);
    let merge = best_of(10, 1, || {
        black_box(Snapshot::merge(vec![layer.clone()], Arc::default(), 1, false));
    });
    report("merge 10 000 flags into a snapshot", "on each change", merge);

    let store = Arc::new(Store::new());
    store.publish(snapshot);
    let api = Api::new(store);
    let activity = Arc::new(Activity::new());
    let body = Bytes::from(format!(r#"{{"context":{CONTEXT}}}"#));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    for key in ["static", "typical"] {
        let path = format!("/ofrep/v1/evaluate/flags/{key}");
        let nanoseconds = best(|| {
            let request = Request::post(&path).body(Full::new(body.clone())).expect("the request is sound");
            black_box(runtime.block_on(handle(&api, &activity, request)));
        });
        report(&format!("OFREP request to answer, {key}"), "without HTTP; builds its request", nanoseconds);
    }
}
