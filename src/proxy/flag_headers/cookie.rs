//! Cookies of a request, read strictly (RFC 6265 §4.2.1) and in place. Pure.

use http::header::{COOKIE, HeaderMap};

/// The value of the cookie `name`: the first of several, as most servers have it; HTTP/2 may bring them in several fields
/// (RFC 9113 §8.2.3). What is no cookie is skipped, and does not hide those beside it.
pub(super) fn get<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let fields = headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(';')).find_map(|pair| {
        let (known, value) = pair.strip_prefix(' ').unwrap_or(pair).split_once('=')?;
        // Names differ by case; a value may stand between quotes, which are no part of what is meant.
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        (known == name && value.bytes().all(is_octet)).then_some(value)
    })
}

/// RFC 6265 §4.1.1: no controls, whitespace, quotes, commas, semicolons or backslashes.
fn is_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

/// Whether a cookie can have this name (a token, RFC 9110 §5.6.2).
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    #[test]
    fn cookies_are_found_by_their_name_and_read_strictly() {
        for (fields, expected) in [
            (&["uid=ann"][..], Some("ann")),
            (&["a=1; uid=ann; b=2"], Some("ann")),
            (&["a=1;uid=ann"], Some("ann")),
            (&["uid=\"ann\""], Some("ann")),
            (&["a=1", "uid=ann"], Some("ann")),
            (&["uid=first; uid=second"], Some("first")),
            (&["uid="], Some("")),
            (&["uid=a=b"], Some("a=b")),
            (&["xuid=1; uidx=2; UID=3"], None),
            (&["a=\"; uid=x; b=\""], Some("x")),
            (&["uid"], None),
            (&["uid = ann"], None),
            (&["uid=a b"], None),
            (&["uid=a,b"], None),
            (&["uid=a\\b; uid=second"], Some("second")),
            (&["uid=\"ann"], None),
            (&["\t uid=ann"], None),
            (&[""], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(COOKIE, HeaderValue::from_static(field));
            }
            assert_eq!(get(&headers, "uid"), expected, "{fields:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_bytes(b"uid=a\xff").expect("a field may hold it"));
        assert_eq!(get(&headers, "uid"), None);
    }
}
