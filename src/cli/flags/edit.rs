//! `flags edit`: a flag, or the whole scope, in the person's editor. What was typed is never lost: until it is written, it
//! stays in a file whose path is told.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;

use super::apply::{Done, summary_done};
use super::files::{Source, told};
use super::scope::{Loaded, Others, Scope, Terms};
use super::show::unknown;
use super::terminal::{ask, attended};
use super::{Failure, Output, Who, complain};
use crate::flags::compile::{Format, MAX_DOCUMENT, Problem};
use crate::flags::document::{Document, pretty, yaml};
use crate::flags::plan::{self, Verb};

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Args {
    /// The flag's key; without one, the whole scope
    key: Option<String>,
    /// The editor and its arguments [default: $VISUAL, $EDITOR, vi]
    #[arg(long, value_name = "COMMAND")]
    editor: Option<String>,
    #[command(flatten)]
    who: Who,
    #[arg(long = "visual-of-environment", env = "VISUAL", hide = true)]
    visual: Option<String>,
    #[arg(long = "editor-of-environment", env = "EDITOR", hide = true)]
    usual: Option<String>,
}

impl Args {
    fn editor(&self) -> &str {
        let given = [&self.editor, &self.visual, &self.usual].into_iter().flatten();
        given.map(String::as_str).find(|editor| !editor.trim().is_empty()).unwrap_or("vi")
    }
}

/// An editor without a person is a mistake of a script's.
pub(super) fn needs_terminal() -> Result<(), Failure> {
    if attended() {
        return Ok(());
    }
    Err(Failure::usage(
        "an editor needs a terminal; without one use `tidegate flags get` and `set KEY @FILE`, or `export` and `apply -f`",
    ))
}

pub(super) async fn run(scope: &mut Scope, args: &Args, output: Output) -> Result<String, Failure> {
    let loaded = scope.load_existing().await?;
    let name = scope.keys.scope.clone();
    let key = args.key.as_deref();
    let (text, format) = match key {
        Some(key) => match loaded.document.flags.get(key) {
            Some(definition) => of_flag(definition, output),
            None => return Err(unknown(scope, key)),
        },
        None => of_scope(&loaded.document, output)?,
    };
    let what = key.map_or_else(|| format!("scope {name}"), |key| format!("flag {key} of scope {name}"));
    let text = match format {
        Format::Yaml => format!("# {what}, revision {}. Leave it as it is to write nothing.\n{text}", loaded.rev),
        Format::Json => text,
    };
    // From here on ^C is for the editor, and does not end us without a word about the draft.
    let mut interrupts = signal(SignalKind::interrupt()).map_err(|e| Failure::failed(format!("signals: {e}")))?;
    let draft = Draft::new(key.unwrap_or(&name), &text, format)?;
    let whole = loop {
        let ended = draft.open(args.editor(), &mut interrupts).await;
        let edited = draft.read();
        if matches!(&edited, Ok(edited) if *edited == text) {
            draft.remove();
            ended?;
            return nothing(&name, &loaded, output);
        }
        ended.map_err(|failure| draft.keeps(failure))?;
        match edited.and_then(|edited| understand(&loaded, key, edited, format, &draft)) {
            Ok(whole) => break whole,
            Err(problems) => complain(&problems),
        }
        match asked("Enter edits again, q and Enter stops:".to_owned(), &mut interrupts).await {
            Ok(answer) if answer.is_empty() => {}
            Ok(_) => return Err(draft.keeps(Failure::failed("nothing was written"))),
            Err(failure) => return Err(draft.keeps(failure)),
        }
    };
    let changes = plan::between(&loaded.document, &whole);
    if changes.is_empty() {
        draft.remove();
        return nothing(&name, &loaded, output);
    }
    if changes.iter().any(|change| change.verb() == Verb::Remove) {
        let question = format!("{} in scope {name}? [y/N]", plan::summary(&changes));
        let answer = asked(question, &mut interrupts).await.map_err(|failure| draft.keeps(failure))?;
        if !matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes") {
            return Err(draft.keeps(Failure::failed("nothing was written")));
        }
    }
    let seen = loaded.rev;
    let terms = Terms { create: false, note: args.who.note.clone(), others: Others::Keep };
    match scope.commit(loaded, &changes, &args.who, &terms).await {
        Ok(written) => {
            draft.remove();
            Done { scope: &name, seen, changes: &changes }.say(output, Some(&written), || {
                format!("{} in scope {name}, revision {}\n", summary_done(&changes), written.rev)
            })
        }
        Err(uncommitted) => Err(draft.keeps(uncommitted.failure("edit it again, from what is there now"))),
    }
}

fn nothing(scope: &str, loaded: &Loaded, output: Output) -> Result<String, Failure> {
    let done = Done { scope, seen: loaded.rev, changes: &[] };
    done.say(output, None, || format!("nothing was changed; scope {scope} is at revision {}\n", loaded.rev))
}

