//! `tidegate inject` and `tidegate uninject`: manifests in, manifests with or without the sidecar out.

mod files;
mod options;
mod report;
mod write;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::Value;

use self::files::Input;
pub use self::options::Chosen;
use self::report::{Report, Verb};
use self::write::Target;
use super::flags::Failure;
use super::{EXIT_FAILED, complain};
use crate::flags::diff;
use crate::kube::inject::{self, Outcome};

/// Where manifests come from and go to.
#[derive(Debug, Clone, ClapArgs)]
pub struct Streams {
    /// Files, directories, - for standard input [default: standard input]
    files: Vec<PathBuf>,
    /// Looks into the directories of directories too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Writes all manifests to this file instead of to standard output
    #[arg(short, long, value_name = "FILE", conflicts_with = "in_place")]
    out: Option<PathBuf>,
    /// Writes each file back where it came from
    #[arg(short, long)]
    in_place: bool,
    /// Shows what would change as a diff, and writes nothing
    #[arg(long, conflicts_with_all = ["out", "in_place"])]
    diff: bool,
    /// Writes nothing, and exits 1 if something would change
    #[arg(long, conflicts_with_all = ["out", "in_place"])]
    check: bool,
    /// Says nothing on standard error but what went wrong
    #[arg(short, long)]
    quiet: bool,
    /// How to tell on standard output what became of each object: with --out, --in-place or --check
    #[arg(long, value_name = "FORM")]
    output: Option<Form>,
}

/// How the report is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// One object for programs
    Json,
}

/// `tidegate inject`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    streams: Streams,
    #[command(flatten)]
    chosen: Chosen,
}

/// `tidegate uninject`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Undo {
    #[command(flatten)]
    streams: Streams,
}

/// Puts the sidecar in.
pub fn inject(args: &Args) -> ExitCode {
    ended(
        args.chosen
            .options()
            .and_then(|options| run(&args.streams, Verb::Inject, |documents| inject::stream(documents, &options))),
    )
}

/// Takes the sidecar out.
pub fn uninject(args: &Undo) -> ExitCode {
    ended(run(&args.streams, Verb::Uninject, |documents| documents.iter().map(inject::uninject).collect()))
}

fn ended(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    complain(&failure.text);
    ExitCode::from(failure.code)
}

fn run(streams: &Streams, verb: Verb, change: impl FnOnce(&[Value]) -> Vec<Outcome>) -> Result<(), Failure> {
    let target = streams.target()?;
    let inputs = files::read(&streams.sources()?, streams.recursive)?;
    if streams.in_place && inputs.iter().any(|input| input.path.is_none()) {
        return Err(Failure::usage(
            "standard input has no place to be written to: name files, or leave --in-place out",
        ));
    }
    let documents: Vec<Value> =
        inputs.iter().flat_map(|input| input.stream.documents()).map(|document| document.value().clone()).collect();
    let mut outcomes = change(&documents).into_iter();
    let mut report = Report::new(verb);
    let mut texts = Vec::new();
    for input in &inputs {
        let mut wanted = Vec::new();
        for document in input.stream.documents() {
            let Some(outcome) = outcomes.next() else { break };
            report.add(input, document, &outcome);
            wanted.push(match outcome {
                Outcome::Injected { object, .. } => Some(object),
                Outcome::Untouched(_) | Outcome::Refused(_) => None,
            });
        }
        let rendered = input.stream.render(&wanted);
        report.written_anew(input, &rendered.anew);
        report.lost(input, rendered.lost);
        texts.push(rendered.text);
    }
    if !streams.quiet {
        complain(&report.notes());
    }
    complain(&report.refusals());
    if streams.output == Some(Form::Json) {
        super::say(&report.json());
    }
    if report.refused() {
        return Err(Failure::failed("nothing was written"));
    }
    finish(streams, &target, &inputs, &texts)
}

fn finish(streams: &Streams, target: &Target, inputs: &[Input], texts: &[String]) -> Result<(), Failure> {
    let changed = inputs.iter().zip(texts).filter(|(input, text)| input.text != **text);
    if streams.diff {
        let diffs = changed.clone().map(|(input, text)| {
            let path = input.name.trim_start_matches('/');
            let names = (format!("a/{path}"), format!("b/{path}"));
            diff::unified(&input.text, text, (&names.0, &names.1))
        });
        super::say(&diffs.collect::<String>());
    }
    match target {
        Target::Nothing => {}
        target => write::all(target, inputs, texts)?,
    }
    if streams.check && changed.count() > 0 {
        return Err(Failure::new(EXIT_FAILED, ""));
    }
    Ok(())
}

impl Streams {
    fn target(&self) -> Result<Target, Failure> {
        let target = match &self.out {
            Some(path) => Target::File(path.clone()),
            None if self.in_place => Target::Origin,
            None if self.diff || self.check => Target::Nothing,
            None => Target::Output,
        };
        if self.output.is_some() && (target == Target::Output || self.diff) {
            return Err(Failure::usage(
                "--output json takes the place of the manifests on standard output: add --out FILE, --in-place or --check",
            ));
        }
        Ok(target)
    }

    fn sources(&self) -> Result<Vec<PathBuf>, Failure> {
        if !self.files.is_empty() {
            return Ok(self.files.clone());
        }
        if std::io::stdin().is_terminal() {
            return Err(Failure::usage("no manifests: name files or directories, or - to read standard input"));
        }
        Ok(vec![PathBuf::from("-")])
    }
}
