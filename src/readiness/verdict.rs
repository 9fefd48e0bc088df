//! The thinking behind `/readyz`: when a check turns, when a result is too old, and what all of them together say.
//! Does no IO and takes `now` as an argument.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use tokio::time::Instant;

use crate::readiness::brake::Braking;
use crate::readiness::settings::Class;

/// What the attempts at a check so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Too few results to say anything: not ready.
    Pending,
    /// Passing.
    Ok,
    /// Failing.
    Failed,
}

impl State {
    /// The name in log fields.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }
}

/// Results in a row that turn a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Successes that turn it to ok.
    pub rise: u32,
    /// Failures that turn a passing one to failed. One that never passed fails at once: nothing is said to be ready
    /// by default.
    pub fall: u32,
}

/// A check's state with what the next result has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    state: State,
    /// Results in a row that speak against the state.
    against: u32,
    /// Of the latest failure.
    reason: Arc<str>,
    /// When the latest attempt ended.
    finished: Option<Instant>,
    /// Whether it was ever ok.
    proven: bool,
}

impl Health {
    /// Before the first result.
    pub fn pending() -> Self {
        Self { state: State::Pending, against: 0, reason: Arc::from(""), finished: None, proven: false }
    }

    /// What the attempts so far amount to, however old they are.
    pub fn state(&self) -> State {
        self.state
    }

    /// When the latest attempt ended.
    pub fn finished(&self) -> Option<Instant> {
        self.finished
    }

    /// The health after one more result, which came in at `now`.
    #[must_use]
    pub fn after(&self, result: Result<(), &str>, thresholds: Thresholds, now: Instant) -> Self {
        let (state, against) = match (self.state, result) {
            (State::Ok, Ok(())) | (State::Failed, Err(_)) => (self.state, 0),
            (State::Pending, Err(_)) => (State::Failed, 0),
            (State::Pending | State::Failed, Ok(())) if self.against + 1 >= thresholds.rise => (State::Ok, 0),
            (State::Ok, Err(_)) if self.against + 1 >= thresholds.fall => (State::Failed, 0),
            (state, _) => (state, self.against + 1),
        };
        let reason = result.err().map_or_else(|| self.reason.clone(), Arc::from);
        Self { state, against, reason, finished: Some(now), proven: self.proven || state == State::Ok }
    }

    /// Whether its latest attempt failed, or it has not recovered yet from those before: what is about to turn it counts
    /// before it does.
    pub fn fails(&self) -> bool {
        match self.state {
            State::Failed => true,
            State::Ok => self.against > 0,
            State::Pending => false,
        }
    }

    /// Whether it ever passed.
    pub fn proven(&self) -> bool {
        self.proven
    }

    /// What is said about it at `now`.
    pub fn standing(&self, max_staleness: Duration, now: Instant) -> Standing {
        match (self.state, self.finished) {
            (_, Some(finished)) if now.saturating_duration_since(finished) > max_staleness => {
                Standing::Stale(now.saturating_duration_since(finished))
            }
            (State::Ok, _) => Standing::Ok,
            (State::Failed, _) => Standing::Failed(self.reason.clone()),
            (State::Pending, _) => Standing::Pending,
        }
    }
}

/// What is said about a check or a condition at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It passes.
    Ok,
    /// No result yet, or too few.
    Pending,
    /// It fails, and why.
    Failed(Arc<str>),
    /// Its latest result is this old, which is too old to be believed.
    Stale(Duration),
    /// It passes again after an outage of many, who do not all come back at once.
    Returning,
    /// The caller asked to leave it out.
    Excluded,
}

impl Standing {
    /// The word in the body's `checks`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Pending => "pending",
            Self::Failed(_) => "failed",
            Self::Stale(_) => "stale",
            Self::Returning => "returning",
            Self::Excluded => "excluded",
        }
    }

    /// Whether it does not stand in the way.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Ok | Self::Excluded)
    }
}

/// The reason, for people.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok | Self::Excluded => f.write_str(self.as_str()),
            Self::Pending => f.write_str("no result yet"),
            Self::Returning => f.write_str("passes again, and waits a little: not all come back at once"),
            Self::Failed(reason) => f.write_str(reason),
            Self::Stale(age) => write!(f, "stale, no result for {}s", age.as_secs()),
        }
    }
}

/// One check or condition within a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its name.
    pub name: Arc<str>,
    /// What its failure means.
    pub class: Class,
    /// Whether it is a configured check, and so listed in the body's `checks`; conditions are named when they fail.
    pub listed: bool,
    /// What is said about it.
    pub standing: Standing,
    /// What the brake does about it.
    pub braking: Braking,
    /// What the brake says, of a check that it may hold for.
    pub brake: Option<Arc<str>>,
}

