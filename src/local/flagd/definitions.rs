//! The flags in force as one flagd document, for clients that evaluate by themselves: evaluators in the place of each
//! `$ref`, and what stands above a flag (its set's metadata, its source) in its own metadata. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::structs;
use crate::flags::store::{Entry, Snapshot};
use crate::net::rpc::wire::put_bytes;

/// How many parts the rules of one document may have with their references followed: evaluators that refer to others
/// twice, which refer to others twice, would be more than any memory holds.
const MAX_PARTS: usize = 1_000_000;

/// One document, in the forms it is sent in.
#[derive(Debug)]
pub(super) struct Definitions {
    /// The document, as JSON.
    pub(super) document: Bytes,
    /// The static context, as a JSON object.
    pub(super) context: String,
    /// The document and the context as a `SyncFlagsResponse`.
    pub(super) message: Bytes,
}

impl Definitions {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut document = Vec::with_capacity(64 + snapshot.len() * 256);
        document.extend_from_slice(b"{\"flags\":{");
        let evaluators: Vec<BTreeMap<String, Value>> = snapshot
            .layers()
            .iter()
            .map(|layer| serde_json::from_str(layer.set.evaluators.json()).unwrap_or_default())
            .collect();
        let mut parts = MAX_PARTS;
        for entry in snapshot.iter() {
            let before = document.len();
            if !document.ends_with(b"{") {
                document.push(b',');
            }
            document.extend_from_slice(entry.flag().key_json().as_bytes());
            document.push(b':');
            if !put_definition(&mut document, entry, &evaluators[entry.layer()], &mut parts) {
                let flag = entry.flag().key();
                tracing::warn!(flag, limit = MAX_PARTS, "a flag is not synced: with its evaluators it is too large");
                document.truncate(before);
            }
        }
        document.extend_from_slice(b"}}");
        let context = snapshot.context().attributes();
        let mut message = Vec::with_capacity(document.len() + 64);
        put_bytes(&mut message, 1, &document);
        structs::put_object(&mut message, 2, context);
        Self { document: document.into(), context: structs::json(context).to_string(), message: message.into() }
    }
}

/// Appends an entry's definition, its fields in their order and each as it was written, but for `targeting` with its
/// references and `metadata`; false when its rule has too many `parts`.
fn put_definition(
    document: &mut Vec<u8>,
    entry: &Entry,
    evaluators: &BTreeMap<String, Value>,
    parts: &mut usize,
) -> bool {
    let definition = entry.flag().definition();
    let Ok(Members(members)) = serde_json::from_str(definition) else {
        // It was compiled, so it is an object.
        document.extend_from_slice(definition.as_bytes());
        return true;
    };
    document.push(b'{');
    for (name, value) in members {
        match name.as_str() {
            "metadata" => continue,
            "targeting" if value.get().contains("$ref") => {
                put_name(document, &name);
                let mut rule = serde_json::from_str(value.get()).unwrap_or_default();
                if !inline(&mut rule, evaluators, parts) {
                    return false;
                }
                serde_json::to_writer(&mut *document, &rule).expect("a value serialises, and a Vec takes it");
            }
            _ => {
                put_name(document, &name);
                document.extend_from_slice(value.get().as_bytes());
            }
        }
        document.push(b',');
    }
    document.extend_from_slice(b"\"metadata\":");
    document.extend_from_slice(entry.metadata_json().as_bytes());
    document.push(b'}');
    true
}

fn put_name(document: &mut Vec<u8>, name: &str) {
    serde_json::to_writer(&mut *document, name).expect("a string serialises, and a Vec takes it");
    document.push(b':');
}

