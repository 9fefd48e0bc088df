//! Annotations of a pod template, laid over the options of the run. `docs/KUBERNETES.md` has the same table.

use serde_json::Value;

use super::environment::{self, Environment};
use super::json::{at, texts};
use super::options::{Options, Selection};
use super::outcome::{Reason, Refusal};
use super::refusals;
use super::report::Report;
use crate::config::Problems;

/// What our annotations begin with.
const PREFIX: &str = "tidegate.dev/";
/// What those of configuration keys begin with.
const SETTING: &str = "config.tidegate.dev/";
/// Written by injection: the version that did it.
pub(super) const INJECTED: &str = "tidegate.dev/injected";
/// Written by injection: what it moved or removed.
pub(super) const ORIGINAL: &str = "tidegate.dev/original";

/// All annotations, each with what it says.
pub const ANNOTATIONS: [(&str, &str); 17] = [
    ("inject", "`enabled` or `disabled`: whether these pods get a sidecar"),
    ("mode", "`native` or `container`: an init container that is restarted always, or one beside the app's"),
    ("image", "the sidecar's image"),
    ("app-container", "the container that serves, where there are several"),
    ("port", "names or numbers of its ports that the sidecar takes over, separated by commas"),
    ("listen-port", "the sidecar's own port, for the first of them"),
    ("app-port-env", "the app's variable for its port: the sidecar takes the port that the app had, the app another"),
    ("app-prestop", "`replace` or `keep`: what becomes of a `preStop` hook of the app that does more than sleep"),
    ("config-map", "a ConfigMap with `tidegate.yaml`, mounted at `/etc/tidegate`; variables stand above it"),
    ("cpu-request", "the sidecar's `requests.cpu`; empty for none"),
    ("cpu-limit", "its `limits.cpu`; empty for none"),
    ("memory-request", "its `requests.memory`; empty for none"),
    ("memory-limit", "its `limits.memory`; empty for none"),
    ("injected", "written by injection: the version that did it"),
    ("original", "written by injection: what it moved or removed, so that it can be put back"),
    ("drain-token", "refused: a token belongs on the command line, or is made"),
    ("config", "refused: keys of the configuration are annotations `config.tidegate.dev/KEY`"),
];

/// Whether an object is to stay as it is, by its own annotations and labels and those of its pod template.
pub(super) fn stays(object: &Value, template: &Value, options: &Options) -> Option<Reason> {
    let word = |value: &'_ Value| {
        let said = |kind: &str| at(value, &["metadata", kind, "tidegate.dev/inject"]).and_then(Value::as_str);
        said("annotations").or_else(|| said("labels")).map(str::to_owned)
    };
    let (own, template) = (word(object), word(template));
    if [&own, &template].into_iter().any(|word| word.as_deref() == Some("disabled")) {
        return Some(Reason::Disabled);
    }
    match options.selection {
        Selection::OnlyEnabled if template.as_deref() != Some("enabled") => Some(Reason::NotEnabled),
        _ => None,
    }
}

/// The options of one pod template.
pub(super) fn choices(template: &Value, options: &Options, report: &mut Report) -> Options {
    let mut chosen = options.clone();
    let written = at(template, &["metadata", "annotations"]).and_then(Value::as_object);
    for (key, _) in written.into_iter().flatten().filter(|(_, value)| !value.is_string() && !value.is_null()) {
        if key.starts_with(PREFIX) || key.starts_with(SETTING) {
            report.refuse(place(key), "no text, which every annotation is", "put quotes around it");
        }
    }
    for (key, value) in texts(at(template, &["metadata", "annotations"])) {
        if let Some(path) = key.strip_prefix(SETTING) {
            chosen.settings.retain(|(known, _)| known != path);
            chosen.settings.push((path.to_owned(), value.to_owned()));
        } else if let Some(name) = key.strip_prefix(PREFIX)
            && let Err((wrong, remedy)) = one(&mut chosen, name, value)
        {
            report.refuse(place(key), wrong, remedy);
        }
    }
    chosen
}

/// How an annotation is called in paths.
pub(super) fn place(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}

/// How a choice is called in paths: by the annotation of `template` that makes it, or the option of the run.
pub(super) fn place_of(name: &str, template: &Value) -> String {
    let key = format!("{PREFIX}{name}");
    match at(template, &["metadata", "annotations", &key]) {
        Some(_) => place(&key),
        None => format!("--{name}"),
    }
}

/// How a configuration key is called in paths: by the annotation of `template` that sets it, or the option of the run.
pub(super) fn place_of_setting(path: &str, template: &Value) -> String {
    let key = format!("{SETTING}{path}");
    match at(template, &["metadata", "annotations", &key]) {
        Some(_) => place(&key),
        None => format!("--set {path}"),
    }
}

