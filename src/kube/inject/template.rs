//! The sidecar into one pod template: what is found out, what is refused, and what is changed, in this order.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::annotations::{self, INJECTED, ORIGINAL, place_of_setting};
use super::environment::{self, DEFAULT_GRACE, Environment};
use super::json::{at, insert, list, list_mut, named, port, remove, text};
use super::options::{Mode, Options, PreStop};
use super::original::Original;
use super::ports::{self, Route};
use super::prestop::{self, Hook};
use super::report::Report;
use super::sidecar::{CONTAINER, Sidecar, VOLUMES};
use super::{container, probes, refusals, token};
use crate::config::{self, Problems, Settings};

/// Where a pod template stands.
pub(super) struct Place<'a> {
    /// The object around it.
    pub(super) object: &'a Value,
    /// Its kind.
    pub(super) kind: &'a str,
    /// What else is in the stream.
    pub(super) stream: &'a [Value],
    /// The template as it is now, which may have a sidecar.
    pub(super) present: &'a Value,
}

/// The template with a sidecar. `template` has none. What is wrong goes to `report`, and then the answer is `None`.
pub(super) fn inject(template: &Value, from: &Place<'_>, options: &Options, report: &mut Report) -> Option<Value> {
    let options = annotations::choices(template, options, report);
    refusals::judge(template, from.kind, &options, report);
    let app = ports::container(from.object, template, from.stream, &options, report)?;
    let spec = template.get("spec")?;
    let before = named(spec, "containers", &app)?;
    let mut routes = ports::routes(from.object, template, before, from.stream, &options, report);
    let mode = mode(spec, &routes, &options, report);
    let own = own_ports(&options);
    let declared = ports::declared(template);
    for (port, key) in own.iter().filter(|(port, _)| declared.contains(port)) {
        let remedy = format!("move the sidecar's by config.tidegate.dev/{key}, or the container's");
        report.refuse(
            "spec.containers",
            format!("port {port} is taken by a container, and the sidecar needs it"),
            remedy,
        );
    }
    let taken: BTreeSet<u16> = declared.into_iter().chain(own.into_iter().map(|(port, _)| port)).collect();
    ports::listen(&mut routes, &taken, &options, report);
    if let Some(name) = &options.app_port_env {
        ports::variable(before, name, report);
    }
    refusals::low_ports(spec, &routes, report);
    let hook = hook(before, &options, report);
    let check = readiness(before, &routes, report);
    let mut environment = Environment::default();
    let drain_token = token::of(template, from, &options);
    configure(&mut environment, from, &options, &routes, &drain_token);
    for (key, value) in check.iter().flatten() {
        environment.key(key, value.clone());
    }
    if let Hook::Sleeps(seconds) = hook
        && seconds > 10
    {
        // Whoever slept for longer than our delay knew why.
        environment.key("drain.delay", format!("{seconds}s"));
    }
    environment.chosen(&options.settings, template, report);
    let had = spec.get("terminationGracePeriodSeconds").and_then(Value::as_u64);
    let (grace, settings) = match environment.grace(had) {
        Ok(found) => found,
        Err(Problems(problems)) => {
            refuse_settings(&problems, &options, template, report);
            return None;
        }
    };
    if grace != had.unwrap_or(DEFAULT_GRACE) {
        let text =
            format!("raised from {} s to {grace} s, {}", had.unwrap_or(DEFAULT_GRACE), environment::needs(&settings));
        report.note("spec.terminationGracePeriodSeconds", text);
    }
    let (ops, scheme) = ops(&settings, template, report)?;
    if report.refused() {
        return None;
    }
    let mut original = Original::default();
    original.was("container", app.clone());
    let mut changed = template.clone();
    let slot = container::find(&mut changed, &app)?;
    if check.is_some()
        && let Some(probe) = remove(slot, "readinessProbe")
    {
        original.was("readinessProbe", probe);
    }
    if hook != Hook::Other {
        container::hook(slot, &prestop::ours(ops, scheme, &drain_token), &mut original);
    }
    // Last, so that what was moved is kept as it was.
    let taken = container::change(slot, before, &routes, &options, &mut original);
    let sidecar = Sidecar {
        options: &options,
        mode,
        environment: &environment.0,
        routes: &routes,
        host_ports: &taken,
        ops,
        scheme,
    };
    pod(changed.get_mut("spec")?, &sidecar, grace, &mut original);
    original.was("routes", routes.iter().map(|route| self::route(route, before)).collect::<Vec<_>>());
    stamp(&mut changed, original);
    Some(changed)
}

/// A route as Services need it. A declared port that has no name is nowhere else among what was changed.
fn route(route: &Route, app: &Value) -> Value {
    let mut told = json!({ "was": route.was, "listen": route.listen, "name": route.name });
    let declares = |entry: &Value| entry.get("containerPort").and_then(port) == Some(route.was);
    if route.name.is_none() && route.app == route.was && list(app, "ports").iter().any(declares) {
        insert(&mut told, "declared", true.into());
    }
    told
}

