//! What happens to the header fields of a request on its way to the app and of an answer on its way back. Pure.

use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Uri, Version, request, response};
use thiserror::Error;

pub use super::hop::Hop;
use super::hop::{self, X_FORWARDED_CLIENT_CERT, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use super::lines;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields that a client's `Connection` may not name away: an app that trusts them would be fooled by their absence.
const KEPT: [HeaderName; 9] = [
    HOST,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    FORWARDED,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PROTO,
    X_FORWARDED_CLIENT_CERT,
    X_REQUEST_ID,
];

/// Whether a request asks to change its connection's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// It does not.
    None,
    /// It does (RFC 9110 §7.8).
    Asked,
}

/// A request that must not be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// RFC 9112 §3.2: HTTP/1.1 without `Host`, with several, or with one that is no authority.
    #[error("exactly one valid Host field is required")]
    Host,
    /// A transfer coding other than `chunked` (RFC 9112 §6.1).
    #[error("the transfer coding is not implemented")]
    Coding,
    /// `CONNECT` asks for a tunnel to anywhere (RFC 9110 §9.3.6); this is no such proxy.
    #[error("CONNECT is not served here")]
    Connect,
}

/// Makes a client's request into the one for the app: target in origin-form, one `Host`, no hop-by-hop fields, and
/// this hop told. `authority` stands in for a `Host` that HTTP/1.0 may leave out.
pub fn prepare_request(head: &mut request::Parts, hop: &Hop, authority: &HeaderValue) -> Result<Upgrade, Refusal> {
    if head.method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    let seen = Seen::of(&head.headers);
    if !seen.codings_are_known {
        return Err(Refusal::Coding);
    }
    settle_host(head, &seen, authority)?;
    let upgrade = match seen.hop_by_hop {
        HopByHop::None => Upgrade::None,
        HopByHop::Persistence => {
            head.headers.remove(CONNECTION);
            Upgrade::None
        }
        HopByHop::More => strip_hop_by_hop(&mut head.headers, head.version),
    };
    head.version = Version::HTTP_11;
    if seen.forwarding {
        hop::tell_after_others(&mut head.headers, hop);
    } else {
        hop::tell_first(&mut head.headers, hop);
    }
    if !seen.request_id {
        let id = HeaderValue::from_bytes(&request_id()).expect("hexadecimal digits are visible ASCII");
        head.headers.insert(X_REQUEST_ID, id);
    }
    Ok(upgrade)
}

/// The same for a request that needs nothing else: whoever read it into lines has seen to that.
pub fn prepare_lines(lines: &mut lines::Request, hop: &Hop) {
    hop::tell_first_in_lines(&mut lines.text, hop);
    if !lines.has_id {
        lines.text.extend_from_slice(b"x-request-id: ");
        lines.text.extend_from_slice(&request_id());
        lines.text.extend_from_slice(b"\r\n");
    }
    lines.text.extend_from_slice(b"\r\n");
}

/// Makes the app's answer into the one for the client.
pub fn prepare_answer(head: &mut response::Parts) {
    let headers = &mut head.headers;
    if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    match Seen::of(headers).hop_by_hop {
        HopByHop::None => return,
        HopByHop::Persistence => return drop(headers.remove(CONNECTION)),
        HopByHop::More => {}
    }
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
        headers.remove(CONNECTION);
        for value in &named {
            remove_named(headers, value);
        }
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    // 426 tells by `Upgrade` what would do (RFC 9110 §15.5.22).
    if head.status != http::StatusCode::UPGRADE_REQUIRED {
        headers.remove(UPGRADE);
    }
}

/// What there is in a head, found in one pass: looking for each field by itself costs more.
struct Seen {
    hosts: usize,
    host_is_sound: bool,
    codings_are_known: bool,
    hop_by_hop: HopByHop,
    forwarding: bool,
    request_id: bool,
}

/// What fields there are of this connection alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HopByHop {
    None,
    /// `Connection`, which names no field: many a server and client sends that with each message.
    Persistence,
    /// Others, or one that may name some.
    More,
}

