//! The head of an answer: the status line and fields, what they say of the body, and whether the connection lives on.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, response};
use httparse::{Header, ParserConfig};
use hyper::ext::ReasonPhrase;

use super::{Bounds, Framing, Malformed};
use crate::proxy::lines::{self, Form, Status};

/// Answers of 1xx that may come before the real one (RFC 9110 §15.2 sets no bound).
const INTERIM: u32 = 32;
/// Fields parsed on the stack; more cost an allocation.
const FIELDS: usize = 100;
/// How every answer begins.
const PROTOCOL: &[u8] = b"HTTP/1.";

/// The head of an answer, and what it says of what follows.
#[derive(Debug)]
pub struct Head {
    /// Status and fields. Boxed, since heads go from hand to hand.
    pub parts: Box<response::Parts>,
    /// All of that as lines, where they were asked for: then there are no fields beside them.
    pub lines: Option<lines::Answer>,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the connection may carry another request after this answer (RFC 9112 §9.3).
    pub keeps: bool,
}

/// What an app says to a request.
#[derive(Debug)]
pub enum Heard {
    /// Something before its answer (RFC 9110 section 15.2): status and fields, and never a body.
    Interim(Box<response::Parts>),
    /// Its answer, of which this is the head.
    Answer(Head),
}

/// Finds the head of the answer to one request.
#[derive(Debug)]
pub struct Decoder {
    bounds: Bounds,
    form: Form,
    interim: u32,
    /// Bytes at the buffer's begin that hold no whole head: without a new line there is nothing new to find.
    scanned: usize,
}

impl Decoder {
    /// A decoder for one answer.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, form: Form::Map, interim: 0, scanned: 0 }
    }

    /// The same, of what becomes lines if it can.
    pub fn in_form(bounds: Bounds, form: Form) -> Self {
        Self { form, ..Self::new(bounds) }
    }

    /// Takes the next head of the answer to a request with method `asked` off `buffer` if all of it is there. 101 is no
    /// interim answer: it ends HTTP on this connection.
    pub fn head(&mut self, buffer: &mut BytesMut, asked: &Method) -> Result<Option<Heard>, Malformed> {
        let begin = &buffer[..buffer.len().min(PROTOCOL.len())];
        if !PROTOCOL.starts_with(begin) {
            return Err(Malformed::Protocol);
        }
        let seen = &buffer[..buffer.len().min(self.bounds.bytes)];
        let found = match whole_lines(seen, self.scanned) {
            None => None,
            Some((end, ends)) if self.bounds.fields == FIELDS => {
                parse(&seen[..end], &mut [const { MaybeUninit::uninit() }; FIELDS], ends, asked, self.form)?
            }
            Some((end, ends)) => {
                parse(&seen[..end], &mut vec![MaybeUninit::uninit(); self.bounds.fields], ends, asked, self.form)?
            }
        };
        let Some((head, length)) = found else {
            self.scanned = seen.len();
            return if buffer.len() < self.bounds.bytes { Ok(None) } else { Err(Malformed::TooLarge) };
        };
        self.scanned = 0;
        buffer.advance(length);
        let status = head.parts.status;
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Some(Heard::Answer(head)));
        }
        self.interim += 1;
        if self.interim > INTERIM { Err(Malformed::Interim) } else { Ok(Some(Heard::Interim(head.parts))) }
    }
}

/// The end of the lines of a head that have come with what is new since `from`: of all that are whole, so that it does
/// not matter how they are cut, but of none behind an empty one, where a body may begin. With it, what is known by then
/// of how those lines end.
pub(in crate::proxy) fn whole_lines(seen: &[u8], from: usize) -> Option<(usize, Ends)> {
    let (mut end, mut sound, mut bare) = (None, false, false);
    for at in memchr::memchr_iter(b'\n', &seen[from..]) {
        let next = from + at + 1;
        let is_sound = next >= 2 && seen[next - 2] == b'\r';
        (sound, bare) = (sound | is_sound, bare | !is_sound);
        let (last, is_sound) = match &seen[next..] {
            [b'\r', b'\n', ..] => (next + 2, true),
            [b'\n', ..] => (next + 1, false),
            _ => {
                end = Some(next);
                continue;
            }
        };
        (end, sound, bare) = (Some(last), sound | is_sound, bare | !is_sound);
        break;
    }
    let ends = match (sound, bare) {
        _ if from > 0 => Ends::Unknown,
        (true, true) => Ends::Mixed,
        _ => Ends::Same,
    };
    end.map(|end| (end, ends))
}

/// How the lines of a head end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Ends {
    /// All in one way.
    Same,
    /// Some in one way, some in the other.
    Mixed,
    /// Not all were looked at.
    Unknown,
}

impl Ends {
    /// Whether those of `head` are mixed.
    pub(in crate::proxy) fn are_mixed(self, head: &[u8]) -> bool {
        match self {
            Self::Same => false,
            Self::Mixed => true,
            Self::Unknown => has_mixed_ends(head),
        }
    }
}

