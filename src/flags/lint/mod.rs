//! What compiles and is still likely to be a mistake: variants that do not exist or are never chosen, branches that are
//! never reached, weights that mean nothing, rules that decide nothing, names that differ in case alone. Pure.

mod attributes;
mod rule;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use self::attributes::Attributes;
use self::rule::{Linter, Outcomes};
use super::document::Document;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Evaluations fail, or sidecars refuse the whole.
    Error,
    /// It does not do what it says.
    Warning,
    /// It may be meant so.
    Hint,
}

impl Level {
    /// The level's name in output.
    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Hint => "hint",
        }
    }
}

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// Where: `flags.search.targeting.if.2`.
    pub path: String,
    /// What, and what it means.
    pub text: String,
}

/// Findings beyond this are not listed: a document of a hundred thousand mistakes has one cause.
const MAX_FINDINGS: usize = 1000;

/// Looks at a document that compiles; of one that does not, at what is of the expected shape.
pub fn document(document: &Document) -> Vec<Finding> {
    let object = |json: Option<&String>| -> Map<String, Value> {
        json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
    };
    let evaluators = object(document.evaluators.as_ref());
    let mut findings = Findings::default();
    let mut attributes = Attributes::default();
    let mut used = BTreeMap::new();
    for (name, rule) in &evaluators {
        let path = format!("$evaluators.{name}");
        let mut linter = Linter::new(&evaluators, &mut findings, &mut attributes, &mut used);
        linter.look(rule, &path);
    }
    // What an evaluator refers to counts as used only if the evaluator itself is.
    let among: BTreeMap<String, Vec<String>> =
        evaluators.iter().map(|(name, rule)| (name.clone(), refs(rule))).collect();
    used.clear();
    for (key, definition) in &document.flags {
        let Ok(Value::Object(definition)) = serde_json::from_str(definition) else { continue };
        flag(key, &definition, &evaluators, (&mut findings, &mut attributes, &mut used));
    }
    let mut reached: Vec<String> = used.into_keys().collect();
    let mut at = 0;
    while let Some(name) = reached.get(at).cloned() {
        let inner = among.get(&name).into_iter().flatten();
        let new: Vec<String> = inner.filter(|name| !reached.contains(name)).cloned().collect();
        reached.extend(new);
        at += 1;
    }
    for name in evaluators.keys().filter(|name| !reached.contains(name)) {
        findings.add(Level::Warning, &format!("$evaluators.{name}"), "no flag refers to it");
    }
    attributes.report(&mut findings);
    findings.found
}

type Notes<'n> = (&'n mut Findings, &'n mut Attributes, &'n mut BTreeMap<String, ()>);

fn flag(key: &str, definition: &Map<String, Value>, evaluators: &Map<String, Value>, notes: Notes<'_>) {
    let (findings, attributes, used) = notes;
    let path = format!("flags.{key}");
    let Some(Value::Object(variants)) = definition.get("variants") else { return };
    let default = definition.get("defaultVariant").and_then(Value::as_str);
    let Some(Value::Object(rule)) = definition.get("targeting") else { return };
    if rule.is_empty() {
        return;
    }
    let at = format!("{path}.targeting");
    let rule = Value::Object(rule.clone());
    let outcomes = Linter::new(evaluators, findings, attributes, used).look(&rule, &at);
    let Outcomes { names, null, computed } = outcomes;
    for (name, place) in &names {
        if !variants.contains_key(name) {
            let known: Vec<&str> = variants.keys().map(String::as_str).take(8).collect();
            let text = format!("{name:?} is none of the variants {}: who comes here gets an error", known.join(", "));
            findings.add(Level::Error, place, text);
        }
    }
    if computed {
        return;
    }
    for name in variants.keys().filter(|name| !names.contains_key(*name) && default != Some(name)) {
        findings.add(Level::Warning, &format!("{path}.variants.{name}"), "neither the default nor any rule chooses it");
    }
    let mut given: Vec<&str> = names.keys().map(String::as_str).collect();
    match default {
        Some(default) if null && !given.contains(&default) => given.push(default),
        // The application's own default is an outcome of its own.
        None if null => return,
        _ => {}
    }
    if let [only] = given.as_slice() {
        let text = format!("every way through it gives {only:?}: it decides nothing; `defaultVariant` alone would do");
        findings.add(Level::Warning, &at, text);
    }
}

/// The evaluators that a rule names.
fn refs(rule: &Value) -> Vec<String> {
    match rule {
        Value::Object(members) => members
            .iter()
            .flat_map(|(operator, value)| match (operator.as_str(), value) {
                ("$ref", Value::String(name)) => vec![name.clone()],
                (_, value) => refs(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(refs).collect(),
        _ => Vec::new(),
    }
}

/// What has been found so far.
#[derive(Debug, Default)]
struct Findings {
    found: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, level: Level, path: &str, text: impl Into<String>) {
        let finding = Finding { level, path: path.to_owned(), text: text.into() };
        // An evaluator's own mistakes are found again by every flag that refers to it.
        if self.found.len() < MAX_FINDINGS && !self.found.contains(&finding) {
            self.found.push(finding);
        }
    }
}

#[cfg(test)]
mod tests;
