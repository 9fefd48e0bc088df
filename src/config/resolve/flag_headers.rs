//! `proxy[].flag_headers` and `proxy[].flag_context`: flags that the app is told, and what they are evaluated by.

use http::HeaderName;
use serde_json::Value as Json;

use super::super::problem::Problem;
use super::super::reader::Section;
use super::super::values::{Wrong, wrong};
use crate::proxy::flag_headers::{Settings, Source, is_cookie_name, same};

/// The most of each: every one is evaluated, or looked for, with every request.
const MOST: usize = 32;

/// Fields that frame, route or authenticate a request, or that the proxy itself sets.
const RESERVED: [&str; 21] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-client-cert",
    "x-request-id",
];

pub(super) fn flag_headers(section: &mut Section<'_>) -> Settings {
    let headers = section.free(
        "flag_headers",
        "Header fields of requests to the app, and the flags whose values they have. What clients send under these names is \
         taken out.",
    );
    let context = section.free(
        "flag_context",
        "What these flags are evaluated by: attributes, `targetingKey` among them, and where each is in the request: \
         `header:X-User-Id` or `cookie:uid`.",
    );
    let mut settings = Settings::default();
    for (name, key) in &headers {
        match header(name, key, &settings.headers) {
            Ok(header) => settings.headers.push(header),
            Err(wrong) => problem(section, "flag_headers", name, key, wrong),
        }
    }
    for (name, source) in &context {
        match attribute(name, source, &settings.headers) {
            Ok(attribute) => settings.context.push(attribute),
            Err(wrong) => problem(section, "flag_context", name, source, wrong),
        }
    }
    for (key, count) in [("flag_headers", headers.len()), ("flag_context", context.len())] {
        if count > MOST {
            section.problem(key, None, format!("{count} names"), format!("write at most {MOST}"));
        }
    }
    if headers.is_empty() && !context.is_empty() {
        section.problem("flag_context", None, "no flag is evaluated by it", "add flag_headers, or remove it");
    }
    settings
}

fn problem(section: &Section<'_>, key: &str, name: &str, value: &Json, wrong: Wrong) {
    let mut problem = Problem::new(format!("{}.{name}", section.below(key)), wrong.what).remedy(wrong.remedy);
    if let Json::String(text) = value {
        problem = problem.value(text.clone());
    }
    section.note(problem);
}

fn header(name: &str, key: &Json, known: &[(HeaderName, String)]) -> Result<(HeaderName, String), Wrong> {
    let Ok(field) = HeaderName::try_from(name) else {
        return wrong("not the name of a header field", "write letters, digits and hyphens, as X-Flag-Search");
    };
    let plain = field.as_str().replace('_', "-");
    if RESERVED.contains(&plain.as_str()) || plain.starts_with("x-forwarded-") {
        return wrong("a field that the request itself needs", "choose a name of its own, as X-Flag-Search");
    }
    if let Some((other, _)) = known.iter().find(|(other, _)| same(other, &field)) {
        return wrong(format!("to an app the same name as {other}"), "name each field once");
    }
    match key {
        Json::String(key) if !key.is_empty() => Ok((field, key.clone())),
        _ => wrong("not the key of a flag", "write NAME: FLAG"),
    }
}

fn attribute(name: &str, source: &Json, headers: &[(HeaderName, String)]) -> Result<(String, Source), Wrong> {
    if name.is_empty() || name.starts_with('$') {
        return wrong("not the name of an attribute", "write targetingKey, or a name that rules use");
    }
    let remedy = "write header:NAME or cookie:NAME";
    let Json::String(text) = source else { return wrong("not a place in the request", remedy) };
    let source = match text.split_once(':') {
        Some(("header", field)) => match HeaderName::try_from(field) {
            Ok(field) if headers.iter().any(|(own, _)| same(own, &field)) => {
                return wrong("a field of flag_headers, which clients cannot send", "take it from another field");
            }
            Ok(field) => Source::Header(field),
            Err(_) => {
                return wrong("not the name of a header field", "write letters, digits and hyphens: header:X-User-Id");
            }
        },
        Some(("cookie", cookie)) if is_cookie_name(cookie) => Source::Cookie(cookie.to_owned()),
        Some(("cookie", _)) => return wrong("not the name of a cookie", "write cookie:NAME"),
        _ => return wrong("not a place in the request", remedy),
    };
    Ok((name.to_owned(), source))
}
