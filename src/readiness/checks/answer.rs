//! What an answer over HTTP must be to pass. Pure. What an answer holds is not quoted: everybody may read our reasons.

use hyper::HeaderMap;
use serde_json::Value;

use super::{Cause, Failure};
use crate::readiness::settings::{Http, Statuses};

/// The conditions of one check.
#[derive(Debug, Clone)]
pub(super) struct Conditions {
    status: Statuses,
    headers: Vec<(String, String)>,
    contains: Option<String>,
    json: Vec<(String, Value)>,
}

impl Conditions {
    /// Those of an HTTP check.
    pub(super) fn of(settings: &Http) -> Self {
        let Http { status, headers, contains, json, .. } = settings.clone();
        Self { status, headers, contains, json }
    }

    /// Any of these statuses.
    pub(super) fn status(status: Statuses) -> Self {
        Self { status, headers: Vec::new(), contains: None, json: Vec::new() }
    }

    /// Whether the body is looked at.
    pub(super) fn need_body(&self) -> bool {
        self.contains.is_some() || !self.json.is_empty()
    }

    /// Judges a whole answer; `body` is `None` when it is too long to be looked at.
    pub(super) fn judge(&self, status: u16, headers: &HeaderMap, body: Option<&[u8]>) -> Result<(), Failure> {
        let reason = self.unmet(status, headers, body);
        reason.map_or(Ok(()), |reason| Err(Failure::new(Cause::Answer, &reason)))
    }

    fn unmet(&self, status: u16, headers: &HeaderMap, body: Option<&[u8]>) -> Option<String> {
        if !self.status.iter().any(|(lowest, highest)| (*lowest..=*highest).contains(&status)) {
            return Some(format!("status {status}, expected {}", said(&self.status)));
        }
        for (name, expected) in &self.headers {
            let mut values = headers.get_all(name.as_str()).iter().peekable();
            if values.peek().is_none() {
                return Some(format!("no header {name}"));
            }
            if !values.any(|value| value.as_bytes() == expected.as_bytes()) {
                return Some(format!("header {name} is not {expected:?}"));
            }
        }
        if !self.need_body() {
            return None;
        }
        let Some(body) = body else { return Some("the body is longer than 64 KiB".to_owned()) };
        if let Some(part) = &self.contains
            && !body.windows(part.len()).any(|window| window == part.as_bytes())
        {
            return Some(format!("the body does not contain {part:?}"));
        }
        if self.json.is_empty() {
            return None;
        }
        let Ok(document) = serde_json::from_slice::<Value>(body) else {
            return Some("the body is not JSON".to_owned());
        };
        self.json.iter().find_map(|(pointer, expected)| match document.pointer(pointer) {
            None => Some(format!("the body has nothing at {pointer}")),
            Some(value) if value != expected => Some(format!("{pointer} in the body is not {expected}")),
            Some(_) => None,
        })
    }
}

fn said(status: &[(u16, u16)]) -> String {
    let one = |(lowest, highest): &(u16, u16)| match lowest == highest {
        true => lowest.to_string(),
        false => format!("{lowest} to {highest}"),
    };
    status.iter().map(one).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(conditions: &Conditions, body: Option<&[u8]>, expected: &str) {
        let mut headers = HeaderMap::new();
        headers.append("x-ready", "no".parse().expect("a value"));
        headers.append("x-ready", "yes".parse().expect("a value"));
        let said = conditions.judge(204, &headers, body).err().map(|failure| failure.to_string());
        assert_eq!(said.unwrap_or_default(), expected, "{conditions:?}");
    }

    #[test]
    fn an_answer_passes_that_is_all_it_should_be() {
        let any = Conditions::status(vec![(200, 399)]);
        check(&any, None, "");
        check(&Conditions::status(vec![(200, 200), (300, 399)]), None, "status 204, expected 200 or 300 to 399");
        let header = |name: &str, value: &str| Conditions { headers: vec![(name.into(), value.into())], ..any.clone() };
        check(&header("X-Ready", "yes"), None, "");
        check(&header("x-ready", "maybe"), None, "header x-ready is not \"maybe\"");
        check(&header("x-other", "yes"), None, "no header x-other");
        let contains = Conditions { contains: Some("up".into()), ..any.clone() };
        check(&contains, Some(b"all up"), "");
        check(&contains, Some(b"u"), "the body does not contain \"up\"");
        check(&contains, None, "the body is longer than 64 KiB");
        let json = |pointer: &str, value: Value| Conditions { json: vec![(pointer.into(), value)], ..any.clone() };
        let body: &[u8] = br#"{"db":{"up":true},"n":[1,2]}"#;
        check(&json("/db/up", true.into()), Some(body), "");
        check(&json("/n/1", 2.into()), Some(body), "");
        check(&json("/n/1", 3.into()), Some(body), "/n/1 in the body is not 3");
        check(&json("/db/up", "true".into()), Some(body), "/db/up in the body is not \"true\"");
        check(&json("/nothing", true.into()), Some(body), "the body has nothing at /nothing");
        check(&json("/n", true.into()), Some(b"{"), "the body is not JSON");
        check(&json("", 7.into()), Some(b"7"), "");
    }
}
