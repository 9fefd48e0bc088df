//! `tidegate config check | show | schema`: asks the configuration and prints its answer.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::EXIT_USAGE;
use crate::config::{self, Inputs, Loaded, Problems};

/// What to ask.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Checks the configuration and reports everything that is wrong with it
    Check {
        /// How to answer
        #[arg(long, value_enum, default_value_t = CheckOutput::Text)]
        output: CheckOutput,
    },
    /// Prints every key as it was resolved, without secrets
    Show {
        /// How to answer
        #[arg(long, value_enum, default_value_t = ShowOutput::Yaml)]
        output: ShowOutput,
    },
    /// Prints a JSON Schema of the configuration file, for editors
    Schema,
}

/// How `check` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckOutput {
    /// A line when all is well; else one line for each problem, on standard error
    Text,
    /// One object on standard output
    Json,
}

/// How `show` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShowOutput {
    /// A valid configuration file, apart from secrets
    Yaml,
    /// The same as JSON
    Json,
}

/// Runs a command: its answer goes to `out`, what is wrong to `err`.
///
/// # Errors
/// Nobody reads the answer.
pub fn run(command: &Command, inputs: &Inputs, out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitCode> {
    match command {
        Command::Schema => writeln!(out, "{:#}", config::schema())?,
        Command::Check { output } => match (fitting(inputs), output) {
            (Ok(loaded), CheckOutput::Text) => writeln!(out, "ok: {}", summary(&loaded))?,
            (Ok(_), CheckOutput::Json) => writeln!(out, "{:#}", json!({ "ok": true, "problems": [] }))?,
            (Err(problems), CheckOutput::Text) => return refuse(&problems, err),
            (Err(problems), CheckOutput::Json) => {
                writeln!(out, "{:#}", json!({ "ok": false, "problems": problems.0 }))?;
                return Ok(ExitCode::from(EXIT_USAGE));
            }
        },
        Command::Show { output } => match (config::load(inputs), output) {
            (Ok(loaded), ShowOutput::Yaml) => write!(out, "{}", loaded.to_yaml())?,
            (Ok(loaded), ShowOutput::Json) => writeln!(out, "{:#}", loaded.to_json())?,
            (Err(problems), _) => return refuse(&problems, err),
        },
    }
    Ok(ExitCode::SUCCESS)
}

/// A configuration whose drain fits into the pod's time, where that is known.
fn fitting(inputs: &Inputs) -> Result<Loaded, Problems> {
    let loaded = config::load(inputs)?;
    config::budget(&loaded.settings)?;
    Ok(loaded)
}

/// Prints every problem on a line of its own. For every command that needs a configuration and got none.
///
/// # Errors
/// Nobody reads them.
pub fn refuse(problems: &Problems, err: &mut impl Write) -> io::Result<ExitCode> {
    writeln!(err, "{problems}")?;
    Ok(ExitCode::from(EXIT_USAGE))
}

/// What the configuration amounts to, on one line.
fn summary(loaded: &Loaded) -> String {
    let settings = &loaded.settings;
    let file = match &loaded.file {
        Some(file) => file.display().to_string(),
        None => "no file".into(),
    };
    let routes: Vec<_> =
        settings.proxy.routes.iter().map(|route| format!("{} → {}", route.listen, route.upstream)).collect();
    let checks: Vec<_> = settings.checks.checks.iter().map(|check| check.name.as_str()).collect();
    let mut sources = settings.flags.files.len();
    sources += usize::from(settings.flags.redis.is_some());
    format!(
        "{file}: workload {}, {}, {} {}, {sources} {}",
        settings.workload,
        routes.join(", "),
        checks.len(),
        if checks.len() == 1 { "check".to_owned() } else { "checks".to_owned() },
        if sources == 1 { "source of flags" } else { "sources of flags" },
    )
}
