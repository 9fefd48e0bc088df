//! The event streams part by part, and where clients are told of them.

use http::Request;
use http_body_util::{BodyExt as _, Empty};

use super::super::tests::api;
use super::super::{Api, handle, streams};
use super::*;
use crate::flags::compile::{Format, document};
use crate::flags::store::Layer;

#[tokio::test]
async fn the_bulk_answer_tells_where_its_changes_are_streamed() {
    let bulk = async |api: &Api| {
        let request = Request::post("/ofrep/v1/evaluate/flags?flagConfigEtag=x&flagConfigLastModified=1");
        let request = request.body(Empty::<Bytes>::new()).expect("sound");
        let body = handle(api, &Arc::new(Activity::new()), request).await.into_body().collect().await;
        let body = body.unwrap_or_else(|broken| panic!("{broken}")).to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).expect("sound");
        body["eventStreams"].to_string()
    };
    let api = api();
    let expected = r#"[{"endpoint":{"requestUri":"/ofrep/v1/events"},"inactivityDelaySec":120,"type":"sse"}]"#;
    assert_eq!(bulk(&api).await, expected);
    let (_phase, phases) = watch::channel(Phase::Starting);
    let api = api.streaming(Streams::default(), phases, Some("https://shop.example/flags"));
    let expected = r#"[{"inactivityDelaySec":120,"type":"sse","url":"https://shop.example/flags/ofrep/v1/events"}]"#;
    assert_eq!(bulk(&api).await, expected);
}

/// The first parts of an event stream, as they come.
async fn heard(flags: &str, path: &str, parts: usize) -> Vec<String> {
    let set = document(flags, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
    let layer = Layer { name: "file:x".into(), flag_set_id: None, revision: 1, set: Arc::new(set) };
    let store = Arc::new(Store::new());
    store.publish(Snapshot::merge(vec![Arc::new(layer)], Arc::default(), 5, false));
    let request = Request::get(path).body(Empty::<Bytes>::new()).expect("sound");
    let mut body = handle(&Api::new(store), &Arc::new(Activity::new()), request).await.into_body();
    let mut heard = Vec::new();
    while heard.len() < parts {
        let frame = body.frame().await.expect("it goes on").unwrap_or_else(|broken| panic!("{broken}"));
        heard.push(String::from_utf8(frame.into_data().expect("data").to_vec()).expect("text"));
    }
    heard
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_news_says_that_it_lives() {
    let flag = r#"{"flags":{"f":{"state":"ENABLED","variants":{"v":1},"defaultVariant":"v"}}}"#;
    let began = tokio::time::Instant::now();
    let ofrep = heard(flag, "/ofrep/v1/events", 4).await;
    assert!(ofrep[1].contains("refetchEvaluation") && ofrep[2..] == [": keep-alive\n\n"; 2], "{ofrep:?}");
    assert_eq!(began.elapsed().as_secs(), 40);
    let native = heard(flag, "/v1/flags/events", 3).await;
    assert_eq!(native[2], "event: keep_alive\ndata: {\"revision\":5}\n\n");
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_reads_the_time_makes_clients_look_again() {
    let flag = r#"{"flags":{"f":{"state":"ENABLED","variants":{"v":1},"defaultVariant":"v",
        "targeting":{"if":[{"<":[{"var":"$flagd.timestamp"},9]},"v"]}}}}"#;
    let ofrep = heard(flag, "/ofrep/v1/events", 4).await;
    assert_eq!(ofrep[1..], [ofrep[1].as_str(); 3], "the same event again");
    assert!(ofrep[1].contains("refetchEvaluation"));
}

#[tokio::test]
async fn streams_beyond_the_last_place_are_refused_for_a_while() {
    let (_phase, phases) = watch::channel(Phase::Serving);
    let streams = Streams::default();
    let api = api().streaming(streams.clone(), phases, None);
    let open = async || {
        let request = Request::get("/v1/flags/events").body(Empty::<Bytes>::new()).expect("sound");
        handle(&api, &Arc::new(Activity::new()), request).await
    };
    let opened: Vec<_> = (1..streams::MOST).map(|_| streams.open("ofrep", Arc::default()).expect("room")).collect();
    let last = open().await;
    assert_eq!(last.status(), 200);
    let refused = open().await;
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (503, true));
    drop((last, opened));
    assert_eq!(open().await.status(), 200, "a reader that leaves gives its place back");
}
