//! The head of a request: the request line and fields, what they say of the body, and whether the connection lives on
//! (RFC 9112 sections 3, 6.3 and 9.3). Pure. Where a recipient may choose between repairing and refusing what two
//! readers could read differently, it is refused.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, request};
use httparse::{Header, ParserConfig};
use thiserror::Error;

use crate::proxy::lines::{self, Form};
use crate::proxy::upstream::decode::{Ends, Framing, Lengths, names, whole_lines};

/// Fields parsed on the stack; more cost an allocation.
const FIELDS: usize = 100;

/// Bounds on a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes, request line included.
    pub bytes: usize,
    /// Fields.
    pub fields: usize,
    /// Bytes of the target.
    pub target: usize,
}

/// A head, and what it says of what follows.
#[derive(Debug)]
pub struct Head {
    /// Method, target and fields. Boxed, since heads go from hand to hand.
    pub parts: Box<request::Parts>,
    /// All of that as lines, where they were asked for: then there are neither target nor fields beside them.
    pub lines: Option<lines::Request>,
    /// How the body is delimited: never by the end of the connection.
    pub framing: Framing,
    /// Whether the client lets the connection carry another request.
    pub keeps: bool,
    /// Whether the client waits for 100 before it sends the body (RFC 9110 section 10.1.1).
    pub expects: bool,
    /// Whether the client takes trailers (RFC 9110 section 10.1.4).
    pub trailers: bool,
}

/// What in a request is not HTTP/1.1, or is more of it than we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Bad {
    /// The request line or a field is not well-formed.
    #[error("the request is malformed")]
    Syntax,
    /// Another version of HTTP.
    #[error("the request line does not end with a version that is served here, HTTP/1.0 or HTTP/1.1")]
    Version,
    /// The target has none of the forms of RFC 9112 section 3.2 that go with the method.
    #[error("the request target is malformed")]
    Target,
    /// The target is longer than allowed.
    #[error("the request target is too long")]
    LongTarget,
    /// The head has more bytes or fields than allowed.
    #[error("the request header fields are too large")]
    TooLarge,
    /// `Content-Length` is not one number, or stands beside `Transfer-Encoding`; or that one does not end with
    /// `chunked`, or stands in a request of HTTP/1.0 (RFC 9112 sections 6.1 and 6.3).
    #[error("the length of the request's body is ambiguous")]
    Length,
    /// A transfer coding other than `chunked`, before it.
    #[error("the transfer coding is not implemented")]
    Coding,
}

impl Bad {
    /// The status that tells it.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Syntax | Self::Target | Self::Length => StatusCode::BAD_REQUEST,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::LongTarget => StatusCode::URI_TOO_LONG,
            Self::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
        }
    }
}

/// Finds the head of one request.
#[derive(Debug)]
pub struct Decoder {
    bounds: Bounds,
    form: Form,
    /// Bytes that hold no whole head: without a new line there is nothing new to find.
    scanned: usize,
}

impl Decoder {
    /// A decoder for one request.
    pub fn new(bounds: Bounds) -> Self {
        Self::in_form(bounds, Form::Map)
    }

    /// The same, of what becomes lines if it can.
    pub fn in_form(bounds: Bounds, form: Form) -> Self {
        Self { bounds, form, scanned: 0 }
    }

    /// The head that `bytes`, all that has come so far, begins with, and its length; `None` when it is not all there.
    pub fn head(&mut self, bytes: &[u8]) -> Result<Option<(Head, usize)>, Bad> {
        let seen = &bytes[..bytes.len().min(self.bounds.bytes)];
        // Empty lines may come before a request (RFC 9112 section 2.2).
        let begin = seen.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let found = match whole_lines(seen, self.scanned.max(begin)) {
            None => None,
            Some((end, ends)) if self.bounds.fields == FIELDS => {
                self.parse(&seen[..end], ends, &mut [const { MaybeUninit::uninit() }; FIELDS])?
            }
            Some((end, ends)) => {
                self.parse(&seen[..end], ends, &mut vec![MaybeUninit::uninit(); self.bounds.fields])?
            }
        };
        if found.is_some() {
            return Ok(found);
        }
        self.scanned = seen.len();
        let line = seen.trim_ascii_start();
        match seen.len() < self.bounds.bytes {
            // A method and a version are short: the rest of a long first line is its target.
            _ if line.len() > self.bounds.target + 64 && !line.contains(&b'\n') => Err(Bad::LongTarget),
            true => Ok(None),
            false => Err(Bad::TooLarge),
        }
    }

