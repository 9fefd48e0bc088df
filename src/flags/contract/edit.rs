//! Changing one member of a definition's text and leaving the rest as it was written: order, numbers and all. Pure.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// The JSON object `definition` with its member `name` set to `value`, a JSON text; appended when it was not there.
///
/// # Errors
/// `definition` is not a JSON object.
pub fn with_member(definition: &str, name: &str, value: &str) -> serde_json::Result<String> {
    let mut json = serde_json::Deserializer::from_str(definition);
    let mut members = json.deserialize_map(Members)?;
    json.end()?;
    match members.iter_mut().rev().find(|(member, _)| member == name) {
        Some((_, text)) => value.clone_into(text),
        None => members.push((name.to_owned(), value.to_owned())),
    }
    let mut text = String::with_capacity(definition.len() + value.len());
    for (name, value) in &members {
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(&serde_json::to_string(name)?);
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    Ok(text)
}

/// Members in their order, each value as its text.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            members.push((name, value.get().to_owned()));
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_text_stays() {
        let cases = [
            (
                r#"{"state":"ENABLED","z":1.0,"a":12345678901234567890123}"#,
                r#"{"state":X,"z":1.0,"a":12345678901234567890123}"#,
            ),
            (r#"{"z":{"state": [] }}"#, r#"{"z":{"state": [] },"state":X}"#),
            ("{}", r#"{"state":X}"#),
            (r#" { "a\n" : 1 } "#, r#"{"a\n":1,"state":X}"#),
        ];
        for (before, after) in cases {
            let edited = with_member(before, "state", "\"DISABLED\"").expect(before);
            assert_eq!(edited, after.replace('X', "\"DISABLED\""), "{before}");
        }
        for text in ["", "[]", "1", "{", "{} {}", "null"] {
            assert!(with_member(text, "state", "1").is_err(), "{text}");
        }
    }
}
