//! The least of HTTP/1.1 that a client of known servers needs: a request as bytes, an answer's status and end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

/// A complete answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The server said that it closes the connection.
    pub(crate) closes: bool,
    /// Where the body begins in the buffer that was parsed.
    pub(crate) body_at: usize,
}

/// A GET, or a POST of `json`; `tag` is that of an answer which the client has.
pub(crate) fn request(host: SocketAddr, path: &str, json: Option<&str>, tag: Option<&str>) -> Vec<u8> {
    let tag = tag.map_or_else(String::new, |tag| format!("If-None-Match: {tag}\r\n"));
    match json {
        None => format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n{tag}\r\n"),
        Some(body) => format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n{tag}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    }
    .into_bytes()
}

/// The answer at the start of `bytes`, once all of it is there.
///
/// # Errors
/// When the bytes are no HTTP/1.1 answer, or one whose end cannot be told.
pub(crate) fn parse(bytes: &[u8]) -> anyhow::Result<Option<Answer>> {
    let mut headers = [httparse::EMPTY_HEADER; 48];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(body_at) = response.parse(bytes)? else { return Ok(None) };
    let status = response.code.context("an answer without a status")?;
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let closes = header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let body = &bytes[body_at..];
    let complete = if status == 204 || status == 304 {
        true
    } else if let Some(length) = header("content-length") {
        body.len() >= length.trim().parse::<usize>().context("a content-length that is no number")?
    } else if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        body == b"0\r\n\r\n" || body.ends_with(b"\r\n0\r\n\r\n")
    } else {
        bail!("an answer without a length");
    };
    Ok(complete.then_some(Answer { status, closes, body_at }))
}

/// An answer with all its bytes.
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The first field of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(&self.head).ok()?;
        let fields = head.lines().filter_map(|line| line.split_once(':'));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

/// One request on a blocking connection that stays open, and its answer.
///
/// # Errors
/// When the connection breaks or the answer is not understood.
pub(crate) fn ask(stream: &mut (impl Read + Write), request: &[u8]) -> anyhow::Result<Reply> {
    stream.write_all(request)?;
    stream.flush()?;
    let mut bytes = Vec::with_capacity(2048);
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            bail!("closed before the answer was complete");
        }
        bytes.extend_from_slice(&chunk[..read]);
        if let Some(answer) = parse(&bytes)? {
            let body = bytes.split_off(answer.body_at);
            return Ok(Reply { status: answer.status, head: bytes, body });
        }
    }
}

/// A blocking connection with a time limit on all it does.
///
/// # Errors
/// When nobody listens there.
pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}
