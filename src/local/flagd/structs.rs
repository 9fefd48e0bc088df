//! `google.protobuf.Struct`: contexts read in place as what an evaluation reads, and values, metadata and contexts
//! written. Pure.

use std::borrow::Cow;

use crate::flags::context::{Object, Value};
use crate::flags::model::Metadata;
use crate::net::rpc::wire::{Fields, Malformed, put_bytes, put_double, put_message, put_number};

/// How deep a context may nest: protocol buffers' own bound, below serde_json's for JSON contexts.
const MAX_DEPTH: usize = 100;

/// Appends the fields of a Struct to `fields`.
///
/// # Errors
/// [`Malformed`]
pub(super) fn read<'b>(message: &'b [u8], fields: &mut Vec<(Cow<'b, str>, Value<'b>)>) -> Result<(), Malformed> {
    object(message, fields, MAX_DEPTH)
}

fn object<'b>(message: &'b [u8], fields: &mut Vec<(Cow<'b, str>, Value<'b>)>, depth: usize) -> Result<(), Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed::Depth)?;
    for field in Fields::of(message) {
        let (1, entry) = field? else { continue };
        let (mut name, mut read) = ("", Value::Null);
        for field in Fields::of(entry.bytes()?) {
            match field? {
                (1, text) => name = text.text()?,
                (2, inner) => read = value(inner.bytes()?, depth)?,
                _ => {}
            }
        }
        fields.push((Cow::Borrowed(name), read));
    }
    Ok(())
}

fn value(message: &[u8], depth: usize) -> Result<Value<'_>, Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed::Depth)?;
    let mut read = Value::Null;
    for field in Fields::of(message) {
        let (number, wire) = field?;
        read = match number {
            1 => Value::Null,
            2 => double(wire.double()?),
            3 => Value::String(Cow::Borrowed(wire.text()?)),
            4 => Value::Bool(wire.bool()?),
            5 => {
                let mut fields = Vec::new();
                object(wire.bytes()?, &mut fields, depth)?;
                Value::Object(Object::new(fields))
            }
            6 => {
                let mut items = Vec::new();
                for field in Fields::of(wire.bytes()?) {
                    if let (1, item) = field? {
                        items.push(value(item.bytes()?, depth)?);
                    }
                }
                Value::Array(items)
            }
            _ => continue,
        };
    }
    Ok(read)
}

/// What JSON has no number for becomes the text that flagd makes of it (`structpb.Value.AsInterface`).
fn double(number: f64) -> Value<'static> {
    if number.is_finite() {
        return Value::Number(number);
    }
    let text = if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    Value::String(Cow::Borrowed(text))
}

/// Appends a field that is a Struct of these fields.
pub(super) fn put_object(buffer: &mut Vec<u8>, number: u32, object: &Object<'_>) {
    put_message(buffer, number, |buffer| {
        for (name, value) in object.iter() {
            put_entry(buffer, name, |buffer| put_value(buffer, value));
        }
    });
}

/// Appends an entry of a Struct, whose value `write` appends the fields of.
pub(super) fn put_entry(buffer: &mut Vec<u8>, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    put_message(buffer, 1, |buffer| {
        put_bytes(buffer, 1, name);
        put_message(buffer, 2, write);
    });
}

/// Appends the fields of a Value that is a string.
pub(super) fn put_text(buffer: &mut Vec<u8>, text: &str) {
    put_bytes(buffer, 3, text);
}

/// Appends the fields of a Value that is a Struct, whose entries `write` appends.
pub(super) fn put_struct(buffer: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    put_message(buffer, 5, write);
}

fn put_value(buffer: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Null => put_number(buffer, 1, 0),
        Value::Number(number) => put_double(buffer, 2, *number),
        Value::String(text) => put_text(buffer, text),
        Value::Bool(bool) => put_number(buffer, 4, u64::from(*bool)),
        Value::Object(object) => put_object(buffer, 5, object),
        Value::Array(items) => put_message(buffer, 6, |buffer| {
            for item in items {
                put_message(buffer, 1, |buffer| put_value(buffer, item));
            }
        }),
    }
}

/// Appends a field that is a Struct of what `json`, an object of ours, holds.
pub(super) fn put_json(buffer: &mut Vec<u8>, number: u32, json: &str) {
    match serde_json::from_str(json) {
        Ok(Value::Object(object)) => put_object(buffer, number, &object),
        _ => put_message(buffer, number, |_| {}),
    }
}

/// Appends a field that is a Struct of metadata.
pub(super) fn put_metadata(buffer: &mut Vec<u8>, number: u32, metadata: &Metadata) {
    put_message(buffer, number, |buffer| {
        for (name, json) in metadata.iter() {
            put_entry(buffer, name, |buffer| match json.as_bytes() {
                b"true" => put_number(buffer, 4, 1),
                b"false" => put_number(buffer, 4, 0),
                [b'"', ..] => put_text(buffer, &text(json)),
                _ => put_double(buffer, 2, json.parse().unwrap_or_default()),
            });
        }
    });
}

