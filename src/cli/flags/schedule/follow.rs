//! Executing schedules from the command line: one to its end, all that are due, or all for ever.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::json;

use super::super::answer::say;
use super::super::{Failure, Output, Scope};
use super::reread;
use super::tell::Told;
use crate::cli;
use crate::flags::contract::schedules::{MOST, Places, glance};
use crate::flags::executor::{Pace, Turn, pass, turn};
use crate::flags::schedule::State;

/// The longest between two looks at what is followed.
const LOOK: Duration = Duration::from_secs(1);

/// Follows a schedule until it is over or paused, and executes it when nobody else does.
pub(super) async fn to_the_end(scope: &mut Scope, id: &str, output: Output) -> Result<String, Failure> {
    let (holder, pace) = (holder(), Pace::default());
    let mut last = String::new();
    loop {
        let mut done = Vec::new();
        let passed = pass(&mut scope.connection, &scope.keys, &holder, &pace, &mut done).await;
        let wait = passed.map_err(|e| scope.failed(&e))?.wait.min(LOOK);
        let told = reread(scope, id).await?;
        progress(&mut last, &told);
        let state = told.schedule.as_ref().map(|schedule| schedule.state);
        match state {
            Ok(State::Waiting | State::Running) => tokio::time::sleep(wait).await,
            Ok(State::Done) => return told.say(scope, output, &told.status()),
            _ => return Err(Failure::failed(told.status().lines().collect::<Vec<_>>().join("; "))),
        }
    }
}

/// Does what is due now, whoever holds the lease: a step is done once all the same.
pub(super) async fn once(scope: &mut Scope, output: Output) -> Result<String, Failure> {
    let places = Places::of(&scope.keys);
    let mut lines = Vec::new();
    // Each turn takes one away, or plans it for later.
    for _ in 0..2 * MOST {
        let seen = glance(&mut scope.connection, &places, "", 0).await.map_err(|e| scope.failed(&e))?;
        let Some((id, Some(due))) = seen.first else { break };
        if due > seen.now {
            break;
        }
        let outcome = turn(&mut scope.connection, &scope.keys, &id).await.map_err(|e| scope.failed(&e))?;
        lines.extend(line(&id, &outcome));
    }
    let value = json!({ "scope": scope.keys.scope, "done": lines });
    say(&value, output, || if lines.is_empty() { "nothing is due\n".to_owned() } else { lines.join("\n") + "\n" })
}

/// Executes what is due as it becomes due, for as long as nobody else does, until the connection ends.
pub(super) async fn for_ever(scope: &mut Scope) -> Result<String, Failure> {
    let (holder, pace) = (holder(), Pace { idle: Duration::from_secs(5), ..Pace::default() });
    loop {
        let mut done = Vec::new();
        let passed = pass(&mut scope.connection, &scope.keys, &holder, &pace, &mut done).await;
        for (id, outcome) in &done {
            if let Some(line) = line(id, outcome) {
                cli::say(&line);
            }
        }
        tokio::time::sleep(passed.map_err(|e| scope.failed(&e))?.wait).await;
    }
}

/// What is said of a turn.
fn line(id: &str, outcome: &Turn) -> Option<String> {
    Some(match outcome {
        Turn::Done { step, left_out, rev, schedule } => {
            let (key, steps) = (&schedule.key, schedule.steps());
            let left_out = if *left_out > 0 { format!(", {left_out} left out") } else { String::new() };
            let rev = rev.map_or_else(|| ", was so already".to_owned(), |rev| format!(", revision {rev}"));
            format!("schedule {id}: {key} step {step}/{steps}{left_out}{rev}")
        }
        Turn::Conflict { why } => format!("schedule {id}: paused: {why}"),
        Turn::Failed { why } => format!("schedule {id}: failed: {why}"),
        Turn::Corrupt { why } => format!("schedule {id}: not a schedule, set aside: {why}"),
        Turn::Nothing => return None,
    })
}

/// Shows a line of progress: over the last one on a terminal, else when it says something new.
fn progress(last: &mut String, told: &Told) {
    let line = told.progress();
    let step = line.split(", next").next().unwrap_or_default().to_owned();
    let mut err = io::stderr();
    // Nowhere is left to show it when standard error is closed.
    if err.is_terminal() {
        write!(err, "\r\x1b[K{line}").and_then(|()| err.flush()).unwrap_or_default();
        if told.schedule.as_ref().map_or(true, |schedule| !schedule.state.active()) {
            writeln!(err).unwrap_or_default();
        }
    } else if step != *last {
        writeln!(err, "{line}").unwrap_or_default();
    }
    *last = step;
}

fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("tidegate flags on {}/{:08x}", host.trim(), fastrand::u32(..))
}
