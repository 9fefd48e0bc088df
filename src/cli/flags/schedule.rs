//! Changes of flags at a time and step by step: `rollout`, `at`, `schedule`. Makes them, shows them, and executes them
//! where no sidecar does.

mod follow;
mod make;
mod tell;

use clap::{Args as ClapArgs, Subcommand};

use self::tell::Told;
use super::answer::say;
use super::show::evaluators;
use super::{Failure, Output, Scope, Write};
use crate::flags::contract::schedules::{Amended, Amendment, all, amend, prepare};
use crate::flags::executor::{due, turn};
use crate::flags::schedule::{Action, Next, Plan, Schedule, State};

/// Gradual changes.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum RolloutCommand {
    /// Brings a variant to a share of all keys, at once or step by step
    Set(Box<Begin>),
    /// Lists the rollouts
    Ls,
    /// Shows a flag's rollout; exits 1 if it has none
    Status {
        /// The flag's key
        key: String,
        /// Follows it to its end, and executes it when nobody else does
        #[arg(long)]
        wait: bool,
    },
    /// Stops a flag's rollout where it is
    Pause {
        /// The flag's key
        key: String,
    },
    /// Goes on with a flag's paused rollout, from the flag as it is now
    Resume {
        /// The flag's key
        key: String,
    },
    /// Ends a flag's rollout where it is
    Cancel {
        /// The flag's key
        key: String,
    },
}

/// A rollout to be made.
#[derive(Debug, Clone, ClapArgs)]
#[command(after_help = "Examples:\n  tidegate flags rollout set search 1%..50% over 2h\n  tidegate flags rollout \
                        set search 10% --variant new\n  tidegate flags rollout set search 0%→100% --over 1d \
                        --every 1h --at 08:00Z")]
pub(super) struct Begin {
    /// The flag's key
    pub(super) key: String,
    /// FROM..TO, as 1%..50% or 1%→50%; or TO alone, from the share it has
    pub(super) shares: String,
    /// `over DURATION`, which is --over
    #[arg(num_args = 0..=2, value_names = ["over", "DURATION"])]
    pub(super) words: Vec<String>,
    /// The variant whose share it is [default: the one whose value is true]
    #[arg(long)]
    pub(super) variant: Option<String>,
    /// From the first step to the last, as 2h
    #[arg(long, value_name = "DURATION")]
    pub(super) over: Option<String>,
    /// How many steps, first and last included [default: 25, at least a second apart]
    #[arg(long, value_name = "N", conflicts_with = "every")]
    pub(super) steps: Option<u32>,
    /// Time between two steps, as 5m
    #[arg(long, value_name = "DURATION")]
    pub(super) every: Option<String>,
    /// When it begins: +2h, 18:30Z, 18:30+01:00, 2026-11-23T18:30:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub(super) at: Option<String>,
    /// Follows it to its end, and executes it when nobody else does
    #[arg(long)]
    pub(super) wait: bool,
    #[command(flatten)]
    pub(super) write: Write,
}

/// A change at a time.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum AtCommand {
    /// Writes a flag's whole definition
    Set {
        /// The flag's key
        key: String,
        /// The definition as JSON, @FILE to read it from a file, - from standard input
        definition: String,
        #[command(flatten)]
        write: Write,
    },
    /// Makes the variant whose value is true the default one
    On(Target),
    /// Makes the variant whose value is false the default one
    Off(Target),
    /// Sets a flag's state to ENABLED
    Enable(Target),
    /// Sets a flag's state to DISABLED: applications use their own defaults
    Disable(Target),
}

/// A flag, and who wants what of it.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Target {
    /// The flag's key
    key: String,
    #[command(flatten)]
    write: Write,
}

