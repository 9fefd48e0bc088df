//! A flag's value as the text of a header field: never with anything in it that could end the field or begin another.
//! Pure.

use http::header::HeaderValue;

/// The most bytes of a value: apps bound the head of a request, all fields together, to 8 KiB and more.
pub(super) const LONGEST: usize = 4096;

/// The field's value for a flag's value, given as JSON; `None` for one that is too long.
///
/// Booleans and numbers stand as they are; an object as JSON, in ASCII; a string as it is, but that what is no visible
/// ASCII, and `%` itself, is percent-encoded (RFC 3986 §2.1): whoever decodes every value gets every string back.
pub(super) fn field(json: &str) -> Option<HeaderValue> {
    let text = match json.as_bytes().first()? {
        b'"' => percent_encoded(&serde_json::from_str::<String>(json).ok()?),
        b'{' | b'[' => ascii(json),
        _ => json.to_owned(),
    };
    HeaderValue::try_from(text).ok().filter(|value| value.len() <= LONGEST)
}

fn percent_encoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        // Blanks at either end are no part of a field's value (RFC 9110 §5.5).
        let inner = at > 0 && at + 1 < bytes.len();
        if byte.is_ascii_graphic() && *byte != b'%' || (*byte == b' ' && inner) {
            out.push(char::from(*byte));
            continue;
        }
        out.push('%');
        for digit in [byte >> 4, byte & 0xf] {
            out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
        }
    }
    out
}

/// JSON with its text in ASCII (RFC 8259 §7). Control characters are escaped in JSON already.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for sign in json.chars() {
        if matches!(sign, ' '..='~') {
            out.push(sign);
            continue;
        }
        for unit in sign.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_become_text_that_no_field_breaks_on() {
        for (json, expected) in [
            ("true", "true"),
            ("-1.50", "-1.50"),
            ("\"blue\"", "blue"),
            ("\"a b,c;d\"", "a b,c;d"),
            ("\" a \"", "%20a%20"),
            ("\"\"", ""),
            ("\"50%\"", "50%25"),
            ("\"a\\r\\nSet-Cookie: x\"", "a%0D%0ASet-Cookie: x"),
            ("\"\u{fc}ber\\u0000\"", "%C3%BCber%00"),
            (r#"{"a":"x\ny","b":[1,2]}"#, r#"{"a":"x\ny","b":[1,2]}"#),
            ("{\"a\":\"\u{fc}\u{1f600}\u{7f}\"}", r#"{"a":"\u00fc\ud83d\ude00\u007f"}"#),
        ] {
            assert_eq!(field(json).expect(json), expected, "{json}");
        }
        assert_eq!(field(&format!("\"{}\"", "a".repeat(4097))), None);
        assert_eq!(field(""), None);
    }

    proptest! {
        #[test]
        fn any_string_is_one_line_of_ascii_that_reads_back(text in any::<String>()) {
            let json = serde_json::to_string(&text).expect("a string");
            let value = field(&json).expect("short enough");
            let told = value.to_str().expect("visible ASCII");
            prop_assert!(!told.starts_with(' ') && !told.ends_with(' '));
            let mut bytes = Vec::new();
            let mut rest = told.as_bytes();
            while let Some((byte, after)) = rest.split_first() {
                if *byte == b'%' {
                    let hex = std::str::from_utf8(&after[..2]).expect("ASCII");
                    bytes.push(u8::from_str_radix(hex, 16).expect("two digits"));
                    rest = &after[2..];
                } else {
                    bytes.push(*byte);
                    rest = after;
                }
            }
            prop_assert_eq!(bytes, text.into_bytes());
        }

        #[test]
        fn any_object_is_the_same_object_in_ascii(name in any::<String>(), text in any::<String>()) {
            let object = serde_json::json!({ name: text });
            let value = field(&object.to_string()).expect("short enough");
            let read: serde_json::Value = serde_json::from_str(value.to_str().expect("visible ASCII")).expect("JSON");
            prop_assert_eq!(read, object);
        }
    }
}
