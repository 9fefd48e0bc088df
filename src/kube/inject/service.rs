//! Services: which of their ports lead to the sidecar by a name already, and which have to be rewritten.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::annotations::ORIGINAL;
use super::json::{at, insert, is_empty, list, port, remove, text};
use super::kinds;
use super::options::{Options, Version};
use super::original;
use super::outcome::{Outcome, Reason};
use super::ports::{is_tcp, target};
use super::report::Report;
use super::sidecar::CONTAINER;

/// A port that a sidecar took over.
#[derive(Debug, Clone, PartialEq)]
struct Route {
    was: u16,
    listen: u16,
    name: Option<String>,
    native: bool,
}

/// Leads one Service to the sidecars of `workloads`, where all that it selects have one.
pub(super) fn route(service: &Value, workloads: &[Value], options: &Options) -> Outcome {
    if !kinds::is_core(service, "Service") {
        return Outcome::Untouched(Reason::NoPods);
    }
    let found: Vec<Vec<Route>> =
        kinds::leaves(workloads).into_iter().filter_map(|workload| routes(service, workload, options)).collect();
    if found.iter().all(Vec::is_empty) {
        return Outcome::Untouched(Reason::Routed);
    }
    let mut changed = match restore(service) {
        Some(Ok(plain)) => plain,
        None => service.clone(),
        Some(Err(outcome)) => return outcome,
    };
    let mut report = Report::new(kinds::called(service), String::new());
    let mut before = json!({});
    let headless = at(service, &["spec", "clusterIP"]).and_then(Value::as_str) == Some("None");
    let entries = changed.get_mut("spec").and_then(|spec| spec.get_mut("ports")).and_then(Value::as_array_mut);
    for (index, entry) in entries.into_iter().flatten().enumerate().filter(|(_, entry)| is_tcp(entry)) {
        let path = format!("spec.ports[{index}].targetPort");
        let Some(goal) = goal(entry, &found, options, &path, &mut report) else { continue };
        if headless {
            let text = "headless: its clients connect to the pods themselves, on ports of their own choosing; what they reach \
                        on the app's number is the app";
            report.note(&path, text);
        }
        if let Some(key) = key(entry) {
            let was = entry.get("targetPort").cloned().unwrap_or(Value::Null);
            insert(&mut before, &key, json!([was, goal]));
            insert(entry, "targetPort", goal);
        }
    }
    if is_empty(&before) {
        let outcome = if report.notes.is_empty() && changed == *service {
            Outcome::Untouched(Reason::Routed)
        } else {
            Outcome::Injected { object: changed, notes: report.notes }
        };
        return outcome;
    }
    let mut original = json!({ "ports": before });
    mark(&mut changed, &mut original);
    Outcome::Injected { object: changed, notes: report.notes }
}

/// Where an entry is to lead, if not where it does.
fn goal(entry: &Value, found: &[Vec<Route>], options: &Options, path: &str, report: &mut Report) -> Option<Value> {
    let target = target(entry)?;
    let fits = |route: &&Route| match &target {
        Value::String(name) => route.name.as_ref() == Some(name),
        number => port(number) == Some(route.was) && route.was != route.listen,
    };
    let routes: Vec<&Route> = found.iter().filter_map(|workload| workload.iter().find(fits)).collect();
    let first = *routes.first()?;
    let early = options.kubernetes.is_some_and(|version| version < Version { major: 1, minor: 32 });
    let by_name = first.name.as_ref().filter(|_| !(early && first.native));
    // A name is right for pods without a sidecar too, a number is not.
    let whole = found.iter().filter(|routes| !target.is_string() || !routes.is_empty()).count();
    let agree = routes.len() == whole
        && routes.iter().all(|route| match by_name {
            Some(name) => route.name.as_ref() == Some(name),
            None => route.listen == first.listen,
        });
    if !agree {
        let text = "selects pods whose ports differ, or that have no sidecar: give them one name in all of them, and target it";
        report.note(path, text);
        return None;
    }
    match (by_name, &target) {
        (Some(_), Value::String(_)) => None,
        (Some(name), _) => Some(Value::from(&**name)),
        (None, _) => {
            let text = format!(
                "leads to the sidecar by its number {}, on which pods from before do not answer: to lose no request in the \
                 first rollout, {}",
                first.listen,
                if first.name.is_some() {
                    "use tidegate.dev/mode: container, or Kubernetes 1.32, whose Services find named ports of native sidecars"
                } else {
                    "give the port a name, target that, roll out once and then inject; or use --app-port-env"
                }
            );
            report.note(path, text);
            Some(first.listen.into())
        }
    }
}

