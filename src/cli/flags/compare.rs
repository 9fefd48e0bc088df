//! `flags diff` and `flags export`: a scope as a document, and what differs between two.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::answer::say;
use super::apply::changes_json;
use super::files::Files;
use super::revert::rewind;
use super::scope::Scope;
use super::{Failure, Output};
use crate::flags::document::{Document, Unnamed};
use crate::flags::plan;

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Args {
    /// Two scopes, or two revisions of one; a revision alone is compared with what is there
    #[arg(value_name = "SCOPE|REV", num_args = 1..=2, conflicts_with = "files", required_unless_present = "files")]
    sides: Vec<String>,
    /// What `apply` would change: a document, a directory of them, or -; may be given again
    #[arg(short, long = "file", value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// As `apply --prune`: what the files do not name counts as a difference
    #[arg(long, requires = "files")]
    prune: bool,
}

/// What `apply` of these files would change.
pub(super) async fn files(scope: &mut Scope, args: &Args, files: &Files, output: Output) -> Result<String, Failure> {
    let loaded = scope.load().await?;
    let unnamed = if args.prune { Unnamed::Remove } else { Unnamed::Keep };
    let elsewhere = format!("scope {} in redis", scope.keys.scope);
    let whole = loaded.document.with(&files.document, unnamed).map_err(|invalid| files.refuse(&invalid, &elsewhere))?;
    whole.check().map_err(|invalid| files.refuse(&invalid, &elsewhere))?;
    let old = format!("{}, revision {}", scope.keys.scope, loaded.rev);
    differ((&loaded.document, &old), (&whole, &files.names()), output)
}

/// Two scopes, or two revisions.
pub(super) async fn two(scope: &mut Scope, args: &Args, output: Output) -> Result<String, Failure> {
    let revisions: Option<Vec<u64>> = args.sides.iter().map(|side| side.parse().ok()).collect();
    match (revisions.as_deref(), args.sides.as_slice()) {
        (Some(revisions), _) => {
            let loaded = scope.load_existing().await?;
            let named = |rev: u64| format!("revision {rev}");
            let before = rewind(scope, &loaded, revisions[0]).await?.0;
            let (after, rev) = match revisions.get(1) {
                Some(rev) => (rewind(scope, &loaded, *rev).await?.0, *rev),
                None => (loaded.document, loaded.rev),
            };
            differ((&before, &named(revisions[0])), (&after, &named(rev)), output)
        }
        (None, [one, two]) => {
            let (mut one, mut two) = (scope.other(one).await?, scope.other(two).await?);
            let (before, after) = (one.load_existing().await?, two.load_existing().await?);
            let named = |scope: &Scope, rev: u64| format!("{}, revision {rev}", scope.keys.scope);
            let (old, new) = (named(&one, before.rev), named(&two, after.rev));
            differ((&before.document, &old), (&after.document, &new), output)
        }
        (None, _) => Err(Failure::usage("name two scopes, one or two revisions, or files with -f")),
    }
}

/// Exit code 1 when there are differences, as of `diff`.
fn differ(before: (&Document, &str), after: (&Document, &str), output: Output) -> Result<String, Failure> {
    let changes = plan::between(before.0, after.0);
    let told =
        say(&changes_json(&changes), output, || changes.iter().map(|change| change.diff(before.1, after.1)).collect())?;
    if changes.is_empty() { Ok(told) } else { Err(Failure::no(told)) }
}

/// The scope as `apply` takes it.
pub(super) async fn export(scope: &mut Scope, output: Output) -> Result<String, Failure> {
    let document = scope.load_existing().await?.document;
    let failed = |e: crate::flags::document::NotYaml| Failure::failed(format!("{e}: `flags export --output json`"));
    match output {
        Output::Table | Output::Yaml => document.yaml().map_err(failed),
        Output::Json => document.json().map_err(|_| {
            Failure::failed("a definition in redis is no JSON at all; `tidegate flags ls` names it, put it right first")
        }),
    }
}
