//! What evaluations give an app: values of each type, variants, reasons, errors and metadata.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    NODE_IN_PROCESS, NODE_OFREP, NODE_RPC, PYTHON_IN_PROCESS, PYTHON_OFREP, PYTHON_RPC, Provider, shared,
    with_the_tables_flags,
};
use crate::support::eventually;
use crate::support::flags::PATIENCE;
use crate::support::raw;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;

async fn evaluates_as_the_table_says(provider: Provider) {
    let sidecar = with_the_tables_flags("").await;
    let script = provider.start("evaluation", sidecar.local, json!({"cases": shared("cases.json")}));
    let cases = script.passes().await;
    assert!(cases.as_u64().is_some_and(|cases| cases > 30), "{cases:?} cases");
}

#[tokio::test]
async fn python_evaluates_over_rpc() {
    evaluates_as_the_table_says(PYTHON_RPC).await;
}

#[tokio::test]
async fn python_evaluates_in_process() {
    evaluates_as_the_table_says(PYTHON_IN_PROCESS).await;
}

#[tokio::test]
async fn python_evaluates_over_ofrep() {
    evaluates_as_the_table_says(PYTHON_OFREP).await;
}

#[tokio::test]
async fn node_evaluates_over_rpc() {
    evaluates_as_the_table_says(NODE_RPC).await;
}

#[tokio::test]
async fn node_evaluates_in_process() {
    evaluates_as_the_table_says(NODE_IN_PROCESS).await;
}

#[tokio::test]
async fn node_evaluates_over_ofrep() {
    evaluates_as_the_table_says(NODE_OFREP).await;
}

#[tokio::test]
async fn node_evaluates_over_the_unix_socket() {
    let sidecar = with_the_tables_flags("").await;
    for provider in [NODE_RPC, NODE_IN_PROCESS] {
        let socket = sidecar.directory().join("tidegate.sock");
        // The address leads nowhere.
        let script =
            provider.start("evaluation", "127.0.0.1:1", json!({"cases": shared("cases.json"), "socket": socket}));
        script.passes().await;
    }
}

/// Which variant each of many users gets from each provider, all asked at the same time.
async fn variants(sidecar: &Sidecar, providers: &[Provider]) -> Vec<Value> {
    let asked = json!({"flags": ["rollout", "rollout-by-email"], "users": 200});
    let scripts: Vec<_> =
        providers.iter().map(|provider| provider.start("buckets", sidecar.local, asked.clone())).collect();
    let mut answers = Vec::new();
    for script in scripts {
        answers.push(script.passes().await);
    }
    for answer in &answers {
        let answer = answer.as_object().unwrap();
        assert_eq!(answer.len(), 400);
        let given: BTreeSet<_> = answer.values().map(|variant| variant.as_str().unwrap()).collect();
        assert_eq!(given, BTreeSet::from(["a", "b", "c"]), "nobody is left out");
    }
    answers
}

#[track_caller]
fn all_alike(providers: &[Provider], answers: &[Value]) {
    for (provider, answer) in providers.iter().zip(answers) {
        assert_eq!(answer, &answers[0], "{provider:?} beside {:?}", providers[0]);
    }
}

#[tokio::test]
async fn a_user_gets_the_same_variant_whoever_asks() {
    let sidecar = with_the_tables_flags("").await;
    let providers = [PYTHON_OFREP, PYTHON_RPC, NODE_OFREP, NODE_RPC, NODE_IN_PROCESS];
    all_alike(&providers, &variants(&sidecar, &providers).await);
}

#[tokio::test]
async fn pythons_own_evaluation_agrees_with_the_newest_bucketing() {
    let sidecar = with_the_tables_flags("bucketing: v3").await;
    let providers = [PYTHON_OFREP, PYTHON_RPC, PYTHON_IN_PROCESS, NODE_RPC];
    all_alike(&providers, &variants(&sidecar, &providers).await);
}