impl HopByHop {
    fn and(self, connection: &HeaderValue) -> Self {
        let is_plain =
            [&b"keep-alive"[..], b"close"].iter().any(|name| connection.as_bytes().eq_ignore_ascii_case(name));
        if is_plain && self != Self::More { Self::Persistence } else { Self::More }
    }
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let (mut hosts, mut host_is_sound, mut codings, mut chunked) = (0, false, 0, true);
        let (mut hop_by_hop, mut forwarding, mut request_id) = (HopByHop::None, false, false);
        for (name, value) in headers {
            if name == HOST {
                hosts += 1;
                host_is_sound = is_host(value.as_bytes());
            } else if name == TRANSFER_ENCODING {
                codings += 1;
                chunked &= value.as_bytes().eq_ignore_ascii_case(b"chunked");
            } else if name == CONNECTION {
                hop_by_hop = hop_by_hop.and(value);
            } else if name == UPGRADE || name == TE || name == KEEP_ALIVE || name == PROXY_CONNECTION {
                hop_by_hop = HopByHop::More;
            } else if name == FORWARDED || hop::tells(name.as_str().as_bytes()) {
                forwarding = true;
            } else if name == X_REQUEST_ID {
                request_id = true;
            }
        }
        let codings_are_known = codings == 0 || codings == 1 && chunked;
        Self { hosts, host_is_sound, codings_are_known, hop_by_hop, forwarding, request_id }
    }
}

/// RFC 9112 §3.2 and §3.3: one `Host`; an absolute-form target's authority wins over it.
fn settle_host(head: &mut request::Parts, seen: &Seen, authority: &HeaderValue) -> Result<(), Refusal> {
    match seen.hosts {
        1 if seen.host_is_sound => {}
        0 if head.version == Version::HTTP_10 => {
            head.headers.insert(HOST, authority.clone());
        }
        _ => return Err(Refusal::Host),
    }
    if let Some(target) = head.uri.authority() {
        let host =
            HeaderValue::from_str(target.as_str()).ok().filter(|host| is_host(host.as_bytes())).ok_or(Refusal::Host)?;
        head.headers.insert(HOST, host);
        let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        head.uri = Uri::from(path);
    }
    Ok(())
}

/// An authority without user information; empty is allowed (RFC 9112 §3.2).
pub(super) fn is_host(bytes: &[u8]) -> bool {
    // Nearly all are a plain name, alone or with a short port: one look tells.
    let plain = bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')).count();
    match &bytes[plain..] {
        [] => return true,
        [b':', port @ ..] if port.len() <= 5 && port.iter().all(u8::is_ascii_digit) => {
            let number = port.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
            return number <= u32::from(u16::MAX);
        }
        _ => {}
    }
    let (name, port) = match bytes.iter().rposition(|byte| matches!(byte, b':' | b']')) {
        Some(at) if bytes[at] == b':' => (&bytes[..at], &bytes[at + 1..]),
        _ => (bytes, &b""[..]),
    };
    // RFC 3986 section 3.2.3 lets a port be any digits; what is beyond 16 bits is none.
    let is_port = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok();
    let port_is_sound = port.is_empty() || std::str::from_utf8(port).is_ok_and(is_port);
    let name_is_plain = name.iter().all(|b| b.is_ascii_alphanumeric() || b".-".contains(b));
    port_is_sound && (name_is_plain || (!bytes.contains(&b'@') && Authority::try_from(bytes).is_ok()))
}

/// RFC 9110 §7.6.1. Keeps an upgrade that is asked for, except to h2c: that way of starting HTTP/2 is obsolete
/// (RFC 9113 §3.1), and passed on it lets requests by that no proxy sees.
fn strip_hop_by_hop(headers: &mut HeaderMap, version: Version) -> Upgrade {
    let mut upgrade = None;
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
        headers.remove(CONNECTION);
        let asked = version != Version::HTTP_10
            && named.iter().any(|value| tokens(value).any(|token| token.eq_ignore_ascii_case("upgrade")));
        upgrade = headers.remove(UPGRADE).filter(|to| asked && !tokens(to).any(|t| t.eq_ignore_ascii_case("h2c")));
        let trailers = headers.remove(TE).is_some_and(|te| tokens(&te).any(|t| t.eq_ignore_ascii_case("trailers")));
        for value in &named {
            remove_named(headers, value);
        }
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
    } else {
        headers.remove(UPGRADE);
        headers.remove(TE);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    match upgrade {
        Some(to) => {
            headers.insert(UPGRADE, to);
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            Upgrade::Asked
        }
        None => Upgrade::None,
    }
}

fn remove_named(headers: &mut HeaderMap, connection: &HeaderValue) {
    for token in tokens(connection) {
        if let Ok(name) = HeaderName::from_bytes(token.as_bytes())
            && !KEPT.contains(&name)
        {
            headers.remove(name);
        }
    }
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|token| !token.is_empty())
}

/// 128 random bits in hexadecimal.
fn request_id() -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(fastrand::u128(..).to_le_bytes()) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]);
    }
    text
}

#[cfg(test)]
mod tests;
