//! An answer, as bytes for a client: its head, and what frames the parts of its body (RFC 9112 sections 4, 6 and 7.1).
//! Pure, but for the time of day.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode, Version, response};
use hyper::ext::ReasonPhrase;

use crate::net::date;
use crate::proxy::lines;
use crate::proxy::upstream::encode::{field, may_trail, size};

pub(super) use crate::proxy::upstream::encode::CHUNK_END_AND_LAST;

/// What of a request its answer's framing depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) version: Version,
    /// For the head alone.
    pub(super) head: bool,
    /// Whether the client takes trailers (RFC 9110 section 10.1.4).
    pub(super) trailers: bool,
    /// Whether the client lets the connection carry another request.
    pub(super) keeps: bool,
}

/// How an answer's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// By a number of bytes, of which so many are left.
    Length(u64),
    /// By the chunked coding.
    Chunked,
    /// By the end of the connection.
    Close,
}

const VERSION_10: &[u8] = b"HTTP/1.0 ";

/// Whether a head has a `Date`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dated {
    Yes,
    No,
}

/// Writes an answer's head to `out`, for a body that is `length` bytes long if that is known. Tells how the body is
/// framed, and whether the connection goes on.
pub(super) fn head(parts: &response::Parts, asked: Asked, length: Option<u64>, out: &mut Vec<u8>) -> (Coding, Next) {
    status_line(parts, asked.version, out);
    rest(parts, Dated::No, asked, length, out)
}

/// The same for an answer the begin of which is in lines already.
pub(super) fn head_of_lines(
    parts: &response::Parts,
    lines: lines::Answer,
    asked: Asked,
    length: Option<u64>,
) -> (Vec<u8>, Coding, Next) {
    let mut out = lines.text;
    if asked.version == Version::HTTP_10 {
        out[..VERSION_10.len()].copy_from_slice(VERSION_10);
    }
    let (coding, next) = rest(parts, if lines.dated { Dated::Yes } else { Dated::No }, asked, length, &mut out);
    (out, coding, next)
}

/// Adds to the begin of a head, which has a `Date` if it is `dated`, all that follows.
fn rest(
    parts: &response::Parts,
    mut dated: Dated,
    asked: Asked,
    length: Option<u64>,
    out: &mut Vec<u8>,
) -> (Coding, Next) {
    let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    let never = parts.status.is_informational() || parts.status == StatusCode::NO_CONTENT;
    // Their length is that of a body which does not come (RFC 9110 section 8.6).
    let told = !never && (asked.head || parts.status == StatusCode::NOT_MODIFIED);
    let coding = match length {
        _ if never || told => Coding::Length(0),
        Some(length) => Coding::Length(length),
        None if asked.version == Version::HTTP_11 => Coding::Chunked,
        None => Coding::Close,
    };
    let mut closes = !asked.keeps || coding == Coding::Close;
    for (name, value) in &parts.headers {
        if name == TRANSFER_ENCODING || (name == CONTENT_LENGTH && !told) {
            continue;
        }
        if name == CONNECTION && !switches {
            // Nobody but us sets it: the app's own was for the hop between.
            closes |= value.as_bytes().eq_ignore_ascii_case(b"close");
            continue;
        }
        if name == DATE {
            dated = Dated::Yes;
        }
        field(name, value, out);
    }
    match coding {
        Coding::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Coding::Length(length) if !never && !told => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Coding::Length(_) | Coding::Close => {}
    }
    if dated == Dated::No && !parts.status.is_informational() {
        date::line(out);
    }
    match (closes, asked.version) {
        _ if parts.status.is_informational() => {}
        (true, Version::HTTP_11) => out.extend_from_slice(b"connection: close\r\n"),
        (false, Version::HTTP_10) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
    (coding, if closes { Next::Close } else { Next::Request })
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Another request may.
    Request,
    /// The end of the connection.
    Close,
}

/// Writes an answer that comes before the real one (RFC 9110 section 15.2).
pub(super) fn interim(parts: &response::Parts, out: &mut Vec<u8>) {
    status_line(parts, Version::HTTP_11, out);
    for (name, value) in &parts.headers {
        // No such answer has a body (RFC 9110 section 8.6, RFC 9112 section 6.1).
        if name != CONTENT_LENGTH && name != TRANSFER_ENCODING && name != CONNECTION {
            field(name, value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a whole answer of our own to what is no request; the connection ends with it.
pub(super) fn refusal(status: StatusCode, text: &str, out: &mut Vec<u8>) {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = status;
    status_line(&parts, Version::HTTP_11, out);
    out.extend_from_slice(
        b"content-type: text/plain; charset=utf-8\r\nproxy-status: tidegate; error=http_request_error\r\n",
    );
    date::line(out);
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(text.len()).as_bytes());
    out.extend_from_slice(b"\r\nconnection: close\r\n\r\n");
    out.extend_from_slice(text.as_bytes());
}

fn status_line(parts: &response::Parts, version: Version, out: &mut Vec<u8>) {
    out.extend_from_slice(if version == Version::HTTP_10 { VERSION_10 } else { b"HTTP/1.1 " });
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.push(b' ');
    match parts.extensions.get::<ReasonPhrase>() {
        Some(reason) => out.extend_from_slice(reason.as_bytes()),
        None => out.extend_from_slice(parts.status.canonical_reason().unwrap_or_default().as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
}

/// A part of a body that is longer than its head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

impl Coding {
    /// Frames one part of a body: what goes before it is added to `out`, what goes after it is returned.
    pub(super) fn part(&mut self, data: &Bytes, out: &mut Vec<u8>) -> Result<&'static [u8], TooLong> {
        match self {
            Self::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(TooLong)?;
                Ok(b"")
            }
            // A chunk without data would be the last.
            Self::Chunked if data.is_empty() => Ok(b""),
            Self::Chunked => {
                size(data.len(), out);
                Ok(b"\r\n")
            }
            Self::Close => Ok(b""),
        }
    }

    /// Adds to `out` what ends a body, with the trailers that the client takes.
    pub(super) fn end(self, trailers: Option<&HeaderMap>, asked: Asked, out: &mut Vec<u8>) {
        if self != Self::Chunked {
            return;
        }
        out.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| asked.trailers && may_trail(name)) {
            field(name, value, out);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Whether a body so framed may end here.
    pub(super) fn is_whole(self) -> bool {
        !matches!(self, Self::Length(left) if left > 0)
    }
}

#[cfg(test)]
mod tests;
