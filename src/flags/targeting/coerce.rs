//! JavaScript's conversions and comparisons (ECMA-262 section 7.1 and 7.2), as far as JSON values reach.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write;
use std::ptr;
use std::rc::Rc;

use super::val::Val;

/// `ToNumber` (7.1.4).
pub(super) fn number(val: &Val<'_>) -> f64 {
    match val {
        Val::Undefined => f64::NAN,
        Val::Null => 0.0,
        Val::Bool(bool) => f64::from(u8::from(*bool)),
        Val::Number(number) => *number,
        Val::Str(text) => string_to_number(text),
        Val::Text(text) => string_to_number(text),
        Val::List(_) | Val::Items(_) => string_to_number(&text(val)),
        Val::Object(_) | Val::Root | Val::Flagd | Val::Step(_) => f64::NAN,
    }
}

/// `StringToNumber` (7.1.4.1.1).
fn string_to_number(text: &str) -> f64 {
    let text = trim(text);
    if text.is_empty() {
        return 0.0;
    }
    let radix = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => 16,
        [b'0', b'o' | b'O', ..] => 8,
        [b'0', b'b' | b'B', ..] => 2,
        _ => return decimal(text).unwrap_or(f64::NAN),
    };
    let digits = &text[2..];
    if digits.is_empty() {
        return f64::NAN;
    }
    let mut value = 0.0;
    for digit in digits.chars() {
        match digit.to_digit(radix) {
            Some(digit) => value = value * f64::from(radix) + f64::from(digit),
            None => return f64::NAN,
        }
    }
    value
}

/// A `StrDecimalLiteral`: what Rust reads as a float, but `Infinity` by that one spelling and no `nan`.
fn decimal(text: &str) -> Option<f64> {
    match text {
        "Infinity" | "+Infinity" => return Some(f64::INFINITY),
        "-Infinity" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    if plain { text.parse().ok() } else { None }
}

/// `parseFloat` (19.2.4): the longest number at the beginning.
pub(super) fn parse_float(val: &Val<'_>) -> f64 {
    if let Val::Number(number) = val {
        return *number;
    }
    let text = text(val);
    let text = text.trim_start_matches(is_space);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = text.len() - unsigned.len();
    if unsigned.starts_with("Infinity") {
        return if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let bytes = unsigned.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut end = digits(0);
    let mut mantissa = end;
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        mantissa += fraction;
        end += 1 + fraction;
    }
    if mantissa == 0 {
        return f64::NAN;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let signed = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        // The slice in `digits` is within bounds: at most one past the exponent's letter and sign.
        let exponent = digits(end + 1 + signed);
        if exponent > 0 {
            end += 1 + signed + exponent;
        }
    }
    text[..sign + end].parse().unwrap_or(f64::NAN)
}

/// `ToString` (7.1.17), of arrays by `Array.prototype.join`.
pub(super) fn text<'t>(val: &'t Val<'_>) -> Cow<'t, str> {
    match val {
        Val::Str(text) => Cow::Borrowed(text),
        Val::Text(text) => Cow::Borrowed(text),
        Val::Undefined => Cow::Borrowed("undefined"),
        Val::Null => Cow::Borrowed("null"),
        Val::Bool(true) => Cow::Borrowed("true"),
        Val::Bool(false) => Cow::Borrowed("false"),
        Val::Number(number) => Cow::Owned(number_to_string(*number)),
        Val::List(_) | Val::Items(_) => {
            let mut joined = String::new();
            for (at, item) in val.items().enumerate() {
                if at > 0 {
                    joined.push(',');
                }
                join(&mut joined, &item);
            }
            Cow::Owned(joined)
        }
        Val::Object(_) | Val::Root | Val::Flagd | Val::Step(_) => Cow::Borrowed("[object Object]"),
    }
}

/// Appends an item as `Array.prototype.join` does: nothing for `null` and `undefined`.
pub(super) fn join(joined: &mut String, item: &Val<'_>) {
    if !matches!(item, Val::Null | Val::Undefined) {
        joined.push_str(&text(item));
    }
}

/// `Number::toString` (6.1.6.1.20) with radix 10.
pub(super) fn number_to_string(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number < 0.0 { "-Infinity" } else { "Infinity" }.to_owned();
    }
    if number == 0.0 {
        return "0".to_owned();
    }
    // Rust prints the shortest digits that read back the same, which is what the specification asks for.
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = mantissa.replace('.', "");
    let count = digits.len() as i32;
    let point = exponent + 1;
    let mut out = String::with_capacity(24);
    if number < 0.0 {
        out.push('-');
    }
    if count <= point && point <= 21 {
        out.push_str(&digits);
        out.extend(std::iter::repeat_n('0', (point - count) as usize));
    } else if 0 < point && point <= 21 {
        out.push_str(&digits[..point as usize]);
        out.push('.');
        out.push_str(&digits[point as usize..]);
    } else if -6 < point && point <= 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
        out.push_str(&digits);
    } else {
        out.push_str(&digits[..1]);
        if count > 1 {
            out.push('.');
            out.push_str(&digits[1..]);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        // Writing to a String cannot fail.
        write!(out, "e{sign}{}", exponent.unsigned_abs()).ok();
    }
    out
}