/// What all checks and conditions together say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Conditions, then checks in the order of their names.
    pub lines: Vec<Line>,
}

impl Verdict {
    /// Whether traffic may come: nothing critical stands in the way.
    pub fn ready(&self) -> bool {
        self.reasons(Class::Critical).next().is_none()
    }

    /// `{"status":"ready","checks":{"db":"ok"}}`, with `error` (what is critical and fails) when not ready and
    /// `degraded` (what fails and does not count against readiness) when there is such a thing. What is of class
    /// `info` shows in `checks` alone. `brake` says what the fleet has to do with it. A `warning` is about the question, not
    /// about what was found.
    pub fn body(&self, warning: Option<&str>) -> Bytes {
        let body = Body {
            status: if self.ready() { "ready" } else { "not ready" },
            error: self.error(),
            degraded: self.joined(Class::Degraded),
            brake: self.brake(),
            warning,
            checks: &self.lines,
        };
        Bytes::from(serde_json::to_vec(&body).expect("strings and a map of strings are always JSON"))
    }

    /// What is critical and fails; none when ready.
    pub fn error(&self) -> Option<String> {
        self.joined(Class::Critical)
    }

    fn reasons(&self, class: Class) -> impl Iterator<Item = String> {
        let failing = self.lines.iter().filter(move |line| line.class == class && !line.standing.passes());
        failing.map(|line| format!("{}: {}", line.name, line.standing))
    }

