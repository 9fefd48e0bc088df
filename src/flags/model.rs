//! What a flag is once compiled: immutable, shared, with the texts of its answers made beforehand. It does no IO and
//! knows no source.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::targeting::{Evaluator, Rule};

/// One flag, compiled.
#[derive(Debug)]
pub struct Flag {
    pub(super) key: Arc<str>,
    pub(super) key_json: Box<str>,
    pub(super) enabled: bool,
    pub(super) variants: Vec<Variant>,
    pub(super) default: Option<usize>,
    pub(super) targeting: Option<Rule>,
    pub(super) metadata: Metadata,
    pub(super) definition: Box<str>,
}

impl Flag {
    /// The key it is asked for by.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The key as a JSON string, quotes included.
    pub fn key_json(&self) -> &str {
        &self.key_json
    }

    /// The definition as given, as compact JSON.
    pub fn definition(&self) -> &str {
        &self.definition
    }

    /// Whether `state` is `ENABLED`.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// The variants, in the definition's order; never empty.
    pub fn variants(&self) -> &[Variant] {
        &self.variants
    }

    /// The variant of this name.
    pub fn variant(&self, name: &str) -> Option<&Variant> {
        self.variants.iter().find(|variant| &*variant.name == name)
    }

    /// `defaultVariant`; without one the application's own default holds.
    pub fn default_variant(&self) -> Option<&Variant> {
        self.default.and_then(|at| self.variants.get(at))
    }

    /// Whether a rule decides, so that answers may differ from one context to the next.
    pub fn targeted(&self) -> bool {
        self.targeting.is_some()
    }

    /// Its rule.
    pub(super) fn targeting(&self) -> Option<&Rule> {
        self.targeting.as_ref()
    }

    /// The type of all its variants.
    pub fn kind(&self) -> Kind {
        // A number flag is of floats as soon as one variant is: clients ask for one type and get any of them.
        let first = self.variants.first().map_or(Kind::Object, |variant| variant.kind);
        if first == Kind::Integer && self.variants.iter().any(|variant| variant.kind == Kind::Float) {
            return Kind::Float;
        }
        first
    }

    /// The flag's own metadata, without its set's.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// One value a flag can have.
#[derive(Debug)]
pub struct Variant {
    pub(super) name: Box<str>,
    pub(super) kind: Kind,
    pub(super) value_json: Box<str>,
    /// `"variant":…,"value":…`, which is most of an answer.
    pub(super) answer_json: Box<str>,
}

impl Variant {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The value as JSON; floats keep their decimal point.
    pub fn value_json(&self) -> &str {
        &self.value_json
    }

    /// `"variant":…,"value":…`: the part of a JSON answer that belongs to the variant.
    pub fn answer_json(&self) -> &str {
        &self.answer_json
    }
}

/// The type of a variant's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`
    Boolean,
    /// A string
    String,
    /// A number written without fraction or exponent
    Integer,
    /// Any other number
    Float,
    /// An object
    Object,
}

impl Kind {
    /// The type's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "boolean",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Float => "float",
            Kind::Object => "object",
        }
    }
}

/// Metadata of a flag or a flag set: booleans, numbers and strings by name, each value as JSON text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    pub(super) values: BTreeMap<Arc<str>, Arc<str>>,
}

impl Metadata {
    /// The value of an entry, as JSON text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| &**value)
    }

    /// Name and JSON text of every entry, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All of it as a compact JSON object.
    pub fn json(&self) -> String {
        let mut text = String::from("{");
        for (name, value) in &self.values {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&json_string(name));
            text.push(':');
            text.push_str(value);
        }
        text.push('}');
        text
    }

    /// Sets a string entry.
    pub(super) fn set_string(&mut self, name: &str, value: &str) {
        self.values.insert(name.into(), json_string(value).into());
    }
}

/// The named rules of a document, `$evaluators`, which flags share by `$ref`.
#[derive(Debug, Clone, Default)]
pub struct Evaluators {
    pub(super) rules: BTreeMap<Arc<str>, Arc<Evaluator>>,
    pub(super) json: Option<Arc<str>>,
}

impl Evaluators {
    /// As given, as a compact JSON object.
    pub fn json(&self) -> &str {
        self.json.as_deref().unwrap_or("{}")
    }

    /// The names that `$ref` may use.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.keys().map(|name| &**name)
    }
}

/// Everything one source gives.
#[derive(Debug, Clone, Default)]
pub struct FlagSet {
    /// The flags by key.
    pub flags: BTreeMap<Arc<str>, Arc<Flag>>,
    /// The set's metadata, beneath that of each flag.
    pub metadata: Metadata,
    /// The rules that the flags were compiled with.
    pub evaluators: Evaluators,
}

/// `text` as a JSON string, quotes included.
pub(super) fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serialises")
}
