//! What else in a workload would lose requests in a rollout, or surprise its owner. Never a reason to refuse.

use serde_json::Value;

use super::json::{at, list, named, port, text};
use super::kinds;
use super::original;
use super::report::Report;
use super::sidecar::CONTAINER;
use super::template::Place;

/// Looks at the object around an injected `template`.
pub(super) fn give(template: &Value, from: &Place<'_>, report: &mut Report) {
    containers(template, report);
    let spec = from.object.get("spec").unwrap_or(&Value::Null);
    if matches!(from.kind, "Deployment" | "StatefulSet") {
        strategy(spec, from.kind, report);
        budget(template, from, spec, report);
    }
    services(template, from, report);
    policies(template, from, report);
    if from.kind != "Pod" {
        misplaced(from.object, report);
    }
}

fn containers(template: &Value, report: &mut Report) {
    let original = original::read(template).unwrap_or_default();
    let app = text(&original, "container").unwrap_or_default().to_owned();
    let spec = template.get("spec").unwrap_or(&Value::Null);
    if list(&original, "routes").is_empty() && text(spec, "restartPolicy").is_none_or(|policy| policy == "Always") {
        report.note(
            format!("spec.containers[{app}].ports"),
            "no port is declared: nothing is proxied; name the port by tidegate.dev/port if the app serves any",
        );
    }
    let native = named(spec, "initContainers", CONTAINER).map_or(&[][..], |sidecar| list(sidecar, "ports"));
    if native.iter().any(|entry| entry.get("hostPort").is_some()) {
        let text = "has a hostPort now: see that your cluster forwards those of native sidecars, or choose \
                    tidegate.dev/mode: container";
        report.note("spec.initContainers[tidegate].ports", text);
    }
    for container in list(spec, "containers") {
        let name = text(container, "name").unwrap_or_default();
        if name == CONTAINER {
            continue;
        }
        if at(container, &["resources", "requests"]).is_none_or(super::json::is_empty) {
            let text = "no requests: the scheduler takes it for free, and a busy node starves it";
            report.note(format!("spec.containers[{name}].resources"), text);
        }
        if name != app && at(container, &["lifecycle", "preStop"]).is_none() {
            let text = "gets SIGTERM as soon as the pod ends, while the app still serves; if the app needs it until then, make \
                        it a native sidecar: an init container with restartPolicy: Always";
            report.note(format!("spec.containers[{name}]"), text);
        }
    }
}

fn strategy(spec: &Value, kind: &str, report: &mut Report) {
    if spec.get("replicas").and_then(Value::as_u64) == Some(1) || spec.get("replicas").is_none() {
        report.note_at("spec.replicas", "one replica: while it is moved to another node nobody serves");
    }
    if kind != "Deployment" {
        return;
    }
    let strategy = spec.get("strategy").unwrap_or(&Value::Null);
    if text(strategy, "type") == Some("Recreate") {
        report.note_at(
            "spec.strategy",
            "Recreate ends all old pods before the first new one starts: requests fail between",
        );
        return;
    }
    let unavailable = at(strategy, &["rollingUpdate", "maxUnavailable"]);
    let none = |value: &Value| *value == 0 || value.as_str().is_some_and(|text| matches!(text, "0" | "0%"));
    if !unavailable.is_some_and(none) {
        let text = "a rollout may take pods away before their successors serve; set maxUnavailable: 0";
        report.note_at("spec.strategy.rollingUpdate", text);
    }
}

fn budget(template: &Value, from: &Place<'_>, spec: &Value, report: &mut Report) {
    if spec.get("replicas").and_then(Value::as_u64).is_none_or(|replicas| replicas < 2) {
        return;
    }
    let ours = |object: &&Value| {
        text(object, "kind") == Some("PodDisruptionBudget")
            && kinds::neighbours(object, from.object)
            && (kinds::selects(at(object, &["spec", "selector", "matchLabels"]), template)
                || at(object, &["spec", "selector", "matchExpressions"]).is_some())
    };
    if !kinds::leaves(from.stream).iter().any(ours) {
        report.note_at("spec", "no PodDisruptionBudget for it here: a drain of nodes may take all its pods at once");
    }
}

