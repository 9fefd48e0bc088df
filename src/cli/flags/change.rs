//! Changing flags: `set`, `on`, `off`, `enable`, `disable`, `rm`. A definition that does not validate is refused here,
//! before any sidecar has to.

use std::fs::File;
use std::io::{self, Read};
use std::time::SystemTime;

use serde_json::json;

use super::answer::say;
use super::show::{evaluators, unknown};
use super::{Failure, Output, Scope, Write};
use crate::flags::compile::{self, Format, MAX_DOCUMENT};
use crate::flags::contract::{Change, Lost, One, Op, Place, WriteError, one, with_member, write};
use crate::flags::document::{Document, guess};
use crate::flags::model::Flag;

/// The text of a DEFINITION argument: itself, `@FILE` or `-`.
pub(super) fn read(argument: &str) -> Result<String, Failure> {
    let (source, name): (Box<dyn Read>, &str) = match argument.strip_prefix('@') {
        Some(path) => match File::open(path) {
            Ok(file) => (Box::new(file), path),
            Err(e) => return Err(Failure::usage(format!("{path}: {e}"))),
        },
        None if argument == "-" => (Box::new(io::stdin()), "standard input"),
        None => return Ok(argument.to_owned()),
    };
    let mut text = String::new();
    // One byte more than is taken, so that the compiler says that it is too large.
    match source.take(MAX_DOCUMENT as u64 + 1).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(e) => Err(Failure::usage(format!("{name}: {e}"))),
    }
}

/// Writes a whole definition.
pub(super) async fn set(
    scope: &mut Scope,
    key: &str,
    definition: &str,
    create: bool,
    options: &Write,
    output: Output,
) -> Result<String, Failure> {
    let found = find(scope, key).await?;
    let definition = json(key, definition)?;
    // As the compiler understood it: without white space, and with nothing it did not see.
    let flag = check(key, &definition, &found)?;
    let op = op(key, Some(flag.definition().to_owned()), options.if_rev);
    put(scope, op, create, options, output).await
}

/// Makes the variant whose value is `on` the default one.
pub(super) async fn turn(
    scope: &mut Scope,
    key: &str,
    on: bool,
    options: &Write,
    output: Output,
) -> Result<String, Failure> {
    let (found, flag) = existing(scope, key).await?;
    let value = if on { "true" } else { "false" };
    let Some(variant) = flag.variants().iter().find(|variant| variant.value_json() == value) else {
        let names: Vec<&str> = flag.variants().iter().map(|variant| variant.name()).collect();
        return Err(Failure::failed(format!(
            "no variant of {key:?} is {value}, they are {}; choose one with `tidegate flags set`",
            names.join(", ")
        )));
    };
    let name = serde_json::to_string(variant.name()).map_err(|e| Failure::failed(e.to_string()))?;
    let edited = edit(flag.definition(), "defaultVariant", &name)?;
    let mut said = put_changed(scope, key, &found, &flag, edited, options, output).await?;
    if output == Output::Table {
        if !flag.enabled() {
            said.push_str(&format!(
                "{key} is DISABLED: applications use their own defaults until `flags enable {key}`\n"
            ));
        } else if flag.targeted() {
            said.push_str(&format!("{key} has targeting, which decides where it matches\n"));
        }
    }
    Ok(said)
}

/// Sets `state`.
pub(super) async fn state(
    scope: &mut Scope,
    key: &str,
    state: &str,
    options: &Write,
    output: Output,
) -> Result<String, Failure> {
    let (found, flag) = existing(scope, key).await?;
    let edited = edit(flag.definition(), "state", &format!("\"{state}\""))?;
    put_changed(scope, key, &found, &flag, edited, options, output).await
}

/// Removes the flag.
pub(super) async fn remove(scope: &mut Scope, key: &str, options: &Write, output: Output) -> Result<String, Failure> {
    put(scope, op(key, None, options.if_rev), false, options, output).await
}

/// The JSON of a definition that may be YAML too.
fn json(key: &str, text: &str) -> Result<String, Failure> {
    match guess(text) {
        Format::Json => Ok(text.to_owned()),
        Format::Yaml => Document::definition(text, Format::Yaml)
            .map_err(|e| Failure::usage(format!("the definition of {key:?} does not validate:\n{e}"))),
    }
}

