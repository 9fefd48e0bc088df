//! Values as new YAML text: by indentation as people write manifests, in brackets, or as JSON.

use serde_json::Value;

pub(super) use super::scalar::double_quoted;
use super::{order, scalar};

/// How the text around is indented.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Columns that a map's keys are deeper than their parent's.
    pub(super) step: usize,
    /// Columns that a list's dashes are deeper than its key.
    pub(super) dash: usize,
}

/// Keys longer than this are written as `? key`: readers look no further for the colon.
const KEY: usize = 128;

/// A value that takes the rest of one line.
pub(super) fn short(value: &Value) -> Option<String> {
    match value {
        Value::Object(entries) if entries.is_empty() => Some("{}".to_owned()),
        Value::Array(items) if items.is_empty() => Some("[]".to_owned()),
        Value::Object(_) | Value::Array(_) => None,
        Value::String(text) if literal(text) => None,
        scalar => Some(one_line(scalar)),
    }
}

/// A value of a key, with what stands between it and the key's colon; the key stands in `column`.
pub(super) fn behind_colon(value: &Value, column: usize, style: Style) -> String {
    let (lead, deeper) = match value {
        Value::Array(items) if !items.is_empty() => ("\n", column + style.dash),
        Value::Object(entries) if !entries.is_empty() => ("\n", column + style.step),
        _ => (" ", column + style.step),
    };
    let indent = if lead == "\n" { " ".repeat(deeper) } else { String::new() };
    format!("{lead}{indent}{}", block(value, deeper, style))
}

/// A value by indentation: its first line begins where it is put, in `column`; without a line feed at its end.
pub(super) fn block(value: &Value, column: usize, style: Style) -> String {
    let parts: Vec<String> = match (short(value), value) {
        (Some(short), _) => return short,
        (None, Value::String(text)) => return lines_of(text, column),
        (None, Value::Object(entries)) => {
            let mut keys: Vec<&String> = entries.keys().collect();
            keys.sort_by_key(|key| order::rank(key));
            keys.iter().map(|key| entry(key, &entries[*key], column, style)).collect()
        }
        (None, Value::Array(items)) => items.iter().map(|value| item(value, column, style)).collect(),
        (None, Value::Null | Value::Bool(_) | Value::Number(_)) => return one_line(value),
    };
    parts.join(&format!("\n{}", " ".repeat(column)))
}

/// `key: value`, the key standing in `column`.
pub(super) fn entry(key: &str, value: &Value, column: usize, style: Style) -> String {
    let value = behind_colon(value, column, style);
    let name = text(key);
    if name.len() > KEY { format!("? {name}\n{}:{value}", " ".repeat(column)) } else { format!("{name}:{value}") }
}

/// `- value`, the dash standing in `column`.
pub(super) fn item(value: &Value, column: usize, style: Style) -> String {
    format!("- {}", block(value, column + 2, style))
}

/// Whether a text is best read as lines behind `|`.
fn literal(text: &str) -> bool {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.contains('\n')
        && !text.ends_with("\n\n")
        && !text.starts_with([' ', '\n'])
        && body.split('\n').all(|line| !line.ends_with(' ') && line.chars().all(scalar::printable))
}

fn lines_of(text: &str, column: usize) -> String {
    let (mark, body) = match text.strip_suffix('\n') {
        Some(body) => ("|", body),
        None => ("|-", text),
    };
    let indent = " ".repeat(column);
    let lines =
        body.split('\n').map(|line| if line.is_empty() { "\n".to_owned() } else { format!("\n{indent}{line}") });
    format!("{mark}{}", lines.collect::<String>())
}

/// A text on one line, in quotes where it needs them.
pub(super) fn text(text: &str) -> String {
    if scalar::plain(text) {
        return text.to_owned();
    }
    let simple = text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && !text.contains('\'');
    if simple && text.contains(['"', '\\']) { format!("'{text}'") } else { double_quoted(text) }
}

/// A text in single quotes, if it can stand so.
pub(super) fn single_quoted(text: &str) -> Option<String> {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~')).then(|| format!("'{}'", text.replace('\'', "''")))
}

fn one_line(value: &Value) -> String {
    match value {
        Value::String(value) => text(value),
        other => other.to_string(),
    }
}

/// A value within brackets, on one line.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Object(entries) => {
            let mut keys: Vec<&String> = entries.keys().collect();
            keys.sort_by_key(|key| order::rank(key));
            let entries = keys.iter().map(|key| flow_entry(key, &entries[*key]));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        other => one_line(other),
    }
}

/// `key: value` within brackets.
pub(super) fn flow_entry(key: &str, value: &Value) -> String {
    let name = text(key);
    let mark = if name.len() > KEY { "? " } else { "" };
    format!("{mark}{name}: {}", flow(value))
}

/// A value as JSON on one line.
pub(super) fn compact(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(compact).collect::<Vec<_>>().join(",")),
        Value::Object(entries) => {
            let mut keys: Vec<&String> = entries.keys().collect();
            keys.sort_by_key(|key| order::rank(key));
            let entries = keys.iter().map(|key| format!("{}:{}", double_quoted(key), compact(&entries[*key])));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
        Value::String(text) => double_quoted(text),
        other => other.to_string(),
    }
}

/// A value as JSON over several lines; its first begins where it is put, its last stands in `column`.
pub(super) fn json(value: &Value, column: usize, step: usize) -> String {
    let (open, close, parts): (_, _, Vec<String>) = match value {
        Value::Array(items) if !items.is_empty() => {
            ("[", "]", items.iter().map(|item| json(item, column + step, step)).collect())
        }
        Value::Object(entries) if !entries.is_empty() => {
            let mut keys: Vec<&String> = entries.keys().collect();
            keys.sort_by_key(|key| order::rank(key));
            ("{", "}", keys.iter().map(|key| json_entry(key, &entries[*key], column + step, step)).collect())
        }
        Value::String(text) => return double_quoted(text),
        other => return other.to_string(),
    };
    let indent = " ".repeat(column + step);
    let lines = parts.join(&format!(",\n{indent}"));
    format!("{open}\n{indent}{lines}\n{}{close}", " ".repeat(column))
}

/// `"key": value`, standing in `column`.
pub(super) fn json_entry(key: &str, value: &Value, column: usize, step: usize) -> String {
    format!("{}: {}", double_quoted(key), json(value, column, step))
}
