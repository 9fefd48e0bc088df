//! `flagd.sync.v1`: definitions for clients that evaluate by themselves.

use super::*;
use crate::support::raw::Client;
use crate::support::rpc::{FORMS, call_as, decoded, enveloped, envelopes, normal, post};

fn configuration(answer: &Value) -> Value {
    serde_json::from_str(answer["flagConfiguration"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn all_definitions_come_at_once_and_after_each_change() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    let mut flags = rpc.stream(&format!("{SYNC}/SyncFlags"), json!({})).await.unwrap();
    let first = flags.one().await;
    assert_eq!(first["syncContext"], json!({"environment":"production","ratio":0.5,"tier":2.0}));
    let configured = configuration(&first);
    assert_eq!(configured["flags"].as_object().unwrap().len(), 14);
    assert_eq!(
        configured["flags"]["staff"]["targeting"],
        json!({"if":[{"ends_with":[{"var":"email"},"@example.com"]},"in"]}),
        "evaluators are in place of their references"
    );
    assert_eq!(configured["flags"]["on"]["metadata"]["team"], "b");
    assert_eq!(configured["flags"]["no"]["metadata"]["team"], "a", "the set's metadata is of each flag");
    let text = first["flagConfiguration"].as_str().unwrap();
    assert!(text.contains(r#"{"half":2.5,"one":1.0}"#), "values are as they were written: {text}");

    write(&sidecar, &FLAGS.replace(r#""defaultVariant":"half""#, r#""defaultVariant":"one""#));
    let second = configuration(&flags.one().await);
    assert_eq!(second["flags"]["ratio"]["defaultVariant"], "one");

    let path = format!("{SYNC}/FetchAllFlags");
    let fetched = rpc.call(&path, json!({})).await.unwrap();
    assert_eq!(configuration(&fetched), second);
    for form in FORMS {
        assert_eq!(call_as(sidecar.local, form, &path, &json!({})).await, Ok(fetched.clone()), "{form}");
    }
    let path = format!("{SYNC}/GetMetadata");
    let metadata = Ok(json!({"metadata":{"environment":"production","ratio":0.5,"tier":2.0}}));
    assert_eq!(rpc.call(&path, json!({})).await.map_err(|status| status.code() as u32), metadata);
    for form in FORMS {
        assert_eq!(call_as(sidecar.local, form, &path, &json!({})).await, metadata, "{form}");
    }
}

#[tokio::test]
async fn a_client_may_ask_for_one_set_or_source() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    let path = format!("{SYNC}/FetchAllFlags");
    for (header, field, expected) in [
        (None, "", 14),
        (None, "flagSetId=shop", 14),
        (None, "flagSetId=other", 0),
        (Some("flagSetId=other"), "flagSetId=shop", 0),
        (Some("flagSetId=shop"), "flagSetId=other", 14),
        (None, "other.json", 0),
    ] {
        let mut metadata = tonic::metadata::MetadataMap::new();
        if let Some(header) = header {
            metadata.insert("flagd-selector", header.parse().unwrap());
        }
        let (answer, _) = rpc.call_with(&path, json!({ "selector": field }), metadata).await.unwrap();
        let flags = configuration(&answer)["flags"].as_object().unwrap().len();
        assert_eq!(flags, expected, "{header:?} {field}");
    }
}

#[tokio::test]
async fn a_change_of_another_set_is_no_news() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    let mut others = rpc.stream(&format!("{SYNC}/SyncFlags"), json!({ "selector": "flagSetId=other" })).await.unwrap();
    assert_eq!(configuration(&others.one().await), json!({ "flags": {} }));
    write(&sidecar, &FLAGS.replace(r#""defaultVariant":"half""#, r#""defaultVariant":"one""#));
    let mut all = rpc.stream(&format!("{SYNC}/SyncFlags"), json!({})).await.unwrap();
    while configuration(&all.one().await)["flags"]["ratio"]["defaultVariant"] != "one" {}
    write(&sidecar, &FLAGS.replace("shop", "other"));
    let next = configuration(&others.one().await);
    assert_eq!(next["flags"].as_object().unwrap().len(), 14, "the first news is of its own set");
}

#[tokio::test]
async fn connect_and_grpc_web_stream_over_http1_too() {
    let (_app, sidecar) = sidecar().await;
    let path = format!("{SYNC}/SyncFlags");
    let rpc = Rpc::connect(sidecar.local).await;
    let expected = rpc.stream(&path, json!({})).await.unwrap().one().await;
    // The client's time ends these streams, so that they can be read whole.
    for (form, message, last) in [
        ("application/connect+json", b"{}".as_slice(), 2),
        ("application/connect+proto", b"", 2),
        ("application/grpc-web+proto", b"", 0x80),
    ] {
        let headers = format!("Content-Type: {form}\r\ngrpc-timeout: 300m\r\nconnect-timeout-ms: 300\r\n");
        let answer = post(sidecar.local, &path, &headers, &enveloped(0, message)).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(form)));
        let envelopes = envelopes(&answer.body);
        let [(0, first), (end, status)] = &envelopes[..] else { panic!("{form}: {envelopes:?}") };
        let first = if form.ends_with("json") { normal(&path, first) } else { decoded(&path, first) };
        assert_eq!(first, expected, "{form}");
        assert_eq!(*end, last, "{form}");
        let status = String::from_utf8(status.clone()).unwrap();
        let late = if last == 2 {
            r#"{"error":{"code":"deadline_exceeded","message":"the time of the stream is over"}}"#
        } else {
            "grpc-status:4\r\ngrpc-message:the time of the stream is over\r\n"
        };
        assert_eq!(status, late, "{form}");
    }
}

#[tokio::test]
async fn an_override_reaches_clients_of_its_set_and_ends_with_it() {
    let (_app, sidecar) = sidecar_with("overrides: local").await;
    let rpc = Rpc::connect(sidecar.local).await;
    let mut metadata = tonic::metadata::MetadataMap::new();
    metadata.insert("flagd-selector", "flagSetId=shop".parse().unwrap());
    let path = format!("{V2}/EventStream");
    let mut events = rpc.stream_with(&path, json!({}), metadata.clone()).await.unwrap();
    assert_eq!(events.one().await["type"], "provider_ready");
    assert_eq!(events.one().await["type"], "configuration_change", "of all that there is");
    let mut flags = rpc.stream_with(&format!("{SYNC}/SyncFlags"), json!({}), metadata).await.unwrap();
    flags.one().await;

    let set = async |method: &str, body: &str| {
        let mut client = Client::connect(sidecar.local).await.unwrap();
        let head = format!("{method} /v1/override/staff HTTP/1.1\r\nHost: t\r\nTidegate-Override: allow\r\n");
        client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await.unwrap();
        let answer = client.answer().await.unwrap();
        assert!(answer.status < 300, "{}", answer.text());
    };
    set("PUT", r#"{"variant":"in","ttl":"1m"}"#).await;
    assert_eq!(events.one().await["data"], json!({"flags":{"staff":{"type":"update"}}}));
    let forced = &configuration(&flags.one().await)["flags"]["staff"];
    assert_eq!((forced.get("targeting"), &forced["defaultVariant"]), (None, &json!("in")));
    assert_eq!(forced["metadata"]["source"], "override");
    set("DELETE", "").await;
    assert_eq!(events.one().await["data"], json!({"flags":{"staff":{"type":"update"}}}));
    assert_eq!(configuration(&flags.one().await)["flags"]["staff"]["defaultVariant"], "out", "what it covered is back");
}
