//! The head of an answer: the status line and fields, what they say of the body, and whether the connection lives on.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, Version, response};
use httparse::{Header, ParserConfig};
use hyper::ext::ReasonPhrase;

use super::{Bounds, Framing, Malformed};

/// Answers of 1xx that may come before the real one (RFC 9110 §15.2 sets no bound).
const INTERIM: u32 = 32;
/// Fields parsed on the stack; more cost an allocation.
const FIELDS: usize = 100;
/// How every answer begins.
const PROTOCOL: &[u8] = b"HTTP/1.";

/// The head of an answer, and what it says of what follows.
#[derive(Debug)]
pub struct Head {
    /// Status and fields.
    pub parts: response::Parts,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the connection may carry another request after this answer (RFC 9112 §9.3).
    pub keeps: bool,
}

/// What an app says to a request.
#[derive(Debug)]
pub enum Heard {
    /// Something before its answer (RFC 9110 section 15.2): status and fields, and never a body.
    Interim(response::Parts),
    /// Its answer, of which this is the head.
    Answer(Head),
}

/// Finds the head of the answer to one request.
#[derive(Debug)]
pub struct Decoder {
    bounds: Bounds,
    interim: u32,
    /// Bytes at the buffer's begin that hold no whole head: without a new line there is nothing new to find.
    scanned: usize,
}

impl Decoder {
    /// A decoder for one answer.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, interim: 0, scanned: 0 }
    }

    /// Takes the next head of the answer to a request with method `asked` off `buffer` if all of it is there. 101 is no
    /// interim answer: it ends HTTP on this connection.
    pub fn head(&mut self, buffer: &mut BytesMut, asked: &Method) -> Result<Option<Heard>, Malformed> {
        let begin = &buffer[..buffer.len().min(PROTOCOL.len())];
        if !PROTOCOL.starts_with(begin) {
            return Err(Malformed::Protocol);
        }
        // Only whole lines within the bound are looked at, so that it does not matter how they are cut.
        let seen = &buffer[..buffer.len().min(self.bounds.bytes)];
        let lines = seen[self.scanned..].iter().rposition(|byte| *byte == b'\n').map(|end| self.scanned + end + 1);
        let scanned = match lines {
            None => None,
            Some(end) if self.bounds.fields == FIELDS => {
                scan(&seen[..end], &mut [const { MaybeUninit::uninit() }; FIELDS])?
            }
            Some(end) => scan(&seen[..end], &mut vec![MaybeUninit::uninit(); self.bounds.fields])?,
        };
        let Some(scanned) = scanned else {
            self.scanned = seen.len();
            return if buffer.len() < self.bounds.bytes { Ok(None) } else { Err(Malformed::TooLarge) };
        };
        self.scanned = 0;
        let length = scanned.length;
        let head = assemble(&buffer.split_to(length).freeze(), scanned, asked)?;
        let status = head.parts.status;
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Some(Heard::Answer(head)));
        }
        self.interim += 1;
        if self.interim > INTERIM { Err(Malformed::Interim) } else { Ok(Some(Heard::Interim(head.parts))) }
    }
}

/// A head as it lies in the buffer.
struct Scanned {
    length: usize,
    version: Version,
    status: StatusCode,
    /// Where it is not the usual one.
    reason: Option<ReasonPhrase>,
    fields: Vec<Span>,
}

/// A field: its value by its place, so that the value can share the buffer's memory.
struct Span {
    name: HeaderName,
    from: usize,
    to: usize,
}

