//! A request's body over flags that look at all of it, as one flag and as all at once.
#![no_main]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use libfuzzer_sys::fuzz_target;
use tidegate::flags::compile::{Format, document};
use tidegate::flags::store::{Layer, Snapshot, Store};
use tidegate::local::{Api, handle};
use tokio::runtime::{Builder, Runtime};

const FLAGS: &str = r#"{"flags":{
    "key":{"state":"ENABLED","variants":{"a":1.0,"b":2},"defaultVariant":"a","targeting":{"fractional":[{"var":"targetingKey"},["a",1],["b",1]]}},
    "text":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":
        {"if":[{"in":[{"substr":[{"var":"a"},{"var":"n"},{"var":"m"}]},{"cat":[{"var":"b"},{"var":"list"}]}]},"on"]}},
    "list":{"state":"ENABLED","variants":{"true":true,"false":false},"targeting":
        {"some":[{"merge":[{"var":"list"},{"var":"a"}]},{"<":[{"var":"x"},{"var":"y.0"},{"reduce":[{"var":"z"},{"var":""},{"var":"q"}]}]}]}},
    "version":{"state":"ENABLED","variants":{"true":1,"false":2},"targeting":{"sem_ver":[{"var":"a"},{"var":"op"},{"var":"b"}]}},
    "any":{"state":"ENABLED","variants":{"x":"X"},"defaultVariant":"x","targeting":{"var":[{"var":"path"},{"missing":{"var":"list"}}]}}
}}"#;

static API: LazyLock<Api> = LazyLock::new(|| {
    let set = document(FLAGS, Format::Json).expect("the definitions are sound");
    let layer = Layer { name: "fuzz".into(), flag_set_id: None, revision: 1, set: Arc::new(set) };
    let store = Arc::new(Store::new());
    store.publish(Snapshot::merge(vec![Arc::new(layer)], Arc::default(), 1, false));
    Api::new(store)
});

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime starts"));

fuzz_target!(|body: &[u8]| {
    let paths = ["key", "text", "list", "version", "any"].map(|key| format!("/ofrep/v1/evaluate/flags/{key}"));
    for path in paths.iter().map(String::as_str).chain(["/ofrep/v1/evaluate/flags"]) {
        let request = Request::post(path).body(Full::new(Bytes::copy_from_slice(body))).expect("a sound request");
        let answer = RUNTIME.block_on(async {
            let answer = handle(&API, &Arc::default(), request).await.into_body().collect().await;
            answer.unwrap_or_else(|broken| panic!("{broken}")).to_bytes()
        });
        serde_json::from_slice::<serde_json::Value>(&answer).expect("an answer is JSON");
    }
});