    fn brake(&self) -> Option<String> {
        let said: Vec<&str> =
            self.lines.iter().filter(|line| !line.standing.passes()).filter_map(|line| line.brake.as_deref()).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    fn joined(&self, class: Class) -> Option<String> {
        let reasons: Vec<_> = self.reasons(class).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// The longest reason, in characters: it stands in a body that load balancers log at every probe.
const LONGEST: usize = 200;

/// A reason that came from elsewhere as one line of bounded length, which no line of another check can be forged in.
pub(super) fn one_line(reason: &str) -> String {
    let words = reason.split(|c: char| c.is_control() || c == ' ').filter(|word| !word.is_empty());
    let mut line = words.collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(cut);
        line.push('…');
    }
    if line.is_empty() {
        line.push_str("no reason given");
    }
    line
}

#[derive(Serialize)]
struct Body<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    brake: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'a str>,
    #[serde(serialize_with = "as_map")]
    checks: &'a [Line],
}

fn as_map<S: Serializer>(lines: &&[Line], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for line in lines.iter().filter(|line| line.listed) {
        map.serialize_entry(&*line.name, line.standing.as_str())?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const DOWN: Result<(), &str> = Err("down");

    /// Results → the states after each of them.
    fn check(rise: u32, fall: u32, results: &[Result<(), &str>], expected: &str) {
        let now = Instant::now();
        let mut health = Health::pending();
        let mut states = String::new();
        for result in results {
            health = health.after(*result, Thresholds { rise, fall }, now);
            states.push(health.state().as_str().chars().next().expect("not empty"));
        }
        assert_eq!(states, expected, "rise {rise}, fall {fall}, {results:?}");
    }

    #[test]
    fn a_check_turns_after_rise_successes_or_fall_failures_in_a_row() {
        const UP: Result<(), &str> = Ok(());
        check(1, 3, &[UP, DOWN, DOWN, UP, DOWN, DOWN, DOWN, DOWN, UP], "ooooooffo");
        check(2, 1, &[UP, UP, DOWN, UP, DOWN, UP, UP], "poffffo");
        check(1, 1, &[DOWN, UP, DOWN], "fof");
        check(0, 0, &[UP, DOWN, UP], "ofo");
    }

    #[test]
    fn a_check_fails_from_its_first_failure_until_it_has_recovered() {
        let (now, thresholds) = (Instant::now(), Thresholds { rise: 2, fall: 3 });
        let mut health = Health::pending();
        let mut said = String::new();
        for result in [Ok(()), Ok(()), DOWN, Ok(()), DOWN, DOWN, DOWN, Ok(()), Ok(())] {
            health = health.after(result, thresholds, now);
            said.push(if health.fails() { 'f' } else { '.' });
        }
        assert_eq!(said, "..f.ffff.");
        assert!(health.proven() && !Health::pending().after(DOWN, thresholds, now).proven());
    }

    #[test]
    fn a_first_failure_fails_at_once_whatever_fall_says() {
        check(1, 100, &[DOWN], "f");
        check(3, 100, &[Ok(()), Ok(()), DOWN], "ppf");
    }

    proptest! {
        /// Enough results of one kind decide, whatever came before; fewer change nothing, but for the first failure.
        #[test]
        fn only_enough_results_in_a_row_turn_a_check(
            rise in 1..5_u32,
            fall in 1..5_u32,
            results in vec(any::<bool>(), 0..40),
        ) {
            let in_a_row = |upto: usize, kind: bool| results[..=upto].iter().rev().take_while(|r| **r == kind).count();
            let mut health = Health::pending();
            for (index, passed) in results.iter().enumerate() {
                let before = health.state();
                let result = if *passed { Ok(()) } else { DOWN };
                health = health.after(result, Thresholds { rise, fall }, Instant::now());
                let expected = match (before, passed) {
                    (_, true) if in_a_row(index, true) >= rise as usize => State::Ok,
                    (_, false) if in_a_row(index, false) >= fall as usize => State::Failed,
                    (State::Pending, false) => State::Failed,
                    _ => before,
                };
                prop_assert_eq!(health.state(), expected);
            }
        }
    }

    #[test]
    fn a_result_that_is_too_old_is_stale_whatever_it_said() {
        let start = Instant::now();
        let limit = Duration::from_secs(16);
        for (result, fresh) in [(Ok(()), Standing::Ok), (DOWN, Standing::Failed("down".into()))] {
            let health = Health::pending().after(result, Thresholds { rise: 1, fall: 1 }, start);
            assert_eq!(health.standing(limit, start), fresh);
            assert_eq!(health.standing(limit, start + limit), fresh);
            let late = health.standing(limit, start + limit + Duration::from_millis(1));
            assert!(matches!(late, Standing::Stale(_)) && !late.passes(), "{late:?}");
            assert_eq!(late.to_string(), "stale, no result for 16s");
        }
    }

    #[test]
    fn a_reason_is_one_line_of_bounded_length() {
        for (text, expected) in [
            ("a\r\n[+]forged ok\n", "a [+]forged ok"),
            ("  spaced \t out ", "spaced out"),
            ("", "no reason given"),
            ("\u{1b}[31mred", "[31mred"),
        ] {
            assert_eq!(one_line(text), expected);
        }
        let long = one_line(&"ä".repeat(1000));
        assert_eq!(long.chars().count(), LONGEST + 1);
    }

    fn line(name: &str, class: Class, standing: Standing) -> Line {
        Line { name: name.into(), class, listed: name != "lifecycle", standing, braking: Braking::Off, brake: None }
    }

    #[test]
    fn the_body_says_what_fails_and_what_that_means() {
        let down = || Standing::Failed("connection refused".into());
        let table = [
            (vec![], r#"{"status":"ready","checks":{}}"#),
            (
                vec![line("db", Class::Critical, Standing::Ok), line("redis", Class::Critical, Standing::Ok)],
                r#"{"status":"ready","checks":{"db":"ok","redis":"ok"}}"#,
            ),
            (
                vec![line("db", Class::Critical, down()), line("redis", Class::Critical, Standing::Pending)],
                r#"{"status":"not ready","error":"db: connection refused; redis: no result yet","checks":{"db":"failed","redis":"pending"}}"#,
            ),
            (
                vec![line("db", Class::Degraded, down()), line("x", Class::Info, down())],
                r#"{"status":"ready","degraded":"db: connection refused","checks":{"db":"failed","x":"failed"}}"#,
            ),
            (
                vec![line("lifecycle", Class::Critical, Standing::Failed("shutting down".into()))],
                r#"{"status":"not ready","error":"lifecycle: shutting down","checks":{}}"#,
            ),
            (
                vec![line("a", Class::Critical, Standing::Failed("said \"no\"\n".into()))],
                r#"{"status":"not ready","error":"a: said \"no\"\n","checks":{"a":"failed"}}"#,
            ),
            (
                vec![
                    Line {
                        brake: Some("db failing on 7 of 8 instances".into()),
                        ..line("db", Class::Degraded, down())
                    },
                    Line {
                        brake: Some("off, x failing on 1 of 8 instances".into()),
                        ..line("x", Class::Critical, down())
                    },
                ],
                r#"{"status":"not ready","error":"x: connection refused","degraded":"db: connection refused","brake":"db failing on 7 of 8 instances; off, x failing on 1 of 8 instances","checks":{"db":"failed","x":"failed"}}"#,
            ),
            (vec![line("a", Class::Critical, Standing::Excluded)], r#"{"status":"ready","checks":{"a":"excluded"}}"#),
        ];
        for (lines, expected) in table {
            assert_eq!(Verdict { lines }.body(None), expected);
        }
    }
}
