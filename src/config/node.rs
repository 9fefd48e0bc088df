//! The configuration as a tree of values that know where they came from, and its reading from YAML or JSON text
//! within bounds. Knows no key.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error, Spanned};

use super::problem::Problem;
use super::values::mask;

/// Bytes of a configuration. Beyond: refused before it is parsed.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A line of the file; 0 when it is not known.
    File(u64),
    /// An environment variable.
    Environment(String),
    /// A command-line argument.
    Argument(String),
}

impl Origin {
    /// For people: `line 4`, `TIDEGATE_DRAIN__DELAY`, `--upstream`.
    pub(super) fn said(&self) -> Option<String> {
        match self {
            Self::File(0) => None,
            Self::File(line) => Some(format!("line {line}")),
            Self::Environment(name) | Self::Argument(name) => Some(name.clone()),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
    /// The text before anything was substituted in it, when something was.
    pub(super) template: Option<String>,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    /// Stood here and was reported already: nothing more is said about it.
    Refused,
}

impl Node {
    pub(super) fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin, template: None }
    }

    /// The value of a map's key; absent and null are the same.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key == name).map(|(_, node)| node),
            _ => None,
        }
        .filter(|node| node.value != Value::Null)
    }

    /// How the value may be shown in a problem: as written, before substitution, without a URL's password.
    pub(super) fn shown(&self) -> Option<String> {
        match (&self.template, &self.value) {
            (Some(template), _) => Some(mask(template)),
            (None, Value::Text(text)) => Some(mask(text)),
            (None, Value::Bool(value)) => Some(value.to_string()),
            (None, Value::Number(number)) => Some(number.to_string()),
            (None, Value::Null | Value::List(_) | Value::Map(_) | Value::Refused) => None,
        }
    }

    /// The value as JSON, for keys that hold anything.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null | Value::Refused => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => text.clone().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|(key, node)| (key.clone(), node.to_json())).collect(),
        }
    }
}

/// Reads one YAML document, of which JSON is a subset; `name` says in problems what was read. An empty text is an empty map.
pub(super) fn parse(name: &str, text: &str) -> Result<Node, Problem> {
    if text.len() > MAX_BYTES {
        return Err(Problem::new(name, format!("longer than {} KiB", MAX_BYTES / 1024)));
    }
    // A configuration is small. What is beyond these bounds (aliases of aliases, brackets in brackets) is a mistake or
    // an attack, and is refused while it is read, before memory is spent on it.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 24,
            flow_nesting_limit: 24,
            max_nodes: 20_000,
            max_events: 50_000,
            max_aliases: 200,
            max_anchors: 200,
            max_documents: 1,
            max_total_scalar_bytes: MAX_BYTES,
            max_merge_keys: 200,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 200,
        },
        // `on` and `no` are words here, and 0755 is not 755.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        // A snippet of the file may hold a secret.
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Node>(text, options) {
        Ok(Node { value: Value::Null, origin, template }) => {
            Ok(Node { value: Value::Map(Vec::new()), origin, template })
        }
        Ok(root @ Node { value: Value::Map(_), .. }) => Ok(root),
        Ok(root) => Err(Problem::new(name, "not a map of keys").remedy("write KEY: VALUE").from(&root.origin)),
        Err(error) => Err(syntax(name, &error)),
    }
}

/// What the parser says, in our words where its own are meant for programmers.
fn syntax(name: &str, error: &Error) -> Problem {
    let problem = match error {
        // The place where an alias was used counts, not the wrapping.
        Error::AliasError { error, .. } => return syntax(name, error),
        Error::DuplicateMappingKey { key, .. } => {
            Problem::new(name, format!("key {} comes twice", key.as_deref().unwrap_or("of one map"))).remedy("keep one")
        }
        Error::MultipleDocuments { .. } | Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            Problem::new(name, "more than one document").remedy("remove what follows ---")
        }
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            Problem::new(name, "larger or deeper than a configuration may be").remedy("write it out plainly")
        }
        Error::UnknownAnchor { .. } => {
            Problem::new(name, "an alias of nothing").remedy("put quotes around a text that begins with *")
        }
        Error::NonFiniteFloat { .. } => Problem::new(name, "not a finite number").remedy("put quotes around a text"),
        error => {
            let said = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            let wrong = said.split(" at line ").next().unwrap_or_default();
            Problem::new(name, wrong).remedy("correct the YAML, or put quotes around texts with special characters")
        }
    };
    match error.location().map(|at| (at.line(), at.column())) {
        Some((line, column)) if line > 0 => {
            Problem { source: Some(format!("line {line}, column {column}")), ..problem }
        }
        _ => problem,
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self::new(spanned.value, Origin::File(spanned.referenced.line())))
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Value::Map(map))
    }
}
