//! What a scalar means to Kubernetes, whose reader follows YAML 1.1 in part (`on` is true, 0644 is octal), and how a
//! text is written so that every reader takes it for a text.

use serde_json::{Number, Value};

/// A plain scalar's value; `Err` for numbers that JSON does not have.
pub(super) fn resolve(text: &str) -> Result<Value, NotFinite> {
    if let Some(value) = word(text) {
        return Ok(value);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(NotFinite);
    }
    match text.bytes().next() {
        Some(b'0'..=b'9' | b'+' | b'-') => {
            let plain = text.replace('_', "");
            Ok(integer(&plain).or_else(|| float(&plain)).unwrap_or_else(|| Value::from(text)))
        }
        Some(b'.') => Ok(float(text).unwrap_or_else(|| Value::from(text))),
        _ => Ok(Value::from(text)),
    }
}

/// A number that JSON does not have.
#[derive(Debug)]
pub(super) struct NotFinite;

fn word(text: &str) -> Option<Value> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        _ => return None,
    })
}

fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // from_str_radix takes a sign of its own.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    if negative { 0i64.checked_sub_unsigned(size).map(Value::from) } else { Some(Value::from(size)) }
}

fn float(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = match mantissa.split_once('.') {
        Some(("", after)) => digits(after),
        Some((before, after)) => digits(before) && (after.is_empty() || digits(after)),
        None => digits(mantissa),
    };
    let scaled = exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text)));
    if !whole || !scaled {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    // Kubernetes makes JSON of it first, where 3.0 is 3.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 53 bits")]
        return Some(Value::from(value as i64));
    }
    Number::from_f64(value).map(Value::Number)
}

/// Whether a text may stand without quotes, outside brackets or within, and is a text to readers of YAML 1.1 and 1.2. Within
/// brackets `?` ends it for libyaml and what was made of it, which is what reads manifests in Kubernetes.
pub(super) fn plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"_./$()=+^@%;<>*&!~|'\"-: #".contains(byte);
    let opens = first.is_ascii_alphabetic() || b"_/$(".contains(first) || quantity(text);
    let closes = last.is_ascii_alphanumeric() || b"_./$()=+^@%;<>*&!~|'\"-".contains(last);
    opens
        && closes
        && bytes.iter().all(harmless)
        && !text.contains(": ")
        && !text.contains(" #")
        && word(text).is_none()
}

/// `128Mi`, `5s`: begins as a number, and no reader takes it for one or for a time.
fn quantity(text: &str) -> bool {
    text.as_bytes()[0].is_ascii_digit()
        && text.ends_with(|c: char| c.is_ascii_alphabetic())
        && !text.contains([':', '-', '+'])
        && matches!(resolve(text), Ok(Value::String(_)))
}

/// A text in double quotes, with nothing in it that is not printable ASCII or another script's letter.
pub(super) fn double_quoted(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            // JSON knows \u alone, and two of them for what is beyond the first plane: both forms must do.
            c if printable(c) => out.push(c),
            c => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
    out
}

/// Whether a character may stand in any YAML scalar and cannot be taken for a line's end or an order of bytes.
pub(super) fn printable(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_are_what_kubernetes_takes_them_for() {
        let check = |text: &str, expected: Value| assert_eq!(resolve(text).expect("finite"), expected, "{text:?}");
        for text in ["", "~", "null", "NULL"] {
            check(text, json!(null));
        }
        for text in ["y", "yes", "ON", "true", "True"] {
            check(text, json!(true));
        }
        for text in ["n", "No", "off", "FALSE"] {
            check(text, json!(false));
        }
        check("0644", json!(420));
        check("0o644", json!(420));
        check("0x1F", json!(31));
        check("0b101", json!(5));
        check("-0x10", json!(-16));
        check("1_000", json!(1000));
        check("+7", json!(7));
        check("08", json!(8));
        check("18446744073709551615", json!(u64::MAX));
        check("-9223372036854775808", json!(i64::MIN));
        check("1e3", json!(1000));
        check("3.0", json!(3));
        check(".5", json!(0.5));
        check("1.", json!(1));
        check("-1.5e-3", json!(-0.0015));
        for text in
            ["1:30", "2001-12-14", "1e", "0x", "0b2", "-", "+", ".", "..", "yEs", "1.2.3", "10m", "128Mi", "-+5"]
        {
            check(text, json!(text));
        }
        for text in [".inf", "-.Inf", ".NaN"] {
            assert!(resolve(text).is_err(), "{text}");
        }
    }

    #[test]
    fn texts_that_a_reader_could_mistake_are_quoted() {
        for text in [
            "orders",
            "/etc/tidegate",
            "metadata.name",
            "128Mi a",
            "http://127.0.0.1:3000/healthz",
            "$(POD)",
            "sh -c x",
            "10m",
            "128Mi",
            "5s",
        ] {
            assert!(plain(text), "{text:?}");
        }
        for text in [
            "",
            " a",
            "a ",
            "yes",
            "on",
            "N",
            "~",
            "null",
            "012",
            "1e3",
            ".5",
            "-1",
            "+1",
            "-",
            "- a",
            "a: b",
            "a #b",
            "#a",
            "a:",
            "*a",
            "&a",
            "!a",
            "[a",
            "{a",
            "a,b",
            "http://127.0.0.1/ready?full",
            "|",
            ">",
            "%a",
            "@a",
            "`a",
            "'a",
            "\"a",
            "a\nb",
            "a\tb",
            "1:30",
            "2001-12-14",
            "...",
            "---",
            ".inf",
            ".NaN",
            "<<",
            "=",
            "0x1f",
            "a}",
            "a]",
            "é",
        ] {
            assert!(!plain(text), "{text:?}");
        }
        assert_eq!(double_quoted("a\"\\\n\t\u{85}\u{feff}é\u{1f600}"), "\"a\\\"\\\\\\n\\t\\u0085\\ufeffé\u{1f600}\"");
    }
}
