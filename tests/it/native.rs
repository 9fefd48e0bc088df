//! The native flag routes of the running binary, and which web pages may use what the local listeners serve.

use std::time::Duration;

use serde_json::json;

use crate::support::eventually;
use crate::support::flags::{PATIENCE, Writer, number};
use crate::support::raw::{self, Answer, Client};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;

const PROXY: &str = "proxy: [{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }]";

async fn send(sidecar: &Sidecar, head: &str) -> Answer {
    let mut client = Client::connect(sidecar.local).await.unwrap();
    client.send(format!("{head}\r\nHost: t\r\n\r\n")).await.unwrap();
    client.answer().await.unwrap()
}

#[tokio::test]
async fn flags_are_listed_with_the_layer_they_are_from() {
    let redis = Redis::start();
    let mut writer = Writer::to(&redis.url(), "orders").await;
    writer.write(&[("both", Some(&number(1))), ("upper", Some(&number(1)))]).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flags.json");
    std::fs::write(&file, format!(r#"{{"flags":{{"both":{},"lower":{}}}}}"#, number(2), number(2))).unwrap();
    let name = format!("file:{}", file.display());
    let settings = format!(
        "{PROXY}\nredis: {{ url: '{}' }}\nflags: {{ scopes: [orders], files: ['{}'] }}",
        redis.url().expose(),
        file.display()
    );
    let sidecar = Sidecar::start_in(directory, &settings);
    sidecar.ready().await;
    let sources = async || {
        let list = raw::get(sidecar.local, "/v1/flags").await.unwrap().json();
        let flags = list["flags"].as_array().unwrap();
        flags.iter().map(|flag| (flag["key"].clone(), flag["source"].clone())).collect::<Vec<_>>()
    };
    let pair = |key: &str, source: &str| (json!(key), json!(source));
    assert_eq!(sources().await, [pair("both", "redis:orders"), pair("lower", &name), pair("upper", "redis:orders")]);
    let explained = raw::get(sidecar.local, "/v1/flags/both/explain").await.unwrap().json();
    assert_eq!((&explained["source"], &explained["reason"]), (&json!("redis:orders"), &json!("STATIC")));
    let words = send(&sidecar, "GET /v1/flags/both/explain HTTP/1.1\r\nAccept: text/plain").await;
    assert_eq!(words.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(words.text().contains("both"), "{}", words.text());
    // What lay beneath shows again.
    writer.write(&[("both", None)]).await;
    eventually(PATIENCE, "the file's flag", async || sources().await[0] == pair("both", &name)).await;
}

#[tokio::test]
async fn only_what_a_lost_source_may_hide_is_called_stale_and_its_age_is_told() {
    let mut redis = Redis::start();
    for (scope, key) in [("upper", "a"), ("lower", "b")] {
        Writer::to(&redis.url(), scope).await.set(key, 1).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flags.json");
    std::fs::write(&file, format!(r#"{{"flags":{{"c":{}}}}}"#, number(1))).unwrap();
    let settings = format!(
        "{PROXY}\nredis: {{ url: '{}' }}\nflags: {{ scopes: [upper, lower], files: ['{}'], max_stale: 1s }}",
        redis.url().expose(),
        file.display()
    );
    let sidecar = Sidecar::start_in(directory, &settings);
    sidecar.ready().await;
    let asked = async |key: &str| {
        let answer = raw::post(sidecar.local, &format!("/ofrep/v1/evaluate/flags/{key}"), "{}").await.unwrap();
        (answer.json()["reason"].as_str().unwrap().to_owned(), answer.header("tidegate-stale").is_some())
    };
    let fresh = ("STATIC".to_owned(), false);
    let stale = ("STALE".to_owned(), true);
    for key in ["a", "b", "c"] {
        assert_eq!(asked(key).await, fresh, "{key}");
    }
    let tag = async || {
        let answer = raw::post(sidecar.local, "/ofrep/v1/evaluate/flags", "{}").await.unwrap();
        answer.header("etag").unwrap().to_owned()
    };
    let before = tag().await;
    // A scope that does not validate is served as it was. It may hide the file's flags by now, not the scope above.
    Writer::to(&redis.url(), "lower").await.write(&[("b", Some("{}"))]).await;
    eventually(PATIENCE, "the lower scope is stale", async || asked("b").await == stale).await;
    assert_eq!((asked("a").await, asked("c").await), (fresh.clone(), stale.clone()));
    assert_ne!(tag().await, before, "the answer says so, and so it is another");
    Writer::to(&redis.url(), "lower").await.set("b", 1).await;
    eventually(PATIENCE, "the lower scope is fresh again", async || asked("c").await == fresh).await;
    assert_eq!(tag().await, before);

    assert!(sidecar.metric("tidegate_flags_source_age_seconds", "redis:upper").await < 60.0);
    redis.kill();
    eventually(PATIENCE, "all of it is stale", async || asked("a").await == stale && asked("c").await == stale).await;
    // Beyond `max_stale` the instance is not ready, and says why; the flags are served all the same.
    eventually(PATIENCE, "not ready", async || {
        let answer = raw::get(sidecar.ops, "/readyz").await.unwrap();
        answer.status == 503 && answer.text().contains("flags: redis:upper not confirmed for")
    })
    .await;
    assert_eq!(asked("a").await, stale);
    assert!(sidecar.metric("tidegate_flags_source_age_seconds", "redis:upper").await >= 1.0);
    redis.resume();
    for (scope, key) in [("upper", "a"), ("lower", "b")] {
        Writer::to(&redis.url(), scope).await.set(key, 1).await;
    }
    sidecar.ready().await;
    eventually(PATIENCE, "heard of again", async || asked("a").await == fresh).await;
}

#[tokio::test]
async fn pages_may_ask_for_flags_when_their_origin_is_named_and_change_nothing() {
    let named = Sidecar::start_local("cors_origins: ['https://shop.example']", PROXY);
    named.ready().await;
    let origin = "Origin: https://shop.example";
    let asked = send(&named, &format!("GET /v1/flags HTTP/1.1\r\n{origin}")).await;
    assert_eq!(asked.header("access-control-allow-origin"), Some("https://shop.example"));
    let exposed = asked.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("ETag") && exposed.contains("Tidegate-Revision") && exposed.contains("Grpc-Status"));
    let other = send(&named, "GET /v1/flags HTTP/1.1\r\nOrigin: https://evil.example").await;
    assert_eq!((other.status, other.header("access-control-allow-origin")), (200, None));
    let ask = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type, if-none-match";
    for path in ["/ofrep/v1/evaluate/flags", "/flagd.evaluation.v1.Service/ResolveBoolean"] {
        let preflight = send(&named, &format!("OPTIONS {path} HTTP/1.1\r\n{origin}\r\n{ask}")).await;
        assert_eq!(preflight.status, 204, "{path}");
        assert_eq!(preflight.header("access-control-allow-headers"), Some("content-type, if-none-match"));
    }
    let call = "POST /flagd.evaluation.v1.Service/ResolveBoolean HTTP/1.1\r\nContent-Type: application/json";
    let call = send(&named, &format!("{call}\r\n{origin}\r\nContent-Length: 0")).await;
    assert_eq!(call.header("access-control-allow-origin"), Some("https://shop.example"), "{}", call.text());
    let stream = "GET /ofrep/v1/events HTTP/1.1";
    let mut client = Client::connect(named.local).await.unwrap();
    client.send(format!("{stream}\r\nHost: t\r\n{origin}\r\n\r\n")).await.unwrap();
    assert!(client.head().await.unwrap().header("access-control-allow-origin").is_some(), "event streams too");

    // Even a page that is named changes nothing, and no page needs an answer to change something.
    for head in ["POST /v1/work HTTP/1.1", "DELETE /v1/work/1 HTTP/1.1", "PUT /v1/override/a HTTP/1.1"] {
        let answer = send(&named, &format!("{head}\r\n{origin}\r\nContent-Length: 0")).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None), "{head}");
    }
    let status = raw::get(named.local, "/v1/status").await.unwrap().json();
    assert_eq!(status["in_flight"]["work"], 0);
    assert_eq!(send(&named, "POST /v1/work?ttl=1s HTTP/1.1\r\nContent-Length: 0").await.status, 201, "the app may");

    let none = Sidecar::start_local("", PROXY);
    none.ready().await;
    let preflight = send(&none, &format!("OPTIONS /ofrep/v1/evaluate/flags HTTP/1.1\r\n{origin}\r\n{ask}")).await;
    assert_eq!((preflight.status, preflight.header("allow")), (204, Some("POST")));
    assert_eq!(preflight.header("access-control-allow-origin"), None);
    assert_eq!(send(&none, &format!("POST /v1/work HTTP/1.1\r\n{origin}\r\nContent-Length: 0")).await.status, 403);
}

#[tokio::test]
async fn odd_requests_get_exact_answers() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flags.json");
    let flag = r#"{"state":"ENABLED","variants":{"yes":"y","no":"n"},"defaultVariant":"no","targeting":
        {"if":[{"==":[{"var":"big"},"x"]},"yes",{"==":[{"var":"last"},2]},"yes"]}}"#;
    std::fs::write(&file, format!(r#"{{"flags":{{"f":{flag}}}}}"#)).unwrap();
    let sidecar = Sidecar::start_in(directory, &format!("{PROXY}\nflags: {{ files: ['{}'] }}", file.display()));
    sidecar.ready().await;
    let path = "/ofrep/v1/evaluate/flags/f";
    let mut client = Client::connect(sidecar.local).await.unwrap();
    let padding = "x".repeat(900 * 1024);
    for (body, status, expected) in [
        (format!(r#"{{"context":{{"pad":"{padding}","last":1,"last":2}}}}"#), 200, json!("y")),
        (r#"{"context":{"targetingKey":17,"big":["x","y"]}}"#.to_owned(), 200, json!("n")),
        (r#"{"context":{"big":{"x":"x"}}}"#.to_owned(), 200, json!("n")),
        (r#"{"context":"text"}"#.to_owned(), 400, json!("INVALID_CONTEXT")),
        (r#"{"context":{"a":1e999}}"#.to_owned(), 400, json!("PARSE_ERROR")),
        ("\u{feff}{}".to_owned(), 400, json!("PARSE_ERROR")),
        ("[1]".to_owned(), 400, json!("PARSE_ERROR")),
        ("x".repeat(1000), 400, json!("PARSE_ERROR")),
    ] {
        let answer = client.post(path, &body).await.unwrap();
        let answered = answer.json()[if status == 200 { "value" } else { "errorCode" }].clone();
        assert_eq!((answer.status, answered), (status, expected), "{}", &body[..body.len().min(60)]);
        assert!(answer.header("tidegate-revision").is_some());
    }
    client
        .send(b"POST /ofrep/v1/evaluate/flags/f HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\n\xff{}")
        .await
        .unwrap();
    let garbage = client.answer().await.unwrap();
    assert_eq!((garbage.status, &garbage.json()["errorCode"]), (400, &json!("PARSE_ERROR")));

    for (head, status, allow) in [
        ("OPTIONS /ofrep/v1/evaluate/flags HTTP/1.1", 204, Some("POST")),
        ("OPTIONS /v1/flags/f HTTP/1.1", 204, Some("GET, HEAD, POST")),
        ("OPTIONS /v1/flags/events HTTP/1.1", 204, Some("GET, HEAD")),
        ("OPTIONS /ofrep/v2 HTTP/1.1", 404, None),
        ("PATCH /v1/flags/f HTTP/1.1\r\nContent-Length: 0", 405, Some("GET, HEAD, POST")),
        ("POST /ofrep/v1/events HTTP/1.1\r\nContent-Length: 0", 405, Some("GET, HEAD")),
    ] {
        let answer = send(&sidecar, head).await;
        assert_eq!((answer.status, answer.header("allow")), (status, allow), "{head}");
        assert!(answer.header("tidegate-revision").is_some(), "{head}");
    }
    let mut client = Client::connect(sidecar.local).await.unwrap();
    client.send("HEAD /v1/flags/f HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    let head = client.head().await.unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/json")));
    assert!(head.header("content-length").unwrap().parse::<u64>().unwrap() > 0);
    tokio::time::timeout(Duration::from_secs(20), client.get("/v1/flags/f")).await.unwrap().unwrap();
}