/// `IsStrictlyEqual` (7.2.15): arrays and objects are equal to themselves alone.
pub(super) fn strict_equal(a: &Val<'_>, b: &Val<'_>) -> bool {
    match (a, b) {
        (Val::Undefined, Val::Undefined) | (Val::Null, Val::Null) => true,
        (Val::Bool(a), Val::Bool(b)) => a == b,
        (Val::Number(a), Val::Number(b)) => a == b,
        (Val::List(a), Val::List(b)) => ptr::eq(*a, *b),
        (Val::Items(a), Val::Items(b)) => Rc::ptr_eq(a, b),
        (Val::Object(a), Val::Object(b)) => ptr::eq(*a, *b),
        (Val::Step(a), Val::Step(b)) => Rc::ptr_eq(a, b),
        (Val::Root, Val::Root) | (Val::Flagd, Val::Flagd) => true,
        _ => match (a.as_str(), b.as_str()) {
            (Some(a), Some(b)) => a == b,
            _ => false,
        },
    }
}

/// `IsLooselyEqual` (7.2.14).
pub(super) fn loose_equal(a: &Val<'_>, b: &Val<'_>) -> bool {
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        return a == b;
    }
    match (kind(a), kind(b)) {
        (Kind::Nothing, Kind::Nothing) => true,
        (Kind::Nothing, _) | (_, Kind::Nothing) => false,
        (Kind::Object, Kind::Object) | (Kind::String, Kind::String) => strict_equal(a, b),
        // Against an object's text, a string compares as text and anything else as a number.
        (Kind::Object, Kind::String) | (Kind::String, Kind::Object) => text(a) == text(b),
        _ => number(a) == number(b),
    }
}

#[derive(PartialEq)]
enum Kind {
    Nothing,
    Primitive,
    String,
    Object,
}

fn kind(val: &Val<'_>) -> Kind {
    match val {
        Val::Undefined | Val::Null => Kind::Nothing,
        Val::Bool(_) | Val::Number(_) => Kind::Primitive,
        Val::Str(_) | Val::Text(_) => Kind::String,
        _ => Kind::Object,
    }
}

/// `IsLessThan` (7.2.13) and its mirror: `None` when either is not a number.
pub(super) fn order(a: &Val<'_>, b: &Val<'_>) -> Option<Ordering> {
    let textual = |val: &Val<'_>| matches!(kind(val), Kind::String | Kind::Object);
    if textual(a) && textual(b) {
        // By UTF-16 units: beyond the basic plane that differs from the order of code points.
        return Some(text(a).encode_utf16().cmp(text(b).encode_utf16()));
    }
    number(a).partial_cmp(&number(b))
}

/// `ToIntegerOrInfinity` (7.1.5).
pub(super) fn integer(val: &Val<'_>) -> f64 {
    let number = number(val);
    if number.is_nan() { 0.0 } else { number.trunc() }
}

fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `WhiteSpace` and `LineTerminator` (12.2, 12.3).
fn is_space(char: char) -> bool {
    matches!(
        char,
        '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200a}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{feff}'
    )
}
