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
    pub(super) fn truthy(&self) -> bool {
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
