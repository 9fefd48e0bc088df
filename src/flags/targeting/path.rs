//! Variable paths (`user.roles.0`), split once, and how they descend into data.

use std::fmt;

use super::val::Val;

/// A path known when the rule is compiled.
#[derive(Debug, Clone)]
pub(in crate::flags) enum Path {
    /// The empty path: all the data.
    Whole,
    /// Names and indices, at least one.
    Names(Box<[Box<str>]>),
}

impl Path {
    /// Splits `text` at its dots as JavaScript's `split(".")` does; empty parts count.
    pub(in crate::flags) fn new(text: &str) -> Self {
        if text.is_empty() { Path::Whole } else { Path::Names(text.split('.').map(Into::into).collect()) }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Whole => Ok(()),
            Path::Names(names) => f.write_str(&names.join(".")),
        }
    }
}

/// `text[name]`: a UTF-16 unit, or the length in them.
pub(super) fn character<'v>(text: &str, name: &str) -> Val<'v> {
    if name == "length" {
        return Val::Number(text.encode_utf16().count() as f64);
    }
    let Some(unit) = index(name).and_then(|at| text.encode_utf16().nth(at)) else { return Val::Undefined };
    // Half of a surrogate pair is no text in UTF-8.
    Val::from(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER).to_string())
}

/// `name` as an array index: decimal, without sign or leading zeros.
pub(super) fn index(name: &str) -> Option<usize> {
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (name.len() > 1 && name.starts_with('0')) {
        return None;
    }
    name.parse().ok()
}