fn of_flag(definition: &str, output: Output) -> (String, Format) {
    match yaml(definition) {
        Ok(text) if output != Output::Json => (text, Format::Yaml),
        _ => (pretty(definition), Format::Json),
    }
}

fn of_scope(document: &Document, output: Output) -> Result<(String, Format), Failure> {
    match document.yaml() {
        Ok(text) if output != Output::Json => Ok((text, Format::Yaml)),
        _ => match document.json() {
            Ok(text) => Ok((text, Format::Json)),
            Err(_) => Err(Failure::failed(
                "a definition in redis is no JSON at all; `tidegate flags ls` names it, edit or remove it alone first",
            )),
        },
    }
}

/// The scope as the edited text would make it, or everything that is wrong with it.
fn understand(
    loaded: &Loaded,
    key: Option<&str>,
    text: String,
    format: Format,
    draft: &Draft,
) -> Result<Document, String> {
    let read = match key {
        Some(key) => Document::definition(&text, format).map(|definition| {
            let mut whole = loaded.document.clone();
            whole.flags.insert(key.to_owned(), definition);
            whole
        }),
        None => Document::read(&text, format),
    };
    let checked = read.and_then(|whole| whole.check().map(|()| whole));
    checked.map_err(|invalid| {
        let source = Source { name: draft.path.display().to_string(), text, format };
        let root = key.map(|key| format!("flags.{key}"));
        let problems: Vec<Problem> = invalid.0.into_iter().map(|problem| within(problem, root.as_deref())).collect();
        told(source.lines(&problems))
    })
}

/// A flag's problem by its path in the definition, which is all that the draft holds.
fn within(mut problem: Problem, root: Option<&str>) -> Problem {
    let inner = root.and_then(|root| problem.path.strip_prefix(root));
    if let Some(inner) = inner {
        problem.path = inner.trim_start_matches('.').to_owned();
    }
    problem
}

/// Asks, unless ^C comes first.
async fn asked(question: String, interrupts: &mut Signal) -> Result<String, Failure> {
    let answer = spawn_blocking(move || ask(&question));
    tokio::select! {
        answer = answer => answer.unwrap_or_else(|e| Err(Failure::failed(e.to_string()))),
        _ = interrupts.recv() => Err(Failure::failed("interrupted; nothing was written")),
    }
}

/// The file that is edited.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn new(name: &str, text: &str, format: Format) -> Result<Self, Failure> {
        let plain: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(64).collect();
        let extension = if format == Format::Json { "json" } else { "yaml" };
        let path = std::env::temp_dir().join(format!("tidegate-{plain}-{:08x}.{extension}", fastrand::u32(..)));
        // Its own, and readable by its owner alone: nobody else's file of that name is written to or followed.
        let file = fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        let draft = Self { path };
        match written {
            Ok(()) => Ok(draft),
            Err(e) => {
                let text = format!("{}: {e}; TMPDIR names another directory", draft.path.display());
                if e.kind() != io::ErrorKind::AlreadyExists {
                    draft.remove();
                }
                Err(Failure::failed(text))
            }
        }
    }

    /// Runs the editor until it ends.
    async fn open(&self, editor: &str, interrupts: &mut Signal) -> Result<(), Failure> {
        // A shell where the command needs one, as git does it: the image of the sidecar has none.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./+:=@,% ".contains(c);
        let mut words = editor.split_ascii_whitespace();
        let mut command = match (editor.chars().all(plain), words.next()) {
            (true, Some(program)) => {
                let mut command = Command::new(program);
                command.args(words);
                command
            }
            _ => {
                let mut command = Command::new("sh");
                command.arg("-c").arg(format!("{editor} \"$@\"")).arg(editor);
                command
            }
        };
        let failed = |e: io::Error| Failure::failed(format!("{editor}: {e}; VISUAL or EDITOR names another editor"));
        let mut child = command.arg(&self.path).spawn().map_err(failed)?;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.map_err(failed)?,
                _ = interrupts.recv() => {}
            }
        };
        if status.success() {
            Ok(())
        } else {
            Err(Failure::failed(format!("{editor} ended with {status}; nothing was written")))
        }
    }

    fn read(&self) -> Result<String, String> {
        let name = self.path.display();
        match fs::metadata(&self.path) {
            Ok(found) if found.len() > MAX_DOCUMENT as u64 => {
                return Err(format!("{name}: error: is larger than {MAX_DOCUMENT} bytes"));
            }
            _ => {}
        }
        let bytes = fs::read(&self.path).map_err(|e| format!("{name}: error: {e}"))?;
        String::from_utf8(bytes).map_err(|e| format!("{name}: error: is not UTF-8: {e}"))
    }

    /// The failure, with where the draft is.
    fn keeps(&self, mut failure: Failure) -> Failure {
        failure.text.push_str(&format!("; what you wrote is in {}", self.path.display()));
        failure
    }

    fn remove(&self) {
        if let Err(e) = fs::remove_file(&self.path)
            && e.kind() != io::ErrorKind::NotFound
        {
            complain(&format!("{} cannot be removed: {e}", self.path.display()));
        }
    }
}
