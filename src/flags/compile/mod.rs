//! Definitions to compiled flags: flagd's format in JSON or YAML, validated whole. It does no IO. A document with a
//! problem is refused, and every problem is named with its path.

mod definition;
pub(in crate::flags) mod node;
mod rule;
mod trail;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use node::Node;
use trail::Trail;

use super::model::{Evaluators, Flag, FlagSet, Metadata};

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 8259
    Json,
    /// YAML 1.2: of the booleans, `true` and `false` alone, so that variants may be called `on` and `off`.
    Yaml,
}

/// One thing that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `flags.search.variants`. Empty when it is the document as a whole.
    pub path: String,
    /// What.
    pub text: String,
    /// Where the text stops being JSON or YAML; `None` for what is wrong with its meaning, which `path` tells.
    pub at: Option<Place>,
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1.
    pub line: u64,
    /// The column, in characters, from 1.
    pub column: u64,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.text) } else { write!(f, "{}: {}", self.path, self.text) }
    }
}

/// Why a document was refused: all of its problems, never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub Vec<Problem>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

/// The largest document, in bytes.
pub const MAX_DOCUMENT: usize = 16 * 1024 * 1024;

/// The longest flag key, in bytes.
pub const MAX_KEY: usize = 512;

/// How many problems are listed before the rest is only counted.
const MAX_PROBLEMS: usize = 100;

/// How deep YAML may nest. A level of rules is two of these, operator and arguments. Unoptimised, the parser takes
/// 17 KB of stack for each: twice this is more than a thread has. (serde_json stops by itself, at 128.)
const YAML_DEPTH: usize = 64;

/// How much YAML may hold, aliases followed: what the largest document of ordinary flags does.
pub(super) const YAML_NODES: usize = 4_000_000;

/// How deep values and rules may nest.
const MAX_DEPTH: usize = 64;

/// Compiles a flagd document: `{"flags": {…}, "$evaluators": {…}, "metadata": {…}}`.
///
/// # Errors
/// [`Invalid`] with every problem found; nothing of the document applies then.
pub fn document(text: &str, format: Format) -> Result<FlagSet, Invalid> {
    let mut problems = Problems::default();
    let set = parse(text, format, &mut problems).and_then(|node| flag_set(&node, &mut problems));
    problems.finish(set)
}

/// Compiles `$evaluators` alone: an object of named rules, as JSON.
///
/// # Errors
/// [`Invalid`] with every problem found.
pub fn evaluators(json: &str) -> Result<Evaluators, Invalid> {
    let mut problems = Problems::default();
    let node = parse(json, Format::Json, &mut problems);
    let compiled = node.map(|node| rule::evaluators(&node, &Trail::root("$evaluators"), &mut problems));
    problems.finish(compiled)
}

/// Reads metadata alone: an object of booleans, numbers and strings, as JSON.
///
/// # Errors
/// [`Invalid`] with every problem found.
pub fn metadata(json: &str) -> Result<Metadata, Invalid> {
    let mut problems = Problems::default();
    let node = parse(json, Format::Json, &mut problems);
    let read = node.map(|node| definition::metadata(&node, &Trail::root("metadata"), &mut problems));
    problems.finish(read)
}

/// Compiles one flag's definition, as JSON; its `$ref`s mean rules of `evaluators`.
///
/// # Errors
/// [`Invalid`] with every problem found.
pub fn flag(key: &str, definition_json: &str, evaluators: &Evaluators) -> Result<Flag, Invalid> {
    let mut problems = Problems::default();
    let node = parse(definition_json, Format::Json, &mut problems);
    let flags = Trail::root("flags");
    let flag = node.and_then(|node| definition::flag(key, &node, evaluators, &flags.name(key), &mut problems));
    problems.finish(flag)
}

/// Any rule, even a scalar, which no flag's targeting may be.
#[cfg(test)]
pub(super) fn rule_alone(json: &str) -> Result<super::targeting::Evaluator, Invalid> {
    let mut problems = Problems::default();
    let node = parse(json, Format::Json, &mut problems);
    let rule = node.and_then(|node| rule::alone(&node, &mut problems));
    problems.finish(rule)
}

