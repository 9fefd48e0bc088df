//! Answers and errors of `flagd.evaluation.v1`, `.v2` and `schema.v1`, over every protocol.

use super::*;
use crate::support::rpc::{FORMS, call_as};

/// What every flag but `on` says of itself.
fn metadata(sidecar: &Sidecar) -> Value {
    let source = format!("file:{}", sidecar.directory().join("flags.json").display());
    json!({ "flagSetId": "shop", "source": source, "team": "a" })
}

/// Services, the type asked for, flag, context; the answer or the number of a code.
type Case = (&'static [&'static str], &'static str, &'static str, Value, Result<Value, u32>);

#[tokio::test]
async fn every_protocol_gives_the_same_answers() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    let user = json!({ "user": { "roles": ["guest", "admin"] } });
    // Metadata is added below.
    let cases: &[Case] = &[
        (&[V1, V2, SCHEMA], "Boolean", "on", json!({}), Ok(json!({"value":true,"reason":"STATIC","variant":"yes"}))),
        (&[V2], "Boolean", "no", json!({}), Ok(json!({"value":false,"reason":"STATIC","variant":"no"}))),
        (&[V1, SCHEMA], "Boolean", "no", json!({}), Ok(json!({"reason":"STATIC","variant":"no"}))),
        (
            &[V1, V2],
            "String",
            "text",
            json!({}),
            Ok(json!({"value":"ä \"quoted\" \n","reason":"STATIC","variant":"a"})),
        ),
        (
            &[V1, V2, SCHEMA],
            "Int",
            "count",
            json!({}),
            Ok(json!({"value":"9007199254740993","reason":"STATIC","variant":"big"})),
        ),
        (
            &[V1, V2],
            "Float",
            "count",
            json!({}),
            Ok(json!({"value":9007199254740992.0,"reason":"STATIC","variant":"big"})),
        ),
        (&[V1, V2, SCHEMA], "Float", "ratio", json!({}), Ok(json!({"value":2.5,"reason":"STATIC","variant":"half"}))),
        (&[V1, V2], "Int", "ratio", json!({}), Ok(json!({"value":"2","reason":"STATIC","variant":"half"}))),
        (
            &[V1, V2, SCHEMA],
            "Object",
            "object",
            json!({}),
            Ok(json!({"value":{"a":[1.0,null,{"b":"c"}],"d":{}},"reason":"STATIC","variant":"o"})),
        ),
        (&[V1, V2, SCHEMA], "Boolean", "off", json!({}), Ok(json!({"reason":"DISABLED"}))),
        (&[V1, V2], "String", "off", json!({}), Ok(json!({"reason":"DISABLED"}))),
        (&[V2], "Boolean", "code", json!({}), Ok(json!({"reason":"DEFAULT"}))),
        (&[V2], "Boolean", "fallen", json!({}), Ok(json!({"reason":"DEFAULT"}))),
        (&[V1, SCHEMA], "Boolean", "code", json!({}), Err(5)),
        (&[V1, SCHEMA], "Boolean", "fallen", json!({}), Err(5)),
        (
            &[V1, V2],
            "Boolean",
            "staff",
            json!({"email":"a@example.com"}),
            Ok(json!({"value":true,"reason":"TARGETING_MATCH","variant":"in"})),
        ),
        (&[V2], "Boolean", "staff", json!({}), Ok(json!({"value":false,"reason":"DEFAULT","variant":"out"}))),
        (&[V1, V2], "String", "env", json!({}), Ok(json!({"value":"prod","reason":"TARGETING_MATCH","variant":"p"}))),
        (
            &[V1, V2],
            "String",
            "env",
            json!({"environment":"test"}),
            Ok(json!({"value":"dev","reason":"DEFAULT","variant":"d"})),
        ),
        (&[V1, V2], "String", "deep", user, Ok(json!({"value":"y","reason":"TARGETING_MATCH","variant":"y"}))),
        (&[V1, V2, SCHEMA], "Boolean", "none", json!({}), Err(5)),
        (&[V1, V2, SCHEMA], "String", "on", json!({}), Err(3)),
        (&[V1, V2], "Int", "on", json!({}), Err(3)),
        (&[V1, V2], "Object", "ratio", json!({}), Err(3)),
        (&[V1, V2], "Boolean", "count", json!({}), Err(3)),
        (&[V1, V2, SCHEMA], "String", "odd", json!({}), Err(2)),
        (&[V1, V2, SCHEMA], "String", "broken", json!({}), Err(15)),
    ];
    for (services, kind, key, context, expected) in cases {
        let expected = expected.clone().map(|mut answer| {
            answer["metadata"] = metadata(&sidecar);
            if *key == "on" {
                answer["metadata"]["team"] = json!("b");
                answer["metadata"]["n"] = json!(1.5);
                answer["metadata"]["x"] = json!(true);
            }
            answer
        });
        for service in *services {
            let path = format!("{service}/Resolve{kind}");
            let request = ask(key, context.clone());
            let answer = rpc.call(&path, request.clone()).await.map_err(|status| status.code() as u32);
            assert_eq!(answer, expected, "gRPC {path} of {key} over {context}");
            for form in FORMS {
                let answer = call_as(sidecar.local, form, &path, &request).await;
                assert_eq!(answer, expected, "{form} {path} of {key} over {context}");
            }
        }
    }
}

