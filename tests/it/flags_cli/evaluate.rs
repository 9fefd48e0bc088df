//! `eval` and `explain`: by Redis, by files, by a running sidecar.

use serde_json::json;

use super::{Desk, switch};
use crate::support::eventually;
use crate::support::flags::PATIENCE;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;

const DOCUMENT: &str = r#"
$evaluators:
  staff: { ends_with: [ { var: email }, "@example.com" ] }
flags:
  plan:
    state: ENABLED
    variants: { basic: 1.0, full: 2.5 }
    defaultVariant: basic
    targeting: { if: [ { $ref: staff }, full, { ">": [ { var: age }, 17 ] }, full ] }
"#;

#[test]
fn a_flag_is_evaluated_for_a_context_by_redis_or_files() {
    let desk = Desk::new();
    let file = desk.write("flags.yaml", DOCUMENT);
    desk.ok(&["apply", "--create", "-f", &file]);
    assert_eq!(desk.ok(&["eval", "plan"]), "value    1.0\nvariant  basic\nreason   DEFAULT\nsource   redis:orders\n");
    assert_eq!(
        desk.json(&["eval", "plan", "--set", "email=a@example.com"]),
        json!({"key":"plan","reason":"TARGETING_MATCH","variant":"full","value":2.5,"metadata":{"source":"redis:orders","flagSetId":"orders"}})
    );
    let value = |line: &[&str]| desk.json(&[&["eval", "plan"], line].concat())["value"].clone();
    assert_eq!(value(&["--set", "age=18"]), 2.5, "a number");
    assert_eq!(value(&["--context", r#"{"age": 3, "email": "x"}"#]), 1.0);
    assert_eq!(value(&["--context", r#"{"age": 3}"#, "--set", "age=30"]), 2.5, "the later wins");
    let context = desk.write("context.json", r#"{"age": 40}"#);
    assert_eq!(value(&["--context", &format!("@{context}"), "-f", &file]), 2.5);
    desk.fails(&["eval", "plan", "--context", "[]"], 64);
    desk.fails(&["eval", "plan", "--set", "age"], 64);
    let said = desk.fails(&["eval", "none"], 1);
    assert_eq!(said.err, "tidegate: FLAG_NOT_FOUND: flag \"none\" does not exist\n");
    let said = desk.fails(&["eval", "plan", "-f", &desk.write("bad.yaml", "flags: {plan: {}}")], 64);
    assert!(
        said.err.starts_with("tidegate: ") && said.err.contains("bad.yaml:1:9: error: flags.plan.state: is missing"),
        "{}",
        said.err
    );
    desk.ok(&["disable", "plan"]);
    assert!(desk.ok(&["eval", "plan"]).starts_with("value    none: the application's own default holds\n"));
}

#[test]
fn scopes_and_files_are_layered_as_the_sidecar_does() {
    let desk = Desk::new();
    let file = desk.write("flags.json", format!(r#"{{"flags":{{"a":{},"b":{}}}}}"#, switch("on"), switch("on")));
    let url = desk.redis.url();
    desk.write(
        "tidegate.yaml",
        format!(
            "redis: {{ url: '{}' }}\nflags: {{ scopes: [mine, shared], files: ['{file}'], context: {{ env: prod }} }}",
            url.expose()
        ),
    );
    desk.ok(&["set", "--create", "--scope", "shared", "a", &switch("off")]);
    let source = |key: &str| desk.json(&["eval", key])["metadata"]["source"].as_str().unwrap().to_owned();
    assert_eq!(source("a"), "redis:shared");
    assert_eq!(source("b"), format!("file:{file}"));
    desk.fails(&["eval", "--scope", "shared", "b"], 1);
    let rule = r#"{"state":"ENABLED","variants":{"x":1,"y":2},"defaultVariant":"x","targeting":{"if":[{"==":[{"var":"env"},"prod"]},"y"]}}"#;
    desk.ok(&["set", "--create", "--scope", "mine", "c", rule]);
    assert_eq!(desk.json(&["eval", "c"])["value"], 2, "flags.context takes part");
}

#[test]
fn an_explanation_tells_what_was_looked_at() {
    let desk = Desk::new();
    desk.ok(&["apply", "--create", "-f", &desk.write("flags.yaml", DOCUMENT)]);
    let said = desk.ok(&["explain", "plan", "--set", "email=ann@example.com"]);
    assert!(said.contains("`email` is \"ann@example.com\", which ends with \"@example.com\": yes"), "{said}");
    let said = desk.json(&["explain", "plan", "-k", "ann"]);
    assert_eq!(
        (&said["reason"], &said["source"], &said["revision"]),
        (&json!("DEFAULT"), &json!("redis:orders"), &json!(1))
    );
    assert_eq!(desk.fails(&["explain", "none"], 1).out, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_sidecar_is_asked_over_its_socket_or_address() {
    let redis = Redis::start();
    let proxy = "proxy: [{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }]";
    let sidecar = Sidecar::start_with(&format!(
        "{proxy}\nredis: {{ url: '{}' }}\nflags: {{ scopes: [orders] }}",
        redis.url().expose()
    ));
    let desk = Desk::with(redis);
    desk.ok(&["apply", "--create", "-f", &desk.write("flags.yaml", DOCUMENT.replace("plan:", "a plan/ü:"))]);
    sidecar.ready().await;
    let url = format!("http://{}", sidecar.local);
    let asked = || desk.run(&["eval", "a plan/ü", "--set", "age=18", "--url", &url, "--output", "json"]);
    eventually(PATIENCE, "the sidecar has the flag", async || asked().code == 0).await;
    assert_eq!(asked().json()["value"], 2.5);
    let (code, said, error) = sidecar.cli(&["flags", "eval", "a plan/ü", "--sidecar"]);
    assert_eq!(
        (code, said.as_str()),
        (0, "value    1.0\nvariant  basic\nreason   DEFAULT\nsource   redis:orders\n"),
        "{error}"
    );
    let said = desk.fails(&["eval", "none", "--url", &url], 1);
    assert!(said.err.starts_with("tidegate: FLAG_NOT_FOUND: "), "{}", said.err);
    assert!(
        desk.fails(&["eval", "x", "--url", "http://127.0.0.1:1"], 69).err.contains("no sidecar answers on 127.0.0.1:1")
    );
    for url in ["127.0.0.1:8016", "https://127.0.0.1:8016", "http://127.0.0.1:8016/path", ""] {
        desk.fails(&["eval", "x", "--url", url], 64);
    }
}
