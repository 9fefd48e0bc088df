//! What is spoken on a port, as far as its names tell: nothing but HTTP can go through the sidecar.

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.1, or nothing says what.
    Http,
    /// HTTP/2 from its first byte, as gRPC needs it.
    H2c,
    /// TLS, which the app itself ends.
    Tls,
    /// What is asked by whoever collects metrics, and no traffic.
    Metrics,
    /// Another protocol, by its name.
    Other,
}

/// By `appProtocol` of a Service's port where there is one, else by a port's name: `grpc`, `grpc-orders`, as Istio and
/// others read names.
pub(super) fn of(app_protocol: Option<&str>, name: Option<&str>) -> Protocol {
    let said = match app_protocol {
        // KEP-3726 names these for Kubernetes itself.
        Some("kubernetes.io/h2c") => "h2c",
        Some("kubernetes.io/ws") => "http",
        Some("kubernetes.io/wss") => "https",
        Some(other) => other,
        None => name.unwrap_or_default(),
    };
    let said = said.to_ascii_lowercase();
    if said.split('-').any(|part| matches!(part, "metrics" | "prometheus")) {
        return Protocol::Metrics;
    }
    match said.split('-').next().unwrap_or_default() {
        "grpc" | "h2c" | "http2" => Protocol::H2c,
        "https" | "tls" | "grpcs" => Protocol::Tls,
        "tcp" | "udp" | "mysql" | "postgres" | "postgresql" | "redis" | "mongo" | "mongodb" | "amqp" | "mqtt"
        | "kafka" | "ldap" | "smtp" | "ssh" | "dns" => Protocol::Other,
        _ => Protocol::Http,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_is_spoken() {
        for (app_protocol, name, expected) in [
            (None, None, Protocol::Http),
            (None, Some("http"), Protocol::Http),
            (None, Some("web"), Protocol::Http),
            (None, Some("grpc"), Protocol::H2c),
            (None, Some("grpc-orders"), Protocol::H2c),
            (None, Some("grpcish"), Protocol::Http),
            (None, Some("https"), Protocol::Tls),
            (None, Some("http-metrics"), Protocol::Metrics),
            (None, Some("redis"), Protocol::Other),
            (None, Some("tcp-x"), Protocol::Other),
            (Some("kubernetes.io/h2c"), Some("web"), Protocol::H2c),
            (Some("http"), Some("grpc"), Protocol::Http),
            (Some("HTTPS"), None, Protocol::Tls),
        ] {
            assert_eq!(of(app_protocol, name), expected, "{app_protocol:?} {name:?}");
        }
    }
}