#[tokio::test]
async fn all_flags_come_at_once_without_those_that_have_no_value() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    let request = json!({ "context": { "email": "a@example.com" } });
    let all = rpc.call(&format!("{V1}/ResolveAll"), request.clone()).await.unwrap();
    let keys: Vec<&String> = all["flags"].as_object().unwrap().keys().collect();
    // Without `code` and `fallen`, which have no default variant, and `odd` and `broken`, which fail.
    assert_eq!(keys, ["count", "deep", "env", "no", "object", "off", "on", "ratio", "staff", "text"]);
    let meta = metadata(&sidecar);
    let flag = |key: &str| &all["flags"][key];
    assert_eq!(*flag("no"), json!({"reason":"STATIC","variant":"no","boolValue":false,"metadata":meta}));
    assert_eq!(*flag("off"), json!({"reason":"DISABLED","boolValue":false,"metadata":meta}));
    assert_eq!(*flag("staff"), json!({"reason":"TARGETING_MATCH","variant":"in","boolValue":true,"metadata":meta}));
    assert_eq!(*flag("ratio"), json!({"reason":"STATIC","variant":"half","doubleValue":2.5,"metadata":meta}));
    assert_eq!(flag("text")["stringValue"], "ä \"quoted\" \n");
    assert_eq!(flag("object")["objectValue"], json!({"a":[1.0,null,{"b":"c"}],"d":{}}));
    assert_eq!(all["metadata"], json!({"flagSetId":"shop","team":"a"}));
    for form in FORMS {
        let path = format!("{V1}/ResolveAll");
        assert_eq!(call_as(sidecar.local, form, &path, &request).await, Ok(all.clone()), "{form}");
    }
    let old = rpc.call(&format!("{SCHEMA}/ResolveAll"), request).await.unwrap();
    assert_eq!(old["flags"]["no"], json!({"reason":"STATIC","variant":"no","boolValue":false}));
    assert_eq!(old.get("metadata"), None, "the old schema has none");
}

#[tokio::test]
async fn json_is_what_flagd_writes() {
    let (_app, sidecar) = sidecar().await;
    let meta = metadata(&sidecar);
    let meta = meta.to_string();
    for (path, request, expected) in [
        (
            format!("{V1}/ResolveBoolean"),
            r#"{"flagKey":"off","context":{},"unknown":[1]}"#,
            format!(r#"{{"value":false,"reason":"DISABLED","variant":"","metadata":{meta}}}"#),
        ),
        (
            format!("{V2}/ResolveBoolean"),
            r#"{"flag_key":"off","context":null}"#,
            format!(r#"{{"reason":"DISABLED","metadata":{meta}}}"#),
        ),
        (
            format!("{V2}/ResolveInt"),
            r#"{"flagKey":"count"}"#,
            format!(r#"{{"value":"9007199254740993","reason":"STATIC","variant":"big","metadata":{meta}}}"#),
        ),
        (
            format!("{V2}/ResolveFloat"),
            r#"{"flagKey":"ratio"}"#,
            format!(r#"{{"value":2.5,"reason":"STATIC","variant":"half","metadata":{meta}}}"#),
        ),
    ] {
        let headers = "Content-Type: application/json; charset=utf-8\r\n";
        let answer = crate::support::rpc::post(sidecar.local, &path, headers, request.as_bytes()).await;
        assert_eq!(answer.text(), expected, "{path}");
    }
}

#[tokio::test]
async fn a_selector_shows_one_set_or_source() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    let source = format!("source={}", sidecar.directory().join("flags.json").display());
    for (selector, expected) in [
        ("flagSetId=shop", Ok("yes")),
        (source.as_str(), Ok("yes")),
        (&source["source=".len()..], Ok("yes")),
        ("", Ok("yes")),
        ("flagSetId=other", Err(5)),
        ("flagSetId=", Err(5)),
        ("nowhere.json", Err(5)),
        ("team=a", Err(3)),
    ] {
        let mut metadata = tonic::metadata::MetadataMap::new();
        metadata.insert("flagd-selector", selector.parse().unwrap());
        let answer = rpc.call_with(&format!("{V2}/ResolveBoolean"), ask("on", json!({})), metadata).await;
        let answer = answer.map(|(answer, _)| answer["variant"].clone()).map_err(|status| status.code() as i32);
        assert_eq!(answer, expected.map(Value::from), "{selector}");
    }
}

#[tokio::test]
async fn an_answer_tells_its_revision_and_flags_of_a_lost_source_are_stale() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    let path = format!("{V2}/ResolveBoolean");
    let (_, metadata) = rpc.call_with(&path, ask("on", json!({})), Default::default()).await.unwrap();
    assert_eq!(metadata.get("tidegate-revision").unwrap(), "1");
    std::fs::remove_file(sidecar.directory().join("flags.json")).unwrap();
    let stale = async || rpc.call(&path, ask("on", json!({}))).await.unwrap()["reason"] == "STALE";
    eventually(std::time::Duration::from_secs(30), "stale without its file", stale).await;
    let unset = rpc.call(&path, ask("code", json!({}))).await.unwrap();
    assert_eq!(unset["reason"], "DEFAULT", "clients take their own default for this reason alone");
}

#[tokio::test]
async fn evaluations_are_counted_whatever_they_came_by() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    let path = format!("{V2}/ResolveBoolean");
    rpc.call(&path, ask("on", json!({}))).await.unwrap();
    let mut metadata = tonic::metadata::MetadataMap::new();
    metadata.insert("flagd-selector", "flagSetId=shop".parse().unwrap());
    rpc.call_with(&path, ask("on", json!({})), metadata).await.unwrap();
    call_as(sidecar.local, "application/json", &path, &ask("on", json!({}))).await.unwrap();
    rpc.call(&format!("{V1}/ResolveAll"), json!({})).await.unwrap();
    let counted = sidecar.metric("tidegate_flag_evaluations_total", r#"flag="on",variant="yes",reason="static""#).await;
    assert_eq!(counted, 3.0, "of a selection too; all at once is of no flag");
}
