//! Notes: what a rollout would still lose requests by, said in the words of the manifest.

use serde_json::{Value, json};

use super::super::{Mode, Options, Outcome, Version, inject};
use super::{annotated, deployment, with_app};

#[test]
fn every_annotation_is_in_the_documents_with_what_it_does() {
    let document = include_str!("../../../../docs/KUBERNETES.md");
    for (name, doc) in super::super::ANNOTATIONS {
        let row = format!("| `tidegate.dev/{name}` | {doc} |");
        assert!(document.contains(&row), "docs/KUBERNETES.md, Annotations, lacks: {row}");
    }
    let rows = document.lines().filter(|line| line.starts_with("| `tidegate.dev/")).count();
    assert_eq!(rows, super::super::ANNOTATIONS.len(), "docs/KUBERNETES.md has an annotation that is none");
}

fn notes(object: &Value, stream: &[Value]) -> Vec<String> {
    let version = Some(Version { major: 1, minor: 33 });
    match inject(object, stream, &Options { kubernetes: version, ..Options::default() }) {
        Outcome::Injected { notes, .. } => notes.iter().map(ToString::to_string).collect(),
        outcome => panic!("{outcome:?}"),
    }
}

fn budget() -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": { "name": "orders", "namespace": "shop" },
        "spec": { "maxUnavailable": 1, "selector": { "matchLabels": { "app": "orders" } } },
    })
}

/// A Service that targets the name.
fn before() -> Value {
    super::service(&json!([{ "port": 80, "targetPort": "http" }]))
}

/// The only note about `object` with its budget beside it.
fn check(object: &Value, expected: &str) {
    assert_eq!(notes(object, &[budget(), before()]), [format!("Deployment shop/orders: {expected}")]);
}

#[test]
fn a_workload_that_lacks_nothing_gets_no_note() {
    assert_eq!(notes(&deployment(|_| {}), &[budget(), before()]), [""; 0]);
}

#[test]
fn each_lack_is_one_note() {
    let spec = |key: &str, value: Value| deployment(|object| object["spec"][key] = value);
    let one = "spec.replicas: one replica: while it is moved to another node nobody serves";
    check(&spec("replicas", 1.into()), one);
    let rollout = "spec.strategy.rollingUpdate: a rollout may take pods away before their successors serve; set \
                   maxUnavailable: 0";
    check(&spec("strategy", Value::Null), rollout);
    check(&spec("strategy", json!({ "rollingUpdate": { "maxUnavailable": "25%" } })), rollout);
    let recreate = "spec.strategy: Recreate ends all old pods before the first new one starts: requests fail between";
    check(&spec("strategy", json!({ "type": "Recreate" })), recreate);
    let requests = "spec.template.spec.containers[app].resources: no requests: the scheduler takes it for free, and a busy \
                    node starves it";
    check(&with_app(|app| app["resources"] = Value::Null), requests);
    let budget = "Deployment shop/orders: spec: no PodDisruptionBudget for it here: a drain of nodes may take all its pods \
                  at once";
    assert_eq!(notes(&deployment(|_| {}), &[before()]), [budget]);
    let delay = "spec.template.spec.containers[app].readinessProbe: initialDelaySeconds has no counterpart: the check fails \
                 until the app answers";
    check(&with_app(|app| app["readinessProbe"]["initialDelaySeconds"] = 5.into()), delay);
    let port = "spec.template.spec.containers: 8080 is taken: the sidecar listens on 8081";
    check(&with_app(|app| app["ports"][0]["containerPort"] = 8080.into()), port);
    let misplaced = "metadata.annotations[tidegate.dev/port]: has no effect here: annotations of ours belong to the pod \
                     template";
    check(&deployment(|object| object["metadata"]["annotations"] = json!({ "tidegate.dev/port": "http" })), misplaced);
    let undeclared = "spec.template.spec.containers[app].ports: port 4000 is not declared: declare it, with a name";
    check(&annotated(&[("tidegate.dev/port", "4000")]), undeclared);
    let quality = "spec.template.spec: the pod was of class Guaranteed and is Burstable with the sidecar; set \
                   tidegate.dev/cpu-limit and tidegate.dev/memory-limit to its requests to keep it";
    let all = json!({ "cpu": "1", "memory": "1Gi" });
    check(&with_app(|app| app["resources"] = json!({ "requests": all, "limits": all })), quality);
}

#[test]
fn another_container_and_a_policy_that_is_too_narrow_are_said() {
    let object = deployment(|object| {
        let second = json!({ "name": "db-proxy", "image": "p", "resources": { "requests": { "cpu": "1m" } } });
        object["spec"]["template"]["spec"]["containers"].as_array_mut().expect("there, as written above").push(second);
    });
    let expected = "spec.template.spec.containers[db-proxy]: gets SIGTERM as soon as the pod ends, while the app still \
                    serves; if the app needs it until then, make it a native sidecar: an init container with restartPolicy: \
                    Always";
    check(&object, expected);
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": { "name": "orders", "namespace": "shop" },
        "spec": { "podSelector": { "matchLabels": { "app": "orders" } }, "ingress": [{ "ports": [{ "port": 3000 }] }] },
    });
    let expected = "Deployment shop/orders: spec.template.spec.containers: NetworkPolicy shop/orders opens 3000 and not \
                    8080, where the sidecar listens: add it";
    assert_eq!(notes(&deployment(|_| {}), &[budget(), before(), policy]), [expected]);
}

#[test]
fn a_service_elsewhere_that_may_go_past_the_sidecar_is_said() {
    let named = "Deployment shop/orders: spec.template.spec.containers: no Service for it here: one that targets 3000 goes \
                 past the sidecar; let it target http";
    assert_eq!(notes(&deployment(|_| {}), &[budget()]), [named]);
    let unnamed = with_app(|app| {
        app["ports"] = json!([{ "containerPort": 3000 }]);
        app["readinessProbe"] = Value::Null;
    });
    let expected = "Deployment shop/orders: spec.template.spec.containers: no Service for it here, and port 3000 has no \
                    name: a Service has to target 8080";
    assert_eq!(notes(&unnamed, &[budget()]), [expected]);
    assert_eq!(notes(&annotated(&[("tidegate.dev/app-port-env", "PORT")]), &[budget()]), [""; 0]);
}

#[test]
fn a_host_port_of_a_native_sidecar_is_said() {
    let expected = "spec.template.spec.initContainers[tidegate].ports: has a hostPort now: see that your cluster forwards \
                    those of native sidecars, or choose tidegate.dev/mode: container";
    check(&with_app(|app| app["ports"][0]["hostPort"] = 80.into()), expected);
}

#[test]
fn where_the_version_is_not_known_named_ports_of_native_sidecars_are_said() {
    let said = |mode| match inject(&deployment(|_| {}), &[budget()], &Options { mode, ..Options::default() }) {
        Outcome::Injected { notes, .. } => notes.iter().any(|note| note.text.contains("kubernetes/kubernetes#128850")),
        outcome => panic!("{outcome:?}"),
    };
    assert!(said(None) && said(Some(Mode::Native)) && !said(Some(Mode::Container)));
}