/// How the sidecar stands in the pod.
fn mode(spec: &Value, routes: &[Route], options: &Options, report: &mut Report) -> Mode {
    let version = options.kubernetes.map(|version| (version.major, version.minor));
    // A pod that is to end never would beside a container that does not.
    let ends = matches!(text(spec, "restartPolicy"), Some("Never" | "OnFailure"));
    let named = routes.iter().any(|route| route.name.is_some());
    match (options.mode, version) {
        (Some(Mode::Native), Some(version)) if version < (1, 29) => {
            let wrong = "native sidecars need Kubernetes 1.29 or newer";
            report.refuse("spec.initContainers", wrong, "choose tidegate.dev/mode: container");
        }
        (Some(Mode::Container), _) if ends => {
            let wrong = "beside a container that does not end the pod would never end";
            report.refuse("spec.restartPolicy", wrong, "choose tidegate.dev/mode: native");
        }
        (None, Some(version)) if version < (1, 29) && ends => {
            let wrong = "a pod that ends needs a native sidecar, and those need Kubernetes 1.29";
            report.refuse("spec.restartPolicy", wrong, "leave it without by tidegate.dev/inject: disabled");
        }
        (None, Some(version)) if version < (1, 29) || version < (1, 32) && named && !ends => {
            let why = "a container and not a native sidecar, for the cluster's version: Services find named ports of native \
                       sidecars from Kubernetes 1.32 on";
            report.note("spec.containers", why);
            return Mode::Container;
        }
        (mode, None) if named && mode != Some(Mode::Container) && !ends => report.note(
            "spec.initContainers",
            "Services find named ports of native sidecars from Kubernetes 1.32 on (kubernetes/kubernetes#128850): say \
             --kubernetes-version where the cluster is older",
        ),
        _ => {}
    }
    options.mode.unwrap_or(Mode::Native)
}

/// The sidecar's ports beside those of its routes, each with its key.
fn own_ports(options: &Options) -> Vec<(u16, &'static str)> {
    let mut alone = Environment::default();
    let moves = |(path, _): &&(String, String)| matches!(&**path, "ops.listen" | "local.listen");
    for (path, value) in options.settings.iter().filter(moves) {
        alone.key(path, value.clone());
    }
    // Any free number: what routes get is not known yet.
    alone.key("proxy.0.listen", "127.0.0.1:0");
    let Ok(settings) = alone.settings() else { return Vec::new() };
    let ops = settings.ops.listen.iter().map(|address| (address.port(), "ops.listen"));
    ops.chain(settings.local.listen.iter().map(|address| (address.port(), "local.listen"))).collect()
}

/// The port that the kubelet asks, and the scheme where it is not HTTP.
fn ops(settings: &Settings, template: &Value, report: &mut Report) -> Option<(u16, Option<&'static str>)> {
    let scheme = settings.ops.tls.is_some().then_some("HTTPS");
    let Some(address) = settings.ops.listen.iter().find(|address| !address.ip().is_loopback()) else {
        let place = place_of_setting("ops.listen", template);
        report.refuse(place, "out of the kubelet's reach", "listen on 0.0.0.0 or [::]");
        return None;
    };
    Some((address.port(), scheme))
}

/// What the app's hook does, when it can be replaced; `Other` when it stays.
fn hook(app: &Value, options: &Options, report: &mut Report) -> Hook {
    let path = format!("spec.containers[{}].lifecycle.preStop", text(app, "name").unwrap_or_default());
    let found = prestop::classify(at(app, &["lifecycle", "preStop"]));
    match (&found, options.app_prestop) {
        (Hook::None, _) => {}
        (_, Some(PreStop::Keep)) => {
            let text = "stays: the app gets SIGTERM when it returns, whatever is in flight then";
            report.note(path, text);
            return Hook::Other;
        }
        (Hook::Sleeps(seconds), _) => {
            let text = format!("slept {seconds} s; the sidecar's drain waits as long as needed in its place");
            report.note(path, text);
        }
        (Hook::Other | Hook::Ours, Some(PreStop::Replace)) => {
            report.note(path, "replaced by the sidecar's drain, as asked");
            return Hook::None;
        }
        (Hook::Other | Hook::Ours, None) => {
            let wrong = "the app has a hook of its own, and a container has only one";
            let remedy = "choose tidegate.dev/app-prestop: replace, or keep, with which the sidecar cannot hold the app's \
                          SIGTERM back";
            report.refuse(path, wrong, remedy);
        }
    }
    found
}

