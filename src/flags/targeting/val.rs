//! The value a rule gives while it is evaluated: borrowed from the context or the rule where possible.

use std::borrow::Cow;
use std::rc::Rc;

use super::super::context::{Object, Value};

/// A value during an evaluation. It never outlives it, and never crosses a thread.
#[derive(Debug, Clone)]
pub(in crate::flags) enum Val<'v> {
    /// JavaScript's `undefined`: what a rule has no argument for.
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    Str(&'v str),
    /// Text made by the rule.
    Text(Rc<str>),
    List(&'v Vec<Value<'v>>),
    /// A list made by the rule.
    Items(Rc<Items<'v>>),
    Object(&'v Object<'v>),
    /// All the data of the evaluation.
    Root,
    /// `$flagd`
    Flagd,
    /// `{"current":…,"accumulator":…}` of `reduce`.
    Step(Rc<Step<'v>>),
}

/// A list made by a rule, and how deep it nests: text and drop recurse, so depth is bounded where lists are made.
#[derive(Debug)]
pub(in crate::flags) struct Items<'v> {
    pub(super) items: Vec<Val<'v>>,
    pub(super) depth: usize,
}

/// The data of one step of `reduce`.
#[derive(Debug)]
pub(in crate::flags) struct Step<'v> {
    pub(super) current: Val<'v>,
    pub(super) accumulator: Val<'v>,
    pub(super) depth: usize,
}

/// How many levels of a value are shown.
const JSON_DEPTH: usize = 4;
/// How many items of a list or fields of an object are shown.
const JSON_ITEMS: usize = 32;
/// How many characters of a text are shown.
const JSON_TEXT: usize = 256;

/// `text`, if it is not too long to show, else its beginning.
fn cut(text: &str) -> String {
    match text.char_indices().nth(JSON_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn number_json(number: f64) -> serde_json::Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT {
        return (number as i64).into();
    }
    serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Into::into)
}

impl<'v> From<&'v Value<'v>> for Val<'v> {
    fn from(value: &'v Value<'v>) -> Self {
        match value {
            Value::Null => Val::Null,
            Value::Bool(bool) => Val::Bool(*bool),
            Value::Number(number) => Val::Number(*number),
            Value::String(text) => Val::Str(text),
            Value::Array(items) => Val::List(items),
            Value::Object(object) => Val::Object(object),
        }
    }
}

impl From<String> for Val<'_> {
    fn from(text: String) -> Self {
        Val::Text(text.into())
    }
}

impl<'v> Val<'v> {
    /// The text, if it is one.
    pub(in crate::flags) fn as_str(&self) -> Option<&str> {
        match self {
            Val::Str(text) => Some(text),
            Val::Text(text) => Some(text),
            _ => None,
        }
    }

    /// JavaScript's text of it.
    pub(in crate::flags) fn to_text(&self) -> Cow<'_, str> {
        super::coerce::text(self)
    }

    /// It as JSON, within bounds; what JSON lacks by its name.
    pub(in crate::flags) fn to_json(&self) -> serde_json::Value {
        self.json(JSON_DEPTH)
    }

    fn json(&self, depth: usize) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Val::Undefined | Val::Null => Json::Null,
            Val::Bool(bool) => Json::Bool(*bool),
            Val::Number(number) => number_json(*number),
            Val::Str(_) | Val::Text(_) => cut(self.as_str().unwrap_or_default()).into(),
            Val::List(_) | Val::Items(_) | Val::Object(_) if depth == 0 => "…".into(),
            Val::List(_) | Val::Items(_) => {
                let mut items: Vec<Json> = self.items().take(JSON_ITEMS).map(|item| item.json(depth - 1)).collect();
                let more = self.list_len().unwrap_or(0).saturating_sub(JSON_ITEMS);
                if more > 0 {
                    items.push(format!("… {more} more").into());
                }
                items.into()
            }
            Val::Object(object) => {
                let field = |(name, value): (&str, &'v Value<'v>)| (cut(name), Val::from(value).json(depth - 1));
                Json::Object(object.iter().take(JSON_ITEMS).map(field).collect())
            }
            Val::Root => "(all attributes)".into(),
            Val::Flagd => "($flagd)".into(),
            Val::Step(step) => serde_json::json!({
                "current": step.current.json(depth.saturating_sub(1)),
                "accumulator": step.accumulator.json(depth.saturating_sub(1)),
            }),
        }
    }

    /// Whether it is an array.
    pub(super) fn is_list(&self) -> bool {
        matches!(self, Val::List(_) | Val::Items(_))
    }

    /// How many items an array has.
    pub(super) fn list_len(&self) -> Option<usize> {
        match self {
            Val::List(items) => Some(items.len()),
            Val::Items(list) => Some(list.items.len()),
            _ => None,
        }
    }

    /// An item of an array; `Undefined` beyond its end or of anything else.
    pub(super) fn item(&self, at: usize) -> Val<'v> {
        match self {
            Val::List(items) => items.get(at).map_or(Val::Undefined, Val::from),
            Val::Items(list) => list.items.get(at).cloned().unwrap_or(Val::Undefined),
            _ => Val::Undefined,
        }
    }

    /// The items of an array, none of anything else.
    pub(super) fn items(&self) -> impl Iterator<Item = Val<'v>> + '_ {
        (0..self.list_len().unwrap_or(0)).map(|at| self.item(at))
    }

    /// How deep a value made by rules nests.
    pub(super) fn depth(&self) -> usize {
        match self {
            Val::Items(list) => list.depth,
            Val::Step(step) => step.depth,
            _ => 0,
        }
    }

    /// JSONLogic's truth (<https://jsonlogic.com/truthy.html>): JavaScript's, but an empty array is false.
    pub(in crate::flags) fn truthy(&self) -> bool {
        match self {
            Val::Undefined | Val::Null => false,
            Val::Bool(bool) => *bool,
            Val::Number(number) => *number != 0.0 && !number.is_nan(),
            Val::Str(text) => !text.is_empty(),
            Val::Text(text) => !text.is_empty(),
            Val::List(items) => !items.is_empty(),
            Val::Items(list) => !list.items.is_empty(),
            Val::Object(_) | Val::Root | Val::Flagd | Val::Step(_) => true,
        }
    }
}
