//! Which container and which of its ports the sidecar stands before, and on which numbers.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;

use super::json::{at, list, named, port, text};
use super::options::Options;
use super::protocol::{self, Protocol};
use super::report::Report;
use super::{kinds, prestop, service};

/// A port that the sidecar takes over.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Route {
    /// Where the app listens by its manifest.
    pub(super) was: u16,
    /// Where it listens once it is injected: another number with `app-port-env`.
    pub(super) app: u16,
    /// Where the sidecar listens.
    pub(super) listen: u16,
    /// The name that moves to the sidecar.
    pub(super) name: Option<String>,
    /// What the app speaks.
    pub(super) protocol: Protocol,
}

/// What a Service of the stream leads to.
struct Target {
    port: Value,
    protocol: Protocol,
}

/// Whether an entry of `ports` is one of TCP.
pub(super) fn is_tcp(entry: &Value) -> bool {
    text(entry, "protocol").is_none_or(|protocol| protocol == "TCP")
}

/// The number of a port that is written as a name or a number.
pub(super) fn number(container: &Value, port: &Value) -> Option<u16> {
    match port {
        Value::String(name) => named(container, "ports", name)
            .and_then(|entry| entry.get("containerPort"))
            .and_then(self::port)
            .or_else(|| name.parse().ok()),
        port => self::port(port),
    }
}

/// What the Services of the stream that select these pods lead to; those that injection has led elsewhere, what they led to.
fn targets(object: &Value, template: &Value, stream: &[Value]) -> Vec<Target> {
    let mut found = Vec::new();
    for service in kinds::leaves(stream) {
        let ours = kinds::is_core(service, "Service") && kinds::neighbours(service, object);
        if !ours || !kinds::selects(at(service, &["spec", "selector"]), template) {
            continue;
        }
        let service = match service::restore(service) {
            Some(Ok(plain)) => Cow::Owned(plain),
            _ => Cow::Borrowed(service),
        };
        for entry in service.get("spec").map_or(&[][..], |spec| list(spec, "ports")).iter().filter(|e| is_tcp(e)) {
            // A named target's own name says more than that of the Service's port.
            let name = at(entry, &["targetPort"]).and_then(Value::as_str).or_else(|| text(entry, "name"));
            let protocol = protocol::of(text(entry, "appProtocol"), name);
            let own = protocol::of(None, text(entry, "name"));
            let protocol = if protocol == Protocol::Http { own } else { protocol };
            if let Some(port) = target(entry) {
                found.push(Target { port, protocol });
            }
        }
    }
    found
}

/// Where an entry of a Service leads: without `targetPort`, to the port of its own number.
pub(super) fn target(entry: &Value) -> Option<Value> {
    let given = entry.get("targetPort").filter(|port| !port.is_null() && **port != 0 && **port != "");
    given.or_else(|| entry.get("port")).cloned()
}

/// The name of the container that serves.
pub(super) fn container(
    object: &Value,
    template: &Value,
    stream: &[Value],
    options: &Options,
    report: &mut Report,
) -> Option<String> {
    let spec = template.get("spec").unwrap_or(&Value::Null);
    let names: Vec<&str> = list(spec, "containers").iter().filter_map(|container| text(container, "name")).collect();
    let choice = "name it by tidegate.dev/app-container or --app-container";
    if let Some(chosen) = &options.app_container {
        if names.contains(&&**chosen) {
            return Some(chosen.clone());
        }
        let wrong = format!("no container is named {chosen:?}");
        report.refuse("spec.containers", wrong, format!("choose one of {}", names.join(", ")));
        return None;
    }
    match &names[..] {
        [] => {
            report.refuse("spec.containers", "no container has a name", "write the container of the app");
            return None;
        }
        [one] => return Some((*one).to_owned()),
        _ => {}
    }
    let targets = targets(object, template, stream);
    let declares = |name: &str, wanted: &Value| {
        let ports = named(spec, "containers", name).map_or(&[][..], |container| list(container, "ports"));
        ports.iter().any(|entry| entry.get("name") == Some(wanted) || entry.get("containerPort") == Some(wanted))
    };
    let with_ports =
        |name: &&&str| named(spec, "containers", name).is_some_and(|c| list(c, "ports").iter().any(is_tcp));
    let by_service = |name: &&&str| targets.iter().any(|target| declares(name, &target.port));
    let by_default = at(template, &["metadata", "annotations", "kubectl.kubernetes.io/default-container"]);
    let by_default = |name: &&&str| by_default == Some(&Value::from(**name));
    // A container that asks the sidecar to drain already was meant.
    let by_hook = |name: &&&str| {
        let hook = named(spec, "containers", name).and_then(|c| at(c, &["lifecycle", "preStop"]));
        hook.is_some_and(|hook| prestop::token(hook).is_some())
    };
    let ways: [&dyn Fn(&&&str) -> bool; 4] = [&by_hook, &by_service, &by_default, &with_ports];
    for way in ways {
        let found: Vec<&&str> = names.iter().filter(way).collect();
        if let [one] = found[..] {
            return Some((*one).to_owned());
        }
    }
    report.refuse("spec.containers", format!("any of {} may be the app", names.join(", ")), choice);
    None
}

