//! Text of clients as JSON strings: whatever the bytes are, the line stays one line of valid UTF-8, and a terminal that
//! shows it takes no orders from it. Pure.

/// Appends `bytes` as a JSON string (RFC 8259 §7). What is no UTF-8 becomes U+FFFD; control characters, those of
/// Unicode's C1 included, are escaped.
pub(super) fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        let mut plain = 0;
        let text = chunk.valid();
        for (at, sign) in text.char_indices() {
            if !(sign.is_control() || matches!(sign, '"' | '\\' | '\u{2028}' | '\u{2029}')) {
                continue;
            }
            out.extend_from_slice(&text.as_bytes()[plain..at]);
            plain = at + sign.len_utf8();
            match sign {
                '"' | '\\' => out.extend_from_slice(&[b'\\', sign as u8]),
                _ => escape(out, sign as u32),
            }
        }
        out.extend_from_slice(&text.as_bytes()[plain..]);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

/// `\u` and four hexadecimal digits; what is escaped is never beyond them.
fn escape(out: &mut Vec<u8>, code: u32) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(b"0123456789abcdef"[(code >> shift & 0xf) as usize]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quoted(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        string(&mut out, bytes);
        String::from_utf8(out).expect("always UTF-8")
    }

    #[test]
    fn what_would_break_a_line_or_a_string_is_escaped() {
        for (bytes, expected) in [
            (&b"/plain?x=1"[..], "\"/plain?x=1\""),
            (b"a\"b\\c", r#""a\"b\\c""#),
            (b"one\r\n{\"status\":200}", r#""one\u000d\u000a{\"status\":200}""#),
            (b"\x1b[2J\x7f\x00", r#""\u001b[2J\u007f\u0000""#),
            ("über \u{9b}31m \u{2028}".as_bytes(), r#""über \u009b31m \u2028""#),
            (b"\xff\xfeok\xc3", "\"\u{fffd}\u{fffd}ok\u{fffd}\""),
            (b"", "\"\""),
        ] {
            assert_eq!(quoted(bytes), expected);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_json_string_that_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = quoted(&bytes);
            prop_assert!(!text.chars().any(char::is_control), "{text:?}");
            let read: String = serde_json::from_str(&text).expect("a JSON string");
            prop_assert_eq!(read, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
