//! What there is to tell of a schedule: to people in a sentence or a row, to programs as a value.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::super::answer::{moment, rows, say};
use super::super::{Failure, Output, Scope};
use crate::flags::schedule::{Plan, Schedule};

/// A schedule, as it was at a moment.
pub(super) struct Told {
    pub(super) id: String,
    /// What is wrong with it, if it is none.
    pub(super) schedule: Result<Schedule, String>,
    now: u64,
    /// Who executes the scope's schedules.
    holder: String,
}

impl Told {
    pub(super) fn new(id: &str, text: &str, now: u64, holder: String) -> Self {
        Self { id: id.to_owned(), schedule: Schedule::parse(text), now, holder }
    }

    /// Those on their way first, by what is due next; then those that are over, the last first.
    pub(super) fn order(&self) -> (bool, u64) {
        match &self.schedule {
            Ok(schedule) if schedule.state.over() => (true, u64::MAX - schedule.changed_at),
            Ok(schedule) => (false, schedule.next_due().unwrap_or(0)),
            Err(_) => (false, 0),
        }
    }

    /// As asked for; `text` for people.
    pub(super) fn say(&self, scope: &Scope, output: Output, text: &str) -> Result<String, Failure> {
        say(&self.json(&scope.keys.scope), output, || text.to_owned())
    }

    /// After it was made.
    pub(super) fn made(&self) -> String {
        let Ok(schedule) = &self.schedule else { return self.status() };
        let who = "executed by any sidecar whose user of redis may write, or by `tidegate flags schedule run`";
        if schedule.state.over() { self.status() } else { format!("{}{who}\n", self.status()) }
    }

    /// How it stands.
    pub(super) fn status(&self) -> String {
        let id = &self.id;
        let schedule = match &self.schedule {
            Ok(schedule) => schedule,
            Err(why) => return format!("{id} is not a schedule: {why}\n"),
        };
        let mut text = format!("{}: {}, {}\n", schedule.key, schedule.describe(), self.state());
        if let Plan::Rollout(rollout) = &schedule.plan
            && schedule.done > 0
            && !schedule.state.over()
        {
            let (share, done, steps) = (rollout.share(schedule.done), schedule.done, schedule.steps());
            text.push_str(&format!("now at {share}, step {done}/{steps}\n"));
        }
        if let Some(due) = schedule.next_due() {
            text.push_str(&format!("next {}", self.ahead(due)));
            if schedule.steps() > schedule.done + 1 {
                text.push_str(&format!(", last {}", self.ahead(schedule.end())));
            }
            text.push('\n');
        }
        let note = if schedule.note.is_empty() { String::new() } else { format!(": {}", schedule.note) };
        text.push_str(&format!("schedule {id} by {}{note}\n", schedule.author));
        if !self.holder.is_empty() && schedule.state.active() {
            text.push_str(&format!("executed by {}\n", self.holder));
        }
        text
    }

    /// One line of progress.
    pub(super) fn progress(&self) -> String {
        let Ok(schedule) = &self.schedule else { return self.status() };
        let share = match &schedule.plan {
            Plan::Rollout(rollout) if schedule.done > 0 => {
                format!(" {} at {},", rollout.variant, rollout.share(schedule.done))
            }
            _ => String::new(),
        };
        let mut text = format!("{}:{share} step {}/{}", schedule.key, schedule.done, schedule.steps());
        match schedule.next_due() {
            Some(due) => text.push_str(&format!(", next {}", self.ahead(due))),
            None => text.push_str(&format!(", {}", self.state())),
        }
        text
    }

    pub(super) fn json(&self, scope: &str) -> Value {
        let schedule = match &self.schedule {
            Ok(schedule) => schedule,
            Err(why) => return json!({ "scope": scope, "id": self.id, "state": "corrupt", "reason": why }),
        };
        let at = |millis: u64| moment(Some(time(millis)));
        let mut value = json!({
            "scope": scope, "id": self.id, "key": schedule.key, "state": schedule.state.name(),
            "reason": schedule.reason, "done": schedule.done, "steps": schedule.steps(),
            "next": schedule.next_due().map(at), "start": at(schedule.start), "end": at(schedule.end()),
            "author": schedule.author, "note": schedule.note, "created": at(schedule.created_at),
            "changed": at(schedule.changed_at), "what": schedule.describe(),
        });
        match &schedule.plan {
            Plan::Rollout(rollout) => {
                value["kind"] = "rollout".into();
                value["variant"] = rollout.variant.clone().into();
                value["from"] = rollout.from.to_string().into();
                value["to"] = rollout.to.to_string().into();
                value["share"] = (schedule.done > 0).then(|| rollout.share(schedule.done).to_string()).into();
            }
            Plan::Change(action) => {
                value["kind"] = "change".into();
                value["action"] = action.name().into();
            }
        }
        value
    }

    fn row(&self) -> [String; 8] {
        let schedule = match &self.schedule {
            Ok(schedule) => schedule,
            Err(why) => {
                let [a, b, c, d, e] = <[String; 5]>::default();
                return [self.id.clone(), a, "CORRUPT".to_owned(), b, c, d, e, why.clone()];
            }
        };
        let step = format!("{}/{}", schedule.done, schedule.steps());
        let next = schedule.next_due().map(|due| moment(Some(time(due)))).unwrap_or_default();
        let why = schedule.reason.clone().unwrap_or_else(|| schedule.note.clone());
        [
            self.id.clone(),
            schedule.key.clone(),
            schedule.state.name().to_owned(),
            schedule.describe(),
            step,
            next,
            schedule.author.clone(),
            why,
        ]
    }

    fn state(&self) -> String {
        match &self.schedule {
            Ok(schedule) => match &schedule.reason {
                Some(why) => format!("{}: {why}", schedule.state.name()),
                None => schedule.state.name().to_owned(),
            },
            Err(_) => "corrupt".to_owned(),
        }
    }

    /// A moment ahead, and how far.
    fn ahead(&self, at: u64) -> String {
        let seconds = at.saturating_sub(self.now).div_ceil(1000);
        let wait = humantime::format_duration(Duration::from_secs(seconds));
        format!("{} (in {wait})", moment(Some(time(at))))
    }
}

/// All of them, and who executes them.
pub(super) fn table(told: &[Told], holder: Option<&str>, scope: &str) -> String {
    if told.is_empty() {
        return format!("scope {scope} has no schedules\n");
    }
    let header = ["ID", "KEY", "STATE", "WHAT", "STEP", "NEXT", "BY", "WHY"];
    let mut text = rows(header, told.iter().map(Told::row));
    let active = told.iter().any(|told| told.schedule.as_ref().is_ok_and(|schedule| schedule.state.active()));
    match holder {
        Some(holder) if active => text.push_str(&format!("executed by {holder}\n")),
        None if active => text.push_str(
            "nobody executes them at the moment: a sidecar does whose user of redis may write, and `tidegate flags schedule run`\n",
        ),
        _ => {}
    }
    text
}

fn time(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}
