//! The metrics: their form, and that the documentation knows them all, with their labels, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::app::App;
use crate::support::authority::Authority;
use crate::support::raw::{self, Client};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;

/// The page, which tells of the sidecar's metrics first and then of those that the webhook has.
fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md")).unwrap()
}

/// The rows of its tables.
fn rows(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
}

/// What the page tells of the sidecar, and of the webhook.
fn parts(page: &str) -> (&str, &str) {
    page.split_once("The webhook (`tidegate webhook`)").unwrap()
}

/// Name, as it is in samples, and type of each documented metric.
fn documented(text: &str) -> BTreeMap<String, String> {
    rows(text).map(|(name, rest)| (name.to_owned(), rest.split('|').nth(1).unwrap().trim().to_owned())).collect()
}

/// That a webhook's `/metrics` has what is documented of it, and else only what is documented of sidecars.
pub(crate) fn the_documented_of_webhooks(text: &str) {
    let (of_sidecars, of_webhooks) = (documented(parts(&page()).0), documented(parts(&page()).1));
    let (shared, own): (BTreeMap<_, _>, _) =
        exported(text).into_iter().partition(|(name, _)| of_sidecars.contains_key(name));
    assert_eq!(own, of_webhooks);
    assert!(shared.iter().all(|(name, kind)| of_sidecars.get(name) == Some(kind)), "{shared:?}");
}

/// The same of each exported one.
fn exported(text: &str) -> BTreeMap<String, String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            let total = if kind == "counter" { "_total" } else { "" };
            (format!("{name}{total}"), kind.to_owned())
        })
        .collect()
}

/// The labels that each documented metric has.
fn documented_labels(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    rows(text)
        .map(|(name, rest)| {
            let labels = rest.split('|').nth(2).unwrap().split(';');
            (name.to_owned(), labels.filter_map(|label| Some(label.split('`').nth(1)?.to_owned())).collect())
        })
        .collect()
}

/// The same of the samples of one metric.
fn exported_labels(text: &str, name: &str) -> BTreeSet<String> {
    let own = text.lines().filter_map(|line| line.strip_prefix(name)).filter_map(|rest| {
        let rest = ["_bucket", "_sum", "_count"].iter().find_map(|end| rest.strip_prefix(end)).unwrap_or(rest);
        rest.strip_prefix('{')?.rsplit_once('}').map(|(labels, _)| labels)
    });
    let keys = own.flat_map(|labels| labels.split("=\"").map(|part| part.rsplit([',', '"']).next().unwrap()));
    keys.filter(|key| !key.is_empty() && *key != "le").map(str::to_owned).collect()
}

#[tokio::test]
async fn the_documented_metrics_are_those_that_are_exported() {
    let app = App::start().await;
    let redis = Redis::start();
    let (authority, root) = (Authority::new(), env!("CARGO_MANIFEST_DIR"));
    let issued = authority.issue("server", 2);
    let (app, redis, chain, key) = (app.address, redis.url(), &issued.certificate, &issued.key);
    let sidecar = Sidecar::start_with(&format!(
        "proxy:\n- {{ listen: '127.0.0.1:0', upstream: 'http://{app}' }}\n\
         - {{ listen: '127.0.0.1:0', tls: {{ certificates: [{{ chain: '{chain}', key: '{key}' }}] }} }}\n\
         redis: {{ url: '{}' }}\nchecks: {{ app: {{ http: {{ url: 'http://{app}/' }} }}, redis: {{ redis: {{}} }} }}\n\
         flags: {{ files: ['{root}/examples/flags.json'] }}",
        redis.expose()
    ));
    sidecar.ready().await;
    let answer = raw::get(sidecar.ops, "/metrics").await.unwrap();
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"));
    let page = page();
    let of_sidecars = parts(&page).0;
    assert_eq!(exported(&text), documented(of_sidecars));
    for (name, labels) in documented_labels(of_sidecars) {
        assert_eq!(exported_labels(&text, &name), labels, "{name}");
    }
    for (name, _) in exported(&text).iter().filter(|(_, kind)| *kind == "histogram") {
        let all = |line: &str| line.starts_with(&format!("{name}_bucket{{")) && line.contains("le=\"+Inf\"");
        assert!(text.lines().any(all), "{name} has no bucket for everything, which quantiles need");
    }
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    for name in exported(&text).keys() {
        assert!(samples.clone().any(|line| line.starts_with(name.as_str())), "{name} has no sample from the start");
    }
}

#[tokio::test]
async fn labels_never_grow_with_what_clients_send() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    sidecar.ready().await;
    let lines = async || raw::get(sidecar.ops, "/metrics").await.unwrap().text().lines().count();
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    // Durations of a method and status class are told from the first on.
    client.send("M /path HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    client.answer().await.unwrap();
    let before = lines().await;
    let mut local = Client::connect(sidecar.local).await.unwrap();
    for index in 0..200 {
        client.send(format!("M{index} /path{index}?q={index} HTTP/1.1\r\nHost: h{index}\r\n\r\n")).await.unwrap();
        client.answer().await.unwrap();
        local.get(&format!("/v1/flags/flag{index}/enabled?targetingKey=user{index}")).await.unwrap();
    }
    assert_eq!(lines().await, before);
}

#[tokio::test]
async fn evaluations_are_counted_by_flag_and_variant_and_tell_when_a_flag_was_last_asked_for() {
    let app = App::start().await;
    let flags = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/flags.json");
    let sidecar = Sidecar::start(app.address, &format!("flags: {{ files: ['{flags}'] }}"));
    sidecar.ready().await;
    let listed = async || {
        let answer = raw::get(sidecar.local, "/v1/flags").await.unwrap();
        let list: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
        list["flags"].as_array().unwrap().clone()
    };
    let before = listed().await;
    assert!(before.iter().all(|flag| flag["lastEvaluated"].is_null()), "{before:?}");
    let key = before[0]["key"].as_str().unwrap();
    for _ in 0..3 {
        raw::get(sidecar.local, &format!("/v1/flags/{key}?targetingKey=u")).await.unwrap();
    }
    let mut local = Client::connect(sidecar.local).await.unwrap();
    local.post("/ofrep/v1/evaluate/flags", "").await.unwrap();
    let after = listed().await;
    assert!(after[0]["lastEvaluated"].as_u64().is_some_and(|at| at > 1_700_000_000_000), "{after:?}");
    assert!(after[1..].iter().all(|flag| flag["lastEvaluated"].is_null()), "a bulk answer tells nothing: {after:?}");
    let text = raw::get(sidecar.ops, "/metrics").await.unwrap().text();
    let own = |line: &&str| line.starts_with(&format!("tidegate_flag_evaluations_total{{flag=\"{key}\""));
    let counts: Vec<&str> = text.lines().filter(own).filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(counts, ["3"], "{text}");
}
