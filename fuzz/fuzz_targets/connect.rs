//! A call of the flagd protocols: any method, any form, any body. It must be answered, and in the form it was asked in.
#![no_main]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use libfuzzer_sys::fuzz_target;
use tidegate::flags::Status;
use tidegate::flags::compile::{Format, document};
use tidegate::flags::store::{Layer, Snapshot, Store};
use tidegate::lifecycle::machine::Phase;
use tidegate::local::flagd::{Api, Parts, handle};
use tidegate::local::streams::Streams;
use tidegate::net::activity::Activity;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

const FLAGS: &str = r#"{"$evaluators":{"e":{"var":"a"}},"flags":{
    "d":{"state":"ENABLED","variants":{"a":1.0,"b":2},"defaultVariant":"a","targeting":{"fractional":[{"var":"targetingKey"},["a",1],["b",1]]}},
    "a":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":
        {"if":[{"in":[{"substr":[{"var":"a"},{"var":"n"}]},{"cat":[{"var":"b"},{"var":"list"}]}]},"on"]}},
    "b":{"state":"ENABLED","variants":{"x":{"y":[1,null]}},"defaultVariant":"x","targeting":{"var":[{"var":"path"},{"$ref":"e"}]}},
    "c":{"state":"DISABLED","variants":{"x":"X"}}
}}"#;

const METHODS: [&str; 10] = [
    "flagd.evaluation.v1.Service/ResolveBoolean",
    "flagd.evaluation.v2.Service/ResolveFloat",
    "flagd.evaluation.v2.Service/ResolveObject",
    "schema.v1.Service/ResolveInt",
    "flagd.evaluation.v1.Service/ResolveAll",
    "flagd.sync.v1.FlagSyncService/FetchAllFlags",
    "grpc.health.v1.Health/Check",
    "flagd.evaluation.v2.Service/EventStream",
    "flagd.sync.v1.FlagSyncService/SyncFlags",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

const FORMS: [&str; 8] = [
    "application/json",
    "application/proto",
    "application/connect+json",
    "application/connect+proto",
    "application/grpc",
    "application/grpc+json",
    "application/grpc-web",
    "application/grpc-web-text",
];

static API: LazyLock<Api> = LazyLock::new(|| {
    let set = document(FLAGS, Format::Json).expect("the definitions are sound");
    let layer = Layer { name: "fuzz".into(), flag_set_id: None, revision: 1, set: Arc::new(set) };
    let store = Arc::new(Store::new());
    store.publish(Snapshot::merge(vec![Arc::new(layer)], Arc::default(), 1, false));
    let status =
        Status { ready: true, stale: false, generation: 1, flags: 4, sources: Vec::new(), overrides: Vec::new() };
    let flags = watch::Sender::new(status).subscribe();
    let phase = watch::Sender::new(Phase::Serving).subscribe();
    Api::new(Parts { store, flags, phase, streams: Streams::default() })
});

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime starts"));

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (method, form, body) = input;
    let method = METHODS[usize::from(method) % METHODS.len()];
    let form = FORMS[usize::from(form) % FORMS.len()];
    let request = Request::post(format!("/{method}"))
        .version(Version::HTTP_2)
        .header("content-type", form)
        .body(Full::new(Bytes::copy_from_slice(body)))
        .expect("a sound request");
    RUNTIME.block_on(async {
        let answer = handle(&API, &Arc::new(Activity::new()), request).await;
        let failed = answer.status() != 200;
        let streams = method.ends_with("Stream") || method.ends_with("SyncFlags");
        let mut body = answer.into_body();
        if streams {
            // The senders of flags and phase are gone, so a stream ends as with the sidecar: after a part or two.
            while let Some(part) = body.frame().await {
                part.expect("a stream does not break");
            }
            return;
        }
        let body = body.collect().await.expect("an answer does not break").to_bytes();
        if form == "application/json" && !failed {
            serde_json::from_slice::<serde_json::Value>(&body).expect("an answer is JSON");
        }
    });
});
