//! Strict percent-decoding of parts of a URL (RFC 3986 section 2.1) and of query parameters (the URL standard's
//! application/x-www-form-urlencoded).

use std::borrow::Cow;

/// What is not percent-encoded UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not percent-encoded UTF-8")]
pub struct Malformed;

/// Decodes a path segment, or another part of a URL in which `+` is a plus; text without escapes is borrowed.
///
/// # Errors
/// A `%` without two hexadecimal digits, or bytes that are not UTF-8.
pub fn segment(text: &str) -> Result<Cow<'_, str>, Malformed> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    decode(text.as_bytes())
}

/// Names and values of a query, in order; each may be malformed as a [`segment`] may.
pub fn query(query: &str) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), Malformed>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((parameter(name)?, parameter(value)?))
    })
}

fn parameter(text: &str) -> Result<Cow<'_, str>, Malformed> {
    if text.contains('+') { decode(text.replace('+', " ").as_bytes()) } else { segment(text) }
}

fn decode<'t>(bytes: &[u8]) -> Result<Cow<'t, str>, Malformed> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        rest = match (byte, tail) {
            (b'%', [high, low, tail @ ..]) => {
                decoded.push((hex(*high)? << 4) | hex(*low)?);
                tail
            }
            (b'%', _) => return Err(Malformed),
            _ => {
                decoded.push(*byte);
                tail
            }
        };
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| Malformed)
}

fn hex(digit: u8) -> Result<u8, Malformed> {
    // A hexadecimal digit is below 16.
    char::from(digit).to_digit(16).map(|value| value as u8).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_decode() {
        let cases = [
            ("plain", Ok("plain")),
            ("a+b", Ok("a+b")),
            ("a%20b%2Fc", Ok("a b/c")),
            ("%C3%A4", Ok("ä")),
            ("%c3%a4", Ok("ä")),
            ("%", Err(Malformed)),
            ("%4", Err(Malformed)),
            ("%zz", Err(Malformed)),
            ("%+1", Err(Malformed)),
            ("%ff", Err(Malformed)),
        ];
        for (text, expected) in cases {
            assert_eq!(segment(text).as_deref(), expected.as_ref().map(|text| *text), "{text}");
        }
    }

    #[test]
    fn parameters_decode() {
        let pairs: Result<Vec<_>, _> = query("a=1&&b=x+y&c&d=%26%3D%2B&a=2").collect();
        let pairs = pairs.expect("sound");
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(pairs, [("a", "1"), ("b", "x y"), ("c", ""), ("d", "&=+"), ("a", "2")]);
        assert!(query("a=%ff").any(|pair| pair.is_err()));
    }
}