/// The routes of a workload that a Service selects: none of one that is not injected.
fn routes(service: &Value, workload: &Value, options: &Options) -> Option<Vec<Route>> {
    let path = kinds::find(workload, options)?.path;
    let template = at(workload, &path)?;
    if !kinds::neighbours(service, workload) || !kinds::selects(at(service, &["spec", "selector"]), template) {
        return None;
    }
    if !original::is_injected(template) {
        return Some(Vec::new());
    }
    let native = super::json::named(template.get("spec")?, "initContainers", CONTAINER).is_some();
    let original = original::read(template).ok()?;
    let route = |route: &Value| {
        let number = |key| route.get(key).and_then(port);
        let name = text(route, "name").map(str::to_owned);
        Some(Route { was: number("was")?, listen: number("listen")?, name, native })
    };
    Some(list(&original, "routes").iter().filter_map(route).collect())
}

/// What tells an entry of a Service from others.
fn key(entry: &Value) -> Option<String> {
    Some(format!("{}/{}", entry.get("port").and_then(port)?, text(entry, "protocol").unwrap_or("TCP")))
}

fn mark(service: &mut Value, original: &mut Value) {
    for (place, keys) in [("metadata", &[][..]), ("annotations", &["metadata"])] {
        let Some(parent) = super::json::at_mut(service, keys) else { return };
        match parent.get(place) {
            None => insert(parent, place, json!({})),
            Some(Value::Null) => {
                insert(original, place, Value::Null);
                insert(parent, place, json!({}));
            }
            Some(value) if is_empty(value) => insert(original, place, value.clone()),
            Some(_) => {}
        }
    }
    if let Some(annotations) = super::json::at_mut(service, &["metadata", "annotations"]) {
        insert(annotations, ORIGINAL, original.to_string().into());
    }
}

/// A Service as it was before; `None` where nothing of ours is in it.
pub(super) fn restore(service: &Value) -> Option<Result<Value, Outcome>> {
    let written = service.pointer("/metadata/annotations").and_then(|annotations| text(annotations, ORIGINAL))?;
    let Ok(original @ Value::Object(_)) = serde_json::from_str::<Value>(written) else {
        let mut report = Report::new(kinds::called(service), String::new());
        let place = super::annotations::place(ORIGINAL);
        report.refuse(place, "not what injection writes", "remove it, and set targetPort by hand");
        return Some(Err(Outcome::Refused(report.refusals)));
    };
    let mut plain = service.clone();
    let entries = plain.get_mut("spec").and_then(|spec| spec.get_mut("ports")).and_then(Value::as_array_mut);
    let written = original.get("ports").and_then(Value::as_object).into_iter().flatten();
    let mut left: BTreeMap<&String, (&Value, &Value)> =
        written.filter_map(|(key, pair)| Some((key, (pair.get(0)?, pair.get(1)?)))).collect();
    let mut others = Vec::new();
    for entry in entries.into_iter().flatten() {
        match key(entry).and_then(|key| left.remove(&key)) {
            // What a person has led elsewhere since stays there.
            Some((was, is)) if entry.get("targetPort") == Some(is) => lead_back(entry, was),
            Some(_) => {}
            None => others.push(entry),
        }
    }
    // Those whose own number has been changed since are known by where they lead; others are gone.
    for (was, is) in left.into_values() {
        others.iter_mut().filter(|entry| entry.get("targetPort") == Some(is)).for_each(|entry| lead_back(entry, was));
    }
    if let Some(metadata) = plain.get_mut("metadata") {
        if let Some(annotations) = metadata.get_mut("annotations") {
            remove(annotations, ORIGINAL);
        }
        tidy(metadata, "annotations", &original);
    }
    Some(Ok(plain))
}

fn lead_back(entry: &mut Value, was: &Value) {
    match was {
        Value::Null => _ = remove(entry, "targetPort"),
        was => insert(entry, "targetPort", was.clone()),
    }
}

fn tidy(object: &mut Value, key: &str, original: &Value) {
    if object.get(key).is_some_and(is_empty) {
        match original.get(key) {
            Some(was) => insert(object, key, was.clone()),
            None => _ = remove(object, key),
        }
    }
}
