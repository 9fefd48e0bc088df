//! `tidegate flags ls | get | set | on | off | enable | disable | rm | log | rollout | at | schedule`: operates the flags in Redis.

mod answer;
mod change;
mod schedule;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};
use redis::{ErrorKind, ServerError};

use super::{Output, block_on, complain, say};
use crate::config::Settings;
use crate::flags::contract::Keys;
use crate::flags::settings::Redis;
use crate::net::redis::{Connection, Endpoint, Error};

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
    Ls,
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
        /// The most entries
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        number: u32,
    },
}

/// What every write takes.
#[derive(Debug, Clone, ClapArgs)]
struct Write {
    /// Why, for the log
    #[arg(long, default_value = "", hide_default_value = true)]
    note: String,
    /// Who, for the log (default: $USER@host)
    #[arg(long)]
    actor: Option<String>,
    /// Only if the flag is at this revision; 0: only if there is none
    #[arg(long, value_name = "REV")]
    if_rev: Option<u64>,
    #[arg(long, env = "USER", hide = true)]
    user: Option<String>,
}

impl Write {
    fn actor(&self) -> String {
        self.actor.clone().unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let host = if host.trim().is_empty() { "unknown" } else { host.trim() };
            format!("{}@{host}", self.user.as_deref().unwrap_or("unknown"))
        })
    }
}

/// A connection, and the keys of the scope that is meant.
struct Scope {
    connection: Connection,
    endpoint: Endpoint,
    keys: Keys,
}

impl Scope {
    async fn open(redis: Option<&Redis>, scope: Option<&str>) -> Result<Self, Failure> {
        let redis =
            redis.ok_or_else(|| Failure::usage("no Redis is configured; set redis.url or TIDEGATE_REDIS__URL"))?;
        let scope = scope.or(redis.scopes.first().map(String::as_str));
        let scope = scope.ok_or_else(|| Failure::usage("no scope is configured; write --scope or set flags.scopes"))?;
        let keys = Keys::new(&redis.prefix, scope).map_err(|e| Failure::usage(e.to_string()))?;
        let endpoint = Endpoint::new(&redis.url).map_err(|e| Failure::usage(e.to_string()))?;
        let connection = endpoint.connect(LIMIT).await.map_err(|e| Failure::redis(&e))?;
        Ok(Self { connection, endpoint, keys })
    }

    fn failed(&self, error: &redis::RedisError) -> Failure {
        // Of commands sent together, the first that failed says why.
        let answers = error.clone().into_server_errors();
        let first = answers.as_deref().and_then(|answers| answers.first()).map(|(_, answer)| answer);
        let code = first.map(ServerError::code);
        match (self.endpoint.error(error, LIMIT), code) {
            (Error::Refused(text), Some("LOADING" | "BUSY" | "TRYAGAIN" | "MASTERDOWN" | "CLUSTERDOWN")) => {
                Failure::try_again(format!("redis is not ready: {text}; try again"))
            }
            (said @ Error::Refused(_), Some("NOAUTH" | "WRONGPASS")) => Failure::redis(&said),
            (Error::Refused(_), Some(code @ "WRONGTYPE")) => {
                self.no_scope(&format!("{code} {}", first.and_then(ServerError::details).unwrap_or_default()))
            }
            // Any other answer is Redis at work, and refusing.
            (Error::Refused(text), Some(_)) => Failure::failed(text),
            (Error::Refused(text), None)
                if matches!(error.kind(), ErrorKind::Parse | ErrorKind::UnexpectedReturnType) =>
            {
                self.no_scope(&text)
            }
            (said, _) => Failure::redis(&said),
        }
    }

    /// Redis answered, and what it holds was not written by a writer of flags.
    fn no_scope(&self, text: &str) -> Failure {
        let Keys { scope, meta, .. } = &self.keys;
        Failure::failed(format!(
            "scope {scope} in redis ({meta} and beside it) is not what writers of flags make: {text}"
        ))
    }
}

/// Does what is asked and prints the answer.
pub fn main(args: &Args, settings: &Settings) -> ExitCode {
    match block_on(run(args, settings.flags.redis.as_ref())) {
        Ok(Ok(answer)) => {
            say(&answer);
            ExitCode::SUCCESS
        }
        Ok(Err(failure)) => {
            complain(&failure.text);
            ExitCode::from(failure.code)
        }
        Err(code) => code,
    }
}

/// Does what is asked; the answer for standard output.
///
/// # Errors
/// The text for standard error, and the exit code.
pub async fn run(args: &Args, redis: Option<&Redis>) -> Result<String, Failure> {
    let definition = match &args.command {
        Command::Set { definition, .. } | Command::At { change: schedule::AtCommand::Set { definition, .. }, .. } => {
            Some(change::read(definition)?)
        }
        _ => None,
    };
    let mut scope = Scope::open(redis, args.scope.as_deref()).await?;
    match &args.command {
        Command::Ls => show::list(&mut scope, args.output).await,
        Command::Get { key } => show::get(&mut scope, key, args.output).await,
        Command::Log { key, number } => show::log(&mut scope, key.as_deref(), *number as usize, args.output).await,
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
