//! `flags lint`: what is wrong, and what is likely to be a mistake, by file, line and column.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::answer::say;
use super::files::{Source, sources};
use super::scope::Scope;
use super::{Failure, Output};
use crate::flags::compile::{Format, Place, Problem};
use crate::flags::document::{Document, Places, place};
use crate::flags::lint::{self, Finding, Level};

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Args {
    /// Documents in YAML or JSON, directories of them, or - for standard input; without any, the scope in redis
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Fails for warnings too
    #[arg(long)]
    strict: bool,
}

/// A finding and its place.
struct Told {
    file: String,
    at: Option<Place>,
    finding: Finding,
}

/// Looks at files, each by itself.
pub(super) fn files(args: &Args, output: Output) -> Result<String, Failure> {
    let found = sources(&args.files)?.iter().flat_map(look).collect();
    answer(found, args, output)
}

/// Looks at the scope in Redis: the places are those in what `export --output json` prints.
pub(super) async fn scope(scope: &mut Scope, args: &Args, output: Output) -> Result<String, Failure> {
    let document = scope.load_existing().await?.document;
    let file = format!("scope {}", scope.keys.scope);
    let found = findings(&document).into_iter().map(|finding| Told { file: file.clone(), at: None, finding });
    answer(found.collect(), args, output)
}

fn look(source: &Source) -> Vec<Told> {
    let places = Places::of(&source.text, source.format);
    let told = |finding: Finding, at| Told { file: source.name.clone(), at, finding };
    match Document::read(&source.text, source.format) {
        Ok(document) => findings(&document)
            .into_iter()
            .map(|finding| {
                let at = Some(places.find(&finding.path));
                told(finding, at)
            })
            .collect(),
        Err(invalid) => {
            let problems = invalid.0.into_iter();
            problems
                .map(|problem| {
                    // What is no JSON has a place of its own, which need not be where the member stands.
                    let at =
                        place(&problem, (source.format == Format::Json || problem.at.is_none()).then_some(&places));
                    told(error(problem), at)
                })
                .collect()
        }
    }
}

/// What is wrong, then what is likely to be.
fn findings(document: &Document) -> Vec<Finding> {
    let wrong = document.check().err().map(|invalid| invalid.0).unwrap_or_default();
    let mut found: Vec<Finding> = wrong.into_iter().map(error).collect();
    found.extend(lint::document(document));
    found
}

fn error(problem: Problem) -> Finding {
    Finding { level: Level::Error, path: problem.path, text: problem.text }
}

fn answer(mut found: Vec<Told>, args: &Args, output: Output) -> Result<String, Failure> {
    // By place; files in the order they were given.
    found.sort_by(|a, b| if a.file == b.file { a.at.cmp(&b.at) } else { std::cmp::Ordering::Equal });
    let count = |level| found.iter().filter(|told| told.finding.level == level).count();
    let (errors, warnings, hints) = (count(Level::Error), count(Level::Warning), count(Level::Hint));
    let value: Value = found.iter().map(Told::json).collect();
    let text = say(&value, output, || {
        if found.is_empty() {
            return "nothing found\n".to_owned();
        }
        let lines: String = found.iter().map(Told::line).collect();
        format!("{lines}{}, {}, {}\n", counted(errors, "error"), counted(warnings, "warning"), counted(hints, "hint"))
    })?;
    if errors > 0 || (args.strict && warnings > 0) { Err(Failure::no(text)) } else { Ok(text) }
}

impl Told {
    /// As compilers tell it, so that editors can go there.
    fn line(&self) -> String {
        let Self { file, at, finding: Finding { level, path, text } } = self;
        let at = at.map(|at| format!(":{}:{}", at.line, at.column)).unwrap_or_default();
        let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
        format!("{file}{at}: {}: {path}{text}\n", level.name())
    }

    fn json(&self) -> Value {
        let Self { file, at, finding: Finding { level, path, text } } = self;
        json!({
            "file": file, "line": at.map(|at| at.line), "column": at.map(|at| at.column), "level": level.name(),
            "path": path, "text": text,
        })
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
