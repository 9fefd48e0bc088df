//! What `deploy/` gives to Prometheus and Grafana, loaded by a real Prometheus that scrapes a real sidecar.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::app::App;
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::raw;
use crate::support::sdk::root;
use crate::support::sidecar::Sidecar;

const PATIENCE: Duration = Duration::from_secs(60);

/// A Prometheus of its own; dropping it kills it.
struct Prometheus {
    process: Child,
    port: Port,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes `target` every second, with the alerts of `deploy/`.
    fn start(target: std::net::SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rules = root().join("deploy/prometheus/alerts.yaml");
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\n\
             scrape_configs: [{{ job_name: tidegate, static_configs: [{{ targets: ['{target}'] }}] }}]\n",
            rules.display()
        );
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let port = Port::reserve();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={}", port.address()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("scripts/setup.sh test installs prometheus");
        Self { process, port, _directory: directory }
    }

    async fn ask(&self, path: &str) -> Option<Value> {
        let answer = raw::get(self.port.address(), path).await.ok()?;
        serde_json::from_slice(&answer.body).ok()
    }

    /// The series that a query finds.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.ask(&format!("/api/v1/query?query={encoded}")).await.expect("Prometheus answers");
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().unwrap().clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn dashboard() -> Value {
    let text = std::fs::read_to_string(root().join("deploy/grafana/tidegate.json")).unwrap();
    serde_json::from_str(&text).expect("the dashboard is JSON")
}

/// Title and expression of every target.
fn expressions() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let expression = expression.replace("$instance", ".*").replace("$__rate_interval", "1m");
            assert!(!expression.contains('$'), "a variable that nobody sets: {expression}");
            all.push((panel["title"].as_str().unwrap().to_owned(), expression));
        }
    }
    all
}

/// The names of our metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("tidegate_")).map(str::to_owned).collect()
}

#[test]
fn dashboards_and_alerts_name_only_metrics_that_there_are() {
    let documented = names(&std::fs::read_to_string(root().join("docs/METRICS.md")).unwrap());
    let alerts = std::fs::read_to_string(root().join("deploy/prometheus/alerts.yaml")).unwrap();
    let used = expressions().into_iter().flat_map(|(_, expression)| names(&expression));
    for name in used.chain(names(&alerts)) {
        let series = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let there = documented.contains(&name) || series.is_some_and(|family| documented.contains(family));
        assert!(there, "{name} is not in docs/METRICS.md");
    }
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    let dashboard = dashboard();
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(cells.insert((x, y)), "{} covers another", panel["title"]);
            }
        }
    }
}

#[test]
fn the_alerts_pass_promtool_and_their_own_tests() {
    let directory = root().join("deploy/prometheus");
    for arguments in [&["check", "rules", "alerts.yaml"][..], &["test", "rules", "alerts.test.yaml"]] {
        let told = Command::new("promtool").args(arguments).current_dir(&directory).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
        assert!(told.status.success(), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn a_real_prometheus_scrapes_loads_the_alerts_and_answers_every_panel() {
    let app = App::start().await;
    let sidecar = Sidecar::start_with(&format!(
        "proxy: [{{ listen: '127.0.0.1:0', upstream: '{0}' }}]\n\
         checks: {{ app: {{ tcp: {{ address: '{0}' }}, interval: 100ms, shared: true }} }}",
        app.address
    ));
    sidecar.ready().await;
    let prometheus = Prometheus::start(sidecar.ops);
    eventually(PATIENCE, "two scrapes under load", async || {
        assert_eq!(raw::get(sidecar.proxy(), "/").await.unwrap().status, 200);
        let Some(answer) = prometheus.ask("/api/v1/query?query=rate(tidegate_proxy_requests_total[1m])").await else {
            return false;
        };
        let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        series.iter().any(|series| series["value"][1] != "0")
    })
    .await;

    // These are of what this sidecar has none of, or what has not happened.
    let absent = ["Time to expiry", "Gate closed", "Age of what sources confirmed"];
    for (title, expression) in expressions() {
        let found = prometheus.query(&expression).await;
        assert!(!found.is_empty() || absent.contains(&title.as_str()), "{title}: nothing for {expression}");
    }
    let mut rules = Value::Null;
    eventually(PATIENCE, "the rules are evaluated", async || {
        rules = prometheus.ask("/api/v1/rules").await.unwrap_or_default();
        let all = rules["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        !all.is_empty() && all.iter().all(|rule| rule["health"] == "ok")
    })
    .await;
    let up = prometheus.query("up").await;
    assert_eq!(up[0]["value"][1], "1", "{up:?}");
}
