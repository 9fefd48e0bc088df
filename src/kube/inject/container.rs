//! Changes of the app's container: ports, the variable that tells it where to listen, probes' numbers, the hook.

use serde_json::{Map, Value, json};

use super::json::{insert, list_mut, port, remove, text};
use super::options::Options;
use super::original::Original;
use super::ports::{self, Route};
use super::probes;

/// The container of this name, to change it.
pub(super) fn find<'a>(template: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let containers = template.get_mut("spec")?.get_mut("containers")?.as_array_mut()?;
    containers.iter_mut().find(|container| text(container, "name") == Some(name))
}

/// Makes room for the sidecar. Returns the entries of `ports` that were changed, by their number.
pub(super) fn change(
    app: &mut Value,
    before: &Value,
    routes: &[Route],
    options: &Options,
    original: &mut Original,
) -> Map<String, Value> {
    for (place, was) in probes::renumber(app, before, routes) {
        original.was_at("numbers", &place, was);
    }
    let mut taken = Map::new();
    let mut pairs = Vec::new();
    let mut names: Vec<String> =
        super::json::list(before, "ports").iter().filter_map(|entry| text(entry, "name")).map(str::to_owned).collect();
    for (index, entry) in app.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
        let number = entry.get("containerPort").and_then(port).filter(|_| ports::is_tcp(entry));
        let Some(route) = number.and_then(|number| routes.iter().find(|route| route.was == number)) else { continue };
        let was = entry.clone();
        remove(entry, "hostPort");
        remove(entry, "hostIP");
        insert(entry, "containerPort", route.app.into());
        if remove(entry, "name").is_some()
            && let Some(name) = route.name.as_deref().and_then(aside).filter(|name| !names.contains(name))
        {
            names.push(name.clone());
            insert(entry, "name", name.into());
        }
        if *entry != was {
            pairs.push(json!([was, entry, index]));
            taken.entry(route.was.to_string()).or_insert(was);
        }
    }
    if !pairs.is_empty() {
        original.was("ports", pairs);
    }
    if let (Some(name), [route]) = (&options.app_port_env, routes) {
        original.held_nothing("env", app, "env");
        let value = json!({ "name": name, "value": route.app.to_string() });
        if let Some(env) = list_mut(app, "env") {
            let old = env.iter_mut().find(|entry| text(entry, "name") == Some(name));
            let was = match old {
                Some(old) => std::mem::replace(old, value),
                None => {
                    env.push(value);
                    Value::Null
                }
            };
            original.was_at("env", name, was);
        }
    }
    taken
}

/// The name under which the app's own port goes on, at most 15 characters (RFC 6335 §5.1).
fn aside(name: &str) -> Option<String> {
    let cut: String = format!("app-{name}").chars().take(15).collect();
    let cut = cut.trim_end_matches('-');
    let fits = !cut.contains("--") && cut.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    fits.then(|| cut.to_owned())
}

/// Puts the sidecar's hook into the app's container.
pub(super) fn hook(app: &mut Value, ours: &Value, original: &mut Original) {
    original.held_nothing("lifecycle", app, "lifecycle");
    if app.get("lifecycle").is_none_or(Value::is_null) {
        insert(app, "lifecycle", json!({}));
    }
    let Some(lifecycle) = app.get_mut("lifecycle") else { return };
    if let Some(was) = lifecycle.get("preStop") {
        original.was("preStop", was.clone());
    }
    insert(lifecycle, "preStop", ours.clone());
}

#[cfg(test)]
mod tests {
    use super::aside;

    #[test]
    fn the_app_keeps_its_port_under_another_name() {
        for (name, expected) in [
            ("http", Some("app-http")),
            ("a-rather-long-1", Some("app-a-rather-lo")),
            ("abcdefghij-k", Some("app-abcdefghij")),
            ("UPPER", None),
            ("-x", None),
        ] {
            assert_eq!(aside(name).as_deref(), expected, "{name}");
        }
    }
}
