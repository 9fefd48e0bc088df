//! A schedule: what it will do when, how far it is, and what comes next. Pure; the clock is that of Redis, in
//! milliseconds since the epoch.

use serde::{Deserialize, Serialize};

use super::super::model::Evaluators;
use super::change::{Action, Impossible, valid};
use super::share::{Share, with_share};

/// The most steps of a rollout.
pub const MAX_STEPS: u32 = 1000;
/// No moment of a schedule lies beyond it: the year 275 760, as in ECMAScript. Sums of two fit.
const MAX_MOMENT: u64 = 8_640_000_000_000_000;

/// A schedule as it is kept, apart from its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Rises with everything that happens to it.
    pub version: u64,
    /// The flag.
    pub key: String,
    /// What is done.
    pub plan: Plan,
    /// Which state of the flag it was made for: the token that the scripts make of the flag. Writes of schedules
    /// carry it on, everybody else's change it.
    pub base: String,
    /// Who made it.
    pub author: String,
    /// Why, for the log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// When it was made.
    pub created_at: u64,
    /// When its first step is due.
    pub start: u64,
    /// Steps that need not be done any more.
    pub done: u32,
    /// How it stands.
    pub state: State,
    /// Why it stands so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it last changed.
    pub changed_at: u64,
}

/// What a schedule does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plan {
    /// A variant's share goes from one to another.
    Rollout(Rollout),
    /// One change.
    Change(Action),
}

/// A share on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Whose.
    pub variant: String,
    /// At the first step.
    pub from: Share,
    /// At the last.
    pub to: Share,
    /// Milliseconds from the first step to the last.
    pub over: u64,
    /// How many there are, first and last included.
    pub steps: u32,
}

/// How a schedule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing was done yet.
    Waiting,
    /// Some steps were done.
    Running,
    /// Until somebody resumes it: asked for, or because somebody else changed the flag.
    Paused,
    /// All was done.
    Done,
    /// Somebody wants no more of it.
    Cancelled,
    /// It could not go on.
    Failed,
}

impl State {
    /// All there are.
    pub const ALL: [Self; 6] = [Self::Waiting, Self::Running, Self::Paused, Self::Done, Self::Cancelled, Self::Failed];

    /// The name in Redis, tables and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// Whether steps are still done at their time.
    pub fn active(self) -> bool {
        matches!(self, Self::Waiting | Self::Running)
    }

    /// Whether it will never do anything again.
    pub fn over(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Failed)
    }
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing, ever, unless somebody resumes it.
    Nothing,
    /// The next step is due then.
    Wait(u64),
    /// This step. Those before it that were not done are left out: after an outage a rollout goes on where it would
    /// be, in one step.
    Step(u32),
}

