//! Documents in files: read, joined, and what is wrong with them told by file, line and column.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::Failure;
use crate::flags::compile::{Format, Invalid, MAX_DOCUMENT, Problem};
use crate::flags::document::{Document, Places, guess, place};

/// Files that may be given at once, those of directories included.
const MAX_FILES: usize = 10_000;
/// How many problems are told.
const TOLD: usize = 50;

/// A file's text.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) format: Format,
}

/// Files as one document.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    sources: Vec<(Source, Document)>,
    pub(super) document: Document,
}

/// Reads files, directories of them, and with `-` standard input. A flag may be in one file only; evaluators and metadata
/// add up.
pub(super) fn read(paths: &[PathBuf]) -> Result<Files, Failure> {
    let mut files = Files::default();
    let mut wrong = Vec::new();
    for source in sources(paths)? {
        match Document::read(&source.text, source.format) {
            Ok(document) => files.add(source, document, &mut wrong),
            Err(invalid) => wrong.extend(source.lines(&invalid.0)),
        }
    }
    if wrong.is_empty() { Ok(files) } else { Err(Failure::usage(told(wrong))) }
}

/// The texts of files, directories and standard input.
pub(super) fn sources(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            found.push(Source::read(io::stdin(), "standard input".to_owned(), None)?);
        } else if path.is_dir() {
            let inside = inside(path)?;
            if inside.is_empty() {
                return Err(Failure::usage(format!("{}: holds no .json, .yaml or .yml", path.display())));
            }
            for path in inside {
                found.push(Source::open(&path)?);
            }
        } else {
            found.push(Source::open(path)?);
        }
        if found.len() > MAX_FILES {
            return Err(Failure::usage(format!("more than {MAX_FILES} files")));
        }
    }
    Ok(found)
}

/// The documents in a directory, by name. Names that begin with a dot are not the user's: editors' and ConfigMaps'.
fn inside(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |e: io::Error| Failure::usage(format!("{}: {e}", directory.display()));
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let known = path.extension().is_some_and(|extension| ["json", "yaml", "yml"].iter().any(|e| extension == *e));
        if known && !hidden && path.is_file() {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            return Err(Failure::usage(format!("{}: more than {MAX_FILES} files", directory.display())));
        }
    }
    paths.sort();
    Ok(paths)
}

/// A file's text, whatever it is; with `-` standard input's.
pub(super) fn text(path: &Path) -> Result<String, Failure> {
    let source = if path.as_os_str() == "-" {
        Source::read(io::stdin(), "standard input".to_owned(), None)?
    } else {
        Source::open(path)?
    };
    if source.text.len() > MAX_DOCUMENT {
        return Err(Failure::usage(format!("{}: is larger than {MAX_DOCUMENT} bytes", source.name)));
    }
    Ok(source.text)
}

impl Source {
    fn open(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let format = match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml" | "yml") => Some(Format::Yaml),
            Some("json") => Some(Format::Json),
            _ => None,
        };
        let file = File::open(path).map_err(|e| Failure::usage(format!("{name}: {e}")))?;
        Self::read(file, name, format)
    }

    fn read(reader: impl io::Read, name: String, format: Option<Format>) -> Result<Self, Failure> {
        let mut bytes = Vec::new();
        let read = reader.take(MAX_DOCUMENT as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|e| Failure::usage(format!("{name}: {e}")))?;
        match String::from_utf8(bytes) {
            Ok(text) => {
                let format = format.unwrap_or_else(|| guess(&text));
                Ok(Self { name, text, format })
            }
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
                Err(Failure::usage(format!("{name}:{line}: error: is not UTF-8; write it in UTF-8")))
            }
        }
    }

    /// Problems as compilers tell them: `file:line:column: error: …`.
    pub(super) fn lines(&self, problems: &[Problem]) -> Vec<String> {
        let places = Places::of(&self.text, self.format);
        problems
            .iter()
            .map(|problem| {
                let at = place(problem, Some(&places)).map(|at| format!("{}:{}:", at.line, at.column));
                format!("{}:{} error: {problem}", self.name, at.unwrap_or_default())
            })
            .collect()
    }
}

impl Files {
    fn add(&mut self, source: Source, document: Document, wrong: &mut Vec<String>) {
        for key in document.flags.keys().filter(|key| self.document.flags.contains_key(*key)) {
            let other = self.sources.iter().find(|(_, known)| known.flags.contains_key(key));
            let other = other.map(|(source, _)| source.name.as_str()).unwrap_or_default();
            let text = format!("is in {other} too; leave it in one of the files");
            wrong.extend(source.lines(&[Problem { path: format!("flags.{key}"), text, at: None }]));
        }
        match self.document.with(&document, crate::flags::document::Unnamed::Keep) {
            Ok(joined) => self.document = joined,
            Err(invalid) => wrong.extend(source.lines(&invalid.0)),
        }
        self.sources.push((source, document));
    }

    /// Problems of a document that these files took part in, each at its place, those that come from elsewhere by path.
    pub(super) fn refuse(&self, invalid: &Invalid, elsewhere: &str) -> Failure {
        let mut lines = Vec::new();
        let mut others: Vec<&Problem> = invalid.0.iter().collect();
        for (source, document) in &self.sources {
            let (mine, rest) = others.into_iter().partition(|problem| owns(document, &problem.path));
            others = rest;
            let mine: Vec<Problem> = Vec::into_iter(mine).cloned().collect();
            if !mine.is_empty() {
                lines.extend(source.lines(&mine));
            }
        }
        lines.extend(others.into_iter().map(|problem| format!("{elsewhere}: error: {problem}")));
        Failure::usage(told(lines))
    }

    /// The names of the files, for a diff.
    pub(super) fn names(&self) -> String {
        match self.sources.as_slice() {
            [(source, _)] => source.name.clone(),
            sources => format!("{} files", sources.len()),
        }
    }
}

/// Whether what `path` leads to is written in `document`.
fn owns(document: &Document, path: &str) -> bool {
    let inner =
        |rest: &str, name: &str| rest.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    match path.strip_prefix("flags.") {
        Some(rest) => document.flags.keys().any(|key| inner(rest, key)),
        None => {
            (inner(path, "$evaluators") && document.evaluators.is_some())
                || (inner(path, "metadata") && document.metadata.is_some())
        }
    }
}

/// The first of many lines.
pub(super) fn told(mut lines: Vec<String>) -> String {
    let more = lines.len().saturating_sub(TOLD);
    if more > 0 {
        lines.truncate(TOLD);
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}