async fn find(scope: &mut Scope, key: &str) -> Result<One, Failure> {
    one(&mut scope.connection, &scope.keys, key).await.map_err(|e| scope.failed(&e))
}

async fn existing(scope: &mut Scope, key: &str) -> Result<(One, Flag), Failure> {
    let found = find(scope, key).await?;
    let Some(definition) = &found.definition else { return Err(unknown(scope, key)) };
    let flag = check(key, definition, &found)?;
    Ok((found, flag))
}

fn check(key: &str, definition: &str, found: &One) -> Result<Flag, Failure> {
    let evaluators = evaluators(found.evaluators.as_deref())?;
    compile::flag(key, definition, &evaluators)
        .map_err(|e| Failure::usage(format!("the definition of {key:?} does not validate:\n{e}")))
}

fn edit(definition: &str, member: &str, value: &str) -> Result<String, Failure> {
    with_member(definition, member, value).map_err(|e| Failure::failed(format!("the definition is not JSON: {e}")))
}

/// Writes an edit of what was read, unless it changes nothing or somebody else wrote in between.
async fn put_changed(
    scope: &mut Scope,
    key: &str,
    found: &One,
    flag: &Flag,
    edited: String,
    options: &Write,
    output: Output,
) -> Result<String, Failure> {
    let expected = options.if_rev.unwrap_or(found.rev);
    if edited == flag.definition() && expected == found.rev {
        let value = json!({ "scope": scope.keys.scope, "key": key, "rev": found.rev, "changed": false });
        return say(&value, output, || format!("{key} is so already, at revision {}\n", found.rev));
    }
    put(scope, op(key, Some(edited), Some(expected)), false, options, output).await
}

fn op(key: &str, set: Option<String>, expect: Option<u64>) -> Op {
    Op { place: Place::Flags, key: key.to_owned(), set, expect }
}

async fn put(scope: &mut Scope, op: Op, create: bool, options: &Write, output: Output) -> Result<String, Failure> {
    let verb = if op.set.is_some() { "written" } else { "removed" };
    let key = &op.key.clone();
    scope.sound(key, op.set.as_deref()).await?;
    let (actor, note) = (options.who.actor(), options.who.note.clone());
    let change = Change { expect: None, create, actor, note, ops: vec![op] };
    let written = match write(&mut scope.connection, &scope.keys, &change).await {
        Ok(written) => written,
        Err(WriteError::Lost(lost)) => return Err(Failure::failed(who_won(key, &lost))),
        Err(WriteError::Uncreated) => return Err(scope.uncreated()),
        Err(WriteError::Absent(_)) => return Err(unknown(scope, key)),
        Err(WriteError::Refused(why)) => return Err(Failure::failed(why)),
        Err(WriteError::Redis(error)) => return Err(scope.failed(&error)),
    };
    let name = &scope.keys.scope;
    let mut value = json!({ "scope": name, "key": key, "rev": written.rev, "prev": written.prev, "changed": true });
    if let Some(confirmed) = written.confirmed.known() {
        value["confirmed"] = confirmed.into();
    }
    say(&value, output, || {
        // Worth a word: after a loss of data this is how a scope of one flag takes the place of one of many.
        let created =
            if written.prev == 0 { format!("scope {name} did not exist and was created\n") } else { String::new() };
        let confirmed = written.confirmed.warning().map(|warning| format!("{warning}\n")).unwrap_or_default();
        format!("{key} {verb} in scope {name}, revision {}\n{created}{confirmed}", written.rev)
    })
}

fn who_won(key: &str, lost: &Lost) -> String {
    let by = if lost.actor.is_empty() { "somebody" } else { &lost.actor };
    let age = lost.at.and_then(|at| SystemTime::now().duration_since(at).ok()).map(|age| age.as_secs());
    let ago = age.map(|age| format!(" {} ago", humantime::format_duration(std::time::Duration::from_secs(age))));
    let ago = ago.unwrap_or_default();
    let happened = match lost.rev {
        0 => format!("{key:?} was removed by {by}{ago}"),
        rev => format!("{key:?} is at revision {rev}, written by {by}{ago}"),
    };
    format!("lost a race: {happened}; look at it with `tidegate flags get` and try again")
}
