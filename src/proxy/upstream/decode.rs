//! The app's answer, from bytes: its head, then its body as the head frames it (RFC 9112 §6.3). Pure: it reads no
//! socket, and gives the same for the same bytes however they are cut into pieces.

mod head;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use thiserror::Error;

pub use head::{Decoder, Head, Heard};
pub(in crate::proxy) use head::{Ends, Lengths, names, settle_length, whole_lines};

/// The longest line that tells the size of a chunk, with its extensions.
const SIZE_LINE: usize = 4 * 1024;

/// Bounds on what is buffered of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of a head, or of a trailer section.
    pub bytes: usize,
    /// Fields of a head, or of a trailer section.
    pub fields: usize,
}

/// What in an answer is not HTTP/1.1, or is more of it than we take.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Malformed {
    /// It does not begin as an answer does.
    #[error("the answer does not begin with HTTP/1")]
    Protocol,
    /// The status line or a field is not well-formed.
    #[error("the head is malformed")]
    Head(#[from] httparse::Error),
    /// A status outside 100 to 999, or a field the type of which cannot hold it.
    #[error("the head has a status or a field beyond what can be passed on")]
    Value,
    /// The head, or the trailer section, has more bytes or fields than allowed.
    #[error("the head or the trailers are larger than allowed")]
    TooLarge,
    /// Too many answers of 1xx before the real one.
    #[error("too many interim answers")]
    Interim,
    /// `Content-Length` is no number, or several different ones.
    #[error("the content length is not one number")]
    Length,
    /// `Transfer-Encoding` is not `chunked` alone, the only coding that we let apps use (RFC 9110 §10.1.4), or stands
    /// in an answer of HTTP/1.0 (RFC 9112 §6.1).
    #[error("the transfer coding is not chunked")]
    Coding,
    /// The framing of a chunk is wrong.
    #[error("the chunked coding is malformed")]
    Chunk,
    /// The connection ended before the answer did.
    #[error("the answer broke off")]
    Truncated,
    /// The app switched protocols before it had the whole request.
    #[error("the protocol was switched before the request had ended")]
    SwitchedEarly,
}

/// How an answer's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By a number of bytes, which is 0 where there can be no body.
    Length(u64),
    /// By the chunked coding.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// The decoder of one body.
#[derive(Debug)]
pub struct Body {
    state: State,
    /// Decoded, and not given yet.
    trailers: Option<HeaderMap>,
    bounds: Bounds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length(u64),
    Close,
    Size,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    End,
}

impl Body {
    /// A body framed so.
    pub fn new(framing: Framing, bounds: Bounds) -> Self {
        let state = match framing {
            Framing::Length(0) => State::End,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size,
            Framing::Close => State::Close,
        };
        Self { state, trailers: None, bounds }
    }

    /// The next part of the body that `buffer` holds; `None` when it holds none, or the body has ended. Looks ahead:
    /// with the last part it is known that it was the last, if its end is in the buffer too.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Malformed> {
        self.advance(buffer)?;
        let data = match &mut self.state {
            State::Close if !buffer.is_empty() => buffer.split().freeze(),
            State::Length(left) | State::Chunk(left) if !buffer.is_empty() => {
                let length = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
                *left -= length as u64;
                let data = buffer.split_to(length).freeze();
                // What is wrong here is wrong still when the next part is asked for, and told then.
                let _later = self.advance(buffer);
                data
            }
            _ => return Ok(self.trailers.take().map(Frame::trailers)),
        };
        Ok(Some(Frame::data(data)))
    }

    /// All that is left of the body, added to `out`, where its length is known and all of it is in the buffer: small
    /// parts cost less to copy than to share. Tells how much that was.
    pub fn whole(&mut self, buffer: &mut BytesMut, out: &mut Vec<u8>) -> Option<usize> {
        let State::Length(left) = self.state else { return None };
        let length = usize::try_from(left).ok().filter(|left| *left <= buffer.len())?;
        out.extend_from_slice(&buffer[..length]);
        buffer.advance(length);
        self.state = State::End;
        Some(length)
    }

    /// Whether the body has ended and all of it was given.
    pub fn is_end(&self) -> bool {
        self.state == State::End && self.trailers.is_none()
    }

    /// The connection has ended: whether the body may end so. Only one that nothing else delimits.
    pub fn closed(&mut self) -> Result<(), Malformed> {
        match self.state {
            State::Close | State::End => {
                self.state = State::End;
                Ok(())
            }
            _ => Err(Malformed::Truncated),
        }
    }

    /// Bytes that certainly come before anything else: the rest of the body, or of a chunk.
    pub fn certain(&self) -> Option<u64> {
        match self.state {
            State::Length(left) | State::Chunk(left) => Some(left),
            _ => None,
        }
    }

    /// Bytes of the body still to be given, where its framing tells.
    pub fn left(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::End if self.trailers.is_none() => Some(0),
            _ => None,
        }
    }

    /// Goes as far as it can without giving anything. An error leaves everything where it was, so that it is found
    /// again.
    fn advance(&mut self, buffer: &mut BytesMut) -> Result<(), Malformed> {
        loop {
            self.state = match self.state {
                State::Length(0) => State::End,
                State::Chunk(0) => State::ChunkEnd,
                State::ChunkEnd => match &buffer[..] {
                    [] | [b'\r'] => return Ok(()),
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        State::Size
                    }
                    _ => return Err(Malformed::Chunk),
                },
                State::Size => match size_line(buffer)? {
                    None => return Ok(()),
                    Some((size, length)) => {
                        buffer.advance(length);
                        if size == 0 { State::Trailers } else { State::Chunk(size) }
                    }
                },
                State::Trailers => match trailers(buffer, self.bounds)? {
                    None => return Ok(()),
                    Some((fields, length)) => {
                        buffer.advance(length);
                        self.trailers = Some(fields).filter(|fields| !fields.is_empty());
                        State::End
                    }
                },
                State::Length(_) | State::Chunk(_) | State::Close | State::End => return Ok(()),
            };
        }
    }
}

