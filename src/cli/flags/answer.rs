//! What a command says: rows and values for people and programs, and failures with their exit code.

use std::time::SystemTime;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

use crate::cli::output::Output;
use crate::cli::{EXIT_FAILED, EXIT_TRY_AGAIN, EXIT_UNAVAILABLE, EXIT_USAGE};
use crate::net::redis::Error;

/// Why a command did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For the shell.
    pub code: u8,
    /// For standard error, with the remedy.
    pub text: String,
    /// For standard output all the same: what there is to see, a diff say.
    pub answer: String,
}

impl Failure {
    pub(in crate::cli) fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), answer: String::new() }
    }

    /// The answer is no, and is told: nothing is wrong.
    pub(in crate::cli) fn no(answer: impl Into<String>) -> Self {
        Self { answer: answer.into(), ..Self::new(EXIT_FAILED, "") }
    }

    /// What was asked for is false or failed.
    pub(in crate::cli) fn failed(text: impl Into<String>) -> Self {
        Self::new(EXIT_FAILED, text)
    }

    /// What was asked for makes no sense.
    pub(in crate::cli) fn usage(text: impl Into<String>) -> Self {
        Self::new(EXIT_USAGE, text)
    }

    /// It may go well in a moment.
    pub(in crate::cli) fn try_again(text: impl Into<String>) -> Self {
        Self::new(EXIT_TRY_AGAIN, text)
    }

    /// Redis is away, or too slow.
    pub(in crate::cli) fn redis(error: &Error) -> Self {
        match error {
            Error::Timeout(_) => Self::try_again(format!("{error}; try again")),
            Error::Url(_) => Self::usage(error.to_string()),
            Error::Refused(_) => {
                Self::new(EXIT_UNAVAILABLE, format!("redis is not available: {error}; check redis.url"))
            }
        }
    }
}

/// `value` as asked for; `table` makes the form for people.
pub(in crate::cli) fn say(value: &Value, output: Output, table: impl FnOnce() -> String) -> Result<String, Failure> {
    output.render(value, table).map_err(|error| Failure::failed(error.to_string()))
}

/// Rows under a header.
pub(in crate::cli) fn rows<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    let lines = table.to_string();
    lines.lines().map(|line| format!("{}\n", line.trim())).collect()
}

/// A moment, to the second, UTC; empty when it is not known.
pub(in crate::cli) fn moment(at: Option<SystemTime>) -> String {
    at.map(|at| humantime::format_rfc3339_seconds(at).to_string()).unwrap_or_default()
}

/// A JSON text as a value: null when there is none, a string when it is none.
pub(in crate::cli) fn definition(text: &str) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}