/// All schedules, rollouts among them.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum ScheduleCommand {
    /// Lists the schedules: rollouts and changes at a time
    Ls,
    /// Shows a schedule
    Show {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Stops a schedule where it is
    Pause {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Goes on with a paused schedule, from the flag as it is now
    Resume {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Ends a schedule where it is
    Cancel {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Executes schedules until stopped, unless a sidecar does
    Run {
        /// Does what is due, and ends
        #[arg(long)]
        once: bool,
    },
}

/// Which schedule is meant.
enum Which<'a> {
    /// The rollout of this flag.
    RolloutOf(&'a str),
    /// The one whose id begins so.
    Id(&'a str),
}

/// What is done to one.
enum Verb {
    Pause,
    Resume,
    Cancel,
}

pub(super) async fn rollout(scope: &mut Scope, command: &RolloutCommand, output: Output) -> Result<String, Failure> {
    match command {
        RolloutCommand::Set(begin) => {
            let (id, made) = make::begin(scope, begin).await?;
            if begin.wait {
                return follow::to_the_end(scope, &id, output).await;
            }
            made.say(scope, output, &made.made())
        }
        RolloutCommand::Ls => list(scope, output, |schedule| matches!(schedule.plan, Plan::Rollout(_))).await,
        RolloutCommand::Status { key, wait } => {
            let (id, _, told) = one(scope, &Which::RolloutOf(key)).await?;
            if *wait { follow::to_the_end(scope, &id, output).await } else { told.say(scope, output, &told.status()) }
        }
        RolloutCommand::Pause { key } => set(scope, &Which::RolloutOf(key), &Verb::Pause, output).await,
        RolloutCommand::Resume { key } => set(scope, &Which::RolloutOf(key), &Verb::Resume, output).await,
        RolloutCommand::Cancel { key } => set(scope, &Which::RolloutOf(key), &Verb::Cancel, output).await,
    }
}

/// `definition` is the text of a whole definition that was asked for.
pub(super) async fn at(
    scope: &mut Scope,
    time: &str,
    command: &AtCommand,
    definition: Option<String>,
    output: Output,
) -> Result<String, Failure> {
    let (key, action, write) = match command {
        AtCommand::Set { key, write, .. } => (key, Action::Set(definition.unwrap_or_default()), write),
        AtCommand::On(Target { key, write }) => (key, Action::On, write),
        AtCommand::Off(Target { key, write }) => (key, Action::Off, write),
        AtCommand::Enable(Target { key, write }) => (key, Action::Enable, write),
        AtCommand::Disable(Target { key, write }) => (key, Action::Disable, write),
    };
    let found = make::find(scope, key).await?;
    let (_, made) = make::make(scope, key, Some(time), write, &found, Plan::Change(action)).await?;
    made.say(scope, output, &made.made())
}

pub(super) async fn schedule(scope: &mut Scope, command: &ScheduleCommand, output: Output) -> Result<String, Failure> {
    match command {
        ScheduleCommand::Ls => list(scope, output, |_| true).await,
        ScheduleCommand::Show { id } => {
            let (_, _, told) = one(scope, &Which::Id(id)).await?;
            told.say(scope, output, &told.status())
        }
        ScheduleCommand::Pause { id } => set(scope, &Which::Id(id), &Verb::Pause, output).await,
        ScheduleCommand::Resume { id } => set(scope, &Which::Id(id), &Verb::Resume, output).await,
        ScheduleCommand::Cancel { id } => set(scope, &Which::Id(id), &Verb::Cancel, output).await,
        ScheduleCommand::Run { once: true } => follow::once(scope, output).await,
        ScheduleCommand::Run { once: false } => follow::for_ever(scope).await,
    }
}

async fn reread(scope: &mut Scope, id: &str) -> Result<Told, Failure> {
    let found = prepare(&mut scope.connection, &scope.keys, id, "").await.map_err(|e| scope.failed(&e))?;
    let text = found.entry.ok_or_else(|| Failure::failed(format!("schedule {id} is gone")))?;
    Ok(Told::new(id, &text, found.now, String::new()))
}

/// Every schedule, with its text.
async fn every(scope: &mut Scope) -> Result<(Vec<(String, String)>, Option<String>), Failure> {
    match all(&mut scope.connection, &scope.keys).await.map_err(|e| scope.failed(&e))? {
        Ok(found) => Ok(found),
        Err(count) => Err(Failure::failed(format!("the scope has {count} schedules, more than are looked at"))),
    }
}

async fn list(scope: &mut Scope, output: Output, wanted: impl Fn(&Schedule) -> bool) -> Result<String, Failure> {
    let found = prepare(&mut scope.connection, &scope.keys, "", "").await.map_err(|e| scope.failed(&e))?;
    let (entries, holder) = every(scope).await?;
    let told = entries.into_iter().map(|(id, text)| Told::new(&id, &text, found.now, String::new()));
    let mut told: Vec<Told> = told.filter(|told| told.schedule.as_ref().map_or(true, &wanted)).collect();
    told.sort_by_key(Told::order);
    let value = told.iter().map(|told| told.json(&scope.keys.scope)).collect();
    say(&value, output, || tell::table(&told, holder.as_deref(), &scope.keys.scope))
}

/// The schedule that is meant, its text, and what there is to tell of it.
async fn one(scope: &mut Scope, which: &Which<'_>) -> Result<(String, String, Told), Failure> {
    let (entries, holder) = every(scope).await?;
    let mut fitting: Vec<(String, String)> = match which {
        Which::Id(start) => entries.into_iter().filter(|(id, _)| id.starts_with(start)).collect(),
        Which::RolloutOf(key) => entries
            .into_iter()
            .filter(|(_, text)| {
                Schedule::parse(text).is_ok_and(|one| one.key == *key && matches!(one.plan, Plan::Rollout(_)))
            })
            .collect(),
    };
    if let Which::RolloutOf(_) = which {
        // The one on its way, or else the last that was.
        fitting.sort_by_key(|(_, text)| {
            Schedule::parse(text).map_or((false, 0), |one| (!one.state.over(), one.changed_at))
        });
        fitting = fitting.pop().into_iter().collect();
    }
    let name = &scope.keys.scope;
    match (fitting.pop(), fitting.pop(), which) {
        (Some((id, text)), None, _) => {
            let found = prepare(&mut scope.connection, &scope.keys, "", "").await.map_err(|e| scope.failed(&e))?;
            let told = Told::new(&id, &text, found.now, holder.unwrap_or_default());
            Ok((id, text, told))
        }
        (Some(_), Some(_), Which::Id(start)) => {
            Err(Failure::usage(format!("more than one schedule's id begins with {start:?}; write more of it")))
        }
        (_, _, Which::RolloutOf(key)) => Err(Failure::failed(format!(
            "{key:?} was not rolled out in scope {name}; `tidegate flags rollout ls --scope {name}` lists what is"
        ))),
        (_, _, Which::Id(id)) => Err(Failure::failed(format!(
            "there is no schedule {id:?} in scope {name}; `tidegate flags schedule ls --scope {name}` lists them"
        ))),
    }
}

/// Pauses, resumes or cancels a schedule.
async fn set(scope: &mut Scope, which: &Which<'_>, verb: &Verb, output: Output) -> Result<String, Failure> {
    let (id, text, told) = one(scope, which).await?;
    let found = prepare(&mut scope.connection, &scope.keys, &id, "").await.map_err(|e| scope.failed(&e))?;
    let entry = match (&told.schedule, verb) {
        // What is none can only go.
        (Err(_), Verb::Cancel) => None,
        (Err(why), _) => return Err(Failure::failed(format!("{id} is not a schedule: {why}; cancel removes it"))),
        (Ok(schedule), verb) => {
            let next = match verb {
                Verb::Pause if schedule.state.active() => schedule.turned(State::Paused, None, found.now),
                Verb::Resume if schedule.state == State::Paused => {
                    let resumed = schedule.resumed(found.base.clone(), found.now);
                    let evaluators = evaluators(found.evaluators.as_deref())?;
                    let edited = resumed.edit(resumed.done + 1, found.definition.as_deref(), &evaluators);
                    edited.map_err(|e| Failure::failed(format!("schedule {id} cannot go on: {e}")))?;
                    resumed
                }
                Verb::Cancel if !schedule.state.over() => schedule.turned(State::Cancelled, None, found.now),
                _ => {
                    let state = schedule.state.name();
                    return Err(Failure::failed(format!("schedule {id} of {:?} is {state} already", schedule.key)));
                }
            };
            Some(next)
        }
    };
    let amendment = match &entry {
        Some(entry) => Amendment {
            id: id.clone(),
            expect: Some(text),
            entry: Some(entry.text()),
            due: due(entry),
            ..Amendment::default()
        },
        None => Amendment { id: id.clone(), digest: found.digest, ..Amendment::default() },
    };
    match amend(&mut scope.connection, &scope.keys, &amendment).await.map_err(|e| scope.failed(&e))? {
        Amended::Done => {}
        _ => return Err(Failure::try_again(format!("schedule {id} went on just now; try again"))),
    }
    let Some(schedule) = entry else {
        let value = serde_json::json!({ "scope": scope.keys.scope, "id": id, "state": "removed" });
        return say(&value, output, || format!("{id} was no schedule, and is removed\n"));
    };
    if matches!(schedule.next(found.now), Next::Step(_)) {
        turn(&mut scope.connection, &scope.keys, &id).await.map_err(|e| scope.failed(&e))?;
    }
    let told = reread(scope, &id).await?;
    told.say(scope, output, &told.status())
}
