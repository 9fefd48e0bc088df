//! One schedule whose time has come: reads it and its flag, plans, and writes by compare-and-set. Whoever does it, any
//! number of times, at once or after being killed anywhere: each step is done once.

use redis::RedisResult;
use redis::aio::ConnectionLike;

use crate::flags::compile;
use crate::flags::contract::Keys;
use crate::flags::contract::schedules::{Amended, Amendment, Due, Prepared, Stride, Strode, amend, prepare, stride};
use crate::flags::model::Evaluators;
use crate::flags::schedule::{Next, Schedule, State};

/// What became of a schedule whose time seemed to have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// This step was done, and made this revision; `None` when the flag was so already.
    Done {
        /// Which.
        step: u32,
        /// How many were left out before it.
        left_out: u32,
        /// Of the scope.
        rev: Option<u64>,
        /// The schedule after it.
        schedule: Box<Schedule>,
    },
    /// Somebody who is no schedule changed the flag: it is paused.
    Conflict {
        /// Who did what.
        why: String,
    },
    /// The step could not be made of the flag as it is: it failed.
    Failed {
        /// What is wrong.
        why: String,
    },
    /// It is no schedule: it was set aside, where `ls` shows it.
    Corrupt {
        /// What is wrong.
        why: String,
    },
    /// Nothing was to be done, or somebody else was faster.
    Nothing,
}

/// When a schedule in this state is next due.
pub fn due(schedule: &Schedule) -> Due {
    match (schedule.next_due(), schedule.state) {
        (Some(at), _) => Due::At(at),
        (None, State::Paused) => Due::Paused,
        (None, _) => Due::Never,
    }
}

/// Does what schedule `id` is due to do.
pub async fn turn(connection: &mut impl ConnectionLike, keys: &Keys, id: &str) -> RedisResult<Turn> {
    let found = prepare(connection, keys, id, "").await?;
    let Some(text) = found.entry.clone() else {
        // Planned, and not there: somebody removed it by hand.
        put(connection, keys, id, None, None, Due::Never).await?;
        return Ok(Turn::Nothing);
    };
    let schedule = match Schedule::parse(&text) {
        Ok(schedule) => schedule,
        Err(why) => {
            let (id, digest) = (id.to_owned(), found.digest);
            let aside = Amendment { id, digest, due: Due::Paused, ..Amendment::default() };
            return Ok(match amend(connection, keys, &aside).await? {
                Amended::Done => Turn::Corrupt { why },
                _ => Turn::Nothing,
            });
        }
    };
    let Next::Step(step) = schedule.next(found.now) else {
        // What is planned is not what it says: planned anew.
        let due = due(&schedule);
        put(connection, keys, id, Some(text.clone()), Some(text), due).await?;
        return Ok(Turn::Nothing);
    };
    if found.base != schedule.base {
        return conflict(connection, keys, id, text, &schedule, &found).await;
    }
    let edited = match edited(&schedule, step, &found) {
        Ok(edited) => edited,
        Err(why) => {
            let failed = schedule.turned(State::Failed, Some(why.clone()), found.now);
            let set = put(connection, keys, id, Some(text), Some(failed.text()), Due::Never).await?;
            return Ok(if set { Turn::Failed { why } } else { Turn::Nothing });
        }
    };
    let after = schedule.after(step, found.now);
    let left_out = step - schedule.done - 1;
    let done = |rev| Turn::Done { step, left_out, rev, schedule: Box::new(after.clone()) };
    if found.definition.as_ref() == Some(&edited) {
        let set = put(connection, keys, id, Some(text), Some(after.text()), due(&after)).await?;
        return Ok(if set { done(None) } else { Turn::Nothing });
    }
    let request = Stride {
        id: id.to_owned(),
        expect: text.clone(),
        entry: after.text(),
        due: due(&after),
        at: schedule.due(step),
        key: schedule.key.clone(),
        base: schedule.base.clone(),
        token: found.token.clone(),
        set: edited,
        actor: schedule.actor(id, step),
        note: schedule.because(step),
    };
    match stride(connection, keys, &request).await? {
        Strode::Done(rev) => Ok(done(Some(rev))),
        Strode::Early | Strode::Moved | Strode::Raced => Ok(Turn::Nothing),
        Strode::Changed => {
            let found = prepare(connection, keys, id, "").await?;
            conflict(connection, keys, id, text, &schedule, &found).await
        }
        Strode::Uncreated => {
            let why = "the scope is not in redis; if redis lost its data, restore it first".to_owned();
            let paused = schedule.turned(State::Paused, Some(why.clone()), found.now);
            let set = put(connection, keys, id, Some(text), Some(paused.text()), Due::Paused).await?;
            Ok(if set { Turn::Conflict { why } } else { Turn::Nothing })
        }
        Strode::Refused(why) => {
            let failed = schedule.turned(State::Failed, Some(why.clone()), found.now);
            let set = put(connection, keys, id, Some(text), Some(failed.text()), Due::Never).await?;
            Ok(if set { Turn::Failed { why } } else { Turn::Nothing })
        }
    }
}

fn edited(schedule: &Schedule, step: u32, found: &Prepared) -> Result<String, String> {
    let evaluators = found.evaluators.as_deref().map(compile::evaluators).transpose();
    let evaluators: Evaluators =
        evaluators.map_err(|e| format!("the scope's evaluators do not validate: {e}"))?.unwrap_or_default();
    schedule.edit(step, found.definition.as_deref(), &evaluators).map_err(|e| e.to_string())
}

/// A person's edit wins: the schedule pauses and says whose it was.
async fn conflict(
    connection: &mut impl ConnectionLike,
    keys: &Keys,
    id: &str,
    text: String,
    schedule: &Schedule,
    found: &Prepared,
) -> RedisResult<Turn> {
    let mut record = found.record.as_deref().unwrap_or_default().splitn(3, ' ');
    let (rev, _, actor) = (record.next(), record.next(), record.next());
    let why = match (&found.definition, rev.zip(actor)) {
        (None, _) => format!("{} is not there any more", schedule.key),
        (Some(_), Some((rev, actor))) if !actor.starts_with("schedule ") => {
            format!("{actor} changed {}, revision {rev}", schedule.key)
        }
        // Written past the script, which would have said who.
        (Some(_), _) => format!("somebody changed {}", schedule.key),
    };
    let paused = schedule.turned(State::Paused, Some(why.clone()), found.now);
    let set = put(connection, keys, id, Some(text), Some(paused.text()), Due::Paused).await?;
    Ok(if set { Turn::Conflict { why } } else { Turn::Nothing })
}

/// Whether the schedule was still as expected, and is now as it should be.
async fn put(
    connection: &mut impl ConnectionLike,
    keys: &Keys,
    id: &str,
    expect: Option<String>,
    entry: Option<String>,
    due: Due,
) -> RedisResult<bool> {
    let id = id.to_owned();
    let amendment = Amendment { id, expect, entry, due, ..Amendment::default() };
    Ok(amend(connection, keys, &amendment).await? == Amended::Done)
}