/// Two scopes that both have the flag `shared`.
async fn two_scopes() -> (Redis, Sidecar) {
    let redis = Redis::start();
    let settings = format!(
        "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }}]\n\
         redis: {{ url: '{}' }}\nflags: {{ scopes: [orders, common] }}",
        redis.url().expose()
    );
    let sidecar = Sidecar::start_with(&settings);
    let flag = |variant: &str| {
        format!(r#"{{"state":"ENABLED","variants":{{"{variant}":"{variant}"}},"defaultVariant":"{variant}"}}"#)
    };
    for (scope, key, variant) in
        [("orders", "shared", "of-orders"), ("common", "shared", "of-common"), ("common", "alone", "of-common")]
    {
        let (code, _, error) = sidecar.cli(&["flags", "set", "--create", "--scope", scope, key, &flag(variant)]);
        assert_eq!(code, 0, "{error}");
    }
    sidecar.ready().await;
    eventually(PATIENCE, "both scopes are served", async || {
        raw::post(sidecar.local, "/ofrep/v1/evaluate/flags", "{}").await.unwrap().json()["flags"]
            .as_array()
            .is_some_and(|flags| flags.len() == 2)
    })
    .await;
    (redis, sidecar)
}

/// What a case of the table expects of a string flag of these scopes.
fn case(flag: &str, variant: Option<&str>, scope: &str) -> Value {
    match variant {
        Some(variant) => json!({"type": "string", "flag": flag, "default": "d", "expect":
            {"value": variant, "variant": variant, "reason": "STATIC",
             "metadata": {"flagSetId": scope, "source": format!("redis:{scope}")}}}),
        None => json!({"type": "string", "flag": flag, "default": "d", "expect":
            {"value": "d", "reason": "ERROR", "error": "FLAG_NOT_FOUND"}}),
    }
}

async fn evaluates(provider: Provider, sidecar: &Sidecar, cases: &[Value], more: Value) {
    let file = sidecar.directory().join("cases.json");
    std::fs::write(&file, serde_json::to_vec(cases).unwrap()).unwrap();
    let mut settings = json!({"cases": file});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    provider.start("evaluation", sidecar.local, settings).passes().await;
}

#[tokio::test]
async fn an_answer_tells_which_layer_it_came_from() {
    let (_redis, sidecar) = two_scopes().await;
    let cases = [case("shared", Some("of-orders"), "orders"), case("alone", Some("of-common"), "common")];
    for provider in [PYTHON_OFREP, PYTHON_IN_PROCESS, NODE_OFREP, NODE_RPC, NODE_IN_PROCESS] {
        evaluates(provider, &sidecar, &cases, json!({})).await;
    }
}

#[tokio::test]
async fn a_selector_gives_an_app_one_flag_set() {
    let (_redis, sidecar) = two_scopes().await;
    for provider in [PYTHON_IN_PROCESS, NODE_IN_PROCESS] {
        let cases = [case("shared", Some("of-orders"), "orders"), case("alone", None, "")];
        evaluates(provider, &sidecar, &cases, json!({"selector": "flagSetId=orders"})).await;
        let cases = [case("shared", Some("of-common"), "common"), case("alone", Some("of-common"), "common")];
        evaluates(provider, &sidecar, &cases, json!({"selector": "flagSetId=common"})).await;
    }
}

#[tokio::test]
async fn what_redis_no_longer_confirms_is_said_to_be_stale_and_an_apps_default_stays_its_own() {
    let (mut redis, sidecar) = two_scopes().await;
    let bare = r#"{"state":"ENABLED","variants":{"yes":true,"no":false}}"#;
    let (code, _, error) = sidecar.cli(&["flags", "set", "--scope", "orders", "bare", bare]);
    assert_eq!(code, 0, "{error}");
    eventually(PATIENCE, "the third flag is served", async || {
        raw::post(sidecar.local, "/ofrep/v1/evaluate/flags/bare", "{}").await.unwrap().status == 200
    })
    .await;
    redis.kill();
    eventually(PATIENCE, "redis was found to be away", async || sidecar.metric("tidegate_flags_stale", "").await > 0.0)
        .await;
    let stale = json!({"type": "string", "flag": "shared", "default": "d",
        "expect": {"value": "of-orders", "variant": "of-orders", "reason": "STALE"}});
    let default = json!({"type": "boolean", "flag": "bare", "default": true,
        "expect": {"value": true, "variant": null, "reason": "DEFAULT"},
        "but": {"node ofrep": {"reason": "ERROR", "error": "GENERAL"}}});
    for provider in [PYTHON_RPC, PYTHON_OFREP, NODE_RPC, NODE_OFREP] {
        evaluates(provider, &sidecar, &[stale.clone(), default.clone()], json!({})).await;
    }
}
