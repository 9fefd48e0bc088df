//! Reading one section of the tree: every call declares a key, reads and judges its value, and notes both the
//! declaration and the result, so that a key is written down once. Knows no key itself.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::key::{Field, Shape, Stated};
use super::node::{Node, Origin, Value};
use super::problem::{Problem, closest};
use super::show::Shown;
use super::values::{Type, mask};

/// What all sections of one reading share.
pub(super) struct Reading {
    /// Everything wrong so far.
    pub(super) problems: RefCell<Vec<Problem>>,
    /// Whether only declarations are wanted: then lists and names are walked once although nothing stands in them.
    describe: bool,
}

/// A section being read.
pub(super) struct Section<'a> {
    reading: &'a Reading,
    pub(super) path: String,
    node: Option<&'a Node>,
    /// Where the section itself came from, even an empty one.
    origin: Option<&'a Origin>,
    fields: Vec<Field>,
    shown: Vec<(String, Shown)>,
    refused: BTreeSet<&'static str>,
    /// Keys whose value was not what it should be.
    bad: BTreeSet<&'static str>,
    /// Whether something else than keys stood where the section should be, which was reported.
    pub(super) malformed: bool,
}

/// What a reading left behind.
pub(super) struct Read {
    pub(super) fields: Vec<Field>,
    pub(super) shown: Shown,
    pub(super) problems: Vec<Problem>,
}

