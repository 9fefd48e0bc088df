//! Making a schedule: reads what was typed, checks it against the flag in place, and does what is due at once.

use std::time::{Duration, SystemTime};

use super::super::show::{evaluators, unknown};
use super::super::{Failure, Scope, Write};
use super::tell::Told;
use super::{Begin, reread};
use crate::flags::compile;
use crate::flags::contract::head;
use crate::flags::contract::schedules::{Amended, Amendment, Prepared, amend, prepare};
use crate::flags::executor::{due, turn};
use crate::flags::schedule::{Impossible, MAX_STEPS, Plan, Rollout, Schedule, Share, State, moment, share};

/// Steps of a rollout that says neither how many nor how often, the first aside.
const STEPS: u32 = 24;
/// Steps closer than this are refused: each is a revision, and is told to every sidecar.
const CLOSEST: Duration = Duration::from_millis(100);
/// The longest way from the first step to the last.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Makes the rollout that is asked for.
pub(super) async fn begin(scope: &mut Scope, wanted: &Begin) -> Result<(String, Told), Failure> {
    let Begin { key, shares, words, variant, over, steps, every, at, write, .. } = wanted;
    let over = match words.as_slice() {
        [] => over.clone(),
        [word, duration] if word == "over" && over.is_none() => Some(duration.clone()),
        _ => return Err(Failure::usage(format!("{words:?} was not expected; write: over DURATION, as over 2h"))),
    };
    let (from, to) = read_shares(shares)?;
    let over = over.as_deref().map(duration).transpose()?;
    let every = every.as_deref().map(duration).transpose()?;
    let steps = match over {
        Some(over) => count(over, *steps, every)?,
        None if from.is_some() || steps.is_some() || every.is_some() => {
            return Err(Failure::usage("step by step, but how long from the first to the last? add: over DURATION"));
        }
        None => 1,
    };
    let found = find(scope, key).await?;
    let Some(there) = &found.definition else { return Err(unknown(scope, key)) };
    let flag = compile::flag(key, there, &evaluators(found.evaluators.as_deref())?)
        .map_err(|e| Failure::failed(format!("the definition of {key:?} does not validate:\n{e}")))?;
    let on = flag.variants().iter().find(|variant| variant.value_json() == "true").map(|variant| variant.name());
    let Some(variant) = variant.as_deref().or(on) else {
        let names: Vec<&str> = flag.variants().iter().map(|variant| variant.name()).collect();
        return Err(Failure::usage(format!(
            "no variant of {key:?} is true; say which of {} is rolled out, with --variant",
            names.join(", ")
        )));
    };
    let has = share(there, variant).map_err(|e| Failure::failed(format!("{key:?} cannot be rolled out: {e}")))?;
    if has == to && from.is_none_or(|from| from == to) {
        return Err(Failure::failed(format!("{variant:?} of {key:?} has {to} already")));
    }
    // Who has the variant keeps it as it grows: also at the first step.
    match from {
        Some(from) if from <= to && from < has => {
            return Err(Failure::failed(format!(
                "{variant:?} of {key:?} has {has}, and would lose some of it at the first step; write {has}..{to}, or \
                 {from} first"
            )));
        }
        Some(from) if from > to && from > has => {
            return Err(Failure::failed(format!(
                "{variant:?} of {key:?} has {has}, and would gain some at the first step; write {has}..{to}, or {from} \
                 first"
            )));
        }
        _ => {}
    }
    let over = over.map_or(0, |over| u64::try_from(over.as_millis()).unwrap_or(u64::MAX));
    let from = from.unwrap_or(if steps == 1 { to } else { has });
    let plan = Plan::Rollout(Rollout { variant: variant.to_owned(), from, to, over, steps });
    make(scope, key, at.as_deref(), write, &found, plan).await
}

/// The flag as it is.
pub(super) async fn find(scope: &mut Scope, key: &str) -> Result<Prepared, Failure> {
    let found = prepare(&mut scope.connection, &scope.keys, "", key).await.map_err(|e| scope.failed(&e))?;
    if let Some(definition) = &found.definition {
        scope.sound(key, Some(definition)).await?;
    }
    Ok(found)
}

/// Makes a schedule for the flag as it was `found`, and does its first step if that is due already.
pub(super) async fn make(
    scope: &mut Scope,
    key: &str,
    time: Option<&str>,
    write: &Write,
    found: &Prepared,
    plan: Plan,
) -> Result<(String, Told), Failure> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(found.now);
    let start = match time {
        Some(time) => moment(time, now).map_err(|e| Failure::usage(e.to_string()))?,
        None => now,
    };
    let start = start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let rev = found.record.as_deref().and_then(|record| record.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
    if let Some(expected) = write.if_rev.filter(|expected| *expected != rev) {
        return Err(Failure::failed(format!("{key:?} is at revision {rev}, not {expected}; look at it and try again")));
    }
    let schedule = Schedule {
        version: 1,
        key: key.to_owned(),
        plan,
        base: found.base.clone(),
        author: write.who.actor(),
        note: write.who.note.clone(),
        created_at: found.now,
        start: u64::try_from(start).unwrap_or(u64::MAX),
        done: 0,
        state: State::Waiting,
        reason: None,
        changed_at: found.now,
    };
    if found.definition.is_none() {
        let head = head(&mut scope.connection, &scope.keys).await.map_err(|e| scope.failed(&e))?;
        if head.rev.is_none() {
            let name = &scope.keys.scope;
            return Err(Failure::failed(format!(
                "there is no scope {name} in redis; `tidegate flags set --create` makes it"
            )));
        }
    }
    // Refused now rather than at night.
    let evaluators = evaluators(found.evaluators.as_deref())?;
    for step in [1, schedule.steps()] {
        match schedule.edit(step, found.definition.as_deref(), &evaluators) {
            Ok(_) => {}
            Err(Impossible::Absent(_)) => return Err(unknown(scope, key)),
            Err(error @ Impossible::Invalid { .. }) => return Err(Failure::usage(error.to_string())),
            Err(error) => return Err(Failure::failed(format!("{key:?}: {error}"))),
        }
    }
    let id = put(scope, &schedule).await?;
    if schedule.start <= found.now {
        turn(&mut scope.connection, &scope.keys, &id).await.map_err(|e| scope.failed(&e))?;
        let told = reread(scope, &id).await?;
        return Ok((id, told));
    }
    let told = Told::new(&id, &schedule.text(), found.now, String::new());
    Ok((id, told))
}