/// Ports that no Service here leads to: one elsewhere may go past the sidecar, and nobody would see it.
fn services(template: &Value, from: &Place<'_>, report: &mut Report) {
    let ours = |service: &&Value| {
        kinds::is_core(service, "Service")
            && kinds::neighbours(service, from.object)
            && kinds::selects(at(service, &["spec", "selector"]), template)
    };
    let original = original::read(template).unwrap_or_default();
    let shifted = original.get("env").is_some();
    if shifted || matches!(from.kind, "Job" | "CronJob") || kinds::leaves(from.stream).iter().any(ours) {
        return;
    }
    for route in list(&original, "routes") {
        let (Some(was), Some(listen)) = (route.get("was").and_then(port), route.get("listen").and_then(port)) else {
            continue;
        };
        let text = match text(route, "name") {
            // The webhook sees no Service, and those who write pods by hand are few.
            Some(_) if from.kind == "Pod" => continue,
            Some(name) => {
                format!("no Service for it here: one that targets {was} goes past the sidecar; let it target {name}")
            }
            None => format!("no Service for it here, and port {was} has no name: a Service has to target {listen}"),
        };
        report.note("spec.containers", text);
    }
}

/// Policies that let traffic to the app's number and not to the sidecar's.
fn policies(template: &Value, from: &Place<'_>, report: &mut Report) {
    let original = original::read(template).unwrap_or_default();
    let number = |route: &Value, key: &str| route.get(key).and_then(port);
    for policy in kinds::leaves(from.stream) {
        let ours = text(policy, "kind") == Some("NetworkPolicy")
            && kinds::neighbours(policy, from.object)
            && (kinds::selects(at(policy, &["spec", "podSelector", "matchLabels"]), template)
                || at(policy, &["spec", "podSelector"]).is_some_and(super::json::is_empty));
        if !ours {
            continue;
        }
        let rules = policy.get("spec").map_or(&[][..], |spec| list(spec, "ingress"));
        let open: Vec<u16> = rules
            .iter()
            .flat_map(|rule| list(rule, "ports"))
            .filter_map(|entry| entry.get("port").and_then(port))
            .collect();
        for route in list(&original, "routes") {
            let (Some(was), Some(listen)) = (number(route, "was"), number(route, "listen")) else { continue };
            if open.contains(&was) && !open.contains(&listen) {
                let text = format!(
                    "{} opens {was} and not {listen}, where the sidecar listens: add it",
                    kinds::called(policy)
                );
                report.note("spec.containers", text);
            }
        }
    }
}

/// Annotations where they have no effect.
fn misplaced(object: &Value, report: &mut Report) {
    for (key, _) in super::json::texts(at(object, &["metadata", "annotations"])) {
        let ours = key.starts_with("tidegate.dev/") || key.starts_with("config.tidegate.dev/");
        if ours && key != "tidegate.dev/inject" {
            let text = "has no effect here: annotations of ours belong to the pod template";
            report.note_at(format!("metadata.annotations[{key}]"), text);
        }
    }
}

/// Whether the sidecar has taken the place that a pod had before the scheduler and the kubelet.
pub(super) fn quality(template: &Value, report: &mut Report) {
    let Some(spec) = template.get("spec") else { return };
    let guaranteed = |container: &Value| {
        ["cpu", "memory"].into_iter().all(|name| {
            let limit = at(container, &["resources", "limits", name]);
            limit.is_some()
                && at(container, &["resources", "requests", name]).is_none_or(|request| Some(request) == limit)
        })
    };
    let mut others = list(spec, "containers").iter().filter(|c| text(c, "name") != Some(CONTAINER)).peekable();
    let was = others.peek().is_some() && others.all(guaranteed);
    let sidecar = ["initContainers", "containers"].into_iter().find_map(|key| named(spec, key, CONTAINER));
    if was && sidecar.is_some_and(|sidecar| !guaranteed(sidecar)) {
        let text = "the pod was of class Guaranteed and is Burstable with the sidecar; set tidegate.dev/cpu-limit and \
                    tidegate.dev/memory-limit to its requests to keep it";
        report.note("spec", text);
    }
}
