//! The options of a connection string that libpq knows and the client library does not: how much of the server's
//! certificate is checked, and the files for it (PostgreSQL documentation, "SSL Support"). Pure.

use std::path::PathBuf;

use crate::net::percent;
use crate::net::tls::client::{Trust, Verify};

/// A connection string in two parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// What the client library understands.
    pub(crate) rest: String,
    /// What it does not.
    pub(crate) trust: Trust,
}

/// Options that are taken out.
const OURS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

/// Takes a connection string apart.
///
/// # Errors
/// What is wrong with our part of it, without anything from it.
pub(crate) fn split(text: &str) -> Result<Options, &'static str> {
    let (rest, found) = if text.contains("://") { split_url(text)? } else { split_pairs(text)? };
    let file = |name: &str| found.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
    let path = |name: &str| file(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    // Whoever names an authority for `require` has it checked, as libpq does for the sake of its first versions.
    let (mode, verify) = match (file("sslmode").unwrap_or("prefer"), path("sslrootcert").is_some()) {
        ("disable", _) => ("disable", Verify::Nothing),
        ("allow" | "prefer", _) => ("prefer", Verify::Nothing),
        ("require", false) => ("require", Verify::Nothing),
        ("require", true) | ("verify-ca", _) => ("require", Verify::Authority),
        ("verify-full", _) => ("require", Verify::Name),
        _ => return Err("sslmode is none of disable, allow, prefer, require, verify-ca, verify-full"),
    };
    let identity = match (path("sslcert"), path("sslkey")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("sslcert and sslkey belong together"),
    };
    // libpq 16's word for the system's authorities.
    let ca_file = path("sslrootcert").filter(|path| path.as_os_str() != "system");
    let joint = match () {
        () if !text.contains("://") => " ",
        () if rest.contains('?') => "&",
        () => "?",
    };
    let rest = format!("{rest}{joint}sslmode={mode}");
    Ok(Options { rest, trust: Trust { verify, ca_file, identity, server_name: None } })
}

type Split = (String, Vec<(&'static str, String)>);

fn split_url(url: &str) -> Result<Split, &'static str> {
    let Some((before, query)) = url.split_once('?') else { return Ok((url.to_owned(), Vec::new())) };
    let (mut kept, mut found) = (Vec::new(), Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match OURS.into_iter().find(|ours| *ours == name) {
            Some(ours) => {
                let value = percent::segment(value).map_err(|_| "an option is not percent-encoded UTF-8")?;
                found.push((ours, value.into_owned()));
            }
            None => kept.push(pair),
        }
    }
    let rest = if kept.is_empty() { before.to_owned() } else { format!("{before}?{}", kept.join("&")) };
    Ok((rest, found))
}

/// `key = value key='quoted value'`, as libpq reads it: a backslash takes the next character as it is.
fn split_pairs(text: &str) -> Result<Split, &'static str> {
    const MALFORMED: &str = "not KEY=VALUE pairs";
    let (mut kept, mut found) = (String::new(), Vec::new());
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or(MALFORMED)?;
        let value_at = after.trim_start();
        let (value, length) = value(value_at).ok_or(MALFORMED)?;
        let after = &value_at[length..];
        match OURS.into_iter().find(|ours| *ours == name.trim_end()) {
            Some(ours) => found.push((ours, value)),
            None => {
                let joint = if kept.is_empty() { "" } else { " " };
                kept.extend([joint, rest[..rest.len() - after.len()].trim_end()]);
            }
        }
        rest = after.trim_start();
    }
    Ok((kept, found))
}

/// The value that `text` begins with, and how many bytes it took.
fn value(text: &str) -> Option<(String, usize)> {
    let quoted = text.starts_with('\'');
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices().skip(usize::from(quoted)) {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '\'' if quoted => return Some((value, at + 1)),
            c if !quoted && c.is_whitespace() => return Some((value, at)),
            c => value.push(c),
        }
    }
    (!quoted && !escaped).then_some((value, text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let said = match split(text) {
            Ok(Options { rest, trust }) => {
                let name = |path: PathBuf| path.display().to_string();
                let files = [trust.ca_file.map(name), trust.identity.map(|(c, k)| format!("{} {}", name(c), name(k)))];
                format!("{rest} | {:?} {}", trust.verify, files.map(Option::unwrap_or_default).join(" "))
            }
            Err(why) => why.to_owned(),
        };
        assert_eq!(said.trim_end(), expected, "{text}");
    }

    #[test]
    fn libpqs_options_are_taken_out_of_urls_and_of_pairs() {
        check("postgres://h/d", "postgres://h/d?sslmode=prefer | Nothing");
        check("postgres://h/d?x=1&sslmode=verify-full", "postgres://h/d?x=1&sslmode=require | Name");
        check("postgres://h/d?sslmode=verify-ca&x=1", "postgres://h/d?x=1&sslmode=require | Authority");
        check("postgres://h/d?sslmode=require", "postgres://h/d?sslmode=require | Nothing");
        check("postgres://h/d?sslmode=require&sslrootcert=/c%20a", "postgres://h/d?sslmode=require | Authority /c a");
        check("postgres://h/d?sslmode=allow", "postgres://h/d?sslmode=prefer | Nothing");
        check("postgres://u:sslmode=allow@h/d", "postgres://u:sslmode=allow@h/d?sslmode=prefer | Nothing");
        check("postgres://h/d?sslmode=verify-full&sslrootcert=system", "postgres://h/d?sslmode=require | Name");
        check("postgres://h?sslcert=/c&sslkey=/k", "postgres://h?sslmode=prefer | Nothing  /c /k");
        check("host=h sslmode='verify-ca'", "host=h sslmode=require | Authority");
        check(r"sslmode = disable host='a b' sslrootcert=/c\ a", "host='a b' sslmode=disable | Nothing /c a");
        check("password='x sslmode=require' host=h", "password='x sslmode=require' host=h sslmode=prefer | Nothing");
    }

    #[test]
    fn what_makes_no_sense_is_refused_without_being_quoted() {
        const MODES: &str = "sslmode is none of disable, allow, prefer, require, verify-ca, verify-full";
        check("postgres://h?sslmode=s3cret", MODES);
        check("host=h sslmode=s3cret", MODES);
        check("host=h sslcert=/c", "sslcert and sslkey belong together");
        check("postgres://h?sslkey=/k", "sslcert and sslkey belong together");
        check("postgres://h?sslkey=%zz", "an option is not percent-encoded UTF-8");
        check("host", "not KEY=VALUE pairs");
        check("password='open", "not KEY=VALUE pairs");
    }
}
