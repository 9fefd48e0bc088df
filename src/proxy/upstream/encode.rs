//! A request, as bytes for the app: its head, and what frames the parts of its body (RFC 9112 §6, §7.1). Pure.

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE,
    FORWARDED, HOST, MAX_FORWARDS, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, request};
use thiserror::Error;

use crate::proxy::headers::X_REQUEST_ID;
use crate::proxy::{hop, spelling};

/// What ends a chunk, and what ends the last one and with it a body without trailers.
const CHUNK_END: &[u8] = b"\r\n";
pub(in crate::proxy) const CHUNK_END_AND_LAST: &[u8] = b"\r\n0\r\n\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How a request's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// By so many bytes still to come.
    Length(u64),
    /// By the chunked coding.
    Chunked,
}

/// The body is not as long as the request's head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the body is not as long as its content length")]
pub struct WrongLength;

/// Whether a part of a body is known to be its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// More may follow.
    Within,
    /// Nothing follows.
    Last,
}

/// Writes a request's head to `out` and tells how its body is to be framed. A length beside a transfer coding is left
/// out (RFC 9112 §6.3). Nothing in a head can break out of its line: names, values, method and target are of types
/// that hold no CR, LF or, where it matters, blank.
pub fn head(head: &request::Parts, out: &mut Vec<u8>) -> Result<Coding, WrongLength> {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    // `http://host?query` has an empty path, which origin-form does not know (RFC 9112 §3.2.1).
    if !target.starts_with(['/', '*']) {
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let chunked = head.headers.contains_key(TRANSFER_ENCODING);
    let mut length = None;
    for (name, value) in &head.headers {
        if name == CONTENT_LENGTH {
            if chunked {
                continue;
            }
            let told = parse(value)?;
            match length.replace(told) {
                None => {}
                Some(before) if before == told => continue,
                Some(_) => return Err(WrongLength),
            }
        }
        field(name, value, out);
    }
    out.extend_from_slice(b"\r\n");
    Ok(if chunked { Coding::Chunked } else { Coding::Length(length.unwrap_or(0)) })
}

impl Coding {
    /// Frames one part of a body: what goes before it is added to `out`, what goes after it is returned.
    pub(super) fn part(&mut self, data: &Bytes, place: Place, out: &mut Vec<u8>) -> Result<&'static [u8], WrongLength> {
        match (self, place) {
            (Self::Length(left), _) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                Ok(b"")
            }
            // A chunk without data would be the last.
            (Self::Chunked, Place::Within) if data.is_empty() => Ok(b""),
            (Self::Chunked, Place::Last) if data.is_empty() => Ok(LAST_CHUNK),
            (Self::Chunked, place) => {
                size(data.len(), out);
                Ok(if place == Place::Last { CHUNK_END_AND_LAST } else { CHUNK_END })
            }
        }
    }

    /// The body has ended with a part known to be its last.
    pub(super) fn finish(self) -> Result<(), WrongLength> {
        if matches!(self, Self::Length(left) if left > 0) { Err(WrongLength) } else { Ok(()) }
    }

    /// Adds to `out` what ends a body.
    pub(super) fn end(self, trailers: Option<&HeaderMap>, out: &mut Vec<u8>) -> Result<(), WrongLength> {
        match self {
            Self::Length(0) => {}
            Self::Length(_) => return Err(WrongLength),
            Self::Chunked => {
                out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten().filter(|(name, _)| may_trail(name)) {
                    field(name, value, out);
                }
                out.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }
}

pub(in crate::proxy) fn field(name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub(in crate::proxy) fn size(length: usize, out: &mut Vec<u8>) {
    let mut begun = false;
    for shift in (0..usize::BITS / 4).rev() {
        let digit = (length >> (shift * 4)) & 0xf;
        begun |= digit != 0;
        if begun {
            out.push(b"0123456789abcdef"[digit]);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn parse(length: &HeaderValue) -> Result<u64, WrongLength> {
    let digits = length.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(WrongLength);
    }
    length.to_str().ok().and_then(|digits| digits.parse().ok()).ok_or(WrongLength)
}

/// Whether a field may stand after a body (RFC 9110 §6.5.1): not what frames, routes or authenticates the message
/// before it, nor what this hop vouches for, because there are apps that merge both sections. Nor what an app may take
/// for such a field.
pub(in crate::proxy) fn may_trail(name: &HeaderName) -> bool {
    const NEVER: [HeaderName; 16] = [
        AUTHORIZATION,
        CACHE_CONTROL,
        CONNECTION,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        COOKIE,
        FORWARDED,
        HOST,
        MAX_FORWARDS,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        X_REQUEST_ID,
    ];
    let name = name.as_str().as_bytes();
    !hop::tells(name) && !NEVER.iter().any(|never| spelling::is_same(name, never.as_str().as_bytes()))
}

#[cfg(test)]
mod tests;
