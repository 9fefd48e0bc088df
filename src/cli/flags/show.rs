//! Looking at flags: `ls`, `get`, `log`.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::answer::{definition, moment, rows, say};
use super::unused::Evaluated;
use super::{Failure, Output, Scope};
use crate::flags::compile;
use crate::flags::contract::{Entry, Lost, Unreadable, last_writes, one, read, walk};
use crate::flags::document::yaml;
use crate::flags::model::{Evaluators, Flag};

/// Characters of a definition that a line of the log shows.
const SHOWN: usize = 60;
/// Entries of the log that are shown unless more are asked for.
const USUAL: usize = 20;

/// Every flag of the scope. One that does not validate is listed with what is wrong: the sidecars refuse the scope
/// because of it.
/// `unused` keeps those that nobody evaluated for so long.
pub(super) async fn list(scope: &mut Scope, unused: Option<Duration>, output: Output) -> Result<String, Failure> {
    let remote = match read(&mut scope.connection, &scope.keys).await {
        Ok(remote) => remote,
        Err(Unreadable::Absent) => return say(&json!([]), output, || empty(&scope.keys.scope)),
        Err(Unreadable::Malformed(why)) => return Err(Failure::failed(format!("the scope cannot be read: {why}"))),
        Err(Unreadable::Redis(error)) => return Err(scope.failed(&error)),
    };
    let last = last_writes(&mut scope.connection, &scope.keys).await.map_err(|e| scope.failed(&e))?;
    let last: HashMap<String, Lost> = last.into_iter().collect();
    let evaluators = evaluators(remote.evaluators.as_deref())?;
    let evaluated = Evaluated::read(scope).await?;
    let unused = match unused {
        Some(age) => Some(evaluated.since(scope, age).await?),
        None => None,
    };
    let mut flags = remote.flags;
    flags.sort();
    let none = flags.is_empty();
    flags.retain(|(key, _)| {
        unused.is_none_or(|since| evaluated.unused(key, last.get(key).and_then(|write| write.at), since))
    });
    let described: Vec<Described> = flags
        .iter()
        .map(|(key, definition)| Described::new(key, definition, &evaluators, last.get(key), evaluated.of(key)))
        .collect();
    let value = described.iter().map(Described::json).collect();
    say(&value, output, || match described.as_slice() {
        [] if none => empty(&scope.keys.scope),
        [] => "every flag was evaluated since then, or written\n".to_owned(),
        described => {
            let header = ["KEY", "STATE", "DEFAULT", "VARIANTS", "TARGETING", "REV", "WRITTEN", "BY", "LAST EVALUATED"];
            rows(header, described.iter().map(Described::row))
        }
    })
}

/// One definition, as it was written.
pub(super) async fn get(scope: &mut Scope, key: &str, output: Output) -> Result<String, Failure> {
    let found = one(&mut scope.connection, &scope.keys, key).await.map_err(|e| scope.failed(&e))?;
    let Some(definition) = found.definition else { return Err(unknown(scope, key)) };
    match output {
        // A definition is JSON for people too, and passing it through a value would rewrite its numbers.
        Output::Table | Output::Json => Ok(definition + "\n"),
        Output::Yaml => yaml(&definition).map_err(|e| Failure::failed(e.to_string())),
    }
}

/// Which entries of the log are shown.
pub(super) struct Filter<'a> {
    pub(super) key: Option<&'a String>,
    pub(super) since: Option<SystemTime>,
    /// 20, or with `since` all.
    pub(super) number: Option<u32>,
}

/// A moment by its distance from now, or by itself.
pub(super) fn since(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return SystemTime::now().checked_sub(ago).ok_or_else(|| "that is before time began".to_owned());
    }
    humantime::parse_rfc3339_weak(text).map_err(|_| "write 2h, 3days or 2026-11-22T10:00:00Z".to_owned())
}

/// The entries that a filter lets through, newest first.
pub(super) async fn entries(scope: &mut Scope, filter: &Filter<'_>) -> Result<Vec<Entry>, Failure> {
    let mut found = Vec::new();
    let most = filter.number.map_or(if filter.since.is_some() { usize::MAX } else { USUAL }, |number| number as usize);
    let Scope { connection, keys, .. } = scope;
    let walked = walk(connection, keys, |entry| {
        let early = filter.since.is_some_and(|since| entry.at.is_some_and(|at| at < since));
        if early || found.len() == most {
            return ControlFlow::Break(());
        }
        if filter.key.is_none_or(|key| entry.key == *key) {
            found.push(entry);
        }
        ControlFlow::Continue(())
    });
    walked.await.map_err(|e| scope.failed(&e))?;
    Ok(found)
}

