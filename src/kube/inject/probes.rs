//! The app's probes. What readiness asked, the sidecar asks in its place, where one of its checks means the same; the
//! others stay where they are, with numbers in place of names that have moved.

use http::Uri;
use serde_json::Value;

use super::json::{at_mut, list, text};
use super::ports::{self, Route};

/// Probes of a container.
pub(super) const PROBES: [&str; 3] = ["readinessProbe", "livenessProbe", "startupProbe"];

/// What a probe asks by, with a `port` in it.
pub(super) const HANDLERS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// Settings of the check `app` that means what a readiness probe meant, or why none does.
pub(super) fn check(probe: &Value, container: &Value, routes: &[Route]) -> Result<Vec<(String, String)>, String> {
    let mut settings = Vec::new();
    let mut set = |key: &str, value: String| settings.push((format!("checks.app.{key}"), value));
    let local = |handler: &Value| {
        if text(handler, "host").is_some_and(|host| !host.is_empty()) {
            return Err("it asks another host".to_owned());
        }
        let number = handler.get("port").and_then(|port| ports::number(container, port));
        number.map(|number| moved(number, routes)).ok_or_else(|| "its port is not declared".to_owned())
    };
    if let Some(get) = probe.get("httpGet") {
        let port = local(get)?;
        if text(get, "scheme").is_some_and(|scheme| scheme != "HTTP") {
            return Err("it asks over HTTPS, without looking at the certificate".to_owned());
        }
        let path = text(get, "path").unwrap_or("/");
        let slash = if path.starts_with('/') { "" } else { "/" };
        let url = format!("http://127.0.0.1:{port}{slash}{path}");
        if url.parse::<Uri>().is_err() || path.contains('#') {
            return Err("its path is no part of a URL as it stands".to_owned());
        }
        for header in list(get, "httpHeaders") {
            match (text(header, "name"), text(header, "value")) {
                (Some(name), Some(host)) if name.eq_ignore_ascii_case("host") && !host.is_empty() => {
                    set("http.host", host.to_owned());
                }
                _ => return Err("it sends header fields of its own".to_owned()),
            }
        }
        set("http.url", url);
    } else if let Some(socket) = probe.get("tcpSocket") {
        set("tcp.address", format!("127.0.0.1:{}", local(socket)?));
    } else if let Some(call) = probe.get("grpc") {
        set("grpc.url", format!("http://127.0.0.1:{}", local(call)?));
        if let Some(service) = text(call, "service").filter(|service| !service.is_empty()) {
            set("grpc.service", service.to_owned());
        }
    } else {
        return Err("it runs a command".to_owned());
    }
    // The kubelet's defaults, written out: ours are others.
    let number = |key: &str, default: u64| probe.get(key).and_then(Value::as_u64).filter(|n| *n > 0).unwrap_or(default);
    let (interval, timeout) = (number("periodSeconds", 10), number("timeoutSeconds", 1));
    if timeout > interval {
        return Err("it may take longer than its period".to_owned());
    }
    let (rise, fall) = (number("successThreshold", 1), number("failureThreshold", 3));
    if interval > 3600 || rise > 100 || fall > 100 {
        return Err("its numbers are beyond those of a check".to_owned());
    }
    set("interval", format!("{interval}s"));
    set("timeout", format!("{timeout}s"));
    set("rise", rise.to_string());
    set("fall", fall.to_string());
    Ok(settings)
}

/// Where a port of the app is after injection.
pub(super) fn moved(number: u16, routes: &[Route]) -> u16 {
    routes.iter().find(|route| route.was == number).map_or(number, |route| route.app)
}

/// Writes numbers for ports whose name or number is no longer the app's. `container` is as it was; returns what stood at
/// each changed place: `livenessProbe` and `lifecycle.postStart`, with the handler's name.
pub(super) fn renumber(changed: &mut Value, container: &Value, routes: &[Route]) -> Vec<(String, Value)> {
    let mut before = Vec::new();
    let places = PROBES.map(|probe| vec![probe]);
    let hooks = ["postStart", "preStop"].map(|hook| vec!["lifecycle", hook]);
    for place in places.into_iter().chain(hooks) {
        for handler in HANDLERS {
            let Some(found) = at_mut(changed, &place).and_then(|probe| probe.get_mut(handler)) else { continue };
            let elsewhere = text(found, "host").is_some_and(|host| !host.is_empty());
            let Some(port) = found.get_mut("port") else { continue };
            let is = match &*port {
                Value::String(name) if routes.iter().any(|route| route.name.as_ref() == Some(name)) => {
                    ports::number(container, port).map(|number| if elsewhere { number } else { moved(number, routes) })
                }
                _ if elsewhere => None,
                port => ports::number(container, port)
                    .map(|number| (number, moved(number, routes)))
                    .and_then(|(was, is)| if was == is { None } else { Some(is) }),
            };
            if let Some(is) = is {
                let path = format!("{}.{handler}", place.join("."));
                before.push((path, std::mem::replace(port, Value::from(is))));
            }
        }
    }
    before
}
