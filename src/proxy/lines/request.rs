//! Requests: request line and fields, as an app of HTTP/1.1 gets them.

use http::Method;
use httparse::Header;

use super::{LONGEST, Persistence, begin, end};
use crate::proxy::headers::is_host;
use crate::proxy::hop;
use crate::proxy::upstream::decode::Lengths;

/// What this hop adds to a head, roughly.
const OURS: usize = 192;

/// The begin of a request's head: all but what this hop tells, and the empty line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Request line and fields.
    pub text: Vec<u8>,
    /// The length of the body.
    pub length: u64,
    /// Whether `X-Request-Id` is among them.
    pub has_id: bool,
}

impl Request {
    /// A request of HTTP/1.1 for a target in origin-form, and whether its connection lives on; `None` where the map is
    /// needed.
    pub fn of(method: &Method, target: &str, fields: &[Header<'_>]) -> Option<(Self, bool)> {
        if *method == Method::CONNECT || !is_plain_target(target) {
            return None;
        }
        let size: usize = fields.iter().map(|field| field.name.len() + field.value.len() + 4).sum();
        let mut text = Vec::with_capacity(method.as_str().len() + target.len() + size + OURS);
        text.extend_from_slice(method.as_str().as_bytes());
        text.push(b' ');
        text.extend_from_slice(target.as_bytes());
        text.extend_from_slice(b" HTTP/1.1\r\n");
        let (mut lengths, mut persistence) = (Lengths::default(), Persistence::default());
        let (mut has_host, mut has_id) = (false, false);
        for field in fields {
            let value = field.value;
            let from = begin(field.name, &mut text);
            match &text[from..] {
                b"host" => {
                    if has_host || !is_host(value) {
                        return None;
                    }
                    has_host = true;
                }
                b"connection" => {
                    persistence.note(value)?;
                    text.truncate(from);
                    continue;
                }
                b"content-length" => lengths.note(value).ok()?,
                b"x-request-id" => has_id = true,
                b"te" | b"expect" | b"upgrade" | b"forwarded" | b"keep-alive" | b"proxy-connection"
                | b"transfer-encoding" => return None,
                name if name.len() > LONGEST || hop::tells(name) => return None,
                _ => {}
            }
            end(value, &mut text);
        }
        if !has_host || lengths.repeated || lengths.padded {
            return None;
        }
        let length = lengths.value.unwrap_or(0);
        Some((Self { text, length, has_id }, !persistence.closes))
    }
}

/// Whether a target is in origin-form, and has but the characters that RFC 3986 section 3.3 and 3.4 let a path and a
/// query have.
fn is_plain_target(target: &str) -> bool {
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let known = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@%/?";
        let mut at = 0;
        while at < known.len() {
            plain[known[at] as usize] = true;
            at += 1;
        }
        plain
    };
    target.starts_with('/') && target.bytes().all(|byte| PLAIN[usize::from(byte)])
}
