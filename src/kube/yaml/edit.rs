//! The smallest changes of a text that make it say something else. What they make is read again afterwards by
//! whoever asks for them, so a way of writing that is not foreseen here costs comments and never a wrong manifest.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::{Map as Object, Value};

use super::align::{self, Step};
use super::order::{self, Place};
use super::tree::{Entry, Item, Kind, Layout, Node, Parsed};
use super::write::{self, Style};
use super::{flow, lines};

/// Puts `text` in place of the bytes of `at`. Those of one place are put in one behind the other.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) at: Range<usize>,
    pub(super) text: String,
}

/// The edits that make `new` of a document.
pub(super) fn edits(text: &str, document: &Parsed, new: &Value, style: Style) -> Vec<Edit> {
    let mut anchors = HashMap::new();
    collect(&document.root, &document.value, new, &mut anchors);
    let changed = anchors.values().any(|(old, new)| old != new);
    let anchors = anchors.into_iter().map(|(id, (_, new))| (id, new.clone())).collect();
    let json = is_json(text, &document.root);
    let mut editor = Editor { text, style, json, anchors, changed, edits: Vec::new() };
    editor.node(&document.root, &document.value, new, Around::Root);
    editor.edits
}

/// Whether a document is JSON, and so is to stay that.
fn is_json(text: &str, root: &Node) -> bool {
    let flow = matches!(root.kind, Kind::Map(Layout::Flow, _) | Kind::List(Layout::Flow, _));
    flow && serde_json::from_str::<serde::de::IgnoredAny>(&text[root.start..root.end]).is_ok()
}

/// The document written anew.
pub(super) fn anew(text: &str, document: &Parsed, new: &Value, style: Style) -> Edit {
    let root = &document.root;
    let written = if is_json(text, root) { write::json(new, 0, style.step) } else { at_root(new, style) };
    // Behind `---` a map cannot begin.
    let lead = if lines::column(text, root.start) > 0 { "\n" } else { "" };
    instead(text, root.start..root.end, format!("{lead}{written}"))
}

/// Puts `new` in place of a value. The comment behind the value goes to the end of the first line: behind the last one it
/// would be part of a text of lines.
fn instead(text: &str, at: Range<usize>, new: String) -> Edit {
    let rest = text[at.end..lines::line_end(text, at.end)].trim_end();
    match new.split_once('\n') {
        Some((first, others)) if rest.trim_start().starts_with('#') => {
            Edit { at: at.start..at.end + rest.len(), text: format!("{first}{rest}\n{others}") }
        }
        _ => Edit { at, text: new },
    }
}

/// A document's value. A text of lines in the first column could hold what ends a document.
pub(super) fn at_root(value: &Value, style: Style) -> String {
    match value {
        Value::String(text) => write::double_quoted(text),
        value => write::block(value, 0, style),
    }
}

/// What anchored values are now and shall be.
fn collect<'v>(node: &Node, old: &'v Value, new: &'v Value, into: &mut HashMap<usize, (&'v Value, &'v Value)>) {
    if node.anchor != 0 {
        into.insert(node.anchor, (old, new));
    }
    match (&node.kind, old, new) {
        (Kind::Map(_, entries), Value::Object(old), Value::Object(new)) => {
            for entry in entries {
                let Some(key) = &entry.key else { continue };
                if let (Some(old), Some(new)) = (old.get(key), new.get(key)) {
                    collect(&entry.value, old, new, into);
                }
            }
        }
        (Kind::List(_, items), Value::Array(old), Value::Array(new)) => {
            for step in align::steps(old, new) {
                if let Step::Keep(from, to) = step {
                    collect(&items[from].value, &old[from], &new[to], into);
                }
            }
        }
        _ => {}
    }
}

/// What a value stands in.
#[derive(Debug, Clone, Copy)]
enum Around {
    Root,
    /// Behind the colon that ends at `colon`, of a key in `column`.
    Key {
        colon: usize,
        column: usize,
    },
    /// Behind the dash at `at`, in `column`.
    Dash {
        at: usize,
        column: usize,
    },
    Brackets,
}

pub(super) struct Editor<'t> {
    pub(super) text: &'t str,
    pub(super) style: Style,
    /// Whether the document is JSON, and is to stay that.
    pub(super) json: bool,
    /// What anchors shall stand for.
    anchors: HashMap<usize, Value>,
    /// Whether one shall stand for something else than now.
    changed: bool,
    edits: Vec<Edit>,
}

