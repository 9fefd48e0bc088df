//! The flag routes by requests and whole answers.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Frame;
use http_body_util::{BodyExt, Empty};

use super::*;
use crate::flags::compile::{Format, document};
use crate::flags::store::{Layer, Snapshot};

pub(super) fn api() -> Api {
    let text = r#"{"metadata":{"team":"search"},"flags":{
        "on":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"},
        "off":{"state":"DISABLED","variants":{"on":true,"off":false},"defaultVariant":"on"},
        "ratio":{"state":"ENABLED","variants":{"one":1.0,"two":2},"defaultVariant":"one","metadata":{"owner":"ann"}},
        "vip":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",
            "targeting":{"if":[{"in":[{"var":"targetingKey"},["u1","ü 1"]]},"on"]}},
        "odd/key \"x\"":{"state":"ENABLED","variants":{"v":{"a":[1,2.0]}},"defaultVariant":"v"},
        "echo":{"state":"ENABLED","variants":{"x":"X"},"defaultVariant":"x","targeting":{"var":"pick"}},
        "code":{"state":"ENABLED","variants":{"on":true}}}}"#;
    let set = document(text, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
    let layer = Layer { name: "redis:s".into(), flag_set_id: Some("s".into()), revision: 3, set: Arc::new(set) };
    let store = Arc::new(Store::new());
    store.publish(Snapshot::merge(vec![Arc::new(layer)], Arc::default(), 42, false));
    Api::new(store)
}

struct Answer {
    status: u16,
    head: http::HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name).map(|value| value.to_str().expect("headers are text"))
    }
}

async fn ask<B>(request: Request<B>) -> Answer
where
    B: Body + Unpin,
    B::Error: Into<body::Error>,
{
    let (head, body) = handle(&api(), &Arc::new(Activity::new()), request).await.into_parts();
    let body = body.collect().await.unwrap_or_else(|broken| panic!("{broken}")).to_bytes();
    let answer = Answer {
        status: head.status.as_u16(),
        head: head.headers,
        body: String::from_utf8(body.to_vec()).expect("answers are UTF-8"),
    };
    assert_eq!(answer.header("tidegate-revision"), Some("42"), "every answer tells its revision");
    if answer.header("content-type") == Some("application/json") {
        serde_json::from_str::<serde_json::Value>(&answer.body)
            .unwrap_or_else(|error| panic!("{error}: {}", answer.body));
    }
    answer
}

async fn send(method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
    let request = Request::builder().method(method).uri(path).body(Full::new(body.into()));
    ask(request.expect("the test's request is sound")).await
}

const META: &str = r#"{"flagSetId":"s","source":"redis:s","team":"search"}"#;

