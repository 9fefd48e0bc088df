//! Headers byte by byte: right ones, wrong ones, and parts of both.

use proptest::prelude::*;

use super::*;

/// A header of version 2.
fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("short").to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, body].concat()
}

const TCP4: &[u8] = &[203, 0, 113, 9, 192, 0, 2, 1, 0xdc, 0x04, 0x01, 0xbb];

fn tcp6() -> Vec<u8> {
    let source: Ipv6Addr = "2001:db8::9".parse().expect("an address");
    [&source.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &[0xdc, 0x04, 0x01, 0xbb]].concat()
}

/// The header is whole, says `source`, is as long as it is, and every beginning of it is partial.
fn whole(header: &[u8], source: Option<&str>) {
    let source = source.map(|text| text.parse().expect("an address and port"));
    let expected = Ok(Header::Whole { length: header.len(), source });
    assert_eq!(parse(header), expected, "{}", header.escape_ascii());
    assert_eq!(parse(&[header, b"GET / HTTP/1.1\r\n"].concat()), expected, "followed by what the client sends");
    for end in 0..header.len() {
        assert_eq!(parse(&header[..end]), Ok(Header::Partial), "the first {end} of {}", header.escape_ascii());
    }
}

fn refused(header: &[u8], expected: Malformed) {
    assert_eq!(parse(header), Err(expected), "{}", header.escape_ascii());
}

#[test]
fn a_line_tells_the_clients_address() {
    whole(b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n", Some("203.0.113.9:56324"));
    whole(b"PROXY TCP6 2001:db8::9 ::1 0 65535\r\n", Some("[2001:db8::9]:0"));
    whole(b"PROXY UNKNOWN\r\n", None);
    let worst = b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!(worst.len(), LINE);
    whole(worst, None);
}

#[test]
fn a_line_that_is_not_exactly_one_is_refused() {
    for line in [
        "PROXY TCP4 203.0.113.9 192.0.2.1 56324\r\n",
        "PROXY TCP4 203.0.113.9 192.0.2.1 56324 443 \r\n",
        "PROXY TCP4 203.0.113.9 192.0.2.1 56324 443 1\r\n",
        "PROXY TCP4  203.0.113.9 192.0.2.1 56324 443\r\n",
        "PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\n",
        "PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\r\n",
        "PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\rG",
        "PROXY TCP4 203.0.113.9 192.0.2.1 65536 443\r\n",
        "PROXY TCP4 203.0.113.9 192.0.2.1 056 443\r\n",
        "PROXY TCP4 203.0.113.9 192.0.2.1 +56 443\r\n",
        "PROXY TCP4 203.0.113.09 192.0.2.1 56 443\r\n",
        "PROXY TCP4 203.0.113 192.0.2.1 56 443\r\n",
        "PROXY TCP4 ::1 ::1 56 443\r\n",
        "PROXY TCP6 203.0.113.9 192.0.2.1 56 443\r\n",
        "PROXY UDP4 203.0.113.9 192.0.2.1 56 443\r\n",
        "PROXY tcp4 203.0.113.9 192.0.2.1 56 443\r\n",
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY UNKNOWN\u{e9}\r\n",
    ] {
        refused(line.as_bytes(), Malformed::Line);
    }
    let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'f'; 92], b"\r\n".to_vec()].concat();
    assert_eq!(long.len(), LINE + 1);
    refused(&long, Malformed::Line);
    refused(&long[..LINE], Malformed::Line);
}

#[test]
fn what_begins_otherwise_is_no_header() {
    for bytes in ["GET / HTTP/1.1\r\n\r\n", "PROXYTCP4", "P ", "\r\n\r\nG", "\x16\x03\x01", "proxy TCP4"] {
        refused(bytes.as_bytes(), Malformed::Absent);
    }
}

#[test]
fn version_2_tells_the_clients_address() {
    whole(&version_2(0x21, 0x11, TCP4), Some("203.0.113.9:56324"));
    whole(&version_2(0x21, 0x21, &tcp6()), Some("[2001:db8::9]:56324"));
}

#[test]
fn where_there_is_no_such_address_it_is_the_connections() {
    whole(&version_2(0x20, 0x00, b""), None);
    whole(&version_2(0x20, 0x11, TCP4), None);
    whole(&version_2(0x20, 0xff, b"whatever"), None);
    whole(&version_2(0x21, 0x00, b""), None);
    whole(&version_2(0x21, 0x00, b"ignored"), None);
    whole(&version_2(0x21, 0x12, TCP4), None);
    whole(&version_2(0x21, 0x31, &[0; 216]), None);
    whole(&version_2(0x21, 0x32, &[0; 216]), None);
}

#[test]
fn what_version_2_does_not_know_is_refused() {
    for (command, family) in [(0x11, 0x11), (0x31, 0x11), (0x22, 0x11), (0x2f, 0x11), (0x21, 0x41), (0x21, 0x13)] {
        refused(&version_2(command, family, TCP4), Malformed::Unknown);
    }
}

#[test]
fn a_length_that_cannot_be_is_refused_before_its_bytes_are_waited_for() {
    let mut endless = version_2(0x21, 0x11, TCP4);
    endless[14..16].copy_from_slice(&0xffff_u16.to_be_bytes());
    refused(&endless, Malformed::Length);
    refused(&version_2(0x21, 0x11, &TCP4[..11]), Malformed::Length);
    refused(&version_2(0x21, 0x21, TCP4), Malformed::Length);
    refused(&version_2(0x21, 0x31, &[0; 215]), Malformed::Length);
    let most = vec![0; LONGEST - FIXED];
    whole(&version_2(0x20, 0x00, &most), None);
    refused(&version_2(0x20, 0x00, &[&most[..], &[0]].concat()), Malformed::Length);
}

#[test]
fn extensions_are_skipped_and_must_fill_their_space() {
    let with = |extensions: &[u8]| version_2(0x21, 0x11, &[TCP4, extensions].concat());
    whole(&with(b"\x04\0\0\x02\0\x04shop\xea\0\x01x"), Some("203.0.113.9:56324"));
    refused(&with(b"\x04"), Malformed::Extensions);
    refused(&with(b"\x04\0\x05abcd"), Malformed::Extensions);
    refused(&with(b"\x03\0\x03abc"), Malformed::Extensions);
}

#[test]
fn a_checksum_is_compared_wherever_it_stands() {
    assert_eq!(!crc32c(!0, b"123456789"), 0xE306_9283, "the check value of CRC-32C");
    for behind in [&b""[..], b"\x04\0\x02xy"] {
        let mut header = version_2(0x21, 0x11, &[TCP4, b"\x02\0\x04shop\x03\0\x04\0\0\0\0", behind].concat());
        let at = header.len() - behind.len() - 4;
        let sum = !crc32c(!0, &header);
        header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
        whole(&header, Some("203.0.113.9:56324"));
        // All but the type of the checksum itself: of another type it is none.
        for bit in (0..header.len() * 8).filter(|bit| bit / 8 != at - 3) {
            let mut flipped = header.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let told = parse(&flipped);
            let source = Some("203.0.113.9:56324".parse().expect("an address"));
            assert_ne!(told, Ok(Header::Whole { length: header.len(), source }), "bit {bit} changed unnoticed");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_header_a_part_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300), which in 0_u8..3) {
        let begin: &[u8] = match which { 0 => b"", 1 => WORD, _ => SIGNATURE };
        let bytes = [begin, &bytes].concat();
        if let Ok(Header::Whole { length, .. }) = parse(&bytes) {
            prop_assert!(length <= bytes.len() && length <= LONGEST);
        }
    }
}