/// What is wrong with options whatever they are applied to, each with the option's name. What is in conflict only with a
/// pod or with another option is told where they meet.
pub fn check(options: &Options) -> Vec<String> {
    let resources = &options.resources;
    let optional = |name, value: &Option<String>| value.as_ref().map(|value| (name, value.clone()));
    let given = [
        Some(("image", options.image.clone())),
        optional("app-container", &options.app_container),
        optional("app-port-env", &options.app_port_env),
        optional("config-map", &options.config_map),
        options.listen_port.map(|port| ("listen-port", port.to_string())),
        Some(("cpu-request", resources.cpu_request.clone())),
        Some(("cpu-limit", resources.cpu_limit.clone())),
        Some(("memory-request", resources.memory_request.clone())),
        Some(("memory-limit", resources.memory_limit.clone())),
    ];
    let ports = options.ports.iter().map(|port| ("port", port.clone()));
    let mut wrong = Vec::new();
    for (name, value) in given.into_iter().flatten().chain(ports) {
        if let Err((what, remedy)) = one(&mut options.clone(), name, &value) {
            wrong.push(format!("--{name}: {what}; {remedy}"));
        }
    }
    if wrong.is_empty() {
        let mut report = Report::new(String::new(), String::new());
        refusals::options(options, &Value::Null, &mut report);
        wrong.extend(report.refusals.iter().map(told));
    }
    let label = |text: &str| {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !text.is_empty() && text.len() <= 63 && text.bytes().all(fits)
    };
    for port in
        options.ports.iter().filter(|port| !label(port) || port.parse::<u32>().is_ok_and(|n| n == 0 || n > 65535))
    {
        wrong.push(format!("--port: {port:?} is neither a port's name nor its number; write http or 3000"));
    }
    if let Some(name) = options.app_container.as_ref().filter(|name| !label(name)) {
        wrong
            .push(format!("--app-container: {name:?} is no name of a container; use lower-case letters, digits and -"));
    }
    for (path, value) in &options.settings {
        let mut report = Report::new(String::new(), String::new());
        let mut environment = Environment::default();
        environment.chosen(&[(path.clone(), value.clone())], &Value::Null, &mut report);
        if let Err(Problems(problems)) = environment.settings() {
            environment::refuse(problems.iter().filter(|p| p.path == *path), |_| format!("--set {path}"), &mut report);
        }
        wrong.extend(report.refusals.iter().map(told));
    }
    wrong
}

fn told(refusal: &Refusal) -> String {
    format!("{}: {}; {}", refusal.path, refusal.wrong, refusal.remedy)
}

fn one(chosen: &mut Options, name: &str, value: &str) -> Result<(), (String, String)> {
    let parsed = |wrong: String| {
        let (wrong, remedy) = wrong.split_once("; ").unwrap_or((&wrong, "correct it"));
        (format!("{value:?} is {wrong}"), remedy.to_owned())
    };
    let resource = || match is_quantity(value) {
        true => Ok(value.to_owned()),
        false => {
            Err((format!("{value:?} is no quantity"), "write it as 50m or 0.5 for cpu, as 32Mi for memory".to_owned()))
        }
    };
    let required = || match value.trim() {
        "" => Err(("empty".to_owned(), "write a value, or remove it".to_owned())),
        value => Ok(value.to_owned()),
    };
    match name {
        "inject" if matches!(value, "enabled" | "disabled") => {}
        "inject" => return Err((format!("{value:?} is neither"), "write enabled or disabled".to_owned())),
        "mode" => chosen.mode = Some(value.parse().map_err(parsed)?),
        "image" => chosen.image = required()?,
        "app-container" => chosen.app_container = Some(required()?),
        "port" => chosen.ports = required()?.split(',').map(|port| port.trim().to_owned()).collect(),
        "listen-port" => {
            let port = value.trim().parse().ok().filter(|port| *port > 0);
            let wrong = || (format!("{value:?} is no port"), "write a number from 1 to 65535".to_owned());
            chosen.listen_port = Some(port.ok_or_else(wrong)?);
        }
        "app-port-env" => chosen.app_port_env = Some(required()?),
        "app-prestop" => chosen.app_prestop = Some(value.parse().map_err(parsed)?),
        "config-map" => chosen.config_map = Some(required()?),
        "cpu-request" => chosen.resources.cpu_request = resource()?,
        "cpu-limit" => chosen.resources.cpu_limit = resource()?,
        "memory-request" => chosen.resources.memory_request = resource()?,
        "memory-limit" => chosen.resources.memory_limit = resource()?,
        "injected" | "original" => {}
        "drain-token" => {
            return Err((
                "not taken from an annotation".to_owned(),
                "remove it: a token is made, or given by --drain-token".to_owned(),
            ));
        }
        _ => {
            let names: Vec<&str> = ANNOTATIONS.iter().map(|(name, _)| *name).collect();
            let remedy = match crate::config::closest(name, names) {
                Some(near) => format!("did you mean {PREFIX}{near}?"),
                None => {
                    "docs/KUBERNETES.md names all of them; keys of the configuration begin with config.tidegate.dev/"
                        .to_owned()
                }
            };
            return Err(("unknown annotation".to_owned(), remedy));
        }
    }
    Ok(())
}

/// Whether a text is a quantity as Kubernetes has it, without an exponent and not negative; empty for none.
pub(super) fn is_quantity(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[number.len()..];
    let digits = number.bytes().all(|b| b.is_ascii_digit() || b == b'.') && number.matches('.').count() <= 1;
    let units = ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"];
    text.is_empty() || digits && number.bytes().any(|b| b.is_ascii_digit()) && units.contains(&unit)
}