#[tokio::test]
async fn a_flag_is_evaluated() {
    let path = "/ofrep/v1/evaluate/flags/";
    for (key, body, expected) in [
        ("on", "", r#"{"key":"on","reason":"STATIC","variant":"on","value":true,"metadata":META}"#),
        ("on", " \n", r#"{"key":"on","reason":"STATIC","variant":"on","value":true,"metadata":META}"#),
        ("on", "{}", r#"{"key":"on","reason":"STATIC","variant":"on","value":true,"metadata":META}"#),
        (
            "on",
            r#"{"context":null,"x":[1]}"#,
            r#"{"key":"on","reason":"STATIC","variant":"on","value":true,"metadata":META}"#,
        ),
        (
            "ratio",
            "{}",
            r#"{"key":"ratio","reason":"STATIC","variant":"one","value":1.0,"metadata":{"flagSetId":"s","owner":"ann","source":"redis:s","team":"search"}}"#,
        ),
        ("off", "{}", r#"{"key":"off","reason":"DISABLED","variant":"","metadata":META}"#),
        ("code", "{}", r#"{"key":"code","reason":"DEFAULT","variant":"","metadata":META}"#),
        (
            "vip",
            r#"{"context":{"targetingKey":"u1"}}"#,
            r#"{"key":"vip","reason":"TARGETING_MATCH","variant":"on","value":true,"metadata":META}"#,
        ),
        (
            "vip",
            r#"{"context":{"targetingKey":"\u00fc 1"}}"#,
            r#"{"key":"vip","reason":"TARGETING_MATCH","variant":"on","value":true,"metadata":META}"#,
        ),
        (
            "vip",
            r#"{"context":{"targetingKey":"u2"}}"#,
            r#"{"key":"vip","reason":"DEFAULT","variant":"off","value":false,"metadata":META}"#,
        ),
        (
            "vip",
            r#"{"context":{"targetingKey":"u2","targetingKey":"u1"}}"#,
            r#"{"key":"vip","reason":"TARGETING_MATCH","variant":"on","value":true,"metadata":META}"#,
        ),
        (
            "vip",
            r#"{"context":{"targetingKey":"u2"},"context":{"targetingKey":"u1"}}"#,
            r#"{"key":"vip","reason":"TARGETING_MATCH","variant":"on","value":true,"metadata":META}"#,
        ),
        (
            "odd%2Fkey%20%22x%22",
            "",
            r#"{"key":"odd/key \"x\"","reason":"STATIC","variant":"v","value":{"a":[1,2.0]},"metadata":META}"#,
        ),
    ] {
        let answer = send("POST", &format!("{path}{key}"), body).await;
        assert_eq!(answer.body, expected.replace("META", META), "{key} with {body}");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    }
}

#[tokio::test]
async fn what_cannot_be_evaluated_says_why() {
    let path = "/ofrep/v1/evaluate/flags/";
    let deep = format!(r#"{{"context":{{"a":{}}}}}"#, "[".repeat(100_000));
    let bad_utf8: &[u8] = b"{\"context\":{\"a\":\"\xff\"}}";
    for (key, body, status, code) in [
        ("none", "{}".as_bytes(), 404, "FLAG_NOT_FOUND"),
        ("on", b"{", 400, "PARSE_ERROR"),
        ("on", b"[]", 400, "PARSE_ERROR"),
        ("on", b"null", 400, "PARSE_ERROR"),
        ("on", b"{} {}", 400, "PARSE_ERROR"),
        ("on", bad_utf8, 400, "PARSE_ERROR"),
        ("on", deep.as_bytes(), 400, "PARSE_ERROR"),
        ("on", br#"{"context":{"n":1e999}}"#, 400, "PARSE_ERROR"),
        ("on", br#"{"context":[]}"#, 400, "INVALID_CONTEXT"),
        ("on", br#"{"context":"x"}"#, 400, "INVALID_CONTEXT"),
        ("echo", br#"{"context":{"pick":"y"}}"#, 400, "GENERAL"),
        ("%zz", b"{}", 400, "PARSE_ERROR"),
        ("%ff", b"{}", 400, "PARSE_ERROR"),
    ] {
        let answer = send("POST", &format!("{path}{key}"), body.to_vec()).await;
        let json: serde_json::Value = serde_json::from_str(&answer.body).expect("an error is JSON");
        assert_eq!((answer.status, json["errorCode"].as_str()), (status, Some(code)), "{key}: {}", answer.body);
        assert_eq!(json["key"], key);
        assert!(json["errorDetails"].as_str().is_some_and(|details| !details.is_empty()), "{}", answer.body);
    }
}

#[tokio::test]
async fn all_flags_are_evaluated_at_once_and_only_anew_when_something_differs() {
    let path = "/ofrep/v1/evaluate/flags";
    let first = send("POST", path, r#"{"context":{"targetingKey":"u1","pick":"bad"}}"#).await;
    assert_eq!(first.status, 200);
    let json: serde_json::Value = serde_json::from_str(&first.body).expect("sound");
    let keys: Vec<&str> =
        json["flags"].as_array().expect("a list").iter().filter_map(|flag| flag["key"].as_str()).collect();
    assert_eq!(keys, ["code", "echo", "odd/key \"x\"", "off", "on", "ratio", "vip"]);
    assert_eq!(json["flags"][1]["errorCode"], "GENERAL", "a flag that fails does not fail the others");
    assert_eq!(json["metadata"]["team"], "search");
    let tag = first.header("etag").expect("an answer has an ETag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag} is not a strong ETag");

    let again = async |tags: &str, key: &str| {
        let body = format!(r#"{{"context":{{"targetingKey":"{key}","pick":"bad"}}}}"#);
        let request = Request::post(path).header("if-none-match", tags).body(Full::new(Bytes::from(body)));
        ask(request.expect("sound")).await
    };
    for tags in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let same = again(&tags, "u1").await;
        assert_eq!((same.status, same.body.as_str(), same.header("etag")), (304, "", Some(&*tag)), "{tags}");
    }
    assert_eq!(again("\"x\"", "u1").await.status, 200);
    let other = again(&tag, "u2").await;
    assert_eq!(other.status, 200, "another context, another answer");
    assert_ne!(other.header("etag"), Some(&*tag));
    // A context that changes nothing is the same answer.
    let body = r#"{"context":{"targetingKey":"u1","pick":"bad","more":1}}"#;
    assert_eq!(send("POST", path, body).await.header("etag"), Some(&*tag));

    let bad = send("POST", path, "{").await;
    let json: serde_json::Value = serde_json::from_str(&bad.body).expect("sound");
    assert_eq!((bad.status, json["errorCode"].as_str(), json.get("key")), (400, Some("PARSE_ERROR"), None));
}

#[tokio::test]
async fn a_shell_gets_true_or_false() {
    for (path, status, body) in [
        ("/v1/flags/on/enabled", 200, "true"),
        ("/v1/flags/off/enabled", 200, "false"),
        ("/v1/flags/code/enabled", 200, "false"),
        ("/v1/flags/vip/enabled", 200, "false"),
        ("/v1/flags/vip/enabled?targetingKey=u1", 200, "true"),
        ("/v1/flags/vip/enabled?targetingKey=u2&targetingKey=u1", 200, "true"),
        ("/v1/flags/vip/enabled?targetingKey=%C3%BC+1&x", 200, "true"),
        (
            "/v1/flags/ratio/enabled",
            400,
            r#"{"key":"ratio","errorCode":"TYPE_MISMATCH","errorDetails":"flag \"ratio\" is of type float, not boolean"}"#,
        ),
        (
            "/v1/flags/none/enabled",
            404,
            r#"{"key":"none","errorCode":"FLAG_NOT_FOUND","errorDetails":"flag \"none\" does not exist"}"#,
        ),
        (
            "/v1/flags/on/enabled?a=%ff",
            400,
            r#"{"key":"on","errorCode":"PARSE_ERROR","errorDetails":"the query is not percent-encoded UTF-8"}"#,
        ),
    ] {
        let answer = send("GET", path, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{path}");
        let kind = if status == 200 { "text/plain; charset=utf-8" } else { "application/json" };
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
    }
}

#[tokio::test]
async fn all_flags_are_listed() {
    let answer = send("GET", "/v1/flags", "").await;
    let list: serde_json::Value = serde_json::from_str(&answer.body).expect("sound");
    assert_eq!((&list["revision"], &list["stale"]), (&42.into(), &false.into()));
    assert_eq!(list["flags"].as_array().map(Vec::len), Some(7));
    assert_eq!(
        list["flags"][4],
        serde_json::json!({
            "key": "on", "type": "boolean", "state": "ENABLED", "variants": ["on", "off"], "defaultVariant": "on",
            "targeted": false, "source": "redis:s", "revision": 3, "stale": false, "lastEvaluated": null,
        })
    );
    assert_eq!(list["flags"][0]["defaultVariant"], serde_json::Value::Null);
}

#[tokio::test]
async fn nothing_is_evaluated_before_the_first_flags_are_applied() {
    let api = Api::new(Arc::new(Store::new()));
    for (method, path, key) in [
        ("POST", "/ofrep/v1/evaluate/flags/a%20b", Some("a b")),
        ("POST", "/ofrep/v1/evaluate/flags", None),
        ("GET", "/v1/flags/on/enabled", Some("on")),
        ("GET", "/v1/flags", None),
    ] {
        let request = Request::builder().method(method).uri(path).body(Empty::<Bytes>::new()).expect("sound");
        let (head, body) = handle(&api, &Arc::new(Activity::new()), request).await.into_parts();
        let body = body.collect().await.unwrap_or_else(|broken| panic!("{broken}")).to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).expect("sound");
        assert_eq!((head.status.as_u16(), head.headers.contains_key("retry-after")), (503, true), "{path}");
        assert_eq!((&body["errorCode"], body["key"].as_str()), (&"PROVIDER_NOT_READY".into(), key), "{path}");
    }
}

#[tokio::test]
async fn the_native_evaluation_takes_a_query_or_a_body() {
    let expected =
        format!(r#"{{"key":"vip","reason":"TARGETING_MATCH","variant":"on","value":true,"metadata":{META}}}"#);
    assert_eq!(send("GET", "/v1/flags/vip?targetingKey=u1", "").await.body, expected);
    assert_eq!(send("POST", "/v1/flags/vip", r#"{"context":{"targetingKey":"u1"}}"#).await.body, expected);
}

#[tokio::test]
async fn an_evaluation_is_explained_as_data_or_in_words() {
    let path = "/v1/flags/vip/explain";
    let asked = send("POST", path, r#"{"context":{"targetingKey":"u1"}}"#).await;
    let json: serde_json::Value = serde_json::from_str(&asked.body).expect("sound");
    assert_eq!(
        (&json["flag"], &json["reason"], &json["variant"]),
        (&"vip".into(), &"TARGETING_MATCH".into(), &"on".into())
    );
    assert_eq!(send("GET", &format!("{path}?targetingKey=u1"), "").await.body, asked.body);
    for (accept, words) in [
        ("text/plain", true),
        ("text/plain;q=0.9, */*;q=0.1", true),
        ("text/html, text/*", true),
        ("application/json, text/plain, */*", false),
        ("*/*", false),
        ("image/png", false),
    ] {
        let request = Request::get(path).header("accept", accept).body(Empty::<Bytes>::new());
        let answer = ask(request.expect("sound")).await;
        let kind = if words { "text/plain; charset=utf-8" } else { "application/json" };
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{accept}");
        assert!(answer.body.contains("vip"), "{}", answer.body);
    }
    assert_eq!(send("GET", "/v1/flags/none/explain", "").await.status, 404);
    assert_eq!(send("POST", path, "{").await.status, 400);
}

#[tokio::test]
async fn other_paths_are_not_found_and_other_methods_named() {
    for path in [
        "/",
        "/ofrep",
        "/ofrep/v1/evaluate/flags/",
        "/ofrep/v1/evaluate/flags/a/b",
        "/ofrep/v1/evaluate/flagsx",
        "/ofrep/v1/events/",
        "/v1/flags/",
        "/v1/flags//enabled",
        "/v1/flags/on/",
        "/v1/flags/on/disabled",
        "/v1/flags/on/enabled/x",
    ] {
        for method in ["GET", "POST"] {
            let answer = send(method, path, "{}").await;
            assert_eq!(answer.status, 404, "{method} {path}");
            assert!(answer.body.contains("errorDetails") && !answer.body.contains("errorCode"), "{}", answer.body);
        }
    }
    for (method, path, allow) in [
        ("GET", "/ofrep/v1/evaluate/flags/on", "POST"),
        ("PUT", "/ofrep/v1/evaluate/flags", "POST"),
        ("DELETE", "/v1/flags/on", "GET, HEAD, POST"),
        ("POST", "/v1/flags/on/enabled", "GET, HEAD"),
        ("POST", "/v1/flags", "GET, HEAD"),
        ("POST", "/v1/flags/events", "GET, HEAD"),
        ("PUT", "/ofrep/v1/events", "GET, HEAD"),
    ] {
        let answer = send(method, path, "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
    }
    for path in ["/v1/flags/on", "/v1/flags", "/v1/flags/on/enabled", "/v1/flags/events", "/ofrep/v1/events"] {
        assert_eq!(send("HEAD", path, "").await.status, 200, "{path}");
    }
    let options = send("OPTIONS", "/v1/flags/on", "").await;
    assert_eq!((options.status, options.header("allow"), &*options.body), (204, Some("GET, HEAD, POST"), ""));
    assert_eq!(send("OPTIONS", "/nowhere", "").await.status, 404);
}

/// A body of these frames that says nothing of its length.
struct Frames(VecDeque<Bytes>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|frame| Ok(Frame::data(frame))))
    }
}

async fn send_frames(frames: &[&[u8]]) -> Answer {
    let frames = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
    let request = Request::post("/ofrep/v1/evaluate/flags/vip").body(Frames(frames));
    ask(request.expect("sound")).await
}

#[tokio::test]
async fn a_body_in_pieces_is_put_together() {
    let answer = send_frames(&[b"", b"{\"context\":{\"targ", b"etingKey\":", b"\"u1\"}}"]).await;
    assert!(answer.body.contains("TARGETING_MATCH"), "{}", answer.body);
}

#[tokio::test]
async fn a_body_too_large_is_refused_whether_announced_or_not() {
    let large = vec![b' '; body::LIMIT + 1];
    assert_eq!(send("POST", "/ofrep/v1/evaluate/flags/on", large.clone()).await.status, 413);
    let answer = send_frames(&[&large[..body::LIMIT], b" "]).await;
    assert_eq!(answer.status, 413);
    assert!(answer.body.contains("larger than 1 MiB"), "{}", answer.body);
    assert_eq!(send("POST", "/ofrep/v1/evaluate/flags/on", large[1..].to_vec()).await.status, 200, "blank is empty");
}

#[tokio::test]
async fn an_empty_body_of_any_type_will_do() {
    let request = Request::post("/ofrep/v1/evaluate/flags/on").body(Empty::<Bytes>::new());
    assert_eq!(ask(request.expect("sound")).await.status, 200);
}

#[test]
fn a_request_of_hyper_is_answered_on_any_thread() {
    fn sendable<T: Send>(_: impl FnOnce(Request<crate::net::inbound::Inbound>) -> T) {}
    sendable(|request| async move {
        let activity = request.body().activity().clone();
        handle(&api(), &activity, request).await
    });
}

#[test]
fn the_room_for_an_answer_is_exactly_what_it_takes() {
    let api = api();
    let snapshot = api.store.load();
    for key in ["on", "off", "ratio"] {
        let context = crate::flags::context::Context::default();
        let resolution = crate::flags::evaluate::evaluate(&snapshot, key, &context, SystemTime::now());
        let mut body = Vec::new();
        answer::write_resolution(&mut body, &resolution.unwrap_or_else(|failure| panic!("{failure}")));
        assert_eq!(body.len(), body.capacity(), "{key}");
    }
}
