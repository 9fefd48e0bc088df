//! The resolved settings as they are shown to people: valid configuration again, with secrets taken out.

use serde_json::Value as Json;

use super::node::{self, Node, Origin, Value};

/// A resolved value or section.
#[derive(Debug, Clone)]
pub(super) enum Shown {
    /// A value, and the variable or argument that it came from.
    Leaf(Json, Option<String>),
    List(Vec<Shown>),
    Map(Vec<(String, Shown)>),
}

impl Shown {
    /// A value as read from `node`, or a default. What came out of a file is shown as its reference.
    pub(super) fn leaf(value: Json, node: Option<&Node>, secret: bool) -> Self {
        let from = node.and_then(|node| match &node.origin {
            Origin::Environment(name) | Origin::Argument(name) => Some(name.clone()),
            Origin::File(_) => None,
        });
        let value = match node.map(|node| (&node.value, node.template.as_ref())) {
            Some((_, Some(template))) if !secret && template.contains("${file:") => Json::from(template.clone()),
            Some((Value::List(items), _)) if !secret => match value {
                Json::Array(values) => {
                    values.into_iter().zip(items).map(|(value, item)| referenced(item, value)).collect()
                }
                value => literal(value),
            },
            _ => literal(value),
        };
        Self::Leaf(value, from)
    }

    /// What stands below a key that may hold anything.
    pub(super) fn free(node: &Node) -> Self {
        match &node.value {
            Value::List(items) => Self::List(items.iter().map(Self::free).collect()),
            Value::Map(entries) => {
                Self::Map(entries.iter().map(|(key, entry)| (key.clone(), Self::free(entry))).collect())
            }
            _ => Self::leaf(node.to_json(), Some(node), false),
        }
    }

    /// As JSON.
    pub(super) fn to_json(&self) -> Json {
        match self {
            Self::Leaf(value, _) => value.clone(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
        }
    }

    /// As YAML; a value that came from a variable or an argument says so.
    pub(super) fn to_yaml(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, 0, false);
        text
    }

    /// Writes the value from where the line stands. `inline`: the line has begun already, with a dash.
    fn write(&self, text: &mut String, depth: usize, inline: bool) {
        match self {
            Self::Map(entries) => {
                for (index, (key, value)) in entries.iter().enumerate() {
                    indent(text, if inline && index == 0 { 0 } else { depth });
                    text.push_str(&scalar(&Json::from(key.clone())));
                    text.push(':');
                    value.write_after(text, depth + 1);
                }
            }
            Self::List(items) => {
                for item in items {
                    indent(text, depth);
                    text.push('-');
                    match item {
                        Self::Map(entries) if !entries.is_empty() => {
                            text.push(' ');
                            item.write(text, depth + 1, true);
                        }
                        item => item.write_after(text, depth + 1),
                    }
                }
            }
            Self::Leaf(..) => self.write_after(text, depth),
        }
    }

    /// Writes what follows a colon or a dash.
    fn write_after(&self, text: &mut String, depth: usize) {
        match self {
            Self::Leaf(value, from) => {
                text.push(' ');
                text.push_str(&flow(value));
                if let Some(from) = from {
                    text.push_str("  # ");
                    text.push_str(from);
                }
                text.push('\n');
            }
            Self::List(items) if items.is_empty() => text.push_str(" []\n"),
            Self::Map(entries) if entries.is_empty() => text.push_str(" {}\n"),
            Self::List(_) | Self::Map(_) => {
                text.push('\n');
                self.write(text, depth, false);
            }
        }
    }
}

/// An element of a list, shown as its reference when it came out of a file.
fn referenced(item: &Node, value: Json) -> Json {
    match &item.template {
        Some(template) if template.contains("${file:") => Json::from(template.clone()),
        _ => literal(value),
    }
}

/// A value whose dollars stand for themselves when it is read again.
fn literal(value: Json) -> Json {
    match value {
        Json::String(text) => Json::String(text.replace('$', "$$")),
        Json::Array(items) => items.into_iter().map(literal).collect(),
        value => value,
    }
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("  ", depth));
}

/// A value on one line.
fn flow(value: &Json) -> String {
    match value {
        Json::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        value => scalar(value),
    }
}

/// A scalar: bare where it reads back as the same text, else quoted. JSON's quoting is valid in YAML 1.2.
fn scalar(value: &Json) -> String {
    if let Json::String(text) = value {
        let tame = |c: char| c.is_ascii_alphanumeric() || "-._/:".contains(c);
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
        let reads_back = || match node::parse("", &format!("a: {text}")) {
            Ok(root) => root.get("a").is_some_and(|node| node.value == Value::Text(text.clone())),
            Err(_) => false,
        };
        let bare = begins && text.chars().all(tame) && !text.ends_with(':') && reads_back();
        if bare {
            return text.clone();
        }
    }
    value.to_string()
}