impl Schedule {
    /// Reads an entry; what others wrote may be anything.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let schedule: Self = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if schedule.start > MAX_MOMENT || schedule.created_at > MAX_MOMENT || schedule.changed_at > MAX_MOMENT {
            return Err("a time is beyond the end of time".to_owned());
        }
        if let Plan::Rollout(rollout) = &schedule.plan
            && (!(1..=MAX_STEPS).contains(&rollout.steps) || rollout.over > MAX_MOMENT / u64::from(MAX_STEPS))
        {
            return Err(format!("{} steps over {} ms", rollout.steps, rollout.over));
        }
        Ok(schedule)
    }

    /// For Redis.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always serialise")
    }

    /// How many steps it has.
    pub fn steps(&self) -> u32 {
        match &self.plan {
            Plan::Rollout(rollout) => rollout.steps,
            Plan::Change(_) => 1,
        }
    }

    /// When step `step` is due, 1 being the first.
    pub fn due(&self, step: u32) -> u64 {
        let after = match &self.plan {
            Plan::Rollout(Rollout { over, steps, .. }) => {
                over * u64::from(step.saturating_sub(1)) / u64::from(steps.saturating_sub(1).max(1))
            }
            Plan::Change(_) => 0,
        };
        self.start + after
    }

    /// When the next step is due; none when it is paused or over.
    pub fn next_due(&self) -> Option<u64> {
        (self.state.active() && self.done < self.steps()).then(|| self.due(self.done + 1))
    }

    /// When the last step is due.
    pub fn end(&self) -> u64 {
        self.due(self.steps())
    }

    /// What is to be done at `now`.
    pub fn next(&self, now: u64) -> Next {
        let Some(due) = self.next_due() else { return Next::Nothing };
        if due > now {
            return Next::Wait(due);
        }
        let step = (self.done + 1..=self.steps()).rev().find(|step| self.due(*step) <= now);
        Next::Step(step.unwrap_or(self.done + 1))
    }

    /// The definition after step `step`, made of the one in place.
    ///
    /// # Errors
    /// It cannot be made of it.
    pub fn edit(&self, step: u32, definition: Option<&str>, evaluators: &Evaluators) -> Result<String, Impossible> {
        match &self.plan {
            Plan::Change(action) => action.apply(&self.key, definition, evaluators),
            Plan::Rollout(rollout) => {
                let there = definition.ok_or_else(|| Impossible::Absent(self.key.clone()))?;
                let edited = with_share(there, &rollout.variant, rollout.share(step))?;
                valid(&self.key, edited, evaluators)
            }
        }
    }

    /// Itself after step `step` was done.
    pub fn after(&self, step: u32, now: u64) -> Self {
        let state = if step >= self.steps() { State::Done } else { State::Running };
        Self { done: step, ..self.turned(state, None, now) }
    }

    /// Itself in another state.
    pub fn turned(&self, state: State, reason: Option<String>, now: u64) -> Self {
        Self { version: self.version + 1, state, reason, changed_at: now, ..self.clone() }
    }

    /// Itself going on, from the flag as it is now. A rollout that had begun goes on for as long as it was to go; what
    /// had not begun begins at its time, or now when that has passed.
    pub fn resumed(&self, base: String, now: u64) -> Self {
        let state = if self.done == 0 { State::Waiting } else { State::Running };
        let mut resumed = Self { base, ..self.turned(state, None, now) };
        if self.done > 0 {
            resumed.start = self.start.saturating_add(now.saturating_sub(self.changed_at)).min(MAX_MOMENT);
        }
        let due = resumed.due(resumed.done + 1);
        resumed.start = (resumed.start + now.saturating_sub(due)).min(MAX_MOMENT);
        resumed
    }

    /// Who wrote, for the audit log.
    pub fn actor(&self, id: &str, step: u32) -> String {
        format!("schedule {id} ({}) step {step}/{}", self.author, self.steps())
    }

    /// Why, for the audit log.
    pub fn because(&self, step: u32) -> String {
        let what = match &self.plan {
            Plan::Rollout(rollout) => format!("{} at {}", rollout.variant, rollout.share(step)),
            Plan::Change(action) => action.name().to_owned(),
        };
        let left_out = match step - self.done {
            0 | 1 => String::new(),
            2 => format!(", step {} left out", step - 1),
            _ => format!(", steps {} to {} left out", self.done + 1, step - 1),
        };
        let why = if self.note.is_empty() { String::new() } else { format!(": {}", self.note) };
        format!("{what}{left_out}{why}")
    }

    /// What it does, for people.
    pub fn describe(&self) -> String {
        match &self.plan {
            Plan::Rollout(Rollout { variant, to, steps: 1, .. }) => format!("{variant} at {to}"),
            Plan::Rollout(Rollout { variant, from, to, steps, .. }) => {
                format!("{variant} {from} → {to} in {steps} steps")
            }
            Plan::Change(action) => action.name().to_owned(),
        }
    }
}

