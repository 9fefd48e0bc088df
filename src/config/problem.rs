//! What is wrong with a configuration: where, with which value, why, and what to write instead. Knows no key.

use std::fmt;

use serde::Serialize;
use thiserror::Error;

use super::node::Origin;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The key, `drain.delay`; the file or the variable when no key can be named.
    pub path: String,
    /// The value as written, never a secret; `None` when there is none or it must not be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is wrong with it.
    pub wrong: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Where the value came from: `line 4`, a variable's name, an argument; `None` for a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Problem {
    /// A problem with no value to show and no remedy yet.
    pub(super) fn new(path: impl Into<String>, wrong: impl Into<String>) -> Self {
        Self { path: path.into(), value: None, wrong: wrong.into(), remedy: None, source: None }
    }

    /// The same with what to do about it.
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same with the value as written, cut where it gets long.
    pub(super) fn value(mut self, value: impl Into<String>) -> Self {
        const SHOWN: usize = 120;
        let value = value.into();
        self.value = Some(match value.char_indices().nth(SHOWN) {
            Some((cut, _)) => format!("{}…", &value[..cut]),
            None => value,
        });
        self
    }

    /// The same with where the value came from.
    pub(super) fn from(mut self, origin: &Origin) -> Self {
        self.source = origin.said();
        self
    }
}

/// One line: `drain.delay: "10": not a duration; write 10s (line 4)`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Paths hold names that came from the file: escaped, so that a problem stays one line.
        write!(f, "{}: ", self.path.escape_debug())?;
        if let Some(value) = &self.value {
            write!(f, "{value:?}: ")?;
        }
        f.write_str(&self.wrong)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        match &self.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong, at least one thing. Displayed one problem a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// The name in `names` that `wrong` was most likely meant to be, if any is close enough to say so.
pub(crate) fn closest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names of keys are short: anything longer is no misspelling, and the comparison's cost is quadratic.
    if wrong.len() > 128 {
        return None;
    }
    names
        .into_iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_whatever_it_quotes() {
        let problem = Problem::new("drain.de\nlay", "not a duration").value("1\n0").remedy("write 10s");
        assert_eq!(problem.to_string(), r#"drain.de\nlay: "1\n0": not a duration; write 10s"#);
        assert!(Problem::new("x", "long").value("y".repeat(5000)).to_string().len() < 200);
    }

    #[test]
    fn a_misspelt_name_finds_the_right_one_and_a_strange_one_finds_none() {
        let names = ["delay", "quiet", "deadline", "readiness"];
        for (wrong, right) in
            [("dealy", Some("delay")), ("Deadline", Some("deadline")), ("readines", Some("readiness")), ("port", None)]
        {
            assert_eq!(closest(wrong, names), right, "{wrong}");
        }
        assert_eq!(closest(&"delay".repeat(1000), names), None);
    }
}