/// A chunk's size and the length of its line, once all of the line is there (RFC 9112 §7.1). Lenient where old servers
/// need it (blanks after the size), strict where two readers could disagree (a lone CR or LF, signs, overflow).
fn size_line(buffer: &[u8]) -> Result<Option<(u64, usize)>, Malformed> {
    let seen = &buffer[..buffer.len().min(SIZE_LINE)];
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        let plausible = seen.first().is_none_or(u8::is_ascii_hexdigit) && seen.len() < SIZE_LINE;
        return if plausible { Ok(None) } else { Err(Malformed::Chunk) };
    };
    let line = seen[..end].strip_suffix(b"\r").ok_or(Malformed::Chunk)?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extensions) = line.split_at(digits);
    if digits.is_empty() || extensions.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Malformed::Chunk);
    }
    if !matches!(extensions.trim_ascii_start(), [] | [b';', ..]) {
        return Err(Malformed::Chunk);
    }
    let mut size = 0_u64;
    for digit in digits {
        let digit = (*digit as char).to_digit(16).ok_or(Malformed::Chunk)?;
        size = size.checked_mul(16).ok_or(Malformed::Chunk)? + u64::from(digit);
    }
    Ok(Some((size, end + 1)))
}

/// The trailer section and its length, once all of it is there (RFC 9112 §7.1.2). No line of it ends with a bare LF, nor
/// is the empty one that ends the body one: what one reader takes for the end of a body, another takes for a part of it,
/// and what follows is a request to the first alone. In heads section 2.2 lets it be taken; in chunks section 7.1 does not.
fn trailers(buffer: &[u8], bounds: Bounds) -> Result<Option<(HeaderMap, usize)>, Malformed> {
    match buffer {
        [] | [b'\r'] => return Ok(None),
        [b'\r', b'\n', ..] => return Ok(Some((HeaderMap::new(), 2))),
        _ => {}
    }
    let seen = &buffer[..buffer.len().min(bounds.bytes)];
    let bare = bare_lf(seen);
    let mut fields = vec![httparse::EMPTY_HEADER; bounds.fields];
    let parsed = match httparse::parse_headers(&seen[..bare.unwrap_or(seen.len())], &mut fields) {
        Ok(parsed) => parsed,
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooLarge),
        Err(error) => return Err(error.into()),
    };
    match parsed {
        httparse::Status::Partial if bare.is_some() => Err(Malformed::Chunk),
        httparse::Status::Partial if buffer.len() >= bounds.bytes => Err(Malformed::TooLarge),
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete((length, fields)) => {
            let mut map = HeaderMap::new();
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Value)?;
                let value = HeaderValue::from_bytes(field.value).map_err(|_| Malformed::Value)?;
                map.try_append(name, value).map_err(|_| Malformed::TooLarge)?;
            }
            Ok(Some((map, length)))
        }
    }
}

/// Where the first line begins to end with a bare LF, of those up to an empty one.
fn bare_lf(seen: &[u8]) -> Option<usize> {
    for at in memchr::memchr_iter(b'\n', seen) {
        if !seen[..at].ends_with(b"\r") {
            return Some(at);
        }
        if seen[at + 1..].starts_with(b"\r\n") {
            break;
        }
    }
    None
}

#[cfg(test)]
mod tests;
