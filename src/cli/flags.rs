//! `tidegate flags …`: operates the flags in Redis.

pub(super) mod answer;
mod apply;
mod change;
mod compare;
mod edit;
mod evaluate;
mod files;
mod lint;
mod rebucket;
mod revert;
mod schedule;
mod scope;
mod show;
mod terminal;
mod unused;
mod watch;

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args as ClapArgs, Subcommand};

use self::scope::Scope;
use super::{Output, block_on, complain, say};
use crate::config::Settings;
use crate::flags::settings::Redis;

pub use self::answer::Failure;

/// To connect, and for each answer.
const LIMIT: Duration = Duration::from_secs(5);

/// What to do, and with which scope.
#[derive(Debug, Clone, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// The scope [default: the first of `flags.scopes`]
    #[arg(long, global = true)]
    scope: Option<String>,
    /// How to answer
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Lists the flags
    Ls {
        /// Those alone that no sidecar has evaluated for so long, as 30d
        #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
        unused: Option<Duration>,
    },
    /// Prints a flag's definition; exits 1 if there is no such flag
    Get {
        /// The flag's key
        key: String,
    },
    /// Writes a flag's whole definition
    Set {
        /// The flag's key
        key: String,
        /// The definition as JSON, @FILE to read it from a file, - from standard input
        definition: String,
        /// Makes the scope if redis does not have it
        #[arg(long)]
        create: bool,
        #[command(flatten)]
        write: Write,
    },
    /// Makes the variant whose value is true the default one
    On {
        /// The flag's key
        key: String,
        #[command(flatten)]
        write: Write,
    },
    /// Makes the variant whose value is false the default one
    Off {
        /// The flag's key
        key: String,
        #[command(flatten)]
        write: Write,
    },
    /// Sets a flag's state to ENABLED
    Enable {
        /// The flag's key
        key: String,
        #[command(flatten)]
        write: Write,
    },
    /// Sets a flag's state to DISABLED: applications use their own defaults
    Disable {
        /// The flag's key
        key: String,
        #[command(flatten)]
        write: Write,
    },
    /// Removes a flag
    Rm {
        /// The flag's key
        key: String,
        #[command(flatten)]
        write: Write,
    },
    /// Brings a variant to a share of all keys, at once or step by step
    #[command(subcommand)]
    Rollout(schedule::RolloutCommand),
    /// Changes a flag at a time
    At {
        /// +2h, 18:30Z, 18:30+01:00, 2026-11-23T18:30:00Z
        time: String,
        #[command(subcommand)]
        change: schedule::AtCommand,
    },
    /// Shows, stops and executes what is planned
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Shows who changed what, newest first
    Log {
        /// Of this flag only
        key: Option<String>,
        /// Of this flag only
        #[arg(long = "key", value_name = "KEY", conflicts_with = "key")]
        named: Option<String>,
        /// The most entries [default: 20, with --since all]
        #[arg(short = 'n', long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        number: Option<u32>,
        /// Not older than this: 2h, 3days, 2026-11-22T10:00:00Z
        #[arg(long, value_name = "WHEN", value_parser = show::since)]
        since: Option<SystemTime>,
        /// Goes on with what happens from now on, as `watch`
        #[arg(short, long)]
        follow: bool,
    },
    /// Opens a flag, or without KEY the whole scope, in $VISUAL or $EDITOR
    Edit(edit::Args),
    /// Makes the scope what files say, in one change
    Apply(apply::Args),
    /// Compares files with the scope, two scopes, or two revisions; exits 1 if they differ
    Diff(compare::Args),
    /// Prints the scope as a document that `apply` takes
    Export,
    /// Takes the scope, or one flag, back to an earlier revision
    Revert(revert::Args),
    /// Shows changes as they are made, a line each
    Watch,
    /// Evaluates a flag for a context; exits 1 if there is no value but an error
    Eval(evaluate::Args),
    /// Tells step by step how a flag comes to its value for a context
    Explain(evaluate::Args),
    /// Reports who would get another variant by another bucketing version
    Rebucket(rebucket::Args),
    /// Looks for what is wrong, and what is likely to be; exits 1 if there are errors
    Lint(lint::Args),
}

/// What every write of one flag takes.
#[derive(Debug, Clone, ClapArgs)]
struct Write {
    #[command(flatten)]
    who: Who,
    /// Only if the flag is at this revision; 0: only if there is none
    #[arg(long, value_name = "REV")]
    if_rev: Option<u64>,
}

/// What every write says of itself.
#[derive(Debug, Clone, ClapArgs)]
struct Who {
    /// Why, for the log
    #[arg(long, default_value = "", hide_default_value = true)]
    note: String,
    /// Who, for the log (default: $USER@host)
    #[arg(long)]
    actor: Option<String>,
    #[arg(long, env = "USER", hide = true)]
    user: Option<String>,
}