/// Puts rules in the place of references to them; false when `parts` are used up. What was compiled refers to nothing
/// in a circle, and nests no deeper than compilation allows.
fn inline(rule: &mut Value, evaluators: &BTreeMap<String, Value>, parts: &mut usize) -> bool {
    let Some(left) = parts.checked_sub(1) else { return false };
    *parts = left;
    match rule {
        Value::Object(fields) if fields.len() == 1 && fields.contains_key("$ref") => {
            let name = fields["$ref"].as_str().unwrap_or_default();
            let Some(evaluator) = evaluators.get(name) else { return true };
            *rule = evaluator.clone();
            inline(rule, evaluators, parts)
        }
        Value::Object(fields) => fields.values_mut().all(|value| inline(value, evaluators, parts)),
        Value::Array(items) => items.iter_mut().all(|item| inline(item, evaluators, parts)),
        _ => true,
    }
}

/// An object's members in order, each value as it was written.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::flags::compile::{Format, document};
    use crate::flags::context::Base;
    use crate::flags::store::Layer;

    #[test]
    fn references_are_inlined_and_what_stands_above_is_folded_in() {
        let text = r#"{"metadata":{"team":"a","n":1},"$evaluators":{
            "inner":{"ends_with":[{"var":"email"},"@x.y"]},"staff":{"and":[{"$ref":"inner"},true]}},"flags":{
            "ref":{"state":"ENABLED","variants":{"b":1.0,"a":2},"defaultVariant":"b",
                "targeting":{"if":[{"$ref":"staff"},"a"]},"metadata":{"n":2}},
            "plain":{"state":"ENABLED","variants":{"on":true},"defaultVariant":null}}}"#;
        let set = document(text, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
        let layer = Layer { name: "redis:s".into(), flag_set_id: Some("s".into()), revision: 1, set: Arc::new(set) };
        let mut base = serde_json::Map::new();
        base.insert("environment".to_owned(), "prod".into());
        let snapshot = Snapshot::merge(vec![Arc::new(layer)], Arc::new(Base::new(&base)), 1, false);
        let definitions = Definitions::of(&snapshot);
        assert_eq!(
            std::str::from_utf8(&definitions.document).expect("UTF-8"),
            concat!(
                r#"{"flags":{"plain":{"state":"ENABLED","variants":{"on":true},"defaultVariant":null,"#,
                r#""metadata":{"flagSetId":"s","n":1,"source":"redis:s","team":"a"}},"#,
                r#""ref":{"state":"ENABLED","variants":{"b":1.0,"a":2},"defaultVariant":"b","#,
                r#""targeting":{"if":[{"and":[{"ends_with":[{"var":"email"},"@x.y"]},true]},"a"]},"#,
                r#""metadata":{"flagSetId":"s","n":2,"source":"redis:s","team":"a"}}}}"#
            )
        );
        assert_eq!(definitions.context, r#"{"environment":"prod"}"#);
        let again = document(std::str::from_utf8(&definitions.document).expect("UTF-8"), Format::Json);
        assert_eq!(again.map(|set| set.flags.len()), Ok(2), "what is sent is a sound document itself");
    }

    #[test]
    fn a_rule_that_grows_without_bound_is_left_out_alone() {
        let doubling: Vec<String> =
            (1..30).map(|at| format!(r#""e{at}":{{"and":[{{"$ref":"e{0}"}},{{"$ref":"e{0}"}}]}}"#, at - 1)).collect();
        let text = format!(
            r#"{{"$evaluators":{{"e0":{{"==":[1,1]}},{}}},"flags":{{
            "bomb":{{"state":"ENABLED","variants":{{"true":true}},"targeting":{{"$ref":"e29"}}}},
            "other":{{"state":"ENABLED","variants":{{"on":true}}}}}}}}"#,
            doubling.join(",")
        );
        let set = document(&text, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
        let layer = Layer { name: "file:x".into(), flag_set_id: None, revision: 1, set: Arc::new(set) };
        let snapshot = Snapshot::merge(vec![Arc::new(layer)], Arc::default(), 1, false);
        assert_eq!(
            std::str::from_utf8(&Definitions::of(&snapshot).document).expect("UTF-8"),
            r#"{"flags":{"other":{"state":"ENABLED","variants":{"on":true},"metadata":{"source":"file:x"}}}}"#
        );
    }
}