/// Puts a new schedule into Redis; its id.
async fn put(scope: &mut Scope, schedule: &Schedule) -> Result<String, Failure> {
    for _ in 0..5 {
        let id = format!("{:06x}", fastrand::u32(..1 << 24));
        let amendment = Amendment {
            id: id.clone(),
            entry: Some(schedule.text()),
            due: due(schedule),
            base: Some(schedule.base.clone()),
            key: schedule.key.clone(),
            alone: matches!(schedule.plan, Plan::Rollout(_)),
            ..Amendment::default()
        };
        let key = &schedule.key;
        match amend(&mut scope.connection, &scope.keys, &amendment).await.map_err(|e| scope.failed(&e))? {
            Amended::Done => return Ok(id),
            // The id is taken.
            Amended::Moved => {}
            Amended::Changed => {
                return Err(Failure::failed(format!("lost a race: somebody changed {key:?} just now; try again")));
            }
            Amended::Other(id) => {
                return Err(Failure::failed(format!(
                    "{key:?} is being rolled out already, by schedule {id}; end that with `tidegate flags rollout cancel {key}`"
                )));
            }
            Amended::Full(count) => {
                return Err(Failure::failed(format!(
                    "the scope has {count} schedules, none of them over; cancel some with `tidegate flags schedule cancel`"
                )));
            }
        }
    }
    Err(Failure::try_again("no id is free; try again"))
}

/// `1%..50%`, `1%→50%`, `1%->50%`, `50%`: from, if said, and to.
fn read_shares(text: &str) -> Result<(Option<Share>, Share), Failure> {
    let read = |text: &str| text.parse::<Share>().map_err(|e| Failure::usage(e.to_string()));
    for between in ["..", "→", "->"] {
        if let Some((from, to)) = text.split_once(between) {
            // The sign may stand once, at the end.
            let from = format!("{}%", from.trim().trim_end_matches('%'));
            return Ok((Some(read(&from)?), read(to.trim())?));
        }
    }
    Ok((None, read(text)?))
}

fn duration(text: &str) -> Result<Duration, Failure> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() && duration <= LONGEST => Ok(duration),
        Ok(_) => Err(Failure::usage(format!("{text:?} is not above 0 and at most a year"))),
        Err(_) => Err(Failure::usage(format!("{text:?} is not a duration; write 30m, 2h or 1h 30m"))),
    }
}

/// How many steps there are from the first to the last, both included.
fn count(over: Duration, steps: Option<u32>, every: Option<Duration>) -> Result<u32, Failure> {
    let ways = match (steps, every) {
        (Some(steps), _) => steps.saturating_sub(1),
        (None, Some(every)) => u32::try_from(over.as_millis().div_ceil(every.as_millis().max(1))).unwrap_or(u32::MAX),
        (None, None) => u32::try_from(over.as_secs()).unwrap_or(u32::MAX).clamp(1, STEPS),
    };
    if ways == 0 || ways >= MAX_STEPS {
        return Err(Failure::usage(format!("a rollout has 2 to {MAX_STEPS} steps, not {}", ways.saturating_add(1))));
    }
    if over / ways < CLOSEST {
        return Err(Failure::usage(format!("steps would be less than {CLOSEST:?} apart; write fewer")));
    }
    Ok(ways + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_steps_are_read_as_they_are_typed() {
        let shares =
            |text: &str| read_shares(text).map(|(from, to)| (from.map(|from| from.to_string()), to.to_string()));
        let both = Ok((Some("1%".to_owned()), "50%".to_owned()));
        for text in ["1%..50%", "1%→50%", "1%->50%", "1..50%", "1% → 50%"] {
            assert_eq!(shares(text), both, "{text}");
        }
        assert_eq!(shares("12.5%"), Ok((None, "12.5%".to_owned())));
        for text in ["50", "1%-50%", "1%..", "..50%", "1%..50%..70%", ""] {
            assert_eq!(shares(text).map_err(|e| e.code), Err(64), "{text}");
        }
        let hours = Duration::from_secs(7200);
        assert_eq!(count(hours, None, None), Ok(25));
        assert_eq!(count(Duration::from_secs(3), None, None), Ok(4));
        assert_eq!(count(Duration::from_millis(300), None, None), Ok(2));
        assert_eq!(count(hours, Some(3), None), Ok(3));
        assert_eq!(count(hours, None, Some(Duration::from_secs(300))), Ok(25));
        assert_eq!(count(hours, None, Some(Duration::from_secs(3000))), Ok(4));
        for (steps, every) in [(Some(1), None), (Some(1001), None), (None, Some(Duration::from_secs(1)))] {
            assert_eq!(count(hours, steps, every).map_err(|e| e.code), Err(64), "{steps:?} {every:?}");
        }
        assert!(count(Duration::from_secs(1), Some(100), None).is_err());
    }
}
