//! The bytes that bucketing version 3 hashes: RFC 8949 section 4.2.1, core deterministic encoding, of a value that a
//! rule gave (flagd's architecture decision "fractional, non-string randomization units").

use super::super::context::{Object, Value};
use super::interpret::{Halt, Scope};
use super::observe::Observer;
use super::val::Val;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// The encoding of `value`; `None` of what is no JSON value, such as all of the data at once.
pub(super) fn value(value: &Val<'_>, scope: &Scope<'_, '_, impl Observer>) -> Result<Option<Vec<u8>>, Halt> {
    let mut out = Vec::with_capacity(64);
    Ok(encode(value, &mut out, &|steps| scope.charge(steps))?.then_some(out))
}

/// The encoding of an array of two texts.
pub(super) fn pair(a: &str, b: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(a.len() + b.len() + 16);
    head(ARRAY, 2, &mut out);
    text(a, &mut out);
    text(b, &mut out);
    out
}

/// Appends the encoding and tells whether there is one. Nesting is bounded where values are made.
fn encode(val: &Val<'_>, out: &mut Vec<u8>, charge: &impl Fn(usize) -> Result<(), Halt>) -> Result<bool, Halt> {
    charge(1)?;
    match val {
        Val::Undefined | Val::Null => out.push(0xf6),
        Val::Bool(false) => out.push(0xf4),
        Val::Bool(true) => out.push(0xf5),
        Val::Number(value) => number(*value, out),
        Val::Str(_) | Val::Text(_) => {
            let value = val.as_str().unwrap_or_default();
            charge(value.len() / 64)?;
            text(value, out);
        }
        Val::List(_) | Val::Items(_) => {
            head(ARRAY, val.list_len().unwrap_or(0) as u64, out);
            for item in val.items() {
                if !encode(&item, out, charge)? {
                    return Ok(false);
                }
            }
        }
        Val::Object(object) => return map(object, out, charge),
        Val::Root | Val::Flagd | Val::Step(_) => return Ok(false),
    }
    Ok(true)
}

/// Keys in the order of their encodings: the shorter first, then by bytes.
fn map(object: &Object<'_>, out: &mut Vec<u8>, charge: &impl Fn(usize) -> Result<(), Halt>) -> Result<bool, Halt> {
    let mut fields: Vec<(&str, &Value<'_>)> = object.iter().collect();
    fields.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    head(MAP, fields.len() as u64, out);
    for (name, value) in fields {
        charge(name.len() / 64)?;
        text(name, out);
        if !encode(&Val::from(value), out, charge)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn text(text: &str, out: &mut Vec<u8>) {
    head(TEXT, text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Integral numbers of 64 bits as integers, zero without its sign; others as the shortest float that holds them.
fn number(number: f64, out: &mut Vec<u8>) {
    const BEYOND_UNSIGNED: f64 = 18_446_744_073_709_551_616.0;
    const LEAST: f64 = -9_223_372_036_854_775_808.0;
    if number.fract() == 0.0 && (0.0..BEYOND_UNSIGNED).contains(&number) {
        head(UNSIGNED, number as u64, out);
    } else if number.fract() == 0.0 && (LEAST..0.0).contains(&number) {
        head(NEGATIVE, !(number as i64).cast_unsigned(), out);
    } else {
        float(number, out);
    }
}

fn float(number: f64, out: &mut Vec<u8>) {
    let single = number as f32;
    if number.is_nan() {
        out.extend_from_slice(&[0xf9, 0x7e, 0x00]);
    } else if let Some(half) = half(number) {
        out.push(0xf9);
        out.extend_from_slice(&half.to_be_bytes());
    } else if f64::from(single) == number {
        out.push(0xfa);
        out.extend_from_slice(&single.to_be_bytes());
    } else {
        out.push(0xfb);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// The bits of an IEEE 754 half that is exactly `number`.
fn half(number: f64) -> Option<u16> {
    let sign = if number.is_sign_negative() { 0x8000 } else { 0 };
    let size = number.abs();
    if size == 0.0 {
        return Some(sign);
    }
    if size.is_infinite() {
        return Some(sign | 0x7c00);
    }
    // Multiples of 2^-24, and of a power of two by which 11 bits are enough.
    let exponent = ((size.to_bits() >> 52) as i32 - 1023).max(-14);
    if exponent > 15 {
        return None;
    }
    let mantissa = size * f64::from(10 - exponent).exp2();
    if mantissa.fract() != 0.0 {
        return None;
    }
    let mantissa = mantissa as u16;
    // A normal number has its leading bit at 10, which the exponent stands for.
    let biased = if mantissa < 0x400 { 0 } else { (exponent + 15) as u16 };
    Some(sign | (biased << 10) | (mantissa & 0x3ff))
}

/// A major type and its argument, in the fewest bytes.
fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    match argument {
        0..=23 => out.push(major | argument as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, argument as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(json: &str) -> String {
        let value: Value<'_> = serde_json::from_str(json).expect("the test's JSON is sound");
        let mut out = Vec::new();
        assert_eq!(encode(&Val::from(&value), &mut out, &|_| Ok(())), Ok(true));
        out.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn values_encode_as_in_the_appendix_of_the_rfc() {
        // RFC 8949 appendix A, integral floats but for those beyond 64 bits as integers.
        for (json, expected) in [
            ("0", "00"),
            ("-0.0", "00"),
            ("1.0", "01"),
            ("23", "17"),
            ("24", "1818"),
            ("100", "1864"),
            ("1000", "1903e8"),
            ("1000000", "1a000f4240"),
            ("1000000000000", "1b000000e8d4a51000"),
            ("18446744073709551616", "fa5f800000"),
            ("-1", "20"),
            ("-100", "3863"),
            ("-1000", "3903e7"),
            ("-9223372036854775808", "3b7fffffffffffffff"),
            ("1.1", "fb3ff199999999999a"),
            ("1.5", "f93e00"),
            ("65504.5", "fa477fe080"),
            ("3.4028234663852886e+38", "fa7f7fffff"),
            ("1.0e+300", "fb7e37e43c8800759c"),
            ("5.960464477539063e-8", "f90001"),
            ("0.00006103515625", "f90400"),
            ("-4.1", "fbc010666666666666"),
            ("false", "f4"),
            ("true", "f5"),
            ("null", "f6"),
            (r#""""#, "60"),
            (r#""IETF""#, "6449455446"),
            (r#""\u00fc""#, "62c3bc"),
            ("[1,[2,3],[4,5]]", "8301820203820405"),
            (r#"{"b":[2,3],"a":1}"#, "a26161016162820203"),
            (r#"{"aa":2,"z":1}"#, "a2617a0162616102"),
            (r#"{"a":1,"a":2}"#, "a1616102"),
        ] {
            assert_eq!(hex(json), expected, "{json}");
        }
    }

    #[test]
    fn the_pair_of_a_shorthand_hashes_as_the_design_says() {
        assert_eq!(crate::flags::hash::murmur3_32(&pair("fractional-flag-shorthand", "user-1"), 0), 1_080_331_339);
    }
}
