//! `flags apply`: makes the scope what files say, in one change.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::answer::{definition, say as answer};
use super::files::Files;
use super::scope::{Others, Scope, Terms};
use super::terminal::{Yes, agreed, attended};
use super::{Failure, Output, Who, say};
use crate::flags::contract::Written;
use crate::flags::document::Unnamed;
use crate::flags::plan::{self, Change, Verb};

/// Changes of a plan that are shown as diffs; beyond, a line each says enough.
const SHOWN: usize = 100;

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Args {
    /// A document in YAML or JSON, a directory of them, or - for standard input; may be given again
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    pub(super) files: Vec<PathBuf>,
    /// Removes what the files do not name
    #[arg(long)]
    prune: bool,
    /// Shows what would be written, and writes nothing
    #[arg(long)]
    dry_run: bool,
    /// Removes without asking
    #[arg(short, long)]
    yes: bool,
    /// Makes the scope if redis does not have it
    #[arg(long)]
    create: bool,
    /// Only if the scope is at this revision
    #[arg(long, value_name = "REV")]
    if_rev: Option<u64>,
    #[command(flatten)]
    who: Who,
}

pub(super) async fn run(scope: &mut Scope, args: &Args, files: &Files, output: Output) -> Result<String, Failure> {
    let loaded = scope.load().await?;
    let name = scope.keys.scope.clone();
    if loaded.rev == 0 && !args.create {
        return Err(scope.uncreated());
    }
    if args.if_rev.is_some_and(|rev| rev != loaded.rev) {
        return Err(Failure::failed(format!(
            "scope {name} is at revision {}; look at what has changed with `tidegate flags log`",
            loaded.rev
        )));
    }
    let unnamed = if args.prune { Unnamed::Remove } else { Unnamed::Keep };
    let elsewhere = format!("scope {name} in redis");
    let whole = loaded.document.with(&files.document, unnamed).map_err(|invalid| files.refuse(&invalid, &elsewhere))?;
    whole.check().map_err(|invalid| files.refuse(&invalid, &elsewhere))?;
    let changes = plan::between(&loaded.document, &whole);
    let done = Done { scope: &name, seen: loaded.rev, changes: &changes };
    // A scope that nobody wrote yet may be made with nothing in it.
    if changes.is_empty() && loaded.rev > 0 {
        return done.say(output, None, || {
            format!("nothing to do: scope {name} is as the files say, at revision {}\n", loaded.rev)
        });
    }
    if changes.is_empty() {
        return Err(Failure::usage("there is nothing to make the scope of; name at least one flag"));
    }
    let mut told = if output == Output::Table {
        shown(&changes, &format!("{name}, revision {}", loaded.rev), &files.names())
    } else {
        String::new()
    };
    if args.dry_run {
        return done
            .say(output, None, || format!("{told}{} in scope {name}; nothing was written\n", plan::summary(&changes)));
    }
    let removes = changes.iter().any(|change| change.verb() == Verb::Remove);
    if removes {
        let yes = if args.yes { Yes::Given } else { Yes::Asked };
        if yes == Yes::Asked && attended() {
            say(&std::mem::take(&mut told));
        }
        agreed(&format!("{} in scope {name}?", plan::summary(&changes)), yes)?;
    }
    let others = if args.if_rev.is_some() { Others::Refuse } else { Others::Keep };
    let terms = Terms { create: args.create, note: args.who.note.clone(), others };
    let written = scope.commit(loaded, &changes, &args.who, &terms).await;
    let written = written.map_err(|e| e.failure("apply again to see the plan as it is now"))?;
    done.say(output, Some(&written), || {
        let created =
            if written.prev == 0 { format!("scope {name} did not exist and was created\n") } else { String::new() };
        format!("{told}{} in scope {name}, revision {}\n{created}", summary_done(&changes), written.rev)
    })
}

/// The changes as unified diffs; of very many the rest by name.
pub(super) fn shown(changes: &[Change], old: &str, new: &str) -> String {
    let mut text: String = changes.iter().take(SHOWN).map(|change| change.diff(old, new)).collect();
    for change in changes.iter().skip(SHOWN) {
        writeln!(text, "{} {}", change.verb().name(), change.name()).expect("a String takes all");
    }
    text
}

/// `1 added, 2 changed, 0 removed`.
pub(super) fn summary_done(changes: &[Change]) -> String {
    let told = plan::summary(changes);
    told.replace("to add", "added").replace("to change", "changed").replace("to remove", "removed")
}

/// What was done, or would be.
pub(super) struct Done<'a> {
    pub(super) scope: &'a str,
    pub(super) seen: u64,
    pub(super) changes: &'a [Change],
}

impl Done<'_> {
    pub(super) fn say(
        &self,
        output: Output,
        written: Option<&Written>,
        table: impl FnOnce() -> String,
    ) -> Result<String, Failure> {
        let mut value = json!({
            "scope": self.scope, "rev": written.map_or(self.seen, |written| written.rev), "prev": self.seen, "changed": written.is_some(),
            "changes": changes_json(self.changes),
        });
        if let Some(confirmed) = written.and_then(|written| written.confirmed.known()) {
            value["confirmed"] = confirmed.into();
        }
        answer(&value, output, || {
            let warning = written.and_then(|written| written.confirmed.warning());
            format!("{}{}", table(), warning.map(|warning| format!("{warning}\n")).unwrap_or_default())
        })
    }
}

/// Changes for programs.
pub(super) fn changes_json(changes: &[Change]) -> Value {
    let text = |json: &Option<String>| definition(json.as_deref().unwrap_or_default());
    changes
        .iter()
        .map(|change| {
            json!({
                "op": change.verb().name(), "key": change.name(),
                "before": text(&change.before), "after": text(&change.after),
            })
        })
        .collect()
}
