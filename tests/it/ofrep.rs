//! Flags over the local API of the running binary.

use serde_json::json;

use crate::support::app::App;
use crate::support::eventually;
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;

const FLAGS: &str = r#"{"flags":{
  "on":{"state":"ENABLED","variants":{"yes":true,"no":false},"defaultVariant":"yes","metadata":{"team":"a"}},
  "price":{"state":"ENABLED","variants":{"low":1.0,"high":2.5},"defaultVariant":"low"},
  "off":{"state":"DISABLED","variants":{"yes":true,"no":false},"defaultVariant":"yes"},
  "env":{"state":"ENABLED","variants":{"p":"prod","d":"dev"},"defaultVariant":"d",
         "targeting":{"if":[{"==":[{"var":"environment"},"production"]},"p",null]}},
  "odd":{"state":"ENABLED","variants":{"a":"a"},"defaultVariant":"a","targeting":{"if":[true,"none"]}}
}}"#;

async fn sidecar() -> (App, Sidecar) {
    let app = App::start().await;
    let directory = tempfile::tempdir().unwrap();
    let flags = directory.path().join("flags.json");
    std::fs::write(&flags, FLAGS).unwrap();
    let sidecar = Sidecar::start_in(
        directory,
        &format!(
            "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://{}' }}]\n\
             flags: {{ files: ['{}'], context: {{ environment: production }} }}",
            app.address,
            flags.display()
        ),
    );
    sidecar.ready().await;
    (app, sidecar)
}

#[tokio::test]
async fn single_evaluations_answer_as_the_protocol_has_it() {
    let (_app, sidecar) = sidecar().await;
    let mut client = Client::connect(sidecar.local).await.unwrap();
    for (key, body, status, expected) in [
        ("on", "", 200, json!({"key":"on","reason":"STATIC","variant":"yes","value":true})),
        ("env", "{}", 200, json!({"key":"env","reason":"TARGETING_MATCH","variant":"p","value":"prod"})),
        (
            "env",
            r#"{"context":{"environment":"staging"}}"#,
            200,
            json!({"key":"env","reason":"DEFAULT","variant":"d","value":"dev"}),
        ),
        ("off", "{}", 200, json!({"key":"off","reason":"DISABLED"})),
        ("none", "{}", 404, json!({"key":"none","errorCode":"FLAG_NOT_FOUND"})),
        ("on", "{", 400, json!({"key":"on","errorCode":"PARSE_ERROR"})),
        ("on", r#"{"context":[]}"#, 400, json!({"key":"on","errorCode":"INVALID_CONTEXT"})),
        ("odd", "{}", 400, json!({"key":"odd","errorCode":"GENERAL"})),
    ] {
        let answer = client.post(&format!("/ofrep/v1/evaluate/flags/{key}"), body).await.unwrap();
        assert_eq!(answer.status, status, "{key} {body}: {}", answer.text());
        assert_eq!(answer.header("tidegate-revision"), Some("1"));
        let answer = answer.json();
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&answer[name], value, "{name} of {key} {body}: {answer}");
        }
        assert_eq!(answer["value"].is_null(), expected["value"].is_null());
        assert_eq!(answer["errorDetails"].is_string(), status != 200, "always told: {answer}");
    }
    let price = client.post("/ofrep/v1/evaluate/flags/price", "{}").await.unwrap().text();
    assert!(price.contains(r#""value":1.0"#), "floats keep their point: {price}");
}

#[tokio::test]
async fn a_bulk_evaluation_is_answered_again_only_when_it_would_differ() {
    let (_app, sidecar) = sidecar().await;
    let mut client = Client::connect(sidecar.local).await.unwrap();
    let all = client.post("/ofrep/v1/evaluate/flags", "{}").await.unwrap();
    assert_eq!(all.json()["flags"].as_array().unwrap().len(), 5);
    let tag = all.header("etag").unwrap().to_owned();
    let ask = |tag: &str, body: &str| {
        let length = body.len();
        let head = "POST /ofrep/v1/evaluate/flags HTTP/1.1\r\nHost: t";
        format!("{head}\r\nIf-None-Match: {tag}\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    client.send(ask(&tag, "{}")).await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 304);
    client.send(ask(&tag, r#"{"context":{"environment":"staging"}}"#)).await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 200, "another context, another answer");

    std::fs::write(
        sidecar.directory().join("flags.json"),
        FLAGS.replace("\"defaultVariant\":\"low\"", "\"defaultVariant\":\"high\""),
    )
    .unwrap();
    eventually(std::time::Duration::from_secs(20), "the change is served", async || {
        client.send(ask(&tag, "{}")).await.unwrap();
        client.answer().await.unwrap().status == 200
    })
    .await;
}

#[tokio::test]
async fn the_native_api_answers_curl() {
    let (_app, sidecar) = sidecar().await;
    let get = async |path: &str| raw::get(sidecar.local, path).await.unwrap();
    assert_eq!(get("/v1/flags/on/enabled").await.text(), "true");
    assert_eq!(get("/v1/flags/off/enabled").await.text(), "false");
    let mismatch = get("/v1/flags/price/enabled").await;
    assert_eq!((mismatch.status, &mismatch.json()["errorCode"]), (400, &json!("TYPE_MISMATCH")));
    assert_eq!(get("/v1/flags/env?environment=x").await.json()["value"], "dev");
    assert_eq!(get("/v1/flags/none/enabled").await.status, 404);
    assert_eq!(get("/nowhere").await.status, 404);
    let mut client = Client::connect(sidecar.local).await.unwrap();
    client.send("DELETE /v1/flags/on HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("allow").is_some()), (405, true));
}

#[tokio::test]
async fn bodies_that_are_too_large_or_never_come_are_refused() {
    let (_app, sidecar) = sidecar().await;
    let mut client = Client::connect(sidecar.local).await.unwrap();
    let huge = format!(r#"{{"context":{{"a":"{}"}}}}"#, "x".repeat(1024 * 1024));
    assert_eq!(client.post("/ofrep/v1/evaluate/flags/on", &huge).await.unwrap().status, 413);
    let mut client = Client::connect(sidecar.local).await.unwrap();
    let deep = format!(r#"{{"context":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(client.post("/ofrep/v1/evaluate/flags/on", &deep).await.unwrap().status, 400);
    let mut stalled = Client::connect(sidecar.local).await.unwrap();
    stalled.send("POST /ofrep/v1/evaluate/flags/on HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n{").await.unwrap();
    assert_eq!(stalled.answer().await.unwrap().status, 408);
    assert_eq!(raw::get(sidecar.local, "/v1/flags/on/enabled").await.unwrap().text(), "true", "others are served on");
}