/// Finds a whole head at the begin of `bytes`.
fn scan<'b>(bytes: &'b [u8], fields: &mut [MaybeUninit<Header<'b>>]) -> Result<Option<Scanned>, Malformed> {
    let mut answer = httparse::Response::new(&mut []);
    // The default refuses what two readers may read differently: line folding, a blank before the colon.
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut answer, bytes, fields);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooLarge),
        Err(error) => return Err(error.into()),
    };
    let version = if answer.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let status = StatusCode::from_u16(answer.code.unwrap_or(0)).map_err(|_| Malformed::Value)?;
    let reason = answer.reason.filter(|reason| !reason.is_empty() && Some(*reason) != status.canonical_reason());
    let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    let begin = bytes.as_ptr().addr();
    let mut spans = Vec::with_capacity(answer.headers.len());
    for field in answer.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Value)?;
        let from = field.value.as_ptr().addr() - begin;
        spans.push(Span { name, from, to: from + field.value.len() });
    }
    Ok(Some(Scanned { length, version, status, reason, fields: spans }))
}

/// Builds the head, and reads from its fields how the body is framed (RFC 9112 §6.3).
fn assemble(head: &Bytes, scanned: Scanned, asked: &Method) -> Result<Head, Malformed> {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = scanned.status;
    parts.version = scanned.version;
    if let Some(reason) = scanned.reason {
        parts.extensions.insert(reason);
    }
    parts.headers.reserve(scanned.fields.len());
    let mut lengths = Lengths::default();
    let (mut codings, mut closes, mut keeps) = (0, false, false);
    for Span { name, from, to } in scanned.fields {
        let value = &head[from..to];
        if name == CONTENT_LENGTH {
            lengths.note(value)?;
        } else if name == TRANSFER_ENCODING {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::Coding);
            }
            codings += 1;
        } else if name == CONNECTION {
            closes |= names(value, b"close");
            keeps |= names(value, b"keep-alive");
        }
        let value = HeaderValue::from_maybe_shared(head.slice(from..to)).map_err(|_| Malformed::Value)?;
        parts.headers.try_append(name, value).map_err(|_| Malformed::TooLarge)?;
    }
    if codings > 1 || (codings == 1 && scanned.version == Version::HTTP_10) {
        return Err(Malformed::Coding);
    }
    let mut keeps = !closes && (scanned.version == Version::HTTP_11 || keeps);
    if codings == 1 && lengths.value.is_some() {
        // RFC 9112 §6.3: the coding wins, the length is not passed on, and what follows is not trusted.
        parts.headers.remove(CONTENT_LENGTH);
        keeps = false;
    } else if let (Some(length), true) = (lengths.value, lengths.repeated) {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let bodiless = *asked == Method::HEAD
        || parts.status.is_informational()
        || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match (bodiless, codings, lengths.value) {
        (true, _, _) => Framing::Length(0),
        (false, 1, _) => Framing::Chunked,
        (false, _, Some(length)) => Framing::Length(length),
        (false, _, None) => Framing::Close,
    };
    Ok(Head { parts, framing, keeps: keeps && framing != Framing::Close })
}

/// The `Content-Length` fields of a head: any number, in any number of lists, as long as all are equal.
#[derive(Default)]
pub(in crate::proxy) struct Lengths {
    /// What they say.
    pub(in crate::proxy) value: Option<u64>,
    /// Whether there is more than one, or it is not written as we would.
    pub(in crate::proxy) repeated: bool,
}

impl Lengths {
    /// Takes note of one field.
    pub(in crate::proxy) fn note(&mut self, value: &[u8]) -> Result<(), Malformed> {
        for part in value.split(|byte| *byte == b',') {
            let mut length = 0_u64;
            let digits = part.trim_ascii();
            if digits.is_empty() {
                return Err(Malformed::Length);
            }
            for digit in digits {
                let digit = (*digit as char).to_digit(10).ok_or(Malformed::Length)?;
                length = length.checked_mul(10).and_then(|l| l.checked_add(digit.into())).ok_or(Malformed::Length)?;
            }
            self.repeated |= self.value.is_some();
            if *self.value.get_or_insert(length) != length {
                return Err(Malformed::Length);
            }
        }
        Ok(())
    }
}

/// Whether a list of tokens names `token`.
pub(in crate::proxy) fn names(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}
