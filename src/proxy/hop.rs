//! How the app is told of the client and of this hop: `X-Forwarded-*`, `Forwarded` (RFC 7239) and
//! `X-Forwarded-Client-Cert`. Pure.

use http::header::{Entry, FORWARDED, HeaderMap, HeaderName, HeaderValue};

use super::forwarded;
use super::settings::Forwarded;
use super::spelling;
use super::upstream::encode::field;
use crate::net::edge::Peer;
use crate::net::tls::certificate::Client;
use crate::net::tls::settings::ClientAuth;

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Where a request came from, and how that is told to the app. One per client connection.
#[derive(Debug, Clone)]
pub struct Hop {
    address: HeaderValue,
    forwarded: HeaderValue,
    scheme: HeaderValue,
    certificate: Option<HeaderValue>,
    policy: Forwarded,
    /// Whether what a client says of certificates is believed.
    certificates: Told,
}

/// Whose word on clients' certificates counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// This hop's alone.
    Here,
    /// The client's, a proxy that may have seen one.
    Before,
}

impl Hop {
    /// The hop from a client at `peer` over a listener that asks for certificates as `auth` says.
    pub fn new(peer: &Peer, auth: ClientAuth, policy: Forwarded) -> Self {
        let address = peer.address.ip().to_canonical();
        let node = if address.is_ipv6() { format!("for=\"[{address}]\"") } else { format!("for={address}") };
        let scheme = peer.scheme.as_str();
        let node = if scheme == "https" { format!("{node};proto=https") } else { node };
        let text = |text: String| HeaderValue::try_from(text).expect("an address is visible ASCII");
        let here = auth != ClientAuth::None || policy == Forwarded::Replace;
        Self {
            address: text(address.to_string()),
            forwarded: text(node),
            scheme: HeaderValue::from_static(scheme),
            certificate: peer.certificate.as_deref().map(certificate),
            policy,
            certificates: if here { Told::Here } else { Told::Before },
        }
    }

    /// The client's address.
    pub fn address(&self) -> &[u8] {
        self.address.as_bytes()
    }

    /// How the client reached us.
    pub fn scheme(&self) -> &[u8] {
        self.scheme.as_bytes()
    }
}

/// Whether a field is one of `X-Forwarded-*`, however its words are joined.
pub(super) fn tells(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    spelling::begins(name, PREFIX)
}

/// Tells the app of this hop, to which nobody told of others.
pub(super) fn tell_first(headers: &mut HeaderMap, hop: &Hop) {
    headers.insert(X_FORWARDED_FOR, hop.address.clone());
    headers.insert(X_FORWARDED_PROTO, hop.scheme.clone());
    if let Some(certificate) = &hop.certificate {
        headers.insert(X_FORWARDED_CLIENT_CERT, certificate.clone());
    }
}

/// The same, in lines.
pub(super) fn tell_first_in_lines(text: &mut Vec<u8>, hop: &Hop) {
    field(&X_FORWARDED_FOR, &hop.address, text);
    field(&X_FORWARDED_PROTO, &hop.scheme, text);
    if let Some(certificate) = &hop.certificate {
        field(&X_FORWARDED_CLIENT_CERT, certificate, text);
    }
}