/// The ports that the sidecar takes over, without its own numbers.
pub(super) fn routes(
    object: &Value,
    template: &Value,
    container: &Value,
    stream: &[Value],
    options: &Options,
    report: &mut Report,
) -> Vec<Route> {
    let entries: Vec<&Value> = list(container, "ports").iter().filter(|entry| is_tcp(entry)).collect();
    let place = format!("spec.containers[{}].ports", text(container, "name").unwrap_or_default());
    let choice = "choose by tidegate.dev/port or --port";
    let mut found: Vec<(u16, Protocol)> = Vec::new();
    let add = |found: &mut Vec<(u16, Protocol)>, number, protocol| {
        if !found.iter().any(|(known, _)| *known == number) {
            found.push((number, protocol));
        }
    };
    let entry = |number: u16| {
        let mut fits = entries.iter().filter(|e| e.get("containerPort").and_then(port) == Some(number)).copied();
        let first = fits.clone().next();
        fits.find(|entry| text(entry, "name").is_some()).or(first)
    };
    let spoken = |number: u16| protocol::of(None, entry(number).and_then(|entry| text(entry, "name")));
    let targets = targets(object, template, stream);
    if options.ports.is_empty() {
        for target in &targets {
            if let Some(number) = number(container, &target.port) {
                let protocol = if target.protocol == Protocol::Http { spoken(number) } else { target.protocol };
                add(&mut found, number, protocol);
            }
        }
    }
    for wanted in &options.ports {
        match number(container, &Value::from(&**wanted)) {
            // Chosen by a person, who knows what is spoken whatever the name says.
            Some(number) => {
                let serviced = targets.iter().find(|t| self::number(container, &t.port) == Some(number));
                let protocol = serviced.map(|t| t.protocol).filter(|p| *p == Protocol::H2c).unwrap_or(spoken(number));
                add(&mut found, number, if protocol == Protocol::H2c { protocol } else { Protocol::Http });
            }
            None => report.refuse(&place, format!("no port is named {wanted:?}"), choice),
        }
    }
    if found.is_empty() && options.ports.is_empty() {
        // The pod of a review comes without the Services that lead to it.
        let choice = match text(object, "kind") {
            Some("Pod") => choice.to_owned(),
            _ => format!("{choice}, or add the Service to the stream"),
        };
        found = guessed(&entries, &place, &choice, report);
    }
    let usable: Vec<(u16, Protocol)> =
        found.iter().copied().filter(|(_, protocol)| matches!(protocol, Protocol::Http | Protocol::H2c)).collect();
    for (number, protocol) in &found {
        let (why, remedy) = match protocol {
            Protocol::Tls => (
                "speaks TLS to the app, where the sidecar cannot look inside",
                "let the sidecar end TLS (config.tidegate.dev/proxy.0.tls…) or, if it is plain HTTP, choose it by \
                 tidegate.dev/port",
            ),
            Protocol::Other => (
                "by its name speaks something else than HTTP",
                "if it is HTTP, choose it by tidegate.dev/port; else leave these pods out by tidegate.dev/inject: disabled",
            ),
            _ => continue,
        };
        if usable.is_empty() {
            report.refuse(&place, format!("port {number} {why}"), remedy);
        } else {
            report.note(&place, format!("port {number} {why}: it still leads to the app itself"));
        }
    }
    let name = |number| entry(number).and_then(|entry| text(entry, "name")).map(str::to_owned);
    let route = |(was, protocol)| Route { was, app: was, listen: 0, name: name(was), protocol };
    let routes: Vec<Route> = usable.into_iter().map(route).collect();
    for route in &routes {
        if entry(route.was).is_none() {
            report.note(&place, format!("port {} is not declared: declare it, with a name", route.was));
        }
        let declared = entries.iter().filter(|entry| entry.get("containerPort").and_then(port) == Some(route.was));
        let names: BTreeSet<&str> = declared.filter_map(|entry| text(entry, "name")).collect();
        if names.len() > 1 {
            let names = names.into_iter().collect::<Vec<_>>().join(" and ");
            let wrong =
                format!("port {} is declared as {names}, and only one of them can lead to the sidecar", route.was);
            report.refuse(&place, wrong, "keep one name, and let every Service target it");
        }
    }
    routes
}

