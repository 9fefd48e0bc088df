//! What injection moved or removed, written into an annotation, and putting it back. Fields that a person has changed
//! since stay as they are now.

use serde_json::{Map, Value, json};

use super::annotations::{INJECTED, ORIGINAL};
use super::json::{at_mut, insert, is_empty, list, list_mut, remove, text};
use super::prestop;
use super::sidecar::{CONTAINER, VOLUMES};

/// What was moved or removed.
#[derive(Default)]
pub(super) struct Original(Map<String, Value>);

impl Original {
    /// Notes what stood somewhere.
    pub(super) fn was(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// Notes what stood at a named place among those of `key`.
    pub(super) fn was_at(&mut self, key: &str, place: &str, value: Value) {
        let slot = self.0.entry(key).or_insert_with(|| json!({}));
        insert(slot, place, value);
    }

    /// Notes a place that was there and held nothing, so that it is so again afterwards.
    pub(super) fn held_nothing(&mut self, place: &str, object: &Value, key: &str) {
        if let Some(value) = object.get(key).filter(|value| is_empty(value)) {
            self.was_at("empty", place, value.clone());
        }
    }

    /// As the annotation has it.
    pub(super) fn into_text(self) -> String {
        Value::Object(self.0).to_string()
    }
}

/// Whether a pod template was injected.
pub(super) fn is_injected(template: &Value) -> bool {
    template.pointer("/metadata/annotations").is_some_and(|annotations| annotations.get(INJECTED).is_some())
}

/// The keys that lead to the injected pod template of an object.
pub(super) fn find(object: &Value) -> Option<Vec<String>> {
    let mut rest = vec![(Vec::new(), object)];
    while let Some((path, value)) = rest.pop() {
        if is_injected(value) {
            return Some(path);
        }
        let below = value.as_object().into_iter().flatten().filter(|(_, below)| below.is_object());
        rest.extend(below.map(|(key, below)| ([&path[..], std::slice::from_ref(key)].concat(), below)));
    }
    None
}

/// What the annotation of an injected pod template says.
///
/// # Errors
/// It cannot be read: what is wrong, and what to do.
pub(super) fn read(template: &Value) -> Result<Value, (&'static str, &'static str)> {
    let remedy = "inject the manifest from before, or take the sidecar out by hand";
    let annotations = template.pointer("/metadata/annotations").unwrap_or(&Value::Null);
    let written = text(annotations, ORIGINAL).ok_or(("missing beside tidegate.dev/injected", remedy))?;
    match serde_json::from_str(written) {
        Ok(original @ Value::Object(_)) => Ok(original),
        _ => Err(("not what injection writes", remedy)),
    }
}

/// Takes the sidecar out of a pod template and puts back what was moved.
///
/// # Errors
/// What it stood before has been changed since, so that what was moved does not fit any more: what is wrong, and what to do.
pub(super) fn restore(template: &mut Value, original: &Value) -> Result<(), (String, &'static str)> {
    let empty = original.get("empty").unwrap_or(&Value::Null);
    if let Some(spec) = template.get_mut("spec") {
        for (key, ours) in [("initContainers", &[CONTAINER][..]), ("containers", &[CONTAINER]), ("volumes", &VOLUMES)] {
            let Some(items) = spec.get_mut(key).and_then(Value::as_array_mut) else { continue };
            let before = items.len();
            items.retain(|item| !text(item, "name").is_some_and(|name| ours.contains(&name)));
            if items.len() < before {
                tidy(spec, key, key, empty);
            }
        }
        if let Some(grace) = original.get("grace")
            && spec.get("terminationGracePeriodSeconds") == grace.get("is")
        {
            put_back(spec, "terminationGracePeriodSeconds", grace.get("was"));
        }
        let app = text(original, "container").unwrap_or_default();
        let containers = spec.get_mut("containers").and_then(Value::as_array_mut);
        match containers.into_iter().flatten().find(|item| text(item, "name") == Some(app)) {
            Some(app) => container(app, original, empty)?,
            None => {
                let wrong = format!("no container is named {app:?}, whose probe and hook were moved");
                return Err((wrong, "name it so, take the sidecar out, and then rename it"));
            }
        }
    }
    if let Some(metadata) = template.get_mut("metadata") {
        if let Some(annotations) = metadata.get_mut("annotations") {
            remove(annotations, INJECTED);
            remove(annotations, ORIGINAL);
        }
        tidy(metadata, "annotations", "annotations", empty);
    }
    tidy(template, "metadata", "metadata", empty);
    Ok(())
}

fn container(app: &mut Value, original: &Value, empty: &Value) -> Result<(), (String, &'static str)> {
    for pair in list(original, "ports") {
        let (Some(was), Some(is)) = (pair.get(0), pair.get(1)) else { continue };
        let Some(ports) = app.get_mut("ports").and_then(Value::as_array_mut) else { continue };
        // Where it was, if nobody has put another before it: entries may be alike. Else by what people know it by: an API
        // server adds defaults, and a person may have edited it since.
        let index = pair.get(2).and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
        let index = index.filter(|index| ports.get(*index) == Some(is));
        let index = index.or_else(|| ports.iter().position(|entry| entry == is));
        let number = |entry: &Value| entry.get("containerPort").cloned();
        let alike = |entry: &Value| match text(is, "name") {
            Some(known) => text(entry, "name") == Some(known),
            None => text(entry, "name").is_none() && number(entry) == number(is),
        };
        let Some(index) = index.or_else(|| ports.iter().position(alike)) else { return Err(gone(is)) };
        if number(&ports[index]) != number(is) {
            return Err(gone(is));
        }
        undo(&mut ports[index], was, is);
    }
    for route in list(original, "routes").iter().filter(|route| route.get("declared").is_some()) {
        if !list(app, "ports").iter().any(|entry| entry.get("containerPort") == route.get("was")) {
            return Err(gone(&json!({ "containerPort": route.get("was") })));
        }
    }
    for (place, was) in original.get("numbers").and_then(Value::as_object).into_iter().flatten() {
        let keys: Vec<&str> = place.split('.').collect();
        if let Some(handler) = at_mut(app, &keys)
            && handler.get("port").is_some()
        {
            insert(handler, "port", was.clone());
        }
    }
    if let Some(probe) = original.get("readinessProbe")
        && app.get("readinessProbe").is_none()
    {
        insert(app, "readinessProbe", probe.clone());
    }
    if let Some(lifecycle) = app.get_mut("lifecycle")
        && lifecycle.get("preStop").is_some_and(|hook| prestop::token(hook).is_some())
    {
        put_back(lifecycle, "preStop", original.get("preStop"));
        tidy(app, "lifecycle", "lifecycle", empty);
    }
    for (name, was) in original.get("env").and_then(Value::as_object).into_iter().flatten() {
        if let Some(env) = list_mut(app, "env") {
            let found = env.iter().position(|entry| text(entry, "name") == Some(name));
            match (found, was.is_null()) {
                (Some(at), true) => _ = env.remove(at),
                (Some(at), false) => env[at] = was.clone(),
                (None, _) => {}
            }
        }
        tidy(app, "env", "env", empty);
    }
    Ok(())
}

/// The probe that was moved, Services and the sidecar itself still lead to the number that it had.
fn gone(port: &Value) -> (String, &'static str) {
    let name = text(port, "name").map_or_else(String::new, |name| format!(" {name:?}"));
    let number = port.get("containerPort").unwrap_or(&Value::Null);
    let wrong =
        format!("the port{name} {number} that the sidecar stands before has been renamed, renumbered or removed");
    (wrong, "write it as it was, take the sidecar out, change it then, and inject again")
}

/// Makes `was` again of what injection had made `is` of, and leaves alone what has been changed since.
fn undo(entry: &mut Value, was: &Value, is: &Value) {
    if entry == is {
        *entry = was.clone();
        return;
    }
    for key in ["name", "containerPort", "hostPort", "hostIP"] {
        if was.get(key) != is.get(key) && entry.get(key) == is.get(key) {
            put_back(entry, key, was.get(key));
        }
    }
}

/// A place that holds nothing is as it was: gone, or there and holding nothing.
fn tidy(object: &mut Value, key: &str, place: &str, empty: &Value) {
    if object.get(key).is_some_and(is_empty) {
        put_back(object, key, empty.get(place));
    }
}

fn put_back(object: &mut Value, key: &str, was: Option<&Value>) {
    match was {
        Some(was) => insert(object, key, was.clone()),
        None => _ = remove(object, key),
    }
}