impl Who {
    fn actor(&self) -> String {
        self.actor.clone().unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let host = if host.trim().is_empty() { "unknown" } else { host.trim() };
            format!("{}@{host}", self.user.as_deref().unwrap_or("unknown"))
        })
    }
}

/// Does what is asked and prints the answer.
pub fn main(args: &Args, settings: &Settings) -> ExitCode {
    block_on(run_with(args, settings)).map_or_else(|code| code, print)
}

/// Prints an answer or why there is none, and returns the exit code.
pub(super) fn print(answer: Result<String, Failure>) -> ExitCode {
    match answer {
        Ok(answer) => {
            if !answer.is_empty() {
                say(&answer);
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            if !failure.answer.is_empty() {
                say(&failure.answer);
            }
            complain(&failure.text);
            ExitCode::from(failure.code)
        }
    }
}

/// Does what is asked, with all that is configured; the answer for standard output.
///
/// # Errors
/// The text for standard error, and the exit code.
pub async fn run_with(args: &Args, settings: &Settings) -> Result<String, Failure> {
    let scope = args.scope.as_deref();
    match &args.command {
        Command::Eval(options) => evaluate::eval(options, scope, settings, args.output).await,
        Command::Explain(options) => evaluate::explain(options, scope, settings, args.output).await,
        Command::Rebucket(options) => rebucket::run(options, scope, settings, args.output).await,
        _ => run(args, settings.flags.redis.as_ref()).await,
    }
}

/// Does what is asked and needs no more than Redis; the answer for standard output.
///
/// # Errors
/// The text for standard error, and the exit code.
pub async fn run(args: &Args, redis: Option<&Redis>) -> Result<String, Failure> {
    // What is wrong with the arguments is said before anybody is asked.
    let definition = match &args.command {
        Command::Set { definition, .. } | Command::At { change: schedule::AtCommand::Set { definition, .. }, .. } => {
            Some(change::read(definition)?)
        }
        _ => None,
    };
    let files = match &args.command {
        Command::Apply(apply) => Some(files::read(&apply.files)?),
        Command::Diff(diff) if !diff.files.is_empty() => Some(files::read(&diff.files)?),
        _ => None,
    };
    match &args.command {
        Command::Edit(_) => edit::needs_terminal()?,
        Command::Lint(options) if !options.files.is_empty() => return lint::files(options, args.output),
        _ => {}
    }
    let mut scope = Scope::open(redis, args.scope.as_deref()).await?;
    match &args.command {
        Command::Ls { unused } => show::list(&mut scope, *unused, args.output).await,
        Command::Get { key } => show::get(&mut scope, key, args.output).await,
        Command::Log { key, named, number, since, follow } => {
            let filter = show::Filter { key: key.as_ref().or(named.as_ref()), since: *since, number: *number };
            if *follow {
                return watch::log(&mut scope, &filter, args.output).await;
            }
            show::log(&mut scope, &filter, args.output).await
        }
        Command::Edit(options) => edit::run(&mut scope, options, args.output).await,
        Command::Apply(options) => apply::run(&mut scope, options, &files.unwrap_or_default(), args.output).await,
        Command::Diff(options) => match files {
            Some(files) => compare::files(&mut scope, options, &files, args.output).await,
            None => compare::two(&mut scope, options, args.output).await,
        },
        Command::Export => compare::export(&mut scope, args.output).await,
        Command::Revert(options) => revert::run(&mut scope, options, args.output).await,
        Command::Watch => watch::run(&mut scope, args.output).await,
        Command::Eval(_) | Command::Explain(_) | Command::Rebucket(_) => {
            Err(Failure::usage("evaluation needs the whole configuration"))
        }
        Command::Lint(options) => lint::scope(&mut scope, options, args.output).await,
        Command::Set { key, create, write, .. } => {
            change::set(&mut scope, key, &definition.unwrap_or_default(), *create, write, args.output).await
        }
        Command::On { key, write } => change::turn(&mut scope, key, true, write, args.output).await,
        Command::Off { key, write } => change::turn(&mut scope, key, false, write, args.output).await,
        Command::Enable { key, write } => change::state(&mut scope, key, "ENABLED", write, args.output).await,
        Command::Disable { key, write } => change::state(&mut scope, key, "DISABLED", write, args.output).await,
        Command::Rollout(command) => schedule::rollout(&mut scope, command, args.output).await,
        Command::At { time, change } => schedule::at(&mut scope, time, change, definition, args.output).await,
        Command::Schedule(command) => schedule::schedule(&mut scope, command, args.output).await,
        Command::Rm { key, write } => change::remove(&mut scope, key, write, args.output).await,
    }
}
