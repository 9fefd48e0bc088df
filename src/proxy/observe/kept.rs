//! What is kept of a request until its line or span is written: copies of bounded length, because what points into a
//! connection's memory would hold it for as long as the request lasts.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use http::Request;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, REFERER, USER_AGENT};

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
}

/// The most bytes of each.
const BOUNDS: [usize; 10] = [45, 32, 255, 2048, 1024, 256, 512, 128, 512, 5];

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
    pub(super) fn of<B>(request: &Request<B>, address: &[u8], sampled: bool) -> Box<Self> {
        let (target, headers) = (request.uri(), request.headers());
        let mut kept =
            Box::new(Self { text: Vec::with_capacity(384), parts: Default::default(), sampled, received: None });
        kept.keep(Part::Client, address);
        kept.keep(Part::Method, request.method().as_str().as_bytes());
        // An absolute-form target's authority wins over `Host` (RFC 9112 §3.2.2), and HTTP/2 has nothing else.
        match target.authority() {
            Some(authority) => kept.keep(Part::Host, authority.as_str().as_bytes()),
            None => kept.field(Part::Host, headers, &HOST),
        }
        kept.keep(Part::Path, target.path().as_bytes());
        if let Some(query) = target.query() {
            kept.keep(Part::Query, query.as_bytes());
        }
        kept.field(Part::UserAgent, headers, &USER_AGENT);
        kept.field(Part::Referer, headers, &REFERER);
        kept.field(Part::RequestId, headers, &X_REQUEST_ID);
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