/// Reads the tree `root` through `read`.
pub(super) fn read<T>(root: &Node, read: impl FnOnce(&mut Section<'_>) -> T) -> (T, Read) {
    run(Some(root), false, read)
}

/// What `read` declares.
pub(super) fn describe<T>(read: impl FnOnce(&mut Section<'_>) -> T) -> Vec<Field> {
    run(None, true, read).1.fields
}

fn run<T>(root: Option<&Node>, describe: bool, read: impl FnOnce(&mut Section<'_>) -> T) -> (T, Read) {
    let reading = Reading { problems: RefCell::new(Vec::new()), describe };
    let mut section = Section::new(&reading, String::new(), root);
    let value = read(&mut section);
    let (fields, shown) = section.finish();
    (value, Read { fields, shown: Shown::Map(shown), problems: reading.problems.into_inner() })
}

impl<'a> Section<'a> {
    fn new(reading: &'a Reading, path: String, node: Option<&'a Node>) -> Self {
        Self {
            reading,
            path,
            node,
            origin: node.map(|node| &node.origin),
            fields: Vec::new(),
            shown: Vec::new(),
            refused: BTreeSet::new(),
            bad: BTreeSet::new(),
            malformed: false,
        }
    }

    /// A value with a default.
    pub(super) fn or<T: 'static>(&mut self, name: &'static str, kind: &Type<T>, default: T, doc: &'static str) -> T {
        let stated = Stated::Value((kind.show)(&default));
        self.value(name, kind, stated, Some(default), doc).expect("a default is given")
    }

    /// A value whose default depends on something, `said` in words.
    pub(super) fn or_computed<T: 'static>(
        &mut self,
        name: &'static str,
        kind: &Type<T>,
        (default, said): (T, &'static str),
        doc: &'static str,
    ) -> T {
        self.value(name, kind, Stated::Words(said), Some(default), doc).expect("a default is given")
    }

    /// A value that may be absent; `said` tells what that means.
    pub(super) fn optional<T: 'static>(
        &mut self,
        name: &'static str,
        kind: &Type<T>,
        said: &'static str,
        doc: &'static str,
    ) -> Option<T> {
        self.value(name, kind, Stated::Words(said), None, doc)
    }

    /// A value that must be there. `None` when it is not or does not fit, which is a problem then.
    pub(super) fn required<T: 'static>(&mut self, name: &'static str, kind: &Type<T>, doc: &'static str) -> Option<T> {
        if self.get(name).is_none() {
            self.bad.insert(name);
            let example = kind.kind.said();
            let problem = Problem::new(self.below(name), "missing").remedy(format!("add it: {example}"));
            self.note(self.origin.into_iter().fold(problem, Problem::from));
        }
        self.value(name, kind, Stated::Required, None, doc)
    }

    fn value<T: 'static>(
        &mut self,
        name: &'static str,
        kind: &Type<T>,
        stated: Stated,
        default: Option<T>,
        doc: &'static str,
    ) -> Option<T> {
        self.fields.push(Field { name, doc, shape: Shape::Leaf(kind.kind.clone(), stated), secret: kind.secret });
        let node = self.get(name);
        let value = match node.map(|node| ((kind.read)(node), node)) {
            Some((Ok(value), _)) => Some(value),
            Some((Err(faults), node)) => {
                self.bad.insert(name);
                for (index, wrong) in faults {
                    let (path, at) = match (index, &node.value) {
                        (Some(index), Value::List(items)) => (format!("{}[{index}]", self.below(name)), &items[index]),
                        _ => (self.below(name), node),
                    };
                    let mut problem = Problem::new(path, wrong.what).remedy(wrong.remedy).from(&at.origin);
                    if let Some(value) = at.shown() {
                        problem = problem.value(if kind.secret { "REDACTED".to_owned() } else { value });
                    }
                    self.note(problem);
                }
                default
            }
            None => default,
        };
        let json = value.as_ref().map_or(Json::Null, &kind.show);
        self.shown.push((name.to_owned(), Shown::leaf(json, node, kind.secret)));
        value
    }

    /// A section of its own, there or not.
    pub(super) fn section<T>(
        &mut self,
        name: &'static str,
        doc: &'static str,
        read: impl FnOnce(&mut Section<'a>) -> T,
    ) -> T {
        let node = self.get(name);
        let (value, fields, shown) = self.enter(self.below(name), node, read);
        self.fields.push(Field { name, doc, shape: Shape::Section(fields), secret: false });
        self.shown.push((name.to_owned(), Shown::Map(shown)));
        value
    }

    /// A section that means something by being there, even empty.
    pub(super) fn section_if_there<T>(
        &mut self,
        name: &'static str,
        doc: &'static str,
        read: impl FnOnce(&mut Section<'a>) -> T,
    ) -> Option<T> {
        let there = match self.node.map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.iter().any(|(key, _)| key == name),
            _ => false,
        };
        if !there && !self.reading.describe {
            // Declared all the same: a misspelt key finds its name.
            self.fields.push(Field { name, doc, shape: Shape::Section(Vec::new()), secret: false });
            return None;
        }
        let value = self.section(name, doc, read);
        there.then_some(value)
    }

    /// A list of sections. Without the key, one section of defaults.
    pub(super) fn sections<T>(
        &mut self,
        name: &'static str,
        doc: &'static str,
        mut read: impl FnMut(&mut Section<'a>) -> T,
    ) -> Vec<T> {
        let path = self.below(name);
        let node = self.get(name);
        let items: Vec<Option<&Node>> = match node.map(|node| (&node.value, node)) {
            Some((Value::List(items), _)) => items.iter().map(Some).collect(),
            None => vec![None],
            Some((_, node)) => {
                self.bad.insert(name);
                if node.value != Value::Refused {
                    let problem = Problem::new(&path, "not a list").remedy("begin each element with a dash");
                    self.note(problem.from(&node.origin));
                }
                Vec::new()
            }
        };
        let (mut values, mut fields, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        for (index, item) in items.into_iter().enumerate() {
            let (value, declared, result) = self.enter(format!("{path}[{index}]"), item, &mut read);
            values.push(value);
            fields = declared;
            shown.push(Shown::Map(result));
        }
        self.fields.push(Field { name, doc, shape: Shape::List(fields), secret: false });
        self.shown.push((name.to_owned(), Shown::List(shown)));
        values
    }

    /// Sections by names that the operator chooses, in the order of their names.
    pub(super) fn named<T>(
        &mut self,
        name: &'static str,
        doc: &'static str,
        mut read: impl FnMut(&mut Section<'a>, &str) -> T,
    ) -> Vec<T> {
        let path = self.below(name);
        let node = self.get(name);
        let mut entries: Vec<(&str, &Node)> = match node.map(|node| (&node.value, node)) {
            Some((Value::Map(entries), _)) => entries.iter().map(|(key, node)| (key.as_str(), node)).collect(),
            Some((Value::Refused, _)) | None => Vec::new(),
            Some((_, node)) => {
                self.bad.insert(name);
                self.note(Problem::new(&path, "not a section").remedy("write NAME: { … } below it").from(&node.origin));
                Vec::new()
            }
        };
        entries.sort_by_key(|(key, _)| *key);
        let (mut values, mut fields, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        for (key, entry) in entries {
            let (value, declared, result) = self.enter(format!("{path}.{key}"), Some(entry), |s| read(s, key));
            values.push(value);
            fields = declared;
            shown.push((key.to_owned(), Shown::Map(result)));
        }
        if self.reading.describe {
            fields = self.enter(format!("{path}.NAME"), None, |s| read(s, "name")).1;
        }
        self.fields.push(Field { name, doc, shape: Shape::Named(fields), secret: false });
        self.shown.push((name.to_owned(), Shown::Map(shown)));
        values
    }

    /// Names and values that mean nothing to the sidecar.
    pub(super) fn free(&mut self, name: &'static str, doc: &'static str) -> serde_json::Map<String, Json> {
        self.fields.push(Field { name, doc, shape: Shape::Free, secret: false });
        let Some(node) = self.get(name) else {
            self.shown.push((name.to_owned(), Shown::Map(Vec::new())));
            return serde_json::Map::new();
        };
        self.shown.push((name.to_owned(), Shown::free(node)));
        match node.to_json() {
            Json::Object(map) => map,
            _ => {
                self.bad.insert(name);
                self.note(
                    Problem::new(self.below(name), "not a section")
                        .remedy("write NAME: VALUE below it")
                        .from(&node.origin),
                );
                serde_json::Map::new()
            }
        }
    }

    /// Keys that are known and refused, with why and what to do.
    pub(super) fn refuse(&mut self, names: &[&'static str], why: &str, remedy: &str) {
        for name in names {
            self.refused.insert(name);
            if let Some(node) = self.get(name) {
                self.note(Problem::new(self.below(name), why).remedy(remedy).from(&node.origin));
            }
        }
    }

    /// Whether these keys' values, given or default, are what they should be: only then may they be compared.
    pub(super) fn sound(&self, names: &[&str]) -> bool {
        !names.iter().any(|name| self.bad.contains(name))
    }

    /// Whether a value stands at this key.
    pub(super) fn given(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A problem of a key's value that shows only together with others.
    pub(super) fn problem(
        &mut self,
        name: &'static str,
        value: Option<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.bad.insert(name);
        let mut problem = Problem::new(self.below(name), what).remedy(remedy);
        if let Some(value) = value {
            problem = problem.value(mask(&value));
        }
        if let Some(node) = self.get(name) {
            problem = problem.from(&node.origin);
        }
        self.note(problem);
    }

    /// A problem of the section itself.
    pub(super) fn problem_here(&self, what: impl Into<String>, remedy: impl Into<String>) {
        let problem = Problem::new(&self.path, what).remedy(remedy);
        self.note(self.origin.into_iter().fold(problem, Problem::from));
    }

    /// Notes a problem found elsewhere.
    pub(super) fn note(&self, problem: Problem) {
        self.reading.problems.borrow_mut().push(problem);
    }

    /// The path of a key of this section.
    pub(super) fn below(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn get(&self, name: &str) -> Option<&'a Node> {
        self.node.and_then(|node| node.get(name))
    }

    fn enter<T>(
        &self,
        path: String,
        node: Option<&'a Node>,
        read: impl FnOnce(&mut Section<'a>) -> T,
    ) -> (T, Vec<Field>, Vec<(String, Shown)>) {
        let map = node.filter(|node| matches!(node.value, Value::Map(_)));
        let mut section = Section::new(self.reading, path, map);
        section.origin = node.map(|node| &node.origin);
        if let Some(node) = node.filter(|node| map.is_none() && node.value != Value::Null) {
            section.malformed = true;
            if node.value != Value::Refused {
                // The value itself is not shown: a secret may have been put one level too high.
                let problem = Problem::new(&section.path, "not a section").remedy("write KEY: VALUE below it");
                self.note(problem.from(&node.origin));
            }
        }
        let value = read(&mut section);
        let (fields, shown) = section.finish();
        (value, fields, shown)
    }

    /// Reports every key nobody asked for. Its value is not shown: a secret may stand under a misspelt name.
    fn finish(self) -> (Vec<Field>, Vec<(String, Shown)>) {
        if let Some(Node { value: Value::Map(entries), .. }) = self.node {
            let known = || self.fields.iter().map(|field| field.name);
            for (key, node) in entries {
                if known().any(|name| name == key) || self.refused.contains(key.as_str()) {
                    continue;
                }
                let remedy = match closest(key, known()) {
                    Some(name) => format!("did you mean {name}?"),
                    None => format!("known here: {}", known().collect::<Vec<_>>().join(", ")),
                };
                self.note(Problem::new(self.below(key), "unknown key").remedy(remedy).from(&node.origin));
            }
        }
        (self.fields, self.shown)
    }
}