    fn parse<'b>(
        &self,
        bytes: &'b [u8],
        ends: Ends,
        fields: &mut [MaybeUninit<Header<'b>>],
    ) -> Result<Option<(Head, usize)>, Bad> {
        let mut request = httparse::Request::new(&mut []);
        // The default refuses what two readers may read differently: line folding, a blank before the colon.
        let parsed = ParserConfig::default().parse_request_with_uninit_headers(&mut request, bytes, fields);
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Bad::TooLarge),
            Err(httparse::Error::Version) => return Err(Bad::Version),
            Err(_) => return Err(Bad::Syntax),
        };
        if ends.are_mixed(&bytes[..length]) {
            return Err(Bad::Syntax);
        }
        let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        if target.len() > self.bounds.target {
            return Err(Bad::LongTarget);
        }
        let mut parts = Box::new(Request::new(()).into_parts().0);
        parts.method = Method::from_bytes(method.as_bytes()).map_err(|_| Bad::Syntax)?;
        if self.form == Form::Lines
            && request.version == Some(1)
            && let Some((lines, keeps)) = lines::Request::of(&parts.method, target, request.headers)
        {
            let framing = Framing::Length(lines.length);
            return Ok(Some((
                Head { parts, lines: Some(lines), framing, keeps, expects: false, trailers: false },
                length,
            )));
        }
        let shared = Shared { bytes: Bytes::copy_from_slice(&bytes[..length]), begin: bytes.as_ptr().addr() };
        parts.uri = shared.target(target, &parts.method)?;
        parts.version = if request.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        shared.fields(parts, request.headers).map(|head| Some((head, length)))
    }
}

/// A head's bytes, which its parts share.
struct Shared {
    bytes: Bytes,
    /// Where the bytes that were parsed begin.
    begin: usize,
}

impl Shared {
    fn part(&self, part: &[u8]) -> Bytes {
        let from = part.as_ptr().addr() - self.begin;
        self.bytes.slice(from..from + part.len())
    }

    /// RFC 9112 section 3.2: origin-form, absolute-form, `host:port` for CONNECT alone, `*` for OPTIONS alone.
    fn target(&self, target: &str, method: &Method) -> Result<Uri, Bad> {
        let absolute = || {
            let scheme = target.split_once("://").map(|(scheme, _)| scheme);
            scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
        };
        let known = match target {
            "*" => method == Method::OPTIONS,
            _ if method == Method::CONNECT => true,
            _ => target.starts_with('/') || absolute(),
        };
        // A fragment is no part of a target; `Uri` would drop it without a word.
        if !known || target.contains('#') {
            return Err(Bad::Target);
        }
        Uri::from_maybe_shared(self.part(target.as_bytes())).map_err(|_| Bad::Target)
    }

    /// Adds the fields to a head, and reads from them how the body is framed.
    fn fields(&self, mut parts: Box<request::Parts>, fields: &[Header<'_>]) -> Result<Head, Bad> {
        parts.headers.reserve(fields.len() + 4);
        let mut lengths = Lengths::default();
        let mut coding = None;
        let (mut closes, mut keeps, mut expects, mut trailers) = (false, false, false, false);
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Bad::Syntax)?;
            if name == CONTENT_LENGTH {
                lengths.note(field.value).map_err(|_| Bad::Length)?;
            } else if name == TRANSFER_ENCODING {
                if coding.replace(field.value).is_some() {
                    return Err(Bad::Length);
                }
            } else if name == CONNECTION {
                closes |= names(field.value, b"close");
                keeps |= names(field.value, b"keep-alive");
            } else if name == EXPECT {
                expects |= names(field.value, b"100-continue");
            } else if name == TE {
                trailers |= names(field.value, b"trailers");
            }
            let value = HeaderValue::from_maybe_shared(self.part(field.value)).map_err(|_| Bad::Syntax)?;
            parts.headers.try_append(name, value).map_err(|_| Bad::TooLarge)?;
        }
        let is_11 = parts.version == Version::HTTP_11;
        let framing = match (coding, lengths.value) {
            (None, None) => Framing::Length(0),
            (None, Some(length)) if !lengths.repeated => Framing::Length(length),
            (Some(coding), None) if is_11 => {
                let last = coding.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
                match (coding.eq_ignore_ascii_case(b"chunked"), last.eq_ignore_ascii_case(b"chunked")) {
                    (true, _) => Framing::Chunked,
                    (_, true) => return Err(Bad::Coding),
                    _ => return Err(Bad::Length),
                }
            }
            _ => return Err(Bad::Length),
        };
        if let (Some(length), true) = (lengths.value, lengths.padded) {
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let expects = expects && is_11 && framing != Framing::Length(0);
        let keeps = !closes && (is_11 || keeps);
        Ok(Head { parts, lines: None, framing, keeps, expects, trailers: is_11 && trailers })
    }
}

#[cfg(test)]
mod tests;