/// The audit log, newest first.
pub(super) async fn log(scope: &mut Scope, filter: &Filter<'_>, output: Output) -> Result<String, Failure> {
    let log = entries(scope, filter).await?;
    let value = log.iter().map(entry_json).collect();
    say(&value, output, || {
        if log.is_empty() {
            return "no entries\n".to_owned();
        }
        let row = |entry: &Entry| {
            let after = if entry.after.is_empty() { &entry.before } else { &entry.after };
            [
                entry.rev.to_string(),
                moment(entry.at),
                entry.actor.clone(),
                entry.op.clone(),
                entry.key.clone(),
                entry.note.clone(),
                cut(after),
            ]
        };
        rows(["REV", "AT", "BY", "OP", "KEY", "NOTE", "DEFINITION"], log.iter().map(row))
    })
}

/// An entry of the log for programs.
pub(super) fn entry_json(entry: &Entry) -> Value {
    json!({
        "rev": entry.rev, "at": moment(entry.at), "actor": entry.actor, "op": entry.op, "key": entry.key,
        "before": definition(&entry.before), "after": definition(&entry.after), "note": entry.note,
    })
}

/// The scope's shared rules, which a definition is checked with.
pub(super) fn evaluators(json: Option<&str>) -> Result<Evaluators, Failure> {
    let Some(json) = json else { return Ok(Evaluators::default()) };
    compile::evaluators(json).map_err(|e| Failure::failed(format!("the scope's evaluators do not validate: {e}")))
}

/// There is no such flag.
pub(super) fn unknown(scope: &Scope, key: &str) -> Failure {
    let scope = &scope.keys.scope;
    Failure::failed(format!(
        "there is no flag {key:?} in scope {scope}; `tidegate flags ls --scope {scope}` lists them"
    ))
}

/// A flag, or why it is none.
struct Described<'a> {
    key: &'a str,
    flag: Result<Flag, String>,
    last: Option<&'a Lost>,
    /// When it was last evaluated, for people and for programs.
    evaluated: (String, Value),
}

impl<'a> Described<'a> {
    fn new(
        key: &'a str,
        definition: &str,
        evaluators: &Evaluators,
        last: Option<&'a Lost>,
        evaluated: (String, Value),
    ) -> Self {
        let flag = compile::flag(key, definition, evaluators).map_err(|e| e.to_string().replace('\n', "; "));
        Self { key, flag, last, evaluated }
    }

    fn row(&self) -> [String; 9] {
        let (state, default, variants, targeting) = match &self.flag {
            Ok(flag) => (
                state(flag).to_owned(),
                flag.default_variant().map_or("-", |variant| variant.name()).to_owned(),
                flag.variants()
                    .iter()
                    .map(|v| format!("{}={}", v.name(), cut(v.value_json())))
                    .collect::<Vec<_>>()
                    .join(" "),
                if flag.targeted() { "yes" } else { "no" }.to_owned(),
            ),
            Err(why) => ("INVALID".to_owned(), String::new(), why.clone(), String::new()),
        };
        let (rev, at, by) = match self.last {
            Some(last) => (last.rev.to_string(), moment(last.at), last.actor.clone()),
            None => Default::default(),
        };
        let evaluated = self.evaluated.0.clone();
        [self.key.to_owned(), state, default, variants, targeting, rev, at, by, evaluated]
    }

    fn json(&self) -> Value {
        let mut value = match &self.flag {
            Ok(flag) => json!({
                "state": state(flag),
                "default": flag.default_variant().map(|variant| variant.name()),
                "variants": flag.variants().iter().map(|v| (v.name().to_owned(), definition(v.value_json()))).collect::<serde_json::Map<_, _>>(),
                "targeting": flag.targeted(),
            }),
            Err(why) => json!({ "state": "INVALID", "error": why }),
        };
        value["key"] = self.key.into();
        value["last_evaluated"] = self.evaluated.1.clone();
        if let Some(last) = self.last {
            value["rev"] = last.rev.into();
            value["at"] = moment(last.at).into();
            value["actor"] = last.actor.clone().into();
        }
        value
    }
}

fn state(flag: &Flag) -> &'static str {
    if flag.enabled() { "ENABLED" } else { "DISABLED" }
}

fn empty(scope: &str) -> String {
    format!("scope {scope} has no flags\n")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