impl Rollout {
    /// The share from step `step` on.
    pub fn share(&self, step: u32) -> Share {
        Share::between(self.from, self.to, step, self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(steps: u32) -> Schedule {
        let share = |text: &str| text.parse().expect(text);
        let rollout = Rollout { variant: "on".to_owned(), from: share("0%"), to: share("40%"), over: 4000, steps };
        Schedule {
            version: 1,
            key: "f".to_owned(),
            plan: Plan::Rollout(rollout),
            base: "b".to_owned(),
            author: "ann@laptop".to_owned(),
            note: String::new(),
            created_at: 500,
            start: 1000,
            done: 0,
            state: State::Waiting,
            reason: None,
            changed_at: 500,
        }
    }

    #[test]
    fn steps_are_due_in_equal_distances_and_late_ones_are_left_out() {
        let schedule = rollout(5);
        assert_eq!((1..=5).map(|step| schedule.due(step)).collect::<Vec<_>>(), [1000, 2000, 3000, 4000, 5000]);
        for (done, now, expected) in [
            (0, 0, Next::Wait(1000)),
            (0, 999, Next::Wait(1000)),
            (0, 1000, Next::Step(1)),
            (0, 3999, Next::Step(3)),
            (1, 1500, Next::Wait(2000)),
            (3, 9999, Next::Step(5)),
            (5, 9999, Next::Nothing),
        ] {
            let schedule = Schedule { done, ..schedule.clone() };
            assert_eq!(schedule.next(now), expected, "{done} done at {now}");
        }
        for state in [State::Paused, State::Done, State::Cancelled, State::Failed] {
            assert_eq!(schedule.turned(state, None, 0).next(u64::MAX), Next::Nothing, "{state:?}");
        }
        let (first, last) = (schedule.after(1, 1001), schedule.after(5, 5001));
        assert_eq!((first.version, first.done, first.state, first.changed_at), (2, 1, State::Running, 1001));
        assert_eq!((last.done, last.state), (5, State::Done));
        assert_eq!(rollout(1).next(1000), Next::Step(1));
    }

    #[test]
    fn what_is_resumed_goes_on_for_as_long_as_was_left() {
        let paused = rollout(5).after(2, 2000).turned(State::Paused, None, 2500);
        let resumed = paused.resumed("c".to_owned(), 12_500);
        assert_eq!((resumed.due(3), resumed.end(), resumed.state), (13_000, 15_000, State::Running));
        assert_eq!((resumed.base.as_str(), resumed.version), ("c", 4));
        // A conflict is found when the step is due already: it is due at once again.
        let paused = rollout(5).after(2, 2000).turned(State::Paused, None, 3001);
        assert_eq!(paused.resumed("c".to_owned(), 3002).next(3002), Next::Step(3));
        // What has not begun keeps its time, unless it has passed.
        let paused = rollout(5).turned(State::Paused, None, 600);
        assert_eq!(paused.resumed("c".to_owned(), 900).next_due(), Some(1000));
        let resumed = paused.resumed("c".to_owned(), 4000);
        assert_eq!((resumed.next(4000), resumed.end()), (Next::Step(1), 8000));
    }

    #[test]
    fn the_log_names_schedule_author_step_and_what_was_left_out() {
        let schedule = Schedule { note: "launch".to_owned(), ..rollout(5) };
        assert_eq!(schedule.actor("7f3a", 3), "schedule 7f3a (ann@laptop) step 3/5");
        assert_eq!(schedule.because(1), "on at 0%: launch");
        assert_eq!(schedule.because(2), "on at 10%, step 1 left out: launch");
        assert_eq!(schedule.because(5), "on at 40%, steps 1 to 4 left out: launch");
        assert_eq!(schedule.describe(), "on 0% → 40% in 5 steps");
    }

    #[test]
    fn what_is_kept_is_what_is_read_and_nonsense_is_refused() {
        let schedule = rollout(5);
        assert_eq!(Schedule::parse(&schedule.text()), Ok(schedule.clone()));
        let change = Schedule { plan: Plan::Change(Action::Set("{}".to_owned())), ..schedule.clone() };
        assert_eq!(Schedule::parse(&change.text()), Ok(change));
        let text = schedule.text();
        for (from, to) in [
            ("\"steps\":5", "\"steps\":0"),
            ("\"steps\":5", "\"steps\":100000"),
            ("\"over\":4000", "\"over\":18446744073709551615"),
            ("\"start\":1000", "\"start\":18446744073709551615"),
            ("40%", "140%"),
            ("waiting", "elsewhere"),
            ("rollout", "rolled"),
        ] {
            assert!(text.contains(from), "{from} in {text}");
            assert!(Schedule::parse(&text.replace(from, to)).is_err(), "{to}");
        }
        assert!(Schedule::parse("").is_err() && Schedule::parse("[]").is_err());
        let late = Schedule { done: u32::MAX, version: u64::MAX - 1, ..schedule };
        assert_eq!(late.next(u64::MAX), Next::Nothing);
    }
}
