//! `flags revert`: a scope, or one flag, as it was at an earlier revision.

use clap::Args as ClapArgs;

use super::answer::moment;
use super::apply::{Done, shown, summary_done};
use super::scope::{Loaded, Others, Scope, Terms};
use super::terminal::{Yes, agreed, attended};
use super::{Failure, Output, Who, say};
use crate::flags::contract::walk;
use crate::flags::document::Document;
use crate::flags::history::{Rewind, Undone};
use crate::flags::plan;

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Args {
    /// The revision to go back to: REV for the whole scope, KEY@REV for one flag
    #[arg(value_name = "REV|KEY@REV")]
    target: Target,
    /// Shows what would be written, and writes nothing
    #[arg(long)]
    dry_run: bool,
    /// Takes the whole scope back without asking
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    who: Who,
}

#[derive(Debug, Clone)]
struct Target {
    /// The whole scope without one.
    key: Option<String>,
    rev: u64,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, rev) = match text.rsplit_once('@') {
            Some((key, rev)) => (Some(key.to_owned()), rev),
            None => (None, text),
        };
        match rev.parse() {
            Ok(rev) if key.as_deref() != Some("") => Ok(Self { key, rev }),
            _ => Err("write a revision, 41, or a flag's, search@41".to_owned()),
        }
    }
}

/// The scope at an earlier revision, and what was done since.
pub(super) async fn rewind(scope: &mut Scope, from: &Loaded, to: u64) -> Result<(Document, Vec<Undone>), Failure> {
    let refused = |e: crate::flags::history::Lost| Failure::failed(format!("the scope cannot be told as it was: {e}"));
    let mut rewind = Rewind::new(from.document.clone(), from.rev, to).map_err(refused)?;
    let Scope { connection, keys, .. } = scope;
    let walked = walk(connection, keys, |entry| rewind.undo(entry)).await;
    walked.map_err(|e| scope.failed(&e))?;
    rewind.finish().map_err(refused)
}

pub(super) async fn run(scope: &mut Scope, args: &Args, output: Output) -> Result<String, Failure> {
    let Target { key, rev } = &args.target;
    let loaded = scope.load_existing().await?;
    let (then, undone) = rewind(scope, &loaded, *rev).await?;
    let name = scope.keys.scope.clone();
    let whole = match key {
        None => then,
        Some(key) => {
            let mut whole = loaded.document.clone();
            match then.flags.get(key) {
                Some(definition) => drop(whole.flags.insert(key.clone(), definition.clone())),
                None if whole.flags.contains_key(key) => drop(whole.flags.remove(key)),
                None => {
                    return Err(Failure::failed(format!(
                        "there is no flag {key:?}, and there was none at revision {rev}"
                    )));
                }
            }
            whole
        }
    };
    let what = key.clone().unwrap_or_else(|| format!("scope {name}"));
    let changes = plan::between(&loaded.document, &whole);
    let done = Done { scope: &name, seen: loaded.rev, changes: &changes };
    if changes.is_empty() {
        return done.say(output, None, || format!("{what} is as it was at revision {rev} already\n"));
    }
    whole.check().map_err(|e| {
        Failure::failed(format!("as it was at revision {rev}, {what} does not validate together with the rest:\n{e}"))
    })?;
    let mut told = String::new();
    if output == Output::Table {
        let concerned = |undone: &&Undone| key.as_ref().is_none_or(|key| undone.keys.contains(key));
        for undone in undone.iter().filter(concerned) {
            told.push_str(&line(undone));
        }
        told.push_str(&shown(&changes, &format!("revision {}", loaded.rev), &format!("revision {rev}")));
    }
    if args.dry_run {
        return done
            .say(output, None, || format!("{told}{} in scope {name}; nothing was written\n", plan::summary(&changes)));
    }
    // One flag is what one person looks at; a whole scope may undo what colleagues did.
    if key.is_none() {
        let yes = if args.yes { Yes::Given } else { Yes::Asked };
        if yes == Yes::Asked && attended() {
            say(&std::mem::take(&mut told));
        }
        agreed(&format!("undo this, {} in scope {name}?", plan::summary(&changes)), yes)?;
    }
    let others = if key.is_none() { Others::Refuse } else { Others::Keep };
    let note = if args.who.note.is_empty() { format!("revert to {rev}") } else { args.who.note.clone() };
    let terms = Terms { create: false, note, others };
    let written = scope.commit(loaded, &changes, &args.who, &terms).await;
    let written = written.map_err(|e| e.failure("look at it with `tidegate flags log` and try again"))?;
    done.say(output, Some(&written), || {
        format!("{told}{what} is as it was at revision {rev}: {} in revision {}\n", summary_done(&changes), written.rev)
    })
}

/// An undone revision, in a line.
fn line(undone: &Undone) -> String {
    let Undone { rev, actor, at, note, keys } = undone;
    let what =
        if keys.len() > 5 { format!("{} and {} more", keys[..5].join(", "), keys.len() - 5) } else { keys.join(", ") };
    let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
    format!("undoes revision {rev} of {actor}, {}: {what}{note}\n", moment(*at))
}