/// The settings of the check that stands for the app's readiness probe.
fn readiness(app: &Value, routes: &[Route], report: &mut Report) -> Option<Vec<(String, String)>> {
    let probe = app.get("readinessProbe").filter(|probe| probe.is_object())?;
    if routes.is_empty() {
        return None;
    }
    let path = format!("spec.containers[{}].readinessProbe", text(app, "name").unwrap_or_default());
    match probes::check(probe, app, routes) {
        Ok(settings) => {
            if probe.get("initialDelaySeconds").and_then(Value::as_u64).is_some_and(|delay| delay > 0) {
                report.note(path, "initialDelaySeconds has no counterpart: the check fails until the app answers");
            }
            Some(settings)
        }
        Err(why) => {
            report.note(path, format!("stays with the app: {why}; the pod is ready when both it and the sidecar are"));
            None
        }
    }
}

fn configure(environment: &mut Environment, from: &Place<'_>, options: &Options, routes: &[Route], drain_token: &str) {
    // The file of a ConfigMap may name the workload, and has proxies of its own where no port is known here.
    if options.config_map.is_none() {
        if let Some(workload) = workload(from) {
            environment.key("workload", workload);
        }
        if routes.is_empty() {
            environment.key("proxy.0.listen", "127.0.0.1:8080");
        }
    }
    environment.routes(routes);
    environment.key("ops.drain_token", drain_token);
}

/// Whose pods these are. A pod's own name has a suffix that nobody wants to read.
fn workload(from: &Place<'_>) -> Option<String> {
    let metadata = from.object.get("metadata")?;
    if from.kind != "Pod" {
        return text(metadata, "name").map(str::to_owned);
    }
    let owner = metadata.get("ownerReferences")?.get(0)?;
    let name = text(owner, "name")?;
    let hash = at(metadata, &["labels", "pod-template-hash"]).and_then(Value::as_str);
    match (text(owner, "kind")?, hash) {
        ("ReplicaSet", Some(hash)) => Some(name.strip_suffix(hash)?.strip_suffix('-')?.to_owned()),
        ("StatefulSet" | "DaemonSet", _) => Some(name.to_owned()),
        _ => None,
    }
}

fn refuse_settings(problems: &[config::Problem], options: &Options, template: &Value, report: &mut Report) {
    let place = |source: &str| {
        let chosen = options
            .settings
            .iter()
            .find(|(path, _)| config::variable(path).is_ok_and(|variable| source == variable.name));
        chosen.map_or_else(|| "spec".to_owned(), |(path, _)| place_of_setting(path, template))
    };
    environment::refuse(problems, place, report);
}

/// Puts the container and its volumes in.
fn pod(spec: &mut Value, sidecar: &Sidecar<'_>, grace: u64, original: &mut Original) {
    let key = if sidecar.mode == Mode::Native { "initContainers" } else { "containers" };
    original.held_nothing(key, spec, key);
    if let Some(containers) = list_mut(spec, key) {
        let at = if sidecar.mode == Mode::Native { 0 } else { containers.len() };
        containers.insert(at, sidecar.container());
    }
    original.held_nothing("volumes", spec, "volumes");
    if let Some(volumes) = list_mut(spec, "volumes") {
        volumes.extend(sidecar.volumes());
    }
    let was = spec.get("terminationGracePeriodSeconds");
    if was.and_then(Value::as_u64).unwrap_or(DEFAULT_GRACE) != grace {
        let mut change = Map::new();
        change.extend(was.map(|was| ("was".to_owned(), was.clone())));
        change.insert("is".to_owned(), grace.into());
        original.was("grace", change);
        insert(spec, "terminationGracePeriodSeconds", grace.into());
    }
}

/// Writes the annotations.
fn stamp(template: &mut Value, mut original: Original) {
    original.held_nothing("metadata", template, "metadata");
    if template.get("metadata").is_none_or(Value::is_null) {
        insert(template, "metadata", json!({}));
    }
    let Some(metadata) = template.get_mut("metadata") else { return };
    original.held_nothing("annotations", metadata, "annotations");
    if metadata.get("annotations").is_none_or(Value::is_null) {
        insert(metadata, "annotations", json!({}));
    }
    let Some(annotations) = metadata.get_mut("annotations") else { return };
    insert(annotations, INJECTED, env!("CARGO_PKG_VERSION").into());
    insert(annotations, ORIGINAL, original.into_text().into());
}

/// Whether a template has a container or volumes of our names that injection did not write.
pub(super) fn is_by_hand(template: &Value, object: &Value, report: &mut Report) -> bool {
    let Some(spec) = template.get("spec") else { return false };
    if ["initContainers", "containers"].into_iter().any(|key| named(spec, key, CONTAINER).is_some()) {
        return true;
    }
    // The claims of a StatefulSet are volumes of its pods.
    let claims = object.get("spec").map_or(&[][..], |spec| list(spec, "volumeClaimTemplates"));
    let claimed = |volume: &str| claims.iter().any(|claim| claim["metadata"]["name"] == volume);
    for volume in VOLUMES {
        if named(spec, "volumes", volume).is_some() || claimed(volume) {
            report.refuse("spec.volumes", format!("a volume is named {volume} already"), "give it another name");
        }
    }
    false
}
