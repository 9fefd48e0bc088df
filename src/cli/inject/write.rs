//! Manifests to where they go: all of a file or none of it, and nothing when one cannot be written.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use super::files::Input;
use crate::cli::flags::Failure;
use crate::cli::plain;

/// Where manifests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// Nowhere.
    Nothing,
    /// Standard output.
    Output,
    /// One file for all.
    File(PathBuf),
    /// Each file where it came from.
    Origin,
}

/// Writes the texts that `inputs` have become.
pub(super) fn all(target: &Target, inputs: &[Input], texts: &[String]) -> Result<(), Failure> {
    match target {
        Target::Nothing => Ok(()),
        Target::Output => print(&joined(texts)),
        Target::File(path) => replace(&[(path.as_path(), joined(texts))]),
        Target::Origin => {
            let changed = inputs.iter().zip(texts).filter(|(input, text)| input.text != **text);
            let files: Vec<_> =
                changed.filter_map(|(input, text)| Some((input.path.as_deref()?, text.clone()))).collect();
            replace(&files)
        }
    }
}

/// One stream of all.
fn joined(texts: &[String]) -> String {
    let mut whole = String::new();
    for text in texts {
        if !whole.is_empty() {
            if !whole.ends_with('\n') {
                whole.push('\n');
            }
            // A byte order mark stands at the beginning alone, and directives end a document by themselves.
            let text = text.trim_start_matches('\u{feff}');
            if !text.starts_with("---") {
                whole.push_str(if text.starts_with('%') { "...\n" } else { "---\n" });
            }
            whole.push_str(text);
        } else {
            whole.push_str(text);
        }
    }
    whole
}

/// Byte for byte, but for what a terminal would obey. A reader that has left wants no more.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written =
        if out.is_terminal() { out.write_all(plain(text).as_bytes()) } else { out.write_all(text.as_bytes()) };
    match written.and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(format!("cannot print: {e}"))),
        _ => Ok(()),
    }
}

/// Writes files beside their places first, and then puts all in place.
fn replace(files: &[(&Path, String)]) -> Result<(), Failure> {
    let mut ready: Vec<(PathBuf, PathBuf)> = Vec::new();
    let mut done = Ok(());
    for (path, text) in files {
        let failed = |e: io::Error| Failure::failed(format!("{}: {e}; nothing was written", path.display()));
        match beside(path, text).map_err(failed) {
            Ok(Some(pair)) => ready.push(pair),
            Ok(None) => {}
            Err(failure) => {
                done = Err(failure);
                break;
            }
        }
    }
    for (temporary, place) in ready {
        let moved = match &done {
            Ok(()) => fs::rename(&temporary, &place)
                .map_err(|e| Failure::failed(format!("{}: {e}; those named before it were written", place.display()))),
            Err(_) => Ok(()),
        };
        if done.is_ok() {
            done = moved;
        }
        if done.is_err() && fs::remove_file(&temporary).is_err() {
            crate::cli::complain(&format!("{}: is left over; remove it", temporary.display()));
        }
    }
    done
}

/// A file with `text` beside the one that it is to replace, with that one's mode. What is no file (`/dev/stdout`) is
/// written to at once.
fn beside(path: &Path, text: &str) -> io::Result<Option<(PathBuf, PathBuf)>> {
    // Behind a symbolic link the file is replaced and not the link.
    let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let before = fs::metadata(&place).ok();
    if before.as_ref().is_some_and(|before| !before.is_file()) {
        fs::OpenOptions::new().write(true).open(&place)?.write_all(text.as_bytes())?;
        return Ok(None);
    }
    let name = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = place.with_file_name(format!(".{name}.{:08x}.tmp", fastrand::u32(..)));
    let mut file = File::options().write(true).create_new(true).open(&temporary)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| {
        if let Some(before) = before {
            file.set_permissions(before.permissions())?;
        }
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(Some((temporary, place))),
        Err(e) => {
            fs::remove_file(&temporary)?;
            Err(e)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_joined_as_documents() {
        let check = |texts: &[&str], expected: &str| {
            assert_eq!(joined(&texts.iter().map(ToString::to_string).collect::<Vec<_>>()), expected);
        };
        check(&["a: 1"], "a: 1");
        check(&["a: 1", "b: 1\n", "---\nc: 1\n", "\u{feff}d: 1\n"], "a: 1\n---\nb: 1\n---\nc: 1\n---\nd: 1\n");
        check(&["a: 1\n", "%YAML 1.2\n---\nb: 1\n"], "a: 1\n...\n%YAML 1.2\n---\nb: 1\n");
    }
}
