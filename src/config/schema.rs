//! The declared keys as JSON Schema (draft 2020-12), for editors.

use serde_json::{Map, Value as Json, json};

use super::key::{Field, Kind, Shape, Stated};

/// The schema of a configuration file.
pub fn schema() -> Json {
    let mut root = section(&super::fields());
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root["title"] = "Tidegate configuration".into();
    root["$defs"] = json!({
        "substituted": {
            "description": "Filled in from the environment or a file: ${VAR}, ${VAR:-default}, ${file:/path}.",
            "type": "string",
            "pattern": "\\$\\{",
        },
    });
    root
}

fn section(fields: &[Field]) -> Json {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in fields {
        let mut schema = match &field.shape {
            Shape::Leaf(kind, stated) => {
                let mut schema = leaf(kind);
                match stated {
                    Stated::Value(value) => schema["default"] = value.clone(),
                    Stated::Words(_) => {}
                    Stated::Required => required.push(Json::from(field.name)),
                }
                schema
            }
            Shape::Section(below) => section(below),
            Shape::List(below) => json!({ "type": ["array", "null"], "items": section(below), "minItems": 1 }),
            Shape::Named(below) => json!({
                "type": ["object", "null"],
                "propertyNames": { "pattern": "^[a-z0-9_-]{1,63}$" },
                "additionalProperties": section(below),
            }),
            Shape::Free => json!({ "type": ["object", "null"] }),
        };
        schema["description"] = match &field.shape {
            Shape::Leaf(_, Stated::Words(words)) => format!("{} Default: {words}.", field.doc).into(),
            _ => field.doc.into(),
        };
        properties.insert(field.name.to_owned(), schema);
    }
    // A key without a value takes its default.
    let mut schema = json!({ "type": ["object", "null"], "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn leaf(kind: &Kind) -> Json {
    let or_substituted =
        |schema: Json| json!({ "anyOf": [schema, { "$ref": "#/$defs/substituted" }, { "type": "null" }] });
    match kind {
        Kind::Text { example, .. } => json!({ "type": ["string", "null"], "examples": [example] }),
        Kind::Word { example, .. } => json!({ "type": ["string", "integer", "null"], "examples": [example] }),
        Kind::Duration => or_substituted(json!({
            "type": "string",
            "pattern": "^([0-9]+ *[A-Za-zµ]+ *)+$|^0$",
            "examples": ["10s", "500ms", "1m30s"],
        })),
        Kind::Size => or_substituted(json!({
            "type": ["string", "integer"],
            "minimum": 0,
            "pattern": "^[0-9]+ *([KMGT]iB|B)?$",
            "examples": ["32KiB", "1MiB"],
        })),
        Kind::Integer { min, max } => or_substituted(json!({ "type": "integer", "minimum": min, "maximum": max })),
        Kind::Share => or_substituted(json!({ "type": "number", "minimum": 0, "maximum": 1 })),
        Kind::Boolean => or_substituted(json!({ "type": "boolean" })),
        Kind::Choice(words) => or_substituted(json!({ "enum": words })),
        Kind::List(inner) => json!({ "anyOf": [{ "type": "array", "items": leaf(inner) }, leaf(inner)] }),
        Kind::OrNone(inner) => json!({ "anyOf": [{ "const": "none" }, leaf(inner)] }),
        Kind::OrOff(inner) => json!({ "anyOf": [{ "const": "off" }, leaf(inner)] }),
    }
}
