//! Injection as its users meet it: objects in, objects and words out.

mod laws;
mod pods;
mod refused;
mod services;
mod streams;
mod words;

use serde_json::{Value, json};

use super::{Mode, Note, Options, Outcome, Refusal, inject};

/// A Deployment with one container `app`, a named port and a readiness probe; `change` makes another of it.
fn deployment(change: impl FnOnce(&mut Value)) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "orders", "namespace": "shop" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": "orders" } },
            "strategy": { "rollingUpdate": { "maxUnavailable": 0 } },
            "template": {
                "metadata": { "labels": { "app": "orders" } },
                "spec": {
                    "containers": [{
                        "name": "app",
                        "image": "orders:1",
                        "ports": [{ "name": "http", "containerPort": 3000 }],
                        "readinessProbe": { "httpGet": { "path": "/healthz", "port": "http" } },
                        "resources": { "requests": { "cpu": "100m" } },
                    }],
                },
            },
        },
    });
    change(&mut object);
    object
}

/// The same, changed in its container.
fn with_app(change: impl FnOnce(&mut Value)) -> Value {
    deployment(|object| change(&mut object["spec"]["template"]["spec"]["containers"][0]))
}

/// The same with annotations on its pod template.
fn annotated(annotations: &[(&str, &str)]) -> Value {
    deployment(|object| {
        for (key, value) in annotations {
            object["spec"]["template"]["metadata"]["annotations"][*key] = (*value).into();
        }
    })
}

/// A Service before the pods of [`deployment`], with these ports.
fn service(ports: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "orders", "namespace": "shop" },
        "spec": { "selector": { "app": "orders" }, "ports": ports },
    })
}

fn injected(object: &Value, options: &Options) -> (Value, Vec<Note>) {
    match inject(object, &[], options) {
        Outcome::Injected { object, notes } => (object, notes),
        other => panic!("{other:?}"),
    }
}

fn refused(object: &Value, options: &Options) -> Vec<Refusal> {
    match inject(object, &[], options) {
        Outcome::Refused(refusals) => refusals,
        other => panic!("not refused: {other:?}"),
    }
}

/// The spec of the pods.
fn pods(object: &Value) -> &Value {
    &object["spec"]["template"]["spec"]
}

/// The sidecar, wherever it stands.
fn sidecar(object: &Value) -> &Value {
    let found =
        ["initContainers", "containers"].into_iter().find_map(|key| super::json::named(pods(object), key, "tidegate"));
    found.expect("a sidecar")
}

/// A variable of the sidecar.
fn variable<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    super::json::named(sidecar(object), "env", name)?.get("value")?.as_str()
}

fn container_mode() -> Options {
    Options { mode: Some(Mode::Container), ..Options::default() }
}
