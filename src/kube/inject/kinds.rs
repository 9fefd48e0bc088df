//! Which objects have pods, and where their template is.

use serde_json::Value;

use super::json::{self, text};
use super::options::Options;

/// An object that has pods.
pub(super) struct Found {
    /// Its kind.
    pub(super) kind: String,
    /// The keys that lead to its pod template; none for a pod, which is its own.
    pub(super) path: Vec<String>,
}

/// Kinds of Kubernetes itself, their groups, and where their template is.
const KNOWN: [(&str, &[&str], &[&str]); 8] = [
    ("Deployment", &["apps", "extensions"], &["spec", "template"]),
    ("StatefulSet", &["apps"], &["spec", "template"]),
    ("DaemonSet", &["apps", "extensions"], &["spec", "template"]),
    ("ReplicaSet", &["apps", "extensions"], &["spec", "template"]),
    ("ReplicationController", &[""], &["spec", "template"]),
    ("Job", &["batch"], &["spec", "template"]),
    ("CronJob", &["batch"], &["spec", "jobTemplate", "spec", "template"]),
    ("Pod", &[""], &[]),
];

/// Where an object has its pod template, if it has one that is known.
pub(super) fn find(object: &Value, options: &Options) -> Option<Found> {
    let kind = text(object, "kind")?;
    let group = group(object);
    let known = KNOWN
        .iter()
        .find(|(known, groups, _)| *known == kind && groups.contains(&group))
        .map(|(.., path)| path.iter().map(|&key| key.to_owned()).collect());
    let path = known.or_else(|| {
        let fits = |other: &Option<String>| other.as_deref().is_none_or(|wanted| wanted == group);
        options.pod_templates.iter().find(|t| t.kind == kind && fits(&t.group)).map(|t| t.path.clone())
    })?;
    Some(Found { kind: kind.to_owned(), path })
}

/// The API group of an object; empty for the core.
pub(super) fn group(object: &Value) -> &str {
    text(object, "apiVersion").and_then(|version| version.split_once('/')).map_or("", |(group, _)| group)
}

/// Whether an object is of a kind of the core.
pub(super) fn is_core(object: &Value, kind: &str) -> bool {
    text(object, "kind") == Some(kind) && group(object).is_empty()
}

/// The items of a list of objects: `List`, and `DeploymentList` and the like.
pub(super) fn items(object: &Value) -> Option<&Vec<Value>> {
    if text(object, "kind").is_some_and(|kind| kind.ends_with("List")) { object.get("items")?.as_array() } else { None }
}

/// Every object that is no list, out of lists too.
pub(super) fn leaves(objects: &[Value]) -> Vec<&Value> {
    let mut found = Vec::new();
    let mut rest: Vec<&Value> = objects.iter().rev().collect();
    while let Some(object) = rest.pop() {
        match items(object) {
            Some(items) => rest.extend(items.iter().rev()),
            None => found.push(object),
        }
    }
    found
}

/// What people call an object: `Deployment shop/orders`.
pub(super) fn called(object: &Value) -> String {
    let kind = text(object, "kind").unwrap_or("object");
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let name = text(metadata, "name").or_else(|| text(metadata, "generateName")).unwrap_or("without a name");
    match text(metadata, "namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// Whether two objects are in one namespace, as far as they say.
pub(super) fn neighbours(one: &Value, other: &Value) -> bool {
    let namespace = |object| json::at(object, &["metadata", "namespace"]).and_then(Value::as_str);
    match (namespace(one), namespace(other)) {
        (Some(one), Some(other)) => one == other,
        // What says none goes where the other goes.
        _ => true,
    }
}

/// Whether the labels of a pod template are what `selector` asks for. An empty one selects nothing here.
pub(super) fn selects(selector: Option<&Value>, template: &Value) -> bool {
    let Some(wanted) = selector.and_then(Value::as_object).filter(|wanted| !wanted.is_empty()) else { return false };
    let labels = json::at(template, &["metadata", "labels"]);
    wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}
