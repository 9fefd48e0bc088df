//! What injection writes into a pod, read by the sidecar itself: the binary takes it for a configuration without problems,
//! and resolves it to what the pod had before.

use std::process::{Command, Output};

use serde_json::{Value, json};
use tidegate::kube::inject::{Options, Outcome, inject};

use crate::support::sidecar::TIDEGATE;

fn deployment(annotations: &Value, grace: u64) -> Value {
    let probe = json!({ "httpGet": { "path": "/ready", "port": "http" }, "periodSeconds": 4, "timeoutSeconds": 2 });
    let container = json!({
        "name": "app", "image": "x", "ports": [{ "name": "http", "containerPort": 3000 }], "readinessProbe": probe,
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "orders" },
        "spec": {
            "selector": { "matchLabels": { "app": "orders" } },
            "template": {
                "metadata": { "labels": { "app": "orders" }, "annotations": annotations },
                "spec": { "terminationGracePeriodSeconds": grace, "containers": [container] },
            },
        },
    })
}

/// Runs the binary with the variables of the injected sidecar, and no others.
fn tidegate(object: &Value, arguments: &[&str]) -> Output {
    let Outcome::Injected { object, .. } = inject(object, &[], &Options::default()) else { panic!("not injected") };
    let sidecar = &object["spec"]["template"]["spec"]["initContainers"][0];
    let mut command = Command::new(TIDEGATE);
    command.args(arguments).env_clear();
    for entry in sidecar["env"].as_array().unwrap() {
        // What the kubelet makes of it: `$$` is a dollar.
        let value = entry["value"].as_str().map_or("from-the-pod".to_owned(), |value| value.replace("$$", "$"));
        command.env(entry["name"].as_str().unwrap(), value);
    }
    command.output().unwrap()
}

#[test]
fn an_injected_sidecar_finds_nothing_wrong_with_what_it_is_told() {
    for (annotations, grace) in [
        (json!({}), 5),
        (json!({ "config.tidegate.dev/limits.request_timeout": "90s" }), 30),
        (json!({ "config.tidegate.dev/drain.app_stop": "2m", "config.tidegate.dev/drain.delay": "0s" }), 30),
        (json!({ "config.tidegate.dev/drain.deadline": "200s" }), 30),
        (json!({ "config.tidegate.dev/checks.orders-db.tcp.address": "db:5432" }), 30),
        (json!({ "config.tidegate.dev/checks.x.http.url": "http://db/$(HOME)$x" }), 30),
    ] {
        let output = tidegate(&deployment(&annotations, grace), &["config", "check"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{annotations}: {said}");
    }
}

#[test]
fn an_injected_sidecar_knows_what_the_pod_said() {
    let annotations = json!({
        "tidegate.dev/listen-port": "9000",
        "config.tidegate.dev/drain.app_stop": "20s",
        "config.tidegate.dev/checks.orders-db.http.url": "http://db/$(HOME)",
    });
    let output = tidegate(&deployment(&annotations, 60), &["config", "show", "--output", "json"]);
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (pointer, expected) in [
        ("/workload", json!("orders")),
        ("/proxy/0/listen", json!("0.0.0.0:9000")),
        ("/proxy/0/upstream", json!("http://127.0.0.1:3000")),
        ("/checks/app/http/url", json!("http://127.0.0.1:3000/ready")),
        ("/checks/app/interval", json!("4s")),
        ("/checks/app/timeout", json!("2s")),
        ("/checks/app/rise", json!(1)),
        ("/checks/app/fall", json!(3)),
        // Its dollar doubled, as it would be written into a file.
        ("/checks/orders-db/http/url", json!("http://db/$$(HOME)")),
        ("/drain/grace", json!("1m")),
        ("/drain/deadline", json!("38s")),
        ("/ops/drain_token", json!("REDACTED")),
        ("/fleet/pod", json!("from-the-pod")),
    ] {
        assert_eq!(shown.pointer(pointer), Some(&expected), "{pointer} of {shown}");
    }
}