impl Editor<'_> {
    pub(super) fn put(&mut self, at: Range<usize>, text: impl Into<String>) {
        self.edits.push(Edit { at, text: text.into() });
    }

    /// Puts a value in place of another one, outside brackets.
    fn put_instead(&mut self, at: Range<usize>, new: String) {
        self.edits.push(instead(self.text, at, new));
    }

    fn node(&mut self, node: &Node, old: &Value, new: &Value, around: Around) {
        if let Kind::Alias(id) = &node.kind {
            if self.anchors.get(id) != Some(new) {
                self.replace(node, new, around);
            }
            return;
        }
        if old == new && !self.changed {
            return;
        }
        match (&node.kind, old, new) {
            (Kind::Map(layout, entries), Value::Object(old), Value::Object(new)) if !new.is_empty() => match layout {
                Layout::Block(column) if self.mergeable(entries, new) => self.map(entries, *column, old, new),
                Layout::Flow if entries.iter().all(|entry| entry.key.is_some()) && !entries.is_empty() => {
                    flow::map(self, entries, old, new);
                }
                _ if old == new => {}
                _ => self.replace(node, &Value::Object(new.clone()), around),
            },
            (Kind::List(layout, items), Value::Array(old), Value::Array(new)) if !new.is_empty() => match layout {
                Layout::Block(column) => self.list(items, *column, old, new),
                Layout::Flow if !items.is_empty() => flow::list(self, items, old, new),
                _ if old == new => {}
                _ => self.replace(node, &Value::Array(new.clone()), around),
            },
            _ if old == new => {}
            _ => self.replace(node, new, around),
        }
    }

    /// A value within brackets.
    pub(super) fn within(&mut self, node: &Node, old: &Value, new: &Value) {
        self.node(node, old, new, Around::Brackets);
    }

    /// Whether `<<` brings nothing that `new` has not.
    fn mergeable(&self, entries: &[Entry], new: &Object<String, Value>) -> bool {
        self.merged(entries).keys().all(|key| new.contains_key(key))
    }

    /// What `<<` shall bring.
    fn merged(&self, entries: &[Entry]) -> Object<String, Value> {
        let mut merged = Object::new();
        for entry in entries.iter().filter(|entry| entry.key.is_none()) {
            let bases = match &entry.value.kind {
                Kind::List(_, items) => items.iter().map(|item| &item.value).collect(),
                _ => vec![&entry.value],
            };
            for base in bases {
                let Kind::Alias(id) = base.kind else { continue };
                let Some(Value::Object(base)) = self.anchors.get(&id) else { continue };
                for (key, value) in base {
                    merged.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
        }
        merged
    }

    /// A map by indentation, of which some entries stay.
    fn map(&mut self, entries: &[Entry], column: usize, old: &Object<String, Value>, new: &Object<String, Value>) {
        let kept = |entry: &Entry| entry.key.as_ref().is_none_or(|key| new.contains_key(key));
        let Some(first) = entries.iter().position(kept) else {
            let (start, end) = (entries[0].at, entries[entries.len() - 1].end());
            return self.put_instead(start..end, write::block(&Value::Object(new.clone()), column, self.style));
        };
        let inline = !lines::first_in_line(self.text, entries[0].at);
        let brought = self.merged(entries);
        let there: Vec<(usize, &str)> = (entries.iter().enumerate())
            .filter_map(|(index, entry)| Some((index, entry.key.as_deref().filter(|key| new.contains_key(*key))?)))
            .collect();
        let mut added: Vec<&String> = new
            .iter()
            .filter(|(key, _)| !there.iter().any(|(_, name)| name == key))
            .filter(|(key, value)| brought.get(*key) != Some(*value) && (self.changed || old.get(*key) != Some(*value)))
            .map(|(key, _)| key)
            .collect();
        added.sort_by_key(|key| order::rank(key));
        // What goes to the end of an entry comes before what goes behind it.
        if first > 0 && inline {
            self.put(entries[0].at..entries[first].at, "");
        }
        for entry in entries.iter().skip(if inline { first } else { 0 }) {
            let around = Around::Key { colon: entry.colon, column };
            let Some(key) = &entry.key else { continue };
            match (old.get(key), new.get(key)) {
                (Some(old), Some(new)) => self.node(&entry.value, old, new, around),
                _ => self.remove_lines(entry.at, entry.end(), column),
            }
        }
        for key in added {
            let written = write::entry(key, &new[key], column, self.style);
            match order::place(key, there.iter().map(|(_, name)| *name)) {
                Some(Place::Before(index)) if there[index].0 == first => {
                    let at = if inline { entries[0].at } else { entries[first].at };
                    self.put(at..at, format!("{written}\n{}", " ".repeat(column)));
                }
                Some(Place::Before(index)) => self.put_behind(entries[there[index].0 - 1].end(), column, &written),
                Some(Place::Behind(index)) => self.put_behind(entries[there[index].0].end(), column, &written),
                None => self.put_behind(entries[first].end(), column, &written),
            }
        }
    }

    /// A list by indentation.
    fn list(&mut self, items: &[Item], column: usize, old: &[Value], new: &[Value]) {
        let steps = align::steps(old, new);
        if !steps.iter().any(|step| matches!(step, Step::Keep(..))) {
            let (start, end) = (items[0].at, items[items.len() - 1].value.end);
            return self.put_instead(start..end, write::block(&Value::Array(new.to_vec()), column, self.style));
        }
        let inline = !lines::first_in_line(self.text, items[0].at);
        let mut last: Option<usize> = None;
        let mut gone = 0;
        for step in steps {
            match step {
                Step::Add(to) => {
                    let written = write::item(&new[to], column, self.style);
                    match last {
                        Some(index) => self.put_behind(items[index].value.end, column, &written),
                        None => {
                            let at = if inline { items[0].at } else { lines::above(self.text, items[0].at, 0) };
                            let (before, after) = if inline {
                                (String::new(), format!("\n{}", " ".repeat(column)))
                            } else {
                                (" ".repeat(column), "\n".to_owned())
                            };
                            self.put(at..at, format!("{before}{written}{after}"));
                        }
                    }
                }
                Step::Keep(from, to) => {
                    if last.is_none() && gone > 0 && inline {
                        self.put(items[0].at..items[from].at, "");
                    }
                    last = Some(from);
                    let around = Around::Dash { at: items[from].at, column };
                    self.node(&items[from].value, &old[from], &new[to], around);
                }
                Step::Remove(from) => {
                    gone += 1;
                    if last.is_some() || !inline {
                        self.remove_lines(items[from].at, items[from].value.end, column);
                    }
                }
            }
        }
    }

    /// Puts lines in behind the value that ends at `end`, of a key or dash in `column`.
    fn put_behind(&mut self, end: usize, column: usize, written: &str) {
        let at = lines::behind(self.text, end, column);
        let indent = " ".repeat(column);
        if self.text[..at].ends_with('\n') {
            self.put(at..at, format!("{indent}{written}\n"));
        } else {
            self.put(at..at, format!("\n{indent}{written}"));
        }
    }

    /// Takes out the lines of an entry or item with the comments that are its own.
    fn remove_lines(&mut self, start: usize, end: usize, column: usize) {
        let from = lines::line_start(self.text, start);
        let to = lines::behind(self.text, end, column);
        self.put(from..to, "");
    }

    /// Writes `new` in place of what stands there.
    fn replace(&mut self, node: &Node, new: &Value, around: Around) {
        let start = if node.tagged { node.start } else { node.content };
        match around {
            Around::Root if self.json => self.put(start..node.end, write::json(new, 0, self.style.step)),
            Around::Root => {
                let lead = if lines::column(self.text, node.start) > 0 { "\n" } else { "" };
                self.put_instead(node.start..node.end, format!("{lead}{}", at_root(new, self.style)));
            }
            Around::Brackets => {
                let written = match self.quoted_alike(node, new) {
                    _ if self.json => write::compact(new),
                    Some(quoted) => quoted,
                    None => write::flow(new),
                };
                self.put(start..node.end, written);
            }
            Around::Dash { at, column } => {
                let lead = if start == at + 1 { " " } else { "" };
                self.put_instead(start..node.end, format!("{lead}{}", write::block(new, column + 2, self.style)));
            }
            Around::Key { colon, column } => match (&node.kind, write::short(new)) {
                (
                    Kind::Scalar | Kind::Alias(_) | Kind::Map(Layout::Flow, _) | Kind::List(Layout::Flow, _),
                    Some(short),
                ) => {
                    let lead = if start == colon { " " } else { "" };
                    let short = self.quoted_alike(node, new).unwrap_or(short);
                    self.put(start..node.end, format!("{lead}{short}"));
                }
                (Kind::Map(Layout::Block(inner), _), None)
                    if *inner > column && start == node.content && new.is_object() =>
                {
                    self.put_instead(start..node.end, write::block(new, *inner, self.style));
                }
                _ => self.put_instead(colon..node.end, write::behind_colon(new, column, self.style)),
            },
        }
    }

    /// A text in the quotes that the one before it has.
    fn quoted_alike(&self, node: &Node, new: &Value) -> Option<String> {
        let Value::String(text) = new else { return None };
        match self.text.as_bytes().get(node.content)? {
            b'"' => Some(write::double_quoted(text)),
            b'\'' => write::single_quoted(text),
            _ => None,
        }
    }
}

impl Entry {
    /// The byte after its last one.
    pub(super) fn end(&self) -> usize {
        self.value.end.max(self.colon)
    }
}
