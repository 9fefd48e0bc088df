//! A scope's flags as one document: read from JSON or YAML, merged, compared member by member, and written for people or
//! for programs. Definitions are texts here; whether they mean anything, [`Document::check`] asks the compiler. Pure.

mod places;
mod print;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use places::Places;
pub use print::{NotYaml, pretty, yaml};

use super::compile::node::Node;
use super::compile::{self, Format, Invalid, Place, Problem};
use super::contract::Remote;
use super::model::FlagSet;

/// Everything of a scope that people write. Each text is compact JSON, or what stands in Redis.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// Definition by key.
    pub flags: BTreeMap<String, String>,
    /// `$evaluators`, an object.
    pub evaluators: Option<String>,
    /// `metadata`, an object.
    pub metadata: Option<String>,
}

/// What happens to what a document does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    /// It stays.
    Keep,
    /// It goes.
    Remove,
}

impl Document {
    /// Reads the shape of a document, `{"flags": {…}, "$evaluators": {…}, "metadata": {…}}`, and nothing of the
    /// definitions in it.
    ///
    /// # Errors
    /// [`Invalid`]: no JSON or YAML, no such shape.
    pub fn read(text: &str, format: Format) -> Result<Self, Invalid> {
        let node = compile::tree(text, format)?;
        let mut problems = Vec::new();
        let mut problem = |path: &str, text: String| problems.push(Problem { path: path.to_owned(), text, at: None });
        let Node::Object(members) = node else {
            problem("", format!("must be an object with `flags`, and is {}", node.what()));
            return Err(Invalid(problems));
        };
        let mut document = Self::default();
        let mut flags_named = false;
        for (name, value) in members {
            match (name.as_str(), value) {
                ("flags", Node::Object(flags)) => {
                    flags_named = true;
                    document.flags = flags.into_iter().map(|(key, node)| (key, node.to_string())).collect();
                }
                ("$evaluators", node @ Node::Object(_)) => document.evaluators = Some(node.to_string()),
                ("metadata", node @ Node::Object(_)) => document.metadata = Some(node.to_string()),
                ("flags" | "$evaluators" | "metadata", other) => {
                    flags_named |= name == "flags";
                    problem(&name, format!("must be an object, and is {}", other.what()));
                }
                ("$schema", _) => {}
                _ => problem(&name, "is unknown here; there are flags, $evaluators, metadata, $schema".to_owned()),
            }
        }
        if !flags_named {
            problem("flags", "is missing; a document without flags has `\"flags\": {}`".to_owned());
        }
        if problems.is_empty() { Ok(document) } else { Err(Invalid(problems)) }
    }

    /// The JSON of one definition alone, as its author wrote it.
    ///
    /// # Errors
    /// [`Invalid`]: no JSON or YAML.
    pub fn definition(text: &str, format: Format) -> Result<String, Invalid> {
        compile::tree(text, format).map(|node| node.to_string())
    }

    /// A scope as it is in Redis, sound or not.
    pub fn of(remote: &Remote) -> Self {
        Self {
            flags: remote.flags.iter().cloned().collect(),
            evaluators: remote.evaluators.clone(),
            metadata: remote.metadata.clone(),
        }
    }

    /// Compiles everything, as a sidecar does.
    ///
    /// # Errors
    /// [`Invalid`] with every problem; sidecars would refuse the whole.
    pub fn compile(&self) -> Result<FlagSet, Invalid> {
        let mut problems = Vec::new();
        let mut set = FlagSet::default();
        match self.evaluators.as_deref().map(compile::evaluators).transpose() {
            Ok(evaluators) => set.evaluators = evaluators.unwrap_or_default(),
            // Every `$ref` would be reported on top of it.
            Err(invalid) => return Err(invalid),
        }
        match self.metadata.as_deref().map(compile::metadata).transpose() {
            Ok(metadata) => set.metadata = metadata.unwrap_or_default(),
            Err(invalid) => problems.extend(invalid.0),
        }
        for (key, definition) in &self.flags {
            match compile::flag(key, definition, &set.evaluators) {
                Ok(flag) => drop(set.flags.insert(flag.key.clone(), Arc::new(flag))),
                Err(invalid) => problems.extend(invalid.0),
            }
        }
        if problems.is_empty() { Ok(set) } else { Err(Invalid(problems)) }
    }

    /// As [`Document::compile`], for its errors alone.
    ///
    /// # Errors
    /// [`Invalid`] with every problem.
    pub fn check(&self) -> Result<(), Invalid> {
        self.compile().map(drop)
    }

    /// This document with everything that `other` names in place of its own: each flag, each evaluator and each entry of
    /// the metadata counts by itself.
    ///
    /// # Errors
    /// [`Invalid`]: evaluators or metadata of either are no objects.
    pub fn with(&self, other: &Self, unnamed: Unnamed) -> Result<Self, Invalid> {
        if unnamed == Unnamed::Remove {
            return Ok(other.clone());
        }
        let mut merged = self.clone();
        merged.flags.extend(other.flags.clone());
        merged.evaluators = members_of_both(self.evaluators.as_deref(), other.evaluators.as_deref())?;
        merged.metadata = members_of_both(self.metadata.as_deref(), other.metadata.as_deref())?;
        Ok(merged)
    }

    /// Bytes of all definitions, as the bound of a scope counts them.
    pub fn bytes(&self) -> usize {
        let flags: usize = self.flags.iter().map(|(key, definition)| key.len() + definition.len()).sum();
        let meta = [&self.evaluators, &self.metadata];
        flags + meta.into_iter().flatten().map(String::len).sum::<usize>()
    }
}

fn members_of_both(mine: Option<&str>, other: Option<&str>) -> Result<Option<String>, Invalid> {
    let (Some(mine), Some(other)) = (mine, other) else { return Ok(other.or(mine).map(str::to_owned)) };
    let mut members = members(mine)?;
    for (name, value) in self::members(other)? {
        match members.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => members.push((name, value)),
        }
    }
    Ok(Some(Node::Object(members).to_string()))
}

fn members(json: &str) -> Result<Vec<(String, Node)>, Invalid> {
    match compile::tree(json, Format::Json)? {
        Node::Object(members) => Ok(members),
        other => {
            let text = format!("must be an object, and is {}", other.what());
            Err(Invalid(vec![Problem { path: String::new(), text, at: None }]))
        }
    }
}

/// Whether two definitions mean the same: white space and the order of members do not count, `1` and `1.0` differ.
pub fn same(one: &str, other: &str) -> bool {
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    one == other || matches!((value(one), value(other)), (Some(one), Some(other)) if one == other)
}

/// The format of a text whose name does not tell it: JSON documents begin with a brace.
pub fn guess(text: &str) -> Format {
    if text.trim_start_matches('\u{feff}').trim_start().starts_with('{') { Format::Json } else { Format::Yaml }
}

/// The place of a problem in the text it was found in.
pub fn place(problem: &Problem, places: Option<&Places>) -> Option<Place> {
    problem.at.or_else(|| Some(places?.find(&problem.path)))
}

#[cfg(test)]
mod tests;
