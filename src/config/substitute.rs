//! `${VAR}`, `${VAR:-default}` and `${file:PATH}` in the texts of a tree, so that secrets stay out of the file. Knows no
//! key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::node::{Node, Value};
use super::problem::Problem;

/// What a reference may be answered from.
pub(super) struct Sources<'a> {
    /// Environment variables.
    pub(super) environment: &'a BTreeMap<String, String>,
    /// Reads a file's text; an error says why not, for people.
    pub(super) read: fn(&Path) -> Result<String, String>,
}

/// Substitutes in every text below `node`. Each reference that cannot be answered is a problem. Returns the names of
/// the variables that were asked for.
pub(super) fn substitute(node: &mut Node, sources: &Sources<'_>, problems: &mut Vec<Problem>) -> BTreeSet<String> {
    let mut asked = BTreeSet::new();
    descend(node, "", sources, problems, &mut asked);
    asked
}

fn descend(
    node: &mut Node,
    path: &str,
    sources: &Sources<'_>,
    problems: &mut Vec<Problem>,
    asked: &mut BTreeSet<String>,
) {
    match &mut node.value {
        Value::Text(text) if text.contains('$') => match expand(text, sources, asked) {
            Ok(expanded) => {
                node.template = Some(std::mem::replace(text, expanded));
            }
            Err((wrong, remedy)) => {
                problems.push(Problem::new(path, wrong).remedy(remedy).from(&node.origin));
                node.value = Value::Refused;
            }
        },
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                descend(item, &format!("{path}[{index}]"), sources, problems, asked);
            }
        }
        Value::Map(entries) => {
            for (name, entry) in entries {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                descend(entry, &below, sources, problems, asked);
            }
        }
        Value::Text(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Refused => {}
    }
}

/// What is wrong, and what to do.
type Refusal = (String, String);

/// One text. `$$` is a dollar; a dollar before anything but `{` and `$` is itself.
fn expand(text: &str, sources: &Sources<'_>, asked: &mut BTreeSet<String>) -> Result<String, Refusal> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(inner) = after.strip_prefix('{') {
            let Some((reference, after)) = inner.split_once('}') else {
                return Err(("${ is never closed".into(), "write ${NAME}, or $${ for the text itself".into()));
            };
            expanded.push_str(&answer(reference, sources, asked)?);
            rest = after;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// What stands between the braces.
fn answer(reference: &str, sources: &Sources<'_>, asked: &mut BTreeSet<String>) -> Result<String, Refusal> {
    if let Some(path) = reference.strip_prefix("file:") {
        let text = (sources.read)(Path::new(path))
            .map_err(|why| (format!("file {path}: {why}"), "make the file readable or correct its path".to_owned()))?;
        // Editors and `echo` end a file with a line break that is no part of the secret.
        let text = text.strip_suffix('\n').unwrap_or(&text);
        return Ok(text.strip_suffix('\r').unwrap_or(text).to_owned());
    }
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let first_fits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !first_fits || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err((
            "not the name of a variable between ${ and }".into(),
            "write ${NAME}, ${NAME:-default}, ${file:/path}, or $${ for the text itself".into(),
        ));
    }
    asked.insert(name.to_owned());
    match (sources.environment.get(name), default) {
        // As in a shell (POSIX.1-2017 XCU 2.6.2): with `:-` an empty variable takes the default too.
        (Some(value), None) => Ok(value.clone()),
        (Some(value), Some(default)) => Ok(if value.is_empty() { default.to_owned() } else { value.clone() }),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            Err((format!("variable {name} is not set"), format!("set {name} or write ${{{name}:-default}}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<String, String> {
        match path.to_str() {
            Some("/token") => Ok("s3cr3t\n".into()),
            Some("/windows") => Ok("s3cr3t\r\n".into()),
            Some("/two") => Ok("a\nb\n\n".into()),
            _ => Err("no such file".into()),
        }
    }

    fn expanded(text: &str) -> Result<String, String> {
        let environment = BTreeMap::from([
            ("NAME".into(), "orders".into()),
            ("EMPTY".into(), String::new()),
            ("RAW".into(), "${X}".into()),
        ]);
        let sources = Sources { environment: &environment, read };
        expand(text, &sources, &mut BTreeSet::new()).map_err(|(wrong, _)| wrong)
    }

    #[test]
    fn references_are_answered() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${NAME}", "orders"),
            ("a ${NAME} b ${NAME}", "a orders b orders"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${GONE:-x:-y}", "x:-y"),
            ("${GONE:-}", ""),
            ("${file:/token}", "s3cr3t"),
            ("${file:/windows}", "s3cr3t"),
            ("${file:/two}", "a\nb\n"),
            ("pa$word", "pa$word"),
            ("$", "$"),
            ("$$", "$"),
            ("$${NAME}", "${NAME}"),
            ("$$${NAME}", "$orders"),
            // What was put in is not looked at again: a secret may hold anything.
            ("${RAW}", "${X}"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_answered_says_why() {
        for (text, expected) in [
            ("${GONE}", "variable GONE is not set"),
            ("${NAME", "${ is never closed"),
            ("${}", "not the name of a variable between ${ and }"),
            ("${1A}", "not the name of a variable between ${ and }"),
            ("${A B}", "not the name of a variable between ${ and }"),
            ("${file:/gone}", "file /gone: no such file"),
        ] {
            assert_eq!(expanded(text), Err(expected.to_owned()), "{text}");
        }
    }
}
