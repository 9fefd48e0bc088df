//! `access_log` and `tracing`: what is told of requests.

use http::{HeaderName, HeaderValue, Uri};

use super::super::reader::Section;
use super::super::values::{Type, Wrong, choice, name, path, secret, share, wrong};
use crate::net::otlp::{self, Endpoint, Protocol, Scheme};
use crate::proxy::observe::access::{Errors, Query, Settings};
use crate::secret::Secret;

pub(super) fn access_log(section: &mut Section<'_>) -> Settings {
    let sample = section.or(
        "sample",
        &share().or_off(),
        None,
        "The share of requests that get a line, one JSON object each. With `0`, failures alone do.",
    );
    let errors = section.or(
        "errors",
        &choice(&[("always", Errors::Always), ("sampled", Errors::Sampled)]),
        Errors::default(),
        "Requests answered by a 5xx, broken off or left by their client: each gets a line, or they are sampled as others \
         are.",
    );
    let query = section.or(
        "query",
        &choice(&[("drop", Query::Drop), ("keep", Query::Keep)]),
        Query::default(),
        "The query of targets and of `Referer`, where tokens and personal data tend to stand.",
    );
    Settings { sample, errors, query }
}

pub(super) fn tracing(section: &mut Section<'_>, workload: &str) -> Option<otlp::Settings> {
    section
        .section_if_there("otlp", "The collector of spans. Without it nothing is recorded.", |s| otlp(s, workload))?
}

fn otlp(section: &mut Section<'_>, workload: &str) -> Option<otlp::Settings> {
    let endpoint = section.required(
        "endpoint",
        &Type::text("URL of a collector", "http://collector:4318", endpoint),
        "Where spans are sent; for `http/protobuf`, `/v1/traces` is added.",
    );
    let protocol = section.or(
        "protocol",
        &choice(&[("http/protobuf", Protocol::Http), ("grpc", Protocol::Grpc)]),
        Protocol::default(),
        "What the collector speaks there: `http/protobuf` is usual on port 4318, `grpc` on 4317.",
    );
    let ca_file = section.optional(
        "ca_file",
        &path("/etc/tidegate/collector-ca.pem"),
        "the system's authorities",
        "The authorities that a collector over https is trusted by, in PEM.",
    );
    let header = secret(
        "a header field",
        "Authorization: Bearer ${OTLP_TOKEN}",
        |text| header(text).map(drop),
        |_| "REDACTED".into(),
    );
    let headers =
        section.or("headers", &header.list(), Vec::new(), "Fields of every request to the collector. Secret.");
    let headers = headers.iter().filter_map(header_of).collect();
    let sample = section.or(
        "sample",
        &share(),
        1.0,
        "The share of the traces that begin here and are recorded. Of others, what came with the request decides.",
    );
    let service_name = section.or_computed(
        "service_name",
        &name("name", "orders", 253, "._-/"),
        (workload.to_owned(), "the workload"),
        "The name under which spans appear.",
    );
    let resource = section.or(
        "resource",
        &Type::text("NAME=VALUE", "deployment.environment.name=production", attribute).list(),
        Vec::new(),
        "Attributes of the resource that spans are told of, beside `service.name`.",
    );
    let resource = resource.iter().filter_map(|text| text.split_once('='));
    let resource = resource.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
    Some(otlp::Settings { endpoint: endpoint?, protocol, ca_file, headers, sample, service_name, resource })
}

fn attribute(text: &str) -> Result<String, Wrong> {
    match text.split_once('=').map(|(name, _)| name.trim()) {
        Some("service.name") => wrong("an attribute with a key of its own", "write service_name"),
        Some(name) if !name.is_empty() => Ok(text.to_owned()),
        _ => wrong("not an attribute", "write NAME=VALUE"),
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), Wrong> {
    let remedy = "write NAME: VALUE";
    let Some((name, value)) = text.split_once(':') else { return wrong("not a header field", remedy) };
    let (Ok(name), Ok(value)) = (HeaderName::try_from(name.trim()), HeaderValue::try_from(value.trim())) else {
        return wrong("holds what a header field cannot carry", remedy);
    };
    if ["host", "content-length", "content-type", "transfer-encoding", "connection", "te"].contains(&name.as_str()) {
        return wrong("a field that the request itself needs", "remove it");
    }
    Ok((name, value))
}

fn header_of(text: &Secret) -> Option<(HeaderName, Secret)> {
    let (name, value) = text.expose().split_once(':')?;
    Some((HeaderName::try_from(name.trim()).ok()?, Secret::new(value.trim())))
}

fn endpoint(text: &str) -> Result<Endpoint, Wrong> {
    let remedy = "write http://HOST:PORT or https://HOST:PORT";
    let Ok(uri) = text.parse::<Uri>() else { return wrong("not a URL", remedy) };
    let (scheme, usual) = match uri.scheme_str() {
        Some("http") => (Scheme::Http, 80),
        Some("https") => (Scheme::Https, 443),
        _ => return wrong("not an http or https URL", remedy),
    };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return wrong("a user or password in the URL, which would be shown in logs", "send it in headers");
    }
    if uri.query().is_some() || text.contains('#') {
        return wrong("a query or fragment, which no collector has", remedy);
    }
    let host = uri.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || uri.port_u16() == Some(0) {
        return wrong("not a URL with a usable host", remedy);
    }
    let path = uri.path().trim_end_matches('/');
    let path = path.strip_suffix("/v1/traces").unwrap_or(path).to_owned();
    Ok(Endpoint { scheme, host: host.to_owned(), port: uri.port_u16().unwrap_or(usual), path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_named_by_its_url() {
        for (text, expected) in [
            ("http://collector:4318", Ok("http://collector:4318")),
            ("http://collector:4318/", Ok("http://collector:4318")),
            ("https://otlp.example/base/v1/traces", Ok("https://otlp.example:443/base")),
            ("http://[::1]:4317", Ok("http://[::1]:4317")),
            ("collector:4318", Err("not an http or https URL")),
            ("grpc://collector:4317", Err("not an http or https URL")),
            ("http://u:p@collector", Err("a user or password in the URL, which would be shown in logs")),
            ("http://collector?x=1", Err("a query or fragment, which no collector has")),
            ("http://collector:0", Err("not a URL with a usable host")),
            ("", Err("not a URL")),
        ] {
            let read = endpoint(text).map(|endpoint| endpoint.to_string());
            assert_eq!(read.as_deref().map_err(|wrong| wrong.what.as_str()), expected, "{text}");
        }
    }
}
