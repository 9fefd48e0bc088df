//! What has to be written so that one document becomes another. Pure.

use std::collections::BTreeSet;

use super::contract::{Op, Place};
use super::diff;
use super::document::{Document, pretty, same, yaml};

/// A flag, or what all flags share, that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where it stands.
    pub place: Place,
    /// The flag's key; in [`Place::Meta`], `evaluators` or `metadata`.
    pub key: String,
    /// The JSON text there; `None` when it is not there yet.
    pub before: Option<String>,
    /// The JSON text that is to be there; `None` removes.
    pub after: Option<String>,
}

/// What a change does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// It was not there.
    Add,
    /// It was otherwise.
    Change,
    /// It goes.
    Remove,
}

impl Verb {
    /// The verb in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Add => "add",
            Verb::Change => "change",
            Verb::Remove => "remove",
        }
    }
}

/// The changes that make `after` of `before`: shared rules first, then flags by key. What means the same is left as it is.
pub fn between(before: &Document, after: &Document) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut compare = |place, key: &str, before: Option<&String>, after: Option<&String>| {
        let equal = match (before, after) {
            (Some(before), Some(after)) => same(before, after),
            (before, after) => before == after,
        };
        if !equal {
            let (key, before, after) = (key.to_owned(), before.cloned(), after.cloned());
            changes.push(Change { place, key, before, after });
        }
    };
    compare(Place::Meta, "evaluators", before.evaluators.as_ref(), after.evaluators.as_ref());
    compare(Place::Meta, "metadata", before.metadata.as_ref(), after.metadata.as_ref());
    let keys: BTreeSet<&String> = before.flags.keys().chain(after.flags.keys()).collect();
    for key in keys {
        compare(Place::Flags, key, before.flags.get(key), after.flags.get(key));
    }
    changes
}

impl Change {
    /// What it does.
    pub fn verb(&self) -> Verb {
        match (&self.before, &self.after) {
            (None, _) => Verb::Add,
            (_, None) => Verb::Remove,
            _ => Verb::Change,
        }
    }

    /// Its name in the log: the key, or `$evaluators`, `$metadata`.
    pub fn name(&self) -> String {
        match self.place {
            Place::Flags => self.key.clone(),
            Place::Meta => format!("${}", self.key),
        }
    }

    /// What stands in `document` where this change writes.
    pub fn now<'d>(&self, document: &'d Document) -> Option<&'d String> {
        match (self.place, self.key.as_str()) {
            (Place::Flags, key) => document.flags.get(key),
            (Place::Meta, "evaluators") => document.evaluators.as_ref(),
            (Place::Meta, _) => document.metadata.as_ref(),
        }
    }

    /// Makes the change in `document`.
    pub fn apply(&self, document: &mut Document) {
        let after = self.after.clone();
        match (self.place, self.key.as_str()) {
            (Place::Flags, key) => match after {
                Some(after) => drop(document.flags.insert(key.to_owned(), after)),
                None => drop(document.flags.remove(key)),
            },
            (Place::Meta, "evaluators") => document.evaluators = after,
            (Place::Meta, _) => document.metadata = after,
        }
    }

    /// The write.
    pub fn op(&self) -> Op {
        Op { place: self.place, key: self.key.clone(), set: self.after.clone(), expect: None }
    }

    /// The change as a unified diff between `old` and `new`, in YAML where that can hold it.
    pub fn diff(&self, old: &str, new: &str) -> String {
        let name = self.name();
        let text = |json: &Option<String>| {
            json.as_deref().map(|json| yaml(json).unwrap_or_else(|_| pretty(json))).unwrap_or_default()
        };
        let names = (format!("{name} ({old})"), format!("{name} ({new})"));
        let told = diff::unified(&text(&self.before), &text(&self.after), (&names.0, &names.1));
        if !told.is_empty() {
            return told;
        }
        // Two definitions that YAML writes alike, or that read alike: the texts themselves differ.
        let raw = |json: &Option<String>| json.clone().unwrap_or_default();
        diff::unified(&raw(&self.before), &raw(&self.after), (&names.0, &names.1))
    }
}

