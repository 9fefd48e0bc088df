//! The example workload before and after: what lies there is what `tidegate inject` writes, whoever rendered its manifests.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::manifests::{kustomization, objections, objects};
use super::{run, script};
use crate::support::sdk::root;

const BEFORE: &str = "deploy/examples/order-api.yaml";
const AFTER: &str = "deploy/examples/order-api.injected.yaml";

/// What `tidegate` writes to standard output for manifests on its standard input.
#[track_caller]
fn piped(arguments: &[&str], text: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let told = child.wait_with_output().unwrap();
    assert!(told.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&told.stderr));
    String::from_utf8(told.stdout).unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// `REGENERATE=1` writes the file.
#[test]
fn the_injected_example_is_what_inject_writes() {
    let injected = piped(&["inject", "-"], &read(BEFORE));
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(root().join(AFTER), &injected).unwrap();
    }
    let old = "REGENERATE=1 cargo test --test it the_injected_example";
    assert!(read(AFTER) == injected, "{AFTER} is old: {old}");
    assert_eq!(objections(&root().join(AFTER)), "");
    assert_eq!(objects(&piped(&["uninject", "-"], &injected)), objects(&read(BEFORE)), "the way back");
}

#[test]
fn the_injected_example_differs_in_what_the_documents_say() {
    let (before, after) = (objects(&read(BEFORE)), objects(&read(AFTER)));
    for name in ["PodDisruptionBudget/order-api", "HorizontalPodAutoscaler/order-api", "Service/order-api"] {
        assert_eq!(before[name], after[name], "{name}");
    }
    let pod = &after["Deployment/order-api"]["spec"]["template"]["spec"];
    let sidecar = &pod["initContainers"][0];
    assert_eq!((&sidecar["name"], &sidecar["restartPolicy"]), (&json!("tidegate"), &json!("Always")));
    let named = |container: &Value| {
        let ports = container["ports"].as_array().unwrap().iter();
        ports.map(|port| (port["name"].clone(), port["containerPort"].clone())).collect::<Vec<_>>()
    };
    assert!(named(sidecar).contains(&(json!("http"), json!(8080))), "{:?}", named(sidecar));
    assert_eq!(named(&pod["containers"][0]), [(json!("app-http"), json!(3000))]);
    let app = &pod["containers"][0];
    assert_eq!(app["readinessProbe"], Value::Null, "it is the sidecar's check now");
    assert_eq!(app["livenessProbe"]["httpGet"]["port"], 3000, "its name is the sidecar's now");
    assert_eq!(app["lifecycle"]["preStop"]["httpGet"]["path"], "/drain");
}

#[test]
fn manifests_of_kustomize_are_injected_alike() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(root().join(BEFORE), directory.path().join("order-api.yaml")).unwrap();
    std::fs::write(directory.path().join("kustomization.yaml"), "resources: [order-api.yaml]\n").unwrap();
    assert_eq!(objects(&piped(&["inject", "-"], &kustomization(directory.path()))), objects(&read(AFTER)));
}

#[test]
fn manifests_of_helm_are_injected_alike() {
    let directory = tempfile::tempdir().unwrap();
    let templates = directory.path().join("order/templates");
    std::fs::create_dir_all(&templates).unwrap();
    std::fs::write(directory.path().join("order/Chart.yaml"), "apiVersion: v2\nname: order\nversion: 1.0.0\n").unwrap();
    std::fs::copy(root().join(BEFORE), templates.join("order-api.yaml")).unwrap();
    let chart = directory.path().join("order");
    let rendered = run(script("helm.py").arg(chart).args(["order", "default", "{}"]));
    let items: Value = serde_json::from_str(&rendered).unwrap();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    assert_eq!(objects(&piped(&["inject", "-"], &list.to_string())), objects(&read(AFTER)));
}

#[test]
fn injection_adds_nothing_that_a_cluster_would_object_to() {
    let directory = tempfile::tempdir().unwrap();
    // What is said of a file, without its name: of these, only that apps ask for no security of their own.
    let said = |text: &str| {
        let file = directory.path().join("manifests.yaml");
        std::fs::write(&file, text).unwrap();
        objections(&file)
    };
    for (file, kinds, modes) in [
        (
            "tests/kube/workloads.yaml",
            &["StatefulSet", "DaemonSet", "ReplicaSet", "Pod"][..],
            &["native", "container"][..],
        ),
        ("tests/kube/jobs.yaml", &["Job", "CronJob"], &["native"]),
    ] {
        let before = read(file);
        assert!(said(&before).lines().all(|line| line.contains(": container ")), "{}", said(&before));
        for mode in modes {
            let after = piped(&["inject", "--mode", mode, "-"], &before);
            assert_eq!(said(&after), said(&before), "{mode}");
            for (name, object) in objects(&after) {
                let has_pods = kinds.contains(&name.split('/').next().unwrap());
                assert_eq!(object.to_string().contains("/tidegate\",\"drain"), has_pods, "{mode}: {name}");
            }
            assert_eq!(objects(&piped(&["uninject", "-"], &after)), objects(&before), "{mode}: the way back");
        }
    }
}
