//! What is kept of a request until its line or span is written: copies of bounded length, because what points into a
//! connection's memory would hold it for as long as the request lasts.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, REFERER, USER_AGENT};
use http::{Method, request};

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Client,
    Method,
    Host,
    Path,
    Query,
    UserAgent,
    Referer,
    RequestId,
    TraceState,
    Scheme,
    /// Why it was refused before it was a request.
    Reason,
}

/// The most bytes of each.
const BOUNDS: [usize; 11] = [45, 32, 255, 2048, 1024, 256, 512, 128, 512, 5, 96];

/// A URL without the user and the password that may stand before its host (RFC 3986 section 3.2.1).
fn nameless(url: &[u8]) -> Cow<'_, [u8]> {
    let is_scheme = |text: &[u8]| text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.:".contains(byte));
    let Some(begin) = memchr::memmem::find(url, b"//").filter(|at| is_scheme(&url[..*at])).map(|at| at + 2) else {
        return Cow::Borrowed(url);
    };
    let rest = &url[begin..];
    let authority = rest.iter().position(|byte| b"/?#\\".contains(byte)).map_or(rest, |end| &rest[..end]);
    match memchr::memrchr(b'@', authority) {
        Some(at) => Cow::Owned([&url[..begin], &rest[at + 1..]].concat()),
        None => Cow::Borrowed(url),
    }
}

/// See the module's text.
pub(super) struct Kept {
    text: Vec<u8>,
    parts: [Option<Range<u16>>; BOUNDS.len()],
    /// Whether the line is written however the request ends.
    pub(super) sampled: bool,
    /// Counts the bytes of the request's body, when it has one.
    pub(super) received: Option<Arc<AtomicU64>>,
}

impl Kept {
    /// What is kept of a request as it came, from the client at `address`.
    pub(super) fn of(head: &request::Parts, address: &[u8], sampled: bool) -> Box<Self> {
        let (target, headers) = (&head.uri, &head.headers);
        let mut kept =
            Box::new(Self { text: Vec::with_capacity(384), parts: Default::default(), sampled, received: None });
        kept.keep(Part::Client, address);
        kept.keep(Part::Method, head.method.as_str().as_bytes());
        // An absolute-form target's authority wins over `Host` (RFC 9112 §3.2.2), and HTTP/2 has nothing else.
        match target.authority() {
            // Without the user and password that may stand before it.
            Some(authority) => {
                let host = authority.as_str().rsplit('@').next().unwrap_or_default();
                kept.keep(Part::Host, host.as_bytes());
            }
            None => kept.field(Part::Host, headers, &HOST),
        }
        kept.keep(Part::Path, target.path().as_bytes());
        if let Some(query) = target.query() {
            kept.keep(Part::Query, query.as_bytes());
        }
        kept.field(Part::UserAgent, headers, &USER_AGENT);
        if let Some(referer) = headers.get(REFERER) {
            kept.keep(Part::Referer, &nameless(referer.as_bytes()));
        }
        kept.field(Part::RequestId, headers, &X_REQUEST_ID);
        kept
    }

    /// What is kept of a request that was refused for `reason` when its head began with `seen`: of its first line what
    /// can be made out.
    pub(super) fn of_refused(seen: &[u8], address: &[u8], reason: &str, sampled: bool) -> Box<Self> {
        let mut kept =
            Box::new(Self { text: Vec::with_capacity(256), parts: Default::default(), sampled, received: None });
        kept.keep(Part::Client, address);
        kept.keep(Part::Reason, reason.as_bytes());
        let line = seen.trim_ascii_start().split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        // Something else altogether, TLS for example, has no business in a log.
        let Some(method) = words.next().filter(|word| Method::from_bytes(word).is_ok()) else { return kept };
        let Some(target) = words.next() else { return kept };
        kept.keep(Part::Method, method);
        // Of an absolute form not the authority, where a password may stand.
        let path = match memchr::memmem::find(target, b"://") {
            Some(at) if !target.starts_with(b"/") => {
                memchr::memchr(b'/', &target[at + 3..]).map(|to| &target[at + 3 + to..])
            }
            _ => Some(target).filter(|target| target.starts_with(b"/")),
        };
        let mut parts = path.unwrap_or_default().splitn(2, |byte| matches!(byte, b'?' | b'#'));
        if let Some(path) = parts.next().filter(|path| !path.is_empty()) {
            kept.keep(Part::Path, path);
        }
        if let Some(query) = parts.next() {
            kept.keep(Part::Query, query);
        }
        kept
    }

    /// Keeps the first value of a field, if it is there and nothing was kept before.
    pub(super) fn field(&mut self, part: Part, headers: &HeaderMap, name: &HeaderName) {
        if let Some(value) = headers.get(name).map(HeaderValue::as_bytes)
            && self.parts[part as usize].is_none()
        {
            self.keep(part, value);
        }
    }

    /// Keeps a part, cut where it is too long.
    pub(super) fn keep(&mut self, part: Part, value: &[u8]) {
        let begin = self.text.len();
        self.text.extend_from_slice(&value[..value.len().min(BOUNDS[part as usize])]);
        // All bounds together are far below what 16 bits count.
        self.parts[part as usize] = Some(begin as u16..self.text.len() as u16);
    }

    /// A part, if there is one.
    pub(super) fn get(&self, part: Part) -> Option<&[u8]> {
        let range = self.parts[part as usize].as_ref()?;
        self.text.get(usize::from(range.start)..usize::from(range.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_kept_without_its_user_and_password() {
        for (url, kept) in [
            ("http://ann:s3cret@shop.example/a@b?c=d@e", "http://shop.example/a@b?c=d@e"),
            ("https://ann:s3cr@t@[::1]:8443", "https://[::1]:8443"),
            ("//ann@shop.example", "//shop.example"),
            ("http://ann:s3cret@shop.example\\a", "http://shop.example\\a"),
            ("https://shop.example/@ann", "https://shop.example/@ann"),
            ("https://shop.example?to=//x@y", "https://shop.example?to=//x@y"),
            ("/relative//ann@b", "/relative//ann@b"),
            ("", ""),
        ] {
            assert_eq!(nameless(url.as_bytes()), kept.as_bytes(), "{url}");
        }
    }

    #[test]
    fn a_password_that_is_too_long_to_be_kept_is_not_kept_in_part() {
        let referer = format!("http://ann:{}@shop.example/a", "s3cret".repeat(200));
        let request = http::Request::builder().header(REFERER, referer).body(()).expect("the test's request is sound");
        let kept = Kept::of(&request.into_parts().0, b"::1", true);
        assert_eq!(kept.get(Part::Referer), Some(&b"http://shop.example/a"[..]));
    }
}