/// Whether some lines of a head end as they should and others with a bare LF (RFC 9112 section 2.2 lets both be taken):
/// then one reader may see two fields where another sees one value.
fn has_mixed_ends(head: &[u8]) -> bool {
    let (mut sound, mut bare) = (false, false);
    for at in memchr::memchr_iter(b'\n', head) {
        match at.checked_sub(1).map(|before| head[before]) {
            Some(b'\r') => sound = true,
            _ => bare = true,
        }
    }
    sound && bare
}

/// Finds a whole head at the begin of `bytes`, and its length.
fn parse<'b>(
    bytes: &'b [u8],
    fields: &mut [MaybeUninit<Header<'b>>],
    ends: Ends,
    asked: &Method,
    form: Form,
) -> Result<Option<(Head, usize)>, Malformed> {
    let mut answer = httparse::Response::new(&mut []);
    // The default refuses what two readers may read differently: line folding, a blank before the colon.
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut answer, bytes, fields);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooLarge),
        Err(error) => return Err(error.into()),
    };
    if ends.are_mixed(&bytes[..length]) {
        return Err(Malformed::Head(httparse::Error::NewLine));
    }
    let mut parts = Box::new(Response::new(()).into_parts().0);
    parts.version = if answer.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    parts.status = StatusCode::from_u16(answer.code.unwrap_or(0)).map_err(|_| Malformed::Value)?;
    if form == Form::Lines && *asked != Method::HEAD {
        let reason = answer.reason.unwrap_or_default();
        let status = Status { code: parts.status, reason, old: answer.version == Some(0) };
        if let Some((lines, framing, keeps)) = lines::Answer::of(status, answer.headers) {
            return Ok(Some((Head { parts, lines: Some(lines), framing, keeps }, length)));
        }
    }
    let reason = answer.reason.filter(|reason| !reason.is_empty() && Some(*reason) != parts.status.canonical_reason());
    if let Some(reason) = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok()) {
        parts.extensions.insert(reason);
    }
    // A copy for the values to share: they outlive the buffer, which is to be free for the next read.
    let shared = Bytes::copy_from_slice(&bytes[..length]);
    assemble(
        parts,
        answer.headers,
        |value| {
            let from = value.as_ptr().addr() - bytes.as_ptr().addr();
            shared.slice(from..from + value.len())
        },
        asked,
    )
    .map(|head| Some((head, length)))
}

/// Adds the fields to a head, and reads from them how the body is framed (RFC 9112 §6.3).
fn assemble(
    mut parts: Box<response::Parts>,
    fields: &[Header<'_>],
    share: impl Fn(&[u8]) -> Bytes,
    asked: &Method,
) -> Result<Head, Malformed> {
    parts.headers.reserve(fields.len());
    let mut lengths = Lengths::default();
    let (mut codings, mut closes, mut keeps) = (0, false, false);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Value)?;
        if name == CONTENT_LENGTH {
            lengths.note(field.value)?;
        } else if name == TRANSFER_ENCODING {
            if !field.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::Coding);
            }
            codings += 1;
        } else if name == CONNECTION {
            closes |= names(field.value, b"close");
            keeps |= names(field.value, b"keep-alive");
        }
        let value = HeaderValue::from_maybe_shared(share(field.value)).map_err(|_| Malformed::Value)?;
        parts.headers.try_append(name, value).map_err(|_| Malformed::TooLarge)?;
    }
    if codings > 1 || (codings == 1 && parts.version == Version::HTTP_10) {
        return Err(Malformed::Coding);
    }
    let mut keeps = !closes && (parts.version == Version::HTTP_11 || keeps);
    if codings == 1 && lengths.value.is_some() {
        // RFC 9112 §6.3: the coding wins, the length is not passed on, and what follows is not trusted.
        parts.headers.remove(CONTENT_LENGTH);
        keeps = false;
    } else if let (Some(length), true) = (lengths.value, lengths.repeated || lengths.padded) {
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
    Ok(Head { parts, lines: None, framing, keeps: keeps && framing != Framing::Close })
}

/// The `Content-Length` fields of a head: any number, in any number of lists, as long as all are equal.
#[derive(Default)]
pub(in crate::proxy) struct Lengths {
    /// What they say.
    pub(in crate::proxy) value: Option<u64>,
    /// Whether there is more than one.
    pub(in crate::proxy) repeated: bool,
    /// Whether zeros stand before it: legal (RFC 9110 section 8.6), but there are readers that take it for octal.
    pub(in crate::proxy) padded: bool,
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
            self.padded |= digits.len() > 1 && digits.starts_with(b"0");
            if *self.value.get_or_insert(length) != length {
                return Err(Malformed::Length);
            }
        }
        Ok(())
    }
}

/// Writes the length of a head of HTTP/2 as we would.
pub(in crate::proxy) fn settle_length(headers: &mut HeaderMap) -> Result<(), Malformed> {
    let mut lengths = Lengths::default();
    for length in headers.get_all(CONTENT_LENGTH) {
        lengths.note(length.as_bytes())?;
    }
    if let (Some(length), true) = (lengths.value, lengths.repeated || lengths.padded) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(())
}

/// Whether a list of tokens names `token`.
pub(in crate::proxy) fn names(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}
