//! The evaluation context: JSON values borrowed from the text they were read from. It knows nothing of flags.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value that borrows its strings where the text has no escapes. Numbers are doubles, as in JSONLogic.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// Any number; integers beyond 2^53 lose precision as they do in JavaScript.
    Number(f64),
    /// A string
    String(Cow<'a, str>),
    /// An array
    Array(Vec<Value<'a>>),
    /// An object
    Object(Object<'a>),
}

/// Fields of a JSON object. Of a name given twice the last value counts (RFC 8259 section 4 leaves it open; this is
/// what JavaScript does).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Object<'a> {
    fields: Vec<(Cow<'a, str>, Value<'a>)>,
    /// Beyond [`LINEAR`] fields they are sorted and unique, so that a big context costs each variable a binary search.
    sorted: bool,
}

/// Up to this many fields a scan is faster than anything cleverer.
const LINEAR: usize = 24;

impl<'a> Object<'a> {
    /// The object of these fields, in order of appearance.
    pub fn new(mut fields: Vec<(Cow<'a, str>, Value<'a>)>) -> Self {
        let sorted = fields.len() > LINEAR;
        if sorted {
            // Stable and from the back: of equal names the last given comes first, and `dedup` keeps the first.
            fields.reverse();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            fields.dedup_by(|(a, _), (b, _)| a == b);
        }
        Self { fields, sorted }
    }

    /// Each name with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        let superseded = |at: usize, name: &str| {
            !self.sorted && self.fields[at + 1..].iter().any(|(later, _)| later.as_ref() == name)
        };
        let fields = self.fields.iter().enumerate();
        fields.filter(move |(at, (name, _))| !superseded(*at, name)).map(|(_, (name, value))| (name.as_ref(), value))
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        if self.sorted {
            let at = self.fields.binary_search_by(|(field, _)| field.as_ref().cmp(name)).ok()?;
            return self.fields.get(at).map(|(_, value)| value);
        }
        self.fields.iter().rev().find(|(field, _)| field == name).map(|(_, value)| value)
    }
}

/// The attributes one evaluation is asked for, `targetingKey` among them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Context<'a> {
    attributes: Object<'a>,
}

impl<'a> Context<'a> {
    /// A context of these attributes.
    pub fn new(attributes: Object<'a>) -> Self {
        Self { attributes }
    }

    /// The value of an attribute.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.attributes.get(name)
    }
}

/// `flags.context`: attributes that join every evaluation beneath the request's own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Base {
    attributes: Object<'static>,
}

impl Base {
    /// The configured attributes as values that evaluation reads.
    pub fn new(attributes: &serde_json::Map<String, serde_json::Value>) -> Self {
        Self { attributes: object(attributes) }
    }

    /// All of it.
    pub fn attributes(&self) -> &Object<'static> {
        &self.attributes
    }

    /// The value of an attribute.
    pub fn get(&self, name: &str) -> Option<&Value<'static>> {
        self.attributes.get(name)
    }
}

fn object(fields: &serde_json::Map<String, serde_json::Value>) -> Object<'static> {
    Object::new(fields.iter().map(|(name, value)| (Cow::Owned(name.clone()), owned(value))).collect())
}

fn owned(value: &serde_json::Value) -> Value<'static> {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(bool) => Value::Bool(*bool),
        serde_json::Value::Number(number) => number.as_f64().map_or(Value::Null, Value::Number),
        serde_json::Value::String(text) => Value::String(Cow::Owned(text.clone())),
        serde_json::Value::Array(items) => Value::Array(items.iter().map(owned).collect()),
        serde_json::Value::Object(fields) => Value::Object(object(fields)),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Value::Number(value as f64))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Value::Number(value as f64))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
                Ok(Value::Number(value))
            }

            fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<Self::Value, E> {
                Ok(Value::String(Cow::Borrowed(value)))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Value::String(Cow::Owned(value.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Value::Array(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                fields(map).map(Value::Object)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

fn fields<'de, A: MapAccess<'de>>(mut map: A) -> Result<Object<'de>, A::Error> {
    let mut fields = Vec::with_capacity(8);
    while let Some(Name(name)) = map.next_key()? {
        fields.push((name, map.next_value()?));
    }
    Ok(Object::new(fields))
}

/// A field's name. (`Cow` itself deserialises to an owned string wherever serde's `borrow` attribute cannot reach.)
pub(crate) struct Name<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(value)))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(value.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Value<'_> {
        serde_json::from_str(text).expect("the test's JSON is sound")
    }

    #[test]
    fn of_a_name_given_twice_the_last_value_counts() {
        let few = r#"{"a":1,"b":2,"a":3}"#.to_owned();
        let many: Vec<String> = (0..LINEAR * 2).map(|n| format!(r#""f{n}":{n}"#)).collect();
        let many = format!(r#"{{"a":1,{},"a":3}}"#, many.join(","));
        for text in [few, many] {
            let Value::Object(object) = read(&text) else { panic!("not an object") };
            assert_eq!(object.get("a"), Some(&Value::Number(3.0)));
            assert_eq!(object.get("nothing"), None);
        }
    }

    #[test]
    fn strings_are_borrowed_unless_escaped() {
        let Value::Array(items) = read(r#"["plain","esc\n"]"#) else { panic!("not an array") };
        assert!(matches!(&items[0], Value::String(Cow::Borrowed("plain"))));
        assert!(matches!(&items[1], Value::String(Cow::Owned(text)) if text == "esc\n"));
    }
}
