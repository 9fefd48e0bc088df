//! What was declared about each key, as a tree that JSON Schema, the reference and the environment's names are made of.

use serde_json::Value as Json;

/// A key of a section.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: &'static str,
    /// One or more sentences.
    pub(super) doc: &'static str,
    pub(super) shape: Shape,
    /// Whether its value never prints.
    pub(super) secret: bool,
}

/// What stands behind a key.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// A value.
    Leaf(Kind, Stated),
    /// More keys.
    Section(Vec<Field>),
    /// Any number of sections, in order.
    List(Vec<Field>),
    /// Sections by a name that the operator chooses.
    Named(Vec<Field>),
    /// Names and values that mean nothing to the sidecar itself.
    Free,
}

/// A default.
#[derive(Debug, Clone)]
pub(super) enum Stated {
    /// This value.
    Value(Json),
    /// In words: it depends on something.
    Words(&'static str),
    /// There is none.
    Required,
}

/// What a value looks like.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// Text; what it is, and an example.
    Text { what: &'static str, example: &'static str },
    /// Text that may look like a whole number; what it is, and an example.
    Word { what: &'static str, example: &'static str },
    /// `10s`, `1m30s`.
    Duration,
    /// `32KiB`.
    Size,
    /// A whole number.
    Integer { min: u64, max: u64 },
    /// A part of a whole, 0 to 1.
    Share,
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Choice(Vec<&'static str>),
    /// Any number of these; one alone may stand without brackets.
    List(Box<Kind>),
    /// This, or `none` to switch it off.
    OrNone(Box<Kind>),
    /// This, or `off`.
    OrOff(Box<Kind>),
}

impl Kind {
    /// For the reference.
    pub(super) fn said(&self) -> String {
        match self {
            Self::Text { what, example } | Self::Word { what, example } => format!("{what}, as `{example}`"),
            Self::Duration => "duration, as `1m30s`".into(),
            Self::Size => "size, as `64KiB`".into(),
            Self::Integer { min, max } => format!("whole number, {min} to {max}"),
            Self::Boolean => "`true` or `false`".into(),
            Self::Share => "number from 0 to 1, as `0.05`".into(),
            Self::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or "),
            Self::List(inner) => format!("list of: {}", inner.said()),
            Self::OrNone(inner) => format!("{}; `none` for no limit", inner.said()),
            Self::OrOff(inner) => format!("{}, or `off`", inner.said()),
        }
    }
}

/// What a name written by the operator leads to.
pub(super) enum Step {
    /// A key.
    Key(&'static str),
    /// An element of a list.
    Index(usize),
    /// An entry whose name the operator chose, as it was written.
    Name(String),
}

/// The way to a value, when `parts` lead to one; `same` compares a key's name with what was written.
pub(super) fn way<'k>(
    fields: &'k [Field],
    parts: &[&str],
    same: fn(&str, &str) -> bool,
) -> Option<(Vec<Step>, Option<&'k Kind>)> {
    let (first, mut parts) = parts.split_first()?;
    let field = fields.iter().find(|field| same(field.name, first))?;
    let mut steps = vec![Step::Key(field.name)];
    let below = match &field.shape {
        Shape::Leaf(kind, _) => return parts.is_empty().then_some((steps, Some(kind))),
        Shape::Free => {
            let [name] = parts else { return None };
            steps.push(Step::Name((*name).to_owned()));
            return Some((steps, None));
        }
        Shape::Section(below) => below,
        Shape::List(below) => {
            let (index, rest) = parts.split_first()?;
            steps.push(Step::Index(index.parse().ok()?));
            parts = rest;
            below
        }
        Shape::Named(below) => {
            let (name, rest) = parts.split_first()?;
            steps.push(Step::Name((*name).to_owned()));
            parts = rest;
            below
        }
    };
    let (rest, kind) = way(below, parts, same)?;
    steps.extend(rest);
    Some((steps, kind))
}

/// Calls `each` with every value's path (`proxy[].listen`, `checks.NAME.class`) and environment name, in order.
pub(super) fn walk(fields: &[Field], each: &mut dyn FnMut(&str, &str, &Field)) {
    below(fields, "", "TIDEGATE", each);
}

fn below(fields: &[Field], path: &str, variable: &str, each: &mut dyn FnMut(&str, &str, &Field)) {
    for field in fields {
        let path = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
        let joint = if variable == "TIDEGATE" { "_" } else { "__" };
        let variable = format!("{variable}{joint}{}", field.name.to_uppercase());
        match &field.shape {
            Shape::Leaf(..) => each(&path, &variable, field),
            Shape::Free => each(&format!("{path}.NAME"), &format!("{variable}__NAME"), field),
            Shape::Section(inner) => below(inner, &path, &variable, each),
            Shape::List(inner) => below(inner, &format!("{path}[]"), &format!("{variable}__0"), each),
            Shape::Named(inner) => below(inner, &format!("{path}.NAME"), &format!("{variable}__NAME"), each),
        }
    }
}
