//! Pods that a sidecar would break, or that would break it.

use serde_json::Value;

use super::annotations::{is_quantity, place_of};
use super::json::{at, list, text};
use super::options::Options;
use super::ports::Route;
use super::report::Report;

/// Refuses what can be told from the template and the options alone.
pub(super) fn judge(template: &Value, kind: &str, options: &Options, report: &mut Report) {
    let spec = template.get("spec").unwrap_or(&Value::Null);
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        let wrong = "the sidecar's ports (8013 to 8016 and its proxy's) would be the node's";
        report.refuse(
            "spec.hostNetwork",
            wrong,
            "leave hostNetwork out, or these pods by tidegate.dev/inject: disabled",
        );
    }
    let windows = at(spec, &["os", "name"]).and_then(Value::as_str) == Some("windows")
        || at(spec, &["nodeSelector", "kubernetes.io/os"]).and_then(Value::as_str) == Some("windows");
    if windows {
        let remedy = "leave these pods out by tidegate.dev/inject: disabled";
        report.refuse("spec.os", "the sidecar's image is for Linux, and the pod is for Windows", remedy);
    }
    if !spec.get("containers").is_some_and(Value::is_array) {
        report.refuse("spec.containers", "missing, or no list", "write the container of the app");
    }
    for key in ["initContainers", "volumes"] {
        if spec.get(key).is_some_and(|value| !value.is_array() && !value.is_null()) {
            report.refuse(format!("spec.{key}"), "no list", "write a list");
        }
    }
    let metadata = template.get("metadata").filter(|metadata| !metadata.is_null());
    let annotations = metadata.and_then(|metadata| metadata.get("annotations")).filter(|value| !value.is_null());
    if metadata.is_some_and(|metadata| !metadata.is_object()) || annotations.is_some_and(|value| !value.is_object()) {
        report.refuse("metadata", "no metadata of an object", "write annotations as names with texts");
    }
    if let Some(value) = spec.get("terminationGracePeriodSeconds").filter(|value| !value.is_null()) {
        match value.as_u64() {
            None => report.refuse("spec.terminationGracePeriodSeconds", "no number of seconds", "write a whole number"),
            Some(0) => report.refuse(
                "spec.terminationGracePeriodSeconds",
                "0 kills the pod without any hook or signal",
                "leave it out, or write the seconds that the pod may take to end",
            ),
            Some(seconds) if seconds > 86_400 => report.refuse(
                "spec.terminationGracePeriodSeconds",
                "longer than the day that drain.grace may be",
                "write at most 86400",
            ),
            Some(_) => {}
        }
    }
    self::options(options, template, report);
    if kind == "Pod" && at(template, &["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some() {
        report.refuse("metadata.annotations", "a static pod's mirror, which cannot be changed", "leave it out");
    }
}

/// Refuses what can be told from the options alone; `template` tells which of them are annotations of its own.
pub(super) fn options(options: &Options, template: &Value, report: &mut Report) {
    if options.image.is_empty() || options.image.contains(char::is_whitespace) {
        let wrong = format!("{:?} is no image", options.image);
        report.refuse(place_of("image", template), wrong, "write REGISTRY/NAME:TAG");
    }
    resources(options, template, report);
    names(options, template, report);
}

/// Quantities, and no limit below its request.
fn resources(options: &Options, template: &Value, report: &mut Report) {
    let wanted = &options.resources;
    for (name, request, limit) in
        [("cpu", &wanted.cpu_request, &wanted.cpu_limit), ("memory", &wanted.memory_request, &wanted.memory_limit)]
    {
        for (key, text) in [("request", request), ("limit", limit)] {
            if !is_quantity(text) {
                let remedy = "write it as 50m or 0.5 for cpu, as 32Mi for memory";
                let place = place_of(&format!("{name}-{key}"), template);
                report.refuse(place, format!("{text:?} is no quantity"), remedy);
            }
        }
        if let (Some(least), Some(most)) = (quantity(request), quantity(limit))
            && most < least
        {
            let wrong = format!("the limit {limit} is below the request {request}");
            let place = place_of(&format!("{name}-limit"), template);
            report.refuse(place, wrong, "raise it, or lower the request");
        }
    }
}

/// A quantity in thousandths.
fn quantity(text: &str) -> Option<f64> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "m" => 1.0,
        "" => 1e3,
        "k" => 1e6,
        "M" => 1e9,
        "G" => 1e12,
        "T" => 1e15,
        "Ki" => 1024e3,
        "Mi" => 1024e3 * 1024.0,
        "Gi" => 1024e3 * 1024.0 * 1024.0,
        "Ti" => 1024e3 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| number * unit)
}

/// Names that Kubernetes would refuse once the pod is made, when nobody looks any more.
fn names(options: &Options, template: &Value, report: &mut Report) {
    let tame = |text: &str| {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        text.len() <= 253 && text.bytes().all(fits) && text.starts_with(ends) && text.ends_with(ends)
    };
    if let Some(name) = options.config_map.as_ref().filter(|name| !tame(name)) {
        let wrong = format!("{name:?} is no name of a ConfigMap");
        report.refuse(place_of("config-map", template), wrong, "use lower-case letters, digits, - and .");
    }
    let variable = |text: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        text.bytes().all(fits) && !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit())
    };
    if let Some(name) = options.app_port_env.as_ref().filter(|name| !variable(name)) {
        let wrong = format!("{name:?} is no name of a variable");
        report.refuse(place_of("app-port-env", template), wrong, "use letters, digits and _");
    }
}

/// Ports below 1024 are for a process without privileges only where the pod says so.
pub(super) fn low_ports(spec: &Value, routes: &[Route], report: &mut Report) {
    let context = spec.get("securityContext").unwrap_or(&Value::Null);
    let sysctl = |entry: &&Value| text(entry, "name") == Some("net.ipv4.ip_unprivileged_port_start");
    let first = list(context, "sysctls").iter().find(sysctl).and_then(|entry| text(entry, "value"));
    let first: u16 = first.and_then(|text| text.parse().ok()).unwrap_or(1024);
    // One without a port was refused already.
    for route in routes.iter().filter(|route| route.listen > 0 && route.listen < first) {
        let wrong = format!("the sidecar has no privilege for port {}", route.listen);
        let remedy = "choose a port from 1024 on, or set the sysctl net.ipv4.ip_unprivileged_port_start for the pod";
        report.refuse("spec.securityContext.sysctls", wrong, remedy);
    }
}
