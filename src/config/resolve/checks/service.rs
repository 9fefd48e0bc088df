//! What checks of services are told: Redis, HTTP, gRPC.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use serde_json::Value as Json;

use super::super::super::key;
use super::super::super::reader::Section;
use super::super::super::urls;
use super::super::super::values::{self, Type, Wrong, choice, duration, integer, wrong};
use super::super::Redis as Shared;
use super::DAY;
use crate::net::tls::client::Trust;
use crate::readiness::settings::{Grpc, Http, Kind, Redis, RedisRole};

pub(super) fn redis(section: &mut Section<'_>, shared: &Shared) -> Option<Option<Kind>> {
    section.section_if_there("redis", "Sends `PING` to Redis.", |s| {
        let url = s.optional("url", &urls::redis_url(), "`redis.url`", "The server.");
        if url.is_none() && s.sound(&["url"]) && shared.url.is_none() && shared.sound {
            s.problem("url", None, "missing, and redis.url is not set either", "set one of them");
        }
        let words: &[_] = &[("any", RedisRole::Any), ("master", RedisRole::Master), ("replica", RedisRole::Replica)];
        let role = s.or("role", &choice(words), RedisRole::Any, "Which end of a replication the server has to be.");
        let doc = "For how long a replica may have heard nothing from its master, or a master from a replica that counts. \
                   A master speaks every 10 s by default (`repl-ping-replica-period`).";
        let max_lag = s.or("max_lag", &duration(Duration::from_secs(1)..=DAY).or_none(), None, doc);
        let doc = "Replicas that must follow, of a server that is a master.";
        let min_replicas = s.or("min_replicas", &integer(0..=1000), 0, doc);
        let url = url.or_else(|| shared.url.clone());
        let cluster = url.as_ref().is_some_and(|url| url.expose().contains("+cluster://"));
        for (key, given) in
            [("role", role != RedisRole::Any), ("max_lag", max_lag.is_some()), ("min_replicas", min_replicas > 0)]
        {
            if cluster && given && s.sound(&[key]) {
                let wrong = "beside the URL of a cluster, whose servers change their roles";
                s.problem(key, None, wrong, "remove it; CLUSTER INFO is asked anyway. Or check one server by redis://");
            }
        }
        url.map(|url| Kind::Redis(Redis { url, role, max_lag, min_replicas }))
    })
}

pub(super) fn http(section: &mut Section<'_>) -> Option<Option<Kind>> {
    section.section_if_there("http", "Asks an HTTP server.", |s| {
        let url = s.required("url", &urls::http_url(), "Asked with `GET`. It is shown: no secrets in it.");
        let host = s.optional("host", &host(), "the URL's own", "`Host` field to send.");
        let status =
            s.or("status", &status().list(), vec![(200, 399)], "The statuses that pass: single ones, or ranges.");
        let headers = headers(s);
        let contains = s.optional("contains", &text(), "not looked at", "What the body must contain, as it stands.");
        let json = pointers(s);
        let trust = trust(s, url.as_deref());
        url.map(|url| Kind::Http(Http { url, host, status, headers, contains, json, trust }))
    })
}

pub(super) fn grpc(section: &mut Section<'_>) -> Option<Option<Kind>> {
    section.section_if_there("grpc", "Asks a gRPC server by its health service, `grpc.health.v1`.", |s| {
        let url = s.required("url", &urls::grpc_url(), "The server.");
        let name = Type::text("name of a service, or empty", "orders.v1.Orders", |text| match text {
            text if text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic()) => Ok(text.to_owned()),
            _ => wrong("not the name of a service", "write PACKAGE.SERVICE, or remove the key"),
        });
        let doc = "The service that is asked for; empty for the server as a whole.";
        let service = s.or("service", &name, String::new(), doc);
        let trust = trust(s, url.as_deref());
        url.map(|url| Kind::Grpc(Grpc { url, service, trust }))
    })
}

/// The keys of TLS.
fn trust(section: &mut Section<'_>, url: Option<&str>) -> Trust {
    let path = || values::path("/etc/tidegate/ca.pem");
    let doc = "Authorities that the server's certificate is checked against, PEM.";
    let ca_file = section.optional("ca_file", &path(), "the system's", doc);
    let doc = "Our certificate chain, PEM, for a server that asks.";
    let cert_file = section.optional("cert_file", &path(), "none", doc);
    let key_file = section.optional("key_file", &path(), "none", "Its key, PEM.");
    let doc = "The name that the server's certificate must bear.";
    let name = values::name("host name", "app.internal", 253, "-.:");
    let server_name = section.optional("server_name", &name, "the URL's host", doc);
    if let Some(url) = url.filter(|url| !url.starts_with("https:")) {
        for key in ["ca_file", "cert_file", "key_file", "server_name"] {
            if section.given(key) {
                section.problem(key, None, format!("without TLS, for {url}"), "write https://, or remove the key");
            }
        }
    }
    let identity: Option<(PathBuf, PathBuf)> = match (cert_file, key_file) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (cert, _) => {
            let (missing, there) = if cert.is_some() { ("key_file", "cert_file") } else { ("cert_file", "key_file") };
            if section.sound(&["cert_file", "key_file"]) {
                section.problem(missing, None, format!("missing beside {there}"), "add it, or remove both");
            }
            None
        }
    };
    Trust { ca_file, identity, server_name, ..Trust::default() }
}

/// `headers`: fields that the answer must have.
fn headers(section: &mut Section<'_>) -> Vec<(String, String)> {
    let doc = "Header fields that the answer must have, with exactly these values.";
    let mut all = Vec::new();
    for (name, value) in section.free("headers", doc) {
        match (HeaderName::try_from(&name), value) {
            (Ok(_), Json::String(value)) => all.push((name, value)),
            (Ok(_), Json::Number(value)) => all.push((name, value.to_string())),
            (Ok(_), Json::Bool(value)) => all.push((name, value.to_string())),
            _ => section.problem("headers", Some(name), "not a header field with a value", "write NAME: VALUE"),
        }
    }
    all
}

/// `json`: what must stand where in the body.
fn pointers(section: &mut Section<'_>) -> Vec<(String, Json)> {
    let doc = "What must stand in the body, which is JSON then, by JSON pointer (RFC 6901), as `/status: UP`.";
    let mut all = Vec::new();
    for (pointer, value) in section.free("json", doc) {
        if pointer.is_empty() || pointer.starts_with('/') {
            all.push((pointer, value));
        } else {
            let remedy = format!("write /{pointer}");
            section.problem("json", Some(pointer), "not a JSON pointer", remedy);
        }
    }
    all
}

fn text() -> Type<String> {
    Type::text("text", "ok", |text| match text {
        "" => wrong("empty, which every body contains", "write a text or remove the key"),
        text => Ok(text.to_owned()),
    })
}

fn host() -> Type<String> {
    Type::text("host, with or without a port", "app.example", |text| match urls::host_port(text, Some(80)) {
        Some(_) => Ok(text.to_owned()),
        None => wrong("not a host", "write HOST or HOST:PORT"),
    })
}

/// `200` or `200-399`, inclusive.
pub(super) fn status() -> Type<(u16, u16)> {
    let parse = |text: &str| {
        let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (code(first), code(last)) {
            (Some(first), Some(last)) if first <= last => Ok((first, last)),
            _ => Err(Wrong { what: "not a status or a range of them".into(), remedy: "write 200 or 200-399".into() }),
        }
    };
    let kind = key::Kind::Word { what: "status or range", example: "200-399" };
    Type::new(kind, parse, |(first, last)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }.into()
    })
}