fn flag_set(node: &Node, problems: &mut Problems) -> Option<FlagSet> {
    let Node::Object(fields) = node else {
        problems.add("", format_args!("must be an object with `flags`, and is {}", node.what()));
        return None;
    };
    let mut set = FlagSet::default();
    // Evaluators first: flags refer to them, wherever in the document they stand.
    for (name, value) in fields {
        match name.as_str() {
            "$evaluators" => set.evaluators = rule::evaluators(value, &Trail::root("$evaluators"), problems),
            "metadata" => set.metadata = definition::metadata(value, &Trail::root("metadata"), problems),
            "flags" | "$schema" => {}
            name => problems.unknown("", name, &["flags", "$evaluators", "metadata", "$schema"]),
        }
    }
    match fields.iter().find(|(name, _)| name == "flags") {
        Some((_, Node::Object(flags))) => {
            let all = Trail::root("flags");
            let mut compiled = BTreeMap::new();
            for (key, node) in flags {
                if let Some(flag) = definition::flag(key, node, &set.evaluators, &all.name(key), problems) {
                    compiled.insert(flag.key.clone(), Arc::new(flag));
                }
            }
            set.flags = compiled;
        }
        Some((_, other)) => {
            problems.add("flags", format_args!("must be an object by flag key, and is {}", other.what()))
        }
        None => problems.add("flags", "is missing; a document without flags has `\"flags\": {}`"),
    }
    Some(set)
}

/// Reads a text as a tree, without asking what it means.
///
/// # Errors
/// [`Invalid`]: not JSON or YAML, a name given twice, or too deep.
pub(super) fn tree(text: &str, format: Format) -> Result<Node, Invalid> {
    let mut problems = Problems::default();
    let node = parse(text, format, &mut problems);
    problems.finish(node)
}

fn parse(text: &str, format: Format, problems: &mut Problems) -> Option<Node> {
    if text.len() > MAX_DOCUMENT {
        problems.add("", format_args!("is larger than {} MiB", MAX_DOCUMENT / (1024 * 1024)));
        return None;
    }
    let parsed = match format {
        Format::Json => serde_json::from_str(text).map_err(|error| {
            let at = Place { line: error.line() as u64, column: error.column().max(1) as u64 };
            (format!("is not sound JSON: {error}"), Some(at))
        }),
        Format::Yaml => {
            let options = serde_saphyr::options! {
                strict_booleans: true,
                // `010` is ten to some and eight to others.
                leading_zero_numbers_as_strings: true,
                with_snippet: false,
                budget: serde_saphyr::budget! { max_depth: YAML_DEPTH, max_nodes: YAML_NODES, max_events: 2 * YAML_NODES },
            };
            serde_saphyr::from_str_with_options(text, options).map_err(|error| {
                let at = error.location().map(|at| Place { line: at.line(), column: at.column() });
                (format!("is not sound YAML: {error}"), at)
            })
        }
    };
    match parsed {
        Ok(node) => Some(node),
        Err((error, at)) => {
            problems.add_at("", error, at);
            None
        }
    }
}

/// The problems found so far.
#[derive(Default)]
struct Problems {
    found: Vec<Problem>,
    /// Those beyond [`MAX_PROBLEMS`].
    more: usize,
}

impl Problems {
    fn add(&mut self, path: impl fmt::Display, text: impl fmt::Display) {
        self.add_at(path, text, None);
    }

    fn add_at(&mut self, path: impl fmt::Display, text: impl fmt::Display, at: Option<Place>) {
        if self.found.len() < MAX_PROBLEMS {
            self.found.push(Problem { path: path.to_string(), text: text.to_string(), at });
        } else {
            self.more += 1;
        }
    }

    fn count(&self) -> usize {
        self.found.len() + self.more
    }

    /// A name that means nothing here, and the one that may be meant.
    fn unknown(&mut self, path: impl fmt::Display, name: &str, known: &[&str]) {
        let path = format!("{path}.{name}");
        // Of a document's own members the path begins with nothing.
        let path = path.strip_prefix('.').unwrap_or(&path);
        match nearest(name, known) {
            Some(known) => self.add(path, format_args!("is unknown here; `{known}` may be meant")),
            None => self.add(path, "is unknown here"),
        }
    }

    /// An operator that does not exist: the one that may be meant, or all there are.
    fn no_operator(&mut self, path: impl fmt::Display, name: &str, known: &[&str]) {
        match nearest(name, known) {
            Some(known) => self.add(path, format_args!("there is no operator {name:?}; `{known}` may be meant")),
            None => self.add(path, format_args!("there is no operator {name:?}; there are: {}", known.join(" "))),
        }
    }

    fn finish<T>(mut self, value: Option<T>) -> Result<T, Invalid> {
        if self.more > 0 {
            let text = format!("and {} more problems", self.more);
            self.found.push(Problem { path: String::new(), text, at: None });
        }
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => Err(Invalid(self.found)),
        }
    }
}

/// The name that is written like this one, if any is.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let alike = known.iter().map(|known| (strsim::jaro_winkler(name, known), *known));
    let best = alike.max_by(|(a, _), (b, _)| a.total_cmp(b)).filter(|(alike, _)| *alike > 0.8);
    best.map(|(_, known)| known)
}

#[cfg(test)]
mod tests;
