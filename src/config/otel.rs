//! OpenTelemetry's own variables (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>): defaults of
//! `tracing.otlp`, weaker than the file and than our variables.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::key::Step;
use super::node::{Node, Origin, Value};
use super::overlay;
use super::problem::Problem;
use crate::net::percent;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
/// Where the exporter sends to, below the endpoint of all signals.
const PATH: &str = "/v1/traces";

/// The environment, in which an empty variable is none.
struct Variables<'e>(&'e BTreeMap<String, String>);

impl<'e> Variables<'e> {
    /// The first of them that there is.
    fn first(&self, names: [&'static str; 2]) -> Option<(&'static str, &'e str)> {
        names.into_iter().find_map(|name| Some((name, self.get(name)?)))
    }

    fn get(&self, name: &str) -> Option<&'e str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }
}

/// Sets what the variables say and nobody else has said. Without an endpoint they say nothing.
pub(super) fn defaults(root: &mut Node, environment: &BTreeMap<String, String>, problems: &mut Vec<Problem>) {
    let variables = Variables(environment);
    let off = variables.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let exporter = variables.get("OTEL_TRACES_EXPORTER").unwrap_or("otlp");
    if off || !exporter.split(',').any(|name| name.trim() == "otlp") {
        return;
    }
    let protocol = variables.first(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]);
    if !says(root, "endpoint") {
        let Some((name, url)) = variables.first([TRACES_ENDPOINT, ENDPOINT]) else { return };
        // The one of all signals is completed; the one of traces is taken as it is.
        let whole =
            protocol.is_some_and(|(_, protocol)| protocol == "grpc") || url.trim_end_matches('/').ends_with(PATH);
        if name == TRACES_ENDPOINT && !whole {
            let problem = Problem::new(name, format!("its path does not end with {PATH}, where spans are sent"));
            problems.push(problem.remedy(format!("add the path, or set {ENDPOINT}")));
            return;
        }
        put(root, "endpoint", name, Value::Text(url.to_owned()), problems);
    }
    let certificate = variables.first(["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"]);
    for (key, given) in [("protocol", protocol), ("ca_file", certificate)] {
        if let Some((name, value)) = given {
            put(root, key, name, Value::Text(value.to_owned()), problems);
        }
    }
    if let Some((name, text)) = variables.first(["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"]) {
        let unsound = elements(text).position(|pair| !pair.contains('=') || pair.starts_with('='));
        match unsound.filter(|_| !says(root, "headers")) {
            // Not what it says: it may be a key.
            Some(at) => {
                let problem = Problem::new(name, format!("its element {} is not name=value", at + 1));
                problems.push(problem.remedy("write name=value between commas, percent-encoded"));
            }
            None => {
                let fields = pairs(text).map(|(field, value)| format!("{field}: {value}"));
                put(root, "headers", name, list(fields, name), problems);
            }
        }
    }
    const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
    let attributes: Vec<(Cow<'_, str>, Cow<'_, str>)> =
        variables.get(ATTRIBUTES).map(pairs).into_iter().flatten().collect();
    let service = attributes.iter().find(|(name, _)| name == "service.name").map(|(_, value)| (ATTRIBUTES, &**value));
    let service = variables.get("OTEL_SERVICE_NAME").map(|name| ("OTEL_SERVICE_NAME", name)).or(service);
    if let Some((name, service)) = service {
        put(root, "service_name", name, Value::Text(service.to_owned()), problems);
    }
    let others = attributes.iter().filter(|(name, _)| name != "service.name");
    let others: Vec<String> = others.map(|(name, value)| format!("{name}={value}")).collect();
    if !others.is_empty() {
        put(root, "resource", ATTRIBUTES, list(others.into_iter(), ATTRIBUTES), problems);
    }
}

/// Whether a key of `tracing.otlp` has a value.
fn says(root: &Node, key: &str) -> bool {
    root.get("tracing").and_then(|node| node.get("otlp")).and_then(|node| node.get(key)).is_some()
}

fn put(root: &mut Node, key: &'static str, variable: &str, value: Value, problems: &mut Vec<Problem>) {
    if says(root, key) {
        return;
    }
    let origin = Origin::Environment(variable.to_owned());
    let way = [Step::Key("tracing"), Step::Key("otlp"), Step::Key(key)];
    problems.extend(overlay::set(root, &way, value, &origin).err());
}

fn list(items: impl Iterator<Item = String>, variable: &str) -> Value {
    let origin = || Origin::Environment(variable.to_owned());
    Value::List(items.map(|item| Node::new(Value::Text(item), origin())).collect())
}

/// What stands between commas.
fn elements(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|pair| !pair.is_empty())
}

/// `name=value` between commas, percent-encoded (W3C Baggage, without properties). What has no `=` is all name.
fn pairs(text: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    elements(text).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name.trim()), decode(value.trim()))
    })
}

/// What is not encoded as it should be is taken as it stands.
fn decode(text: &str) -> Cow<'_, str> {
    percent::segment(text).unwrap_or(Cow::Borrowed(text))
}