/// The text of a JSON string of ours, quotes included.
pub(super) fn text(json: &str) -> Cow<'_, str> {
    let inside = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or_default();
    if inside.contains('\\') { Cow::Owned(serde_json::from_str(json).unwrap_or_default()) } else { inside.into() }
}

/// A context as JSON.
pub(super) fn json(object: &Object<'_>) -> serde_json::Value {
    object.iter().map(|(name, value)| (name.to_owned(), json_value(value))).collect()
}

fn json_value(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(bool) => (*bool).into(),
        // Whole numbers without a point, as they were given: a client may look for an integer.
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => (*number as i64).into(),
        Value::Number(number) => (*number).into(),
        Value::String(text) => text.as_ref().into(),
        Value::Array(items) => items.iter().map(json_value).collect(),
        Value::Object(object) => json(object),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost_reflect::prost::Message as _;
    use prost_reflect::{DescriptorPool, DynamicMessage};

    use super::*;

    fn parsed(json: &str) -> Object<'_> {
        match serde_json::from_str(json) {
            Ok(Value::Object(object)) => object,
            other => panic!("{json}: {other:?}"),
        }
    }

    fn wrapped(object: &Object<'_>) -> Vec<u8> {
        let mut message = Vec::new();
        put_object(&mut message, 1, object);
        message
    }

    fn unwrapped(message: &[u8]) -> Result<Object<'_>, Malformed> {
        let mut fields = Vec::new();
        for field in Fields::of(message) {
            read(field?.1.bytes()?, &mut fields)?;
        }
        Ok(Object::new(fields))
    }

    #[test]
    fn what_is_written_is_read() {
        for json in [
            "{}",
            r#"{"":null,"a":true,"b":false,"c":-1.5,"d":"ü\n","e":[],"f":[1,[null],{"x":{"y":[{}]}}],"g":{"h":{}}}"#,
        ] {
            let object = parsed(json);
            assert_eq!(unwrapped(&wrapped(&object)), Ok(object), "{json}");
        }
    }

    #[test]
    fn a_context_of_any_depth_is_refused_or_read_and_never_overflows() {
        for (depth, sound) in [(30, true), (49, true), (120, false), (20_000, false)] {
            let mut message = Vec::new();
            put_struct(&mut message, |_| {});
            for _ in 1..depth {
                let mut outer = Vec::new();
                put_struct(&mut outer, |buffer| put_entry(buffer, "a", |buffer| buffer.extend_from_slice(&message)));
                message = outer;
            }
            let mut context = Vec::new();
            put_message(&mut context, 1, |buffer| put_entry(buffer, "a", |buffer| buffer.extend_from_slice(&message)));
            assert_eq!(unwrapped(&context).is_ok(), sound, "{depth}");
        }
    }

    #[test]
    fn numbers_that_json_lacks_are_texts() {
        let mut message = Vec::new();
        put_message(&mut message, 1, |buffer| put_entry(buffer, "n", |buffer| put_double(buffer, 2, f64::NAN)));
        let object = unwrapped(&message).expect("sound");
        assert_eq!(object.get("n"), Some(&Value::String("NaN".into())));
    }

    #[test]
    fn contexts_keep_their_whole_numbers() {
        let text = r#"{"a":[1,2.5,{"b":null}],"n":-3}"#;
        assert_eq!(json(&parsed(text)).to_string(), text);
    }

    /// JSON objects up to a few levels deep.
    fn objects() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<f64>().prop_filter("JSON has no others", |number| number.is_finite()).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        let value = leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
            ]
        });
        prop::collection::hash_map(any::<String>(), value, 0..6)
            .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn another_implementation_writes_what_we_read_and_reads_what_we_write(json in objects()) {
            let pool = DescriptorPool::decode(super::super::reflection::DESCRIPTORS).expect("descriptors");
            let message = pool.get_message_by_name("google.protobuf.Struct").expect("it is imported");
            let theirs = DynamicMessage::deserialize(message.clone(), json.clone()).expect("a Struct");
            let text = json.to_string();
            let mut fields = Vec::new();
            let bytes = theirs.encode_to_vec();
            read(&bytes, &mut fields).expect("sound");
            let (ours, given) = (Object::new(fields), parsed(&text));
            prop_assert_eq!(ours.iter().count(), given.iter().count());
            for (name, value) in given.iter() {
                // Of objects the order differs.
                prop_assert_eq!(ours.get(name).map(json_value), Some(json_value(value)));
            }
            let wrapped = wrapped(&given);
            let (_, inner) = Fields::of(&wrapped).next().expect("one field").expect("sound");
            let read = DynamicMessage::decode(message, inner.bytes().expect("a message")).expect("theirs reads ours");
            prop_assert_eq!(read, theirs);
        }
    }
}