/// How many are added, changed and removed, for people: `1 to add, 2 to change, 0 to remove`.
pub fn summary(changes: &[Change]) -> String {
    let count = |verb| changes.iter().filter(|change| change.verb() == verb).count();
    format!("{} to add, {} to change, {} to remove", count(Verb::Add), count(Verb::Change), count(Verb::Remove))
}

/// What a change of one definition comes to, in a few words: `default off → on`. Either text may be empty: not there.
pub fn brief(before: &str, after: &str) -> String {
    let members =
        |text: &str| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).unwrap_or_default();
    match (before.is_empty(), after.is_empty()) {
        (_, true) => return "removed".to_owned(),
        (true, _) => return "added".to_owned(),
        _ => {}
    }
    let (before, after) = (members(before), members(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let told: Vec<String> = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| {
            let short = if name == "defaultVariant" { "default" } else { name };
            let scalar = |value: Option<&serde_json::Value>| match value {
                None => Some("none".to_owned()),
                Some(serde_json::Value::String(text)) => Some(text.clone()),
                Some(serde_json::Value::Array(_) | serde_json::Value::Object(_)) => None,
                Some(value) => Some(value.to_string()),
            };
            match (scalar(before.get(name)), scalar(after.get(name))) {
                (Some(before), Some(after)) => format!("{short} {before} → {after}"),
                _ if !before.contains_key(name) => format!("{short} added"),
                _ if !after.contains_key(name) => format!("{short} removed"),
                _ => format!("{short} changed"),
            }
        })
        .collect();
    if told.is_empty() { "written again as it was".to_owned() } else { told.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(flags: &[(&str, &str)], evaluators: Option<&str>) -> Document {
        let flags = flags.iter().map(|(key, json)| ((*key).to_owned(), (*json).to_owned())).collect();
        Document { flags, evaluators: evaluators.map(str::to_owned), metadata: None }
    }

    #[test]
    fn a_change_is_told_in_a_few_words() {
        for (before, after, told) in [
            ("", "{}", "added"),
            ("{}", "", "removed"),
            (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, "written again as it was"),
            (r#"{"state":"ENABLED"}"#, r#"{"state":"DISABLED"}"#, "state ENABLED → DISABLED"),
            (
                r#"{"defaultVariant":"off","variants":{"on":true},"targeting":{}}"#,
                r#"{"defaultVariant":"on","variants":{"on":false}}"#,
                "default off → on, targeting removed, variants changed",
            ),
            ("broken", r#"{"metadata":{}}"#, "metadata added"),
        ] {
            assert_eq!(brief(before, after), told, "{before} {after}");
        }
    }

    #[test]
    fn only_what_means_something_else_is_written() {
        let before = document(&[("a", r#"{"x":1,"y":2}"#), ("b", "{}"), ("c", r#"{"x":1}"#)], Some("{}"));
        let after = document(&[("a", r#"{"y":2, "x":1}"#), ("c", r#"{"x":2}"#), ("d", "{}")], None);
        let changes = between(&before, &after);
        let told: Vec<_> = changes.iter().map(|change| (change.name(), change.verb())).collect();
        let expected = [("$evaluators", Verb::Remove), ("b", Verb::Remove), ("c", Verb::Change), ("d", Verb::Add)];
        assert_eq!(told, expected.map(|(name, verb)| (name.to_owned(), verb)));
        assert_eq!(summary(&changes), "1 to add, 1 to change, 2 to remove");
        let mut made = before.clone();
        for change in &changes {
            assert_eq!(change.now(&made), change.before.as_ref());
            change.apply(&mut made);
        }
        assert_eq!(between(&made, &after), []);
        assert_eq!(changes[2].diff("now", "file"), "--- c (now)\n+++ c (file)\n@@ -1,1 +1,1 @@\n-x: 1\n+x: 2\n");
        assert_eq!(changes[3].diff("now", "file"), "--- d (now)\n+++ d (file)\n@@ -0,0 +1,1 @@\n+{}\n");
    }
}
