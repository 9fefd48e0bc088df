//! A definition document as a tree, whatever it was written in: order kept, integers apart from floats, no name twice.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// Up to so many names of an object are compared one by one.
const FEW: usize = 16;

/// A node of a definition document. It prints as compact JSON.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::flags) enum Node {
    Null,
    Bool(bool),
    Integer(i64),
    /// Beyond `i64::MAX`, where a number from JSON still is an integer.
    Natural(u64),
    Float(f64),
    String(String),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    /// What it is, for messages.
    pub(in crate::flags) fn what(&self) -> &'static str {
        match self {
            Node::Null => "null",
            Node::Bool(_) => "a boolean",
            Node::Integer(_) | Node::Natural(_) | Node::Float(_) => "a number",
            Node::String(_) => "a string",
            Node::Array(_) => "an array",
            Node::Object(_) => "an object",
        }
    }

    /// How many levels of arrays and objects it has.
    pub(super) fn depth(&self) -> usize {
        // Parsers bound the nesting (serde_json at 128, YAML by its budget), so recursion is safe here and below.
        match self {
            Node::Array(items) => 1 + items.iter().map(Node::depth).max().unwrap_or(0),
            Node::Object(fields) => 1 + fields.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One buffer for the whole of it: a set has hundreds of thousands of nodes, each printed at least once. serde_json
        // writes of a float the shortest text that reads back the same, always with a point or an exponent.
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Node::Null => serializer.serialize_unit(),
            Node::Bool(value) => serializer.serialize_bool(*value),
            Node::Integer(number) => serializer.serialize_i64(*number),
            Node::Natural(number) => serializer.serialize_u64(*number),
            Node::Float(number) => serializer.serialize_f64(*number),
            Node::String(text) => serializer.serialize_str(text),
            Node::Array(items) => serializer.collect_seq(items),
            Node::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_none<E: de::Error>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
                Deserialize::deserialize(deserializer)
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Bool(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Integer(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
                Ok(i64::try_from(value).map_or(Node::Natural(value), Node::Integer))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
                // YAML has `.inf` and `.nan`, JSON no way to write them.
                if value.is_finite() { Ok(Node::Float(value)) } else { Err(E::custom("a number must be finite")) }
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
                Ok(Node::String(value.to_owned()))
            }

            fn visit_string<E: de::Error>(self, value: String) -> Result<Node, E> {
                Ok(Node::String(value))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Node::Array(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut fields: Vec<(String, Node)> = Vec::new();
                // Few names are compared, many looked up: a document may hold thousands of flags.
                let mut names = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    // Which of two definitions its author means nobody can know.
                    let twice = if fields.len() < FEW {
                        fields.iter().any(|(given, _)| *given == name)
                    } else {
                        if names.is_empty() {
                            names.extend(fields.iter().map(|(given, _)| given.clone()));
                        }
                        !names.insert(name.clone())
                    };
                    if twice {
                        return Err(de::Error::custom(format_args!("{name:?} is given twice")));
                    }
                    fields.push((name, map.next_value()?));
                }
                Ok(Node::Object(fields))
            }
        }

        deserializer.deserialize_any(Any)
    }
}
