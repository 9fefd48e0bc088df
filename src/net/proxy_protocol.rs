//! The header of the PROXY protocol, versions 1 and 2, by which a load balancer tells whose connection it passes on
//! (haproxy.org, doc/proxy-protocol.txt; section numbers are of that text). Pure: reads bytes, no socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// What version 2 begins with (section 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with (section 2.1).
const WORD: &[u8; 6] = b"PROXY ";
/// A line of version 1 with its CRLF has no more bytes (section 2.1).
const LINE: usize = 107;
/// Before the addresses of version 2.
const FIXED: usize = 16;
/// A header has no more bytes. Extensions may make one of version 2 sixteen times as long; what load balancers send
/// fits in a tenth of this.
pub const LONGEST: usize = 4096;
/// The type of the extension that holds a checksum (section 2.2.3).
const CRC32C: u8 = 0x03;

/// What the bytes at the beginning of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The beginning of a header, shorter than [`LONGEST`].
    Partial,
    /// A header.
    Whole {
        /// Its bytes; what follows is the client's.
        length: usize,
        /// Who the client is. `None`: whoever is at the other end, because the load balancer speaks for itself
        /// (`LOCAL`) or of something that has no IP address.
        source: Option<SocketAddr>,
    },
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    /// They begin with neither version's beginning.
    #[error("no PROXY header")]
    Absent,
    /// A line of version 1 that is not as section 2.1 says.
    #[error("a malformed line")]
    Line,
    /// A version, command, family or transport that must be refused (section 2.2).
    #[error("an unknown version, command or address family")]
    Unknown,
    /// Longer than [`LONGEST`], or too short for its addresses.
    #[error("a length that cannot be")]
    Length,
    /// Extensions that do not fill the space left for them.
    #[error("malformed extensions")]
    Extensions,
    /// The checksum is another one.
    #[error("a wrong checksum")]
    Checksum,
}

/// Reads the header that `bytes` begin with.
///
/// # Errors
/// They begin with none, and no further bytes can make them one.
pub fn parse(bytes: &[u8]) -> Result<Header, Malformed> {
    if begins(bytes, SIGNATURE) {
        return if bytes.len() < FIXED { Ok(Header::Partial) } else { binary(bytes) };
    }
    if begins(bytes, WORD) {
        return line(bytes);
    }
    Err(Malformed::Absent)
}

/// Whether `bytes` begin with `with`, as far as they go.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    let common = bytes.len().min(with.len());
    bytes[..common] == with[..common]
}

/// Version 1 (section 2.1).
fn line(bytes: &[u8]) -> Result<Header, Malformed> {
    let seen = &bytes[..bytes.len().min(LINE)];
    // Neither CR nor LF alone ends a line, nor may one stand in it.
    let Some(end) = seen.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if seen.len() < LINE { Ok(Header::Partial) } else { Err(Malformed::Line) };
    };
    match (seen[end], seen.get(end + 1)) {
        (b'\r', Some(b'\n')) => {}
        (b'\r', None) if seen.len() < LINE => return Ok(Header::Partial),
        _ => return Err(Malformed::Line),
    }
    let length = end + 2;
    let text = std::str::from_utf8(&seen[WORD.len()..end]).map_err(|_| Malformed::Line)?;
    let (protocol, rest) = text.split_once(' ').map_or((text, None), |(protocol, rest)| (protocol, Some(rest)));
    // What follows UNKNOWN is to be ignored.
    if protocol == "UNKNOWN" {
        return Ok(Header::Whole { length, source: None });
    }
    let parts: Vec<&str> = rest.ok_or(Malformed::Line)?.splitn(5, ' ').collect();
    let [source, target, port, target_port] = parts[..] else { return Err(Malformed::Line) };
    let address = |text: &str| match protocol {
        "TCP4" => text.parse().ok().map(IpAddr::V4),
        "TCP6" => text.parse().ok().map(IpAddr::V6),
        _ => None,
    };
    let (Some(source), Some(_), Some(port), Some(_)) =
        (address(source), address(target), decimal(port), decimal(target_port))
    else {
        return Err(Malformed::Line);
    };
    Ok(Header::Whole { length, source: Some(SocketAddr::new(source, port)) })
}

/// A port without sign or leading zeros.
fn decimal(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// Version 2 (section 2.2): at least its fixed part is there.
fn binary(bytes: &[u8]) -> Result<Header, Malformed> {
    let [version_command, family_transport] = [bytes[12], bytes[13]];
    let length = FIXED + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let (family, transport) = (family_transport >> 4, family_transport & 0xf);
    if version_command >> 4 != 2 {
        return Err(Malformed::Unknown);
    }
    if length > LONGEST {
        return Err(Malformed::Length);
    }
    let local = match version_command & 0xf {
        0 => true,
        1 if family <= 3 && transport <= 2 => false,
        _ => return Err(Malformed::Unknown),
    };
    let Some(header) = bytes.get(..length) else { return Ok(Header::Partial) };
    // With LOCAL everything else is ignored, the family too.
    if local {
        return Ok(Header::Whole { length, source: None });
    }
    let addresses = match (family, transport) {
        (1, 1..) => 12,
        (2, 1..) => 36,
        (3, 1..) => 216,
        // Unspecified: how long what is ignored may be is unspecified too, so that extensions cannot be found.
        _ => return Ok(Header::Whole { length, source: None }),
    };
    let (block, extensions) = header[FIXED..].split_at_checked(addresses).ok_or(Malformed::Length)?;
    check(header, extensions)?;
    let source = match (family, transport) {
        (1, 1) => {
            let source: [u8; 4] = block[..4].try_into().expect("four bytes of twelve");
            let port = u16::from_be_bytes([block[8], block[9]]);
            Some(SocketAddr::new(Ipv4Addr::from(source).into(), port))
        }
        (2, 1) => {
            let source: [u8; 16] = block[..16].try_into().expect("sixteen bytes of thirty-six");
            let port = u16::from_be_bytes([block[32], block[33]]);
            Some(SocketAddr::new(Ipv6Addr::from(source).into(), port))
        }
        // A unix socket has no such address, and nobody speaks HTTP/1.1 or HTTP/2 over datagrams.
        _ => None,
    };
    Ok(Header::Whole { length, source })
}

/// Walks the extensions, which end where the header ends, and compares a checksum among them.
fn check(header: &[u8], mut extensions: &[u8]) -> Result<(), Malformed> {
    while let Some((head, rest)) = extensions.split_first_chunk::<3>() {
        let size = usize::from(u16::from_be_bytes([head[1], head[2]]));
        let (value, rest) = rest.split_at_checked(size).ok_or(Malformed::Extensions)?;
        if head[0] == CRC32C {
            let expected = u32::from_be_bytes(value.try_into().map_err(|_| Malformed::Extensions)?);
            let at = header.len() - rest.len() - value.len();
            // Computed with zeros where the checksum itself is.
            let crc = [&header[..at], &[0; 4], &header[at + 4..]].into_iter().fold(!0, crc32c);
            if !crc != expected {
                return Err(Malformed::Checksum);
            }
        }
        extensions = rest;
    }
    if extensions.is_empty() { Ok(()) } else { Err(Malformed::Extensions) }
}

/// CRC-32C (RFC 9260 appendix A), to be begun with all ones and inverted at the end. Bit by bit: a header is short and
/// there is one a connection.
fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 })
    })
}

#[cfg(test)]
mod tests;