/// Tells the app of this hop, in a request that tells of others, or of what an app may take for that.
pub(super) fn tell_after_others(headers: &mut HeaderMap, hop: &Hop) {
    if hop.policy == Forwarded::Replace {
        headers.remove(FORWARDED);
    }
    // Apps take `x_forwarded_for` and `x.forwarded.for` for `x-forwarded-for`: no proxy of ours writes it so.
    let doomed = |name: &&HeaderName| {
        let name = name.as_str().as_bytes();
        tells(name) && (hop.policy == Forwarded::Replace || spelling::is_odd(name))
    };
    let doomed: Vec<HeaderName> = headers.keys().filter(doomed).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
    for name in [X_FORWARDED_HOST, X_FORWARDED_PROTO] {
        if !headers.get_all(&name).iter().all(|line| forwarded::is_plain_list(line.as_bytes())) {
            headers.remove(name);
        }
    }
    append(headers, X_FORWARDED_FOR, &hop.address, forwarded::sound_addresses);
    if headers.contains_key(FORWARDED) {
        append(headers, FORWARDED, &hop.forwarded, forwarded::sound_elements);
    }
    if let Entry::Vacant(entry) = headers.entry(X_FORWARDED_PROTO) {
        entry.insert(hop.scheme.clone());
    }
    match (&hop.certificate, hop.certificates) {
        (Some(certificate), _) => drop(headers.insert(X_FORWARDED_CLIENT_CERT, certificate.clone())),
        (None, Told::Here) => drop(headers.remove(X_FORWARDED_CLIENT_CERT)),
        (None, Told::Before) => {}
    }
}

/// Appends to a list field, in one line: not every app reads the second. Of what is there only what is `sound` stays.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue, sound: fn(&[u8]) -> &[u8]) {
    match headers.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(value.clone());
        }
        Entry::Occupied(mut entry) => {
            let mut joined = Vec::new();
            for line in entry.iter() {
                let kept = sound(line.as_bytes());
                if kept.len() < line.len() {
                    // What cannot be told apart takes with it all that was said before it.
                    joined.clear();
                }
                if !kept.is_empty() {
                    joined.extend_from_slice(kept);
                    joined.extend_from_slice(b", ");
                }
            }
            joined.extend_from_slice(value.as_bytes());
            entry.insert(HeaderValue::from_bytes(&joined).unwrap_or_else(|_| value.clone()));
        }
    }
}

/// As Envoy writes it: `Hash=…;Subject="…";URI=…;DNS=…`, pairs between semicolons, elements between commas. Nothing in a
/// value can end it: what could is written otherwise in the subject, and a name that has it is left out.
fn certificate(client: &Client) -> HeaderValue {
    let mut text = String::from("Hash=");
    for byte in client.hash {
        text.push_str(&format!("{byte:02x}"));
    }
    text.push_str(";Subject=\"");
    subject(&mut text, &client.names.subject);
    text.push('"');
    let plain = |name: &&String| name.bytes().all(|byte| byte.is_ascii_graphic() && !b",;\"\\".contains(&byte));
    for (kind, names) in [("URI", &client.names.uris), ("DNS", &client.names.dns)] {
        for name in names.iter().filter(plain) {
            text.push_str(&format!(";{kind}={name}"));
        }
    }
    HeaderValue::try_from(text).expect("everything else than visible ASCII was escaped")
}

/// A name as RFC 4514 writes it, with pairs of hexadecimal digits (its section 2.4) for quotes and backslashes, which not
/// every reader of quoted text takes for the same, and for what is no ASCII.
fn subject(text: &mut String, name: &str) {
    let mut bytes = name.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let byte = match (byte, bytes.peek()) {
            (b'\\', Some(escaped @ (b'"' | b'\\'))) => {
                let escaped = *escaped;
                bytes.next();
                escaped
            }
            (b'\\', _) => {
                text.push('\\');
                continue;
            }
            (byte, _) => byte,
        };
        match byte {
            b' '..=b'~' if !b"\"\\".contains(&byte) => text.push(byte.into()),
            _ => text.push_str(&format!("\\{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_ends_it() {
        for (name, expected) in [
            ("CN=web,O=Shop\\, Inc.", "CN=web,O=Shop\\, Inc."),
            ("CN=\\\"a\\\"", "CN=\\22a\\22"),
            ("CN=a\\\\", "CN=a\\5C"),
            ("CN=a\\\\\\\"", "CN=a\\5C\\22"),
            ("CN=w\u{e9}b\\0a", "CN=w\\C3\\A9b\\0a"),
            ("CN=\"", "CN=\\22"),
        ] {
            let mut text = String::new();
            subject(&mut text, name);
            assert_eq!(text, expected, "of {name}");
        }
    }
}
