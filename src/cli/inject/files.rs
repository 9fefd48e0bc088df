//! Manifests in files, directories and standard input; what is not YAML is told by file, line and column.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::cli::flags::Failure;
use crate::kube::yaml::{self, Stream};

/// Files that may be given at once, those of directories included.
const MAX_FILES: usize = 10_000;
/// Directories within directories.
const MAX_DEPTH: usize = 32;

/// One file of manifests.
#[derive(Debug)]
pub(super) struct Input {
    /// For people.
    pub(super) name: String,
    /// `None` for standard input.
    pub(super) path: Option<PathBuf>,
    /// As it was read.
    pub(super) text: String,
    /// What it says.
    pub(super) stream: Stream,
}

/// Reads all of them. What is wrong is told at once.
pub(super) fn read(paths: &[PathBuf], recursive: bool) -> Result<Vec<Input>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            found.push(None);
        } else if path.is_dir() {
            let before = found.len();
            inside(path, if recursive { MAX_DEPTH } else { 0 }, &mut found)?;
            if found.len() == before {
                let remedy = if recursive { "" } else { "; -R looks into its directories too" };
                return Err(Failure::usage(format!("{}: holds no .yaml, .yml or .json{remedy}", path.display())));
            }
        } else {
            found.push(Some(path.clone()));
        }
    }
    if found.iter().filter(|path| path.is_none()).count() > 1 {
        return Err(Failure::usage("standard input can be read once: write - once"));
    }
    let (mut inputs, mut wrong) = (Vec::new(), Vec::new());
    for path in found {
        match Input::read(path) {
            Ok(input) => inputs.push(input),
            Err(text) => wrong.push(text),
        }
    }
    if wrong.is_empty() { Ok(inputs) } else { Err(Failure::usage(wrong.join("\n"))) }
}

/// The manifests of a directory, by name. Names that begin with a dot are not the user's.
fn inside(directory: &Path, depth: usize, found: &mut Vec<Option<PathBuf>>) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::usage(format!("{}: {e}", directory.display()));
    let entries = std::fs::read_dir(directory).map_err(failed)?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(failed)?;
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let known = path.extension().is_some_and(|extension| ["json", "yaml", "yml"].iter().any(|e| extension == *e));
        if hidden {
            continue;
        }
        if known && path.is_file() {
            found.push(Some(path));
        } else if depth > 0 && path.is_dir() && !path.is_symlink() {
            inside(&path, depth - 1, found)?;
        }
        if found.len() > MAX_FILES {
            return Err(Failure::usage(format!("more than {MAX_FILES} files: name fewer")));
        }
    }
    Ok(())
}

impl Input {
    fn read(path: Option<PathBuf>) -> Result<Self, String> {
        let name = path.as_ref().map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
        let text = match &path {
            Some(path) => File::open(path).and_then(text_of),
            None => text_of(io::stdin()),
        };
        let text = text.map_err(|e| format!("{name}: {e}"))?;
        let stream = Stream::parse(&text).map_err(|e| format!("{name}:{e}"))?;
        Ok(Self { name, path, text, stream })
    }
}

/// All of it, or one byte more than is taken.
fn text_of(from: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(yaml::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8: save it as that"))
}