/// The port that is meant where nobody says.
fn guessed(entries: &[&Value], place: &str, choice: &str, report: &mut Report) -> Vec<(u16, Protocol)> {
    let all: Vec<(u16, Option<&str>)> = entries
        .iter()
        .filter_map(|entry| Some((entry.get("containerPort").and_then(port)?, text(entry, "name"))))
        .collect();
    let spoken = |(number, name): &(u16, Option<&str>)| (*number, protocol::of(None, *name));
    if let [one] = &all[..] {
        return vec![spoken(one)];
    }
    let traffic: Vec<_> = all.iter().filter(|port| spoken(port).1 != Protocol::Metrics).collect();
    let usable: Vec<_> =
        traffic.iter().filter(|port| matches!(spoken(port).1, Protocol::Http | Protocol::H2c)).collect();
    if let [one] = &usable[..] {
        return vec![spoken(one)];
    }
    let ways: [fn(&str) -> bool; 3] = [|name| name == "http", |name| name == "web", |name| name.starts_with("http-")];
    for way in ways {
        let found: Vec<_> = usable.iter().filter(|(_, name)| name.is_some_and(way)).collect();
        if let [one] = &found[..] {
            return vec![spoken(one)];
        }
    }
    if !all.is_empty() {
        let said = all.iter().map(|(number, name)| match name {
            Some(name) => format!("{name} ({number})"),
            None => number.to_string(),
        });
        let said: Vec<String> = said.collect();
        let wrong = format!("traffic may come on any of {}", said.join(", "));
        report.refuse(place, wrong, choice);
    }
    Vec::new()
}

/// The numbers that containers of the pod declare.
pub(super) fn declared(template: &Value) -> BTreeSet<u16> {
    let spec = template.get("spec").unwrap_or(&Value::Null);
    ["containers", "initContainers"]
        .into_iter()
        .flat_map(|kind| list(spec, kind))
        .flat_map(|container| list(container, "ports"))
        .filter(|entry| is_tcp(entry))
        .filter_map(|entry| entry.get("containerPort").and_then(port))
        .collect()
}

/// Gives each route the sidecar's number. `taken` are those of containers and of the sidecar's other listeners.
pub(super) fn listen(routes: &mut [Route], taken: &BTreeSet<u16>, options: &Options, report: &mut Report) {
    let mut taken = taken.clone();
    taken.extend(routes.iter().map(|route| route.was));
    if options.app_port_env.is_some() {
        shift(routes, &taken, report);
        return;
    }
    for (index, route) in routes.iter_mut().enumerate() {
        let free = (8080..=u16::MAX).find(|port| !taken.contains(port)).unwrap_or(8080);
        route.listen = match options.listen_port.filter(|_| index == 0) {
            Some(port) if taken.contains(&port) => {
                let wrong = format!("the sidecar's port {port} is taken by a container or by the sidecar itself");
                report.refuse("spec.containers", wrong, format!("choose another: {free} is free"));
                // Nothing else is wrong with it.
                free
            }
            Some(port) => port,
            None => free,
        };
        if options.listen_port.is_none() && index == 0 && free != 8080 {
            report.note("spec.containers", format!("8080 is taken: the sidecar listens on {free}"));
        }
        taken.insert(route.listen);
    }
}

/// Refuses a variable for the app's port that says more than a number, or says it twice.
pub(super) fn variable(container: &Value, name: &str, report: &mut Report) {
    let place = format!("spec.containers[{}].env[{name}]", text(container, "name").unwrap_or_default());
    let said: Vec<&Value> = list(container, "env").iter().filter(|entry| text(entry, "name") == Some(name)).collect();
    if said.len() > 1 {
        report.refuse(&place, "there twice", "keep one of them");
    }
    let value = said.first().and_then(|entry| text(entry, "value"));
    if let Some(value) = value.filter(|value| value.parse::<u16>().is_err()) {
        let remedy = "let the variable be the port's number and no more, or leave app-port-env out";
        report.refuse(place, format!("{value:?} is more than a port, and would become the number of another"), remedy);
    }
}

/// The sidecar takes the app's own port, and the app gets another.
fn shift(routes: &mut [Route], taken: &BTreeSet<u16>, report: &mut Report) {
    match routes {
        [] => report.refuse(
            "spec.containers",
            "app-port-env is given, and no port is known",
            "name the app's port by tidegate.dev/port",
        ),
        [route] => {
            route.listen = route.was;
            let first = route.was.checked_add(10_000).unwrap_or(10_000);
            route.app = (first..=u16::MAX).find(|port| !taken.contains(port)).unwrap_or(first);
        }
        _ => report.refuse(
            "spec.containers",
            "app-port-env tells the app of one port, and several are taken over",
            "choose one by tidegate.dev/port, or leave app-port-env out",
        ),
    }
}
