//! One file per command; thin: parse, call, print.

pub mod check;
pub mod config;
pub mod drain;
pub mod flags;
pub mod fleet;
pub mod hold;
pub mod inject;
pub mod output;
pub mod run;
pub mod sidecar;
pub mod status;
pub mod webhook;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

pub use self::output::Output;
use crate::config::{Inputs, Loaded, Problems};

/// Exit code: the thing asked for is false or failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit code: bad usage or configuration (EX_USAGE of sysexits.h).
pub const EXIT_USAGE: u8 = 64;
/// Exit code: a service is unavailable (EX_UNAVAILABLE).
pub const EXIT_UNAVAILABLE: u8 = 69;
/// Exit code: try again (EX_TEMPFAIL).
pub const EXIT_TRY_AGAIN: u8 = 75;

/// A sidecar that makes deploys, feature switches and schema changes safe under live traffic.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 ok, 1 false or failed, 64 bad usage or configuration, 69 a service is \
                        unavailable, 75 try again.")]
pub struct Cli {
    /// The configuration file [default: /etc/tidegate/tidegate.yaml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the sidecar
    Run(run::Args),
    /// Runs every configured check once; exits 1 if a critical one fails
    Check {
        /// How to answer
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Checks, shows or describes the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Drains the running sidecar
    Drain(drain::Args),
    /// Holds requests until nothing is under way, and while a command runs
    Hold(hold::Args),
    /// Lets requests through that are held, whatever holds them
    Release,
    /// Shows what the running sidecar is doing; exits 1 if it is not ready
    Status(status::Args),
    /// Operates the flags in Redis
    Flags(flags::Args),
    /// Shows the instances of the workload, live and suspect
    Fleet(fleet::Args),
    /// Puts the sidecar into manifests
    Inject(inject::Args),
    /// Takes the sidecar out of manifests
    Uninject(inject::Undo),
    /// Puts the sidecar into pods as they are made: a mutating admission webhook
    Webhook(Box<webhook::Args>),
    /// Prints a shell completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Prints the manual page
    Man,
}

/// Runs a command and returns its exit code.
pub fn main(cli: Cli) -> ExitCode {
    let file = cli.config;
    match cli.command {
        Command::Run(args) => run::main(&Inputs::from_process(file, args.overrides())),
        Command::Check { output } => check_once(&Inputs::from_process(file, Vec::new()), output),
        Command::Config(command) => {
            let inputs = Inputs::from_process(file, Vec::new());
            printed(config::run(&command, &inputs, &mut io::stdout().lock(), &mut io::stderr().lock()))
        }
        Command::Drain(args) => with_settings(file, |loaded| drain::main(&args, &loaded.settings)),
        Command::Hold(args) => with_settings(file, |loaded| hold::main(&args, &loaded.settings)),
        Command::Release => with_settings(file, |loaded| hold::release(&loaded.settings)),
        Command::Status(args) => with_settings(file, |loaded| status::main(&args, &loaded.settings)),
        Command::Flags(args) => with_settings(file, |loaded| flags::main(&args, &loaded.settings)),
        Command::Fleet(args) => with_settings(file, |loaded| fleet::main(&args, &loaded.settings)),
        Command::Inject(args) => without_settings(file, || inject::inject(&args)),
        Command::Uninject(args) => without_settings(file, || inject::uninject(&args)),
        Command::Webhook(args) => without_settings(file, || webhook::main(&args)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut io::stdout().lock());
            ExitCode::SUCCESS
        }
        Command::Man => {
            let page = clap_mangen::Man::new(Cli::command());
            printed(page.render(&mut io::stdout().lock()).map(|()| ExitCode::SUCCESS))
        }
    }
}

fn check_once(inputs: &Inputs, output: Output) -> ExitCode {
    let loaded = match crate::config::load(inputs) {
        Ok(loaded) => loaded,
        Err(problems) => return refuse(&problems),
    };
    let report = match block_on(check::run(&loaded.settings.checks, &loaded.settings.local.socket)) {
        Ok(report) => report,
        Err(code) => return code,
    };
    answer(report.render(output), report.exit_code())
}

/// For what is told about sidecars and is none.
fn without_settings(file: Option<PathBuf>, command: impl FnOnce() -> ExitCode) -> ExitCode {
    if file.is_none() {
        return command();
    }
    complain("--config: not read here; --config-map NAME gives the sidecars a file, --set KEY=VALUE a key");
    ExitCode::from(EXIT_USAGE)
}

fn with_settings(file: Option<PathBuf>, command: impl FnOnce(&Loaded) -> ExitCode) -> ExitCode {
    match crate::config::load(&Inputs::from_process(file, Vec::new())) {
        Ok(loaded) => command(&loaded),
        Err(problems) => refuse(&problems),
    }
}

/// Prints help or what is wrong with the arguments. clap's own exit code for the latter is 2; ours is 64.
pub fn refuse_usage(error: &clap::Error) -> ExitCode {
    // Help and version go to standard output and are no failure.
    let printed = error.print();
    if printed.is_ok() && !error.use_stderr() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) }
}

/// Prints what is wrong with the configuration.
pub(crate) fn refuse(problems: &Problems) -> ExitCode {
    complain(&problems.to_string());
    ExitCode::from(EXIT_USAGE)
}

/// Runs a command's future on an event loop of its own.
pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, ExitCode> {
    match crate::lifecycle::threads::runtime() {
        Ok(runtime) => {
            let output = runtime.block_on(future);
            runtime.shutdown_background();
            Ok(output)
        }
        Err(error) => {
            complain(&format!("the event loop cannot be made: {error}"));
            Err(ExitCode::from(EXIT_TRY_AGAIN))
        }
    }
}

/// Prints an answer and exits with `code`, or says why the answer cannot be printed.
pub(crate) fn answer(text: Result<String, output::Unprintable>, code: u8) -> ExitCode {
    match text {
        Ok(text) => {
            say(&text);
            ExitCode::from(code)
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Prints an answer. A reader that has left (`| head`) wants no more, and no complaint.
pub(crate) fn say(text: &str) {
    let mut out = io::stdout().lock();
    let text = plain(text);
    let end = if text.ends_with('\n') { "" } else { "\n" };
    if write!(out, "{text}{end}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// `text` with nothing in it that a terminal would obey: names and notes come from others.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

/// Prints what is wrong, one line a problem, with what to do.
pub(crate) fn complain(text: &str) {
    for line in text.lines() {
        // Nowhere is left to complain to about a closed standard error.
        if writeln!(io::stderr(), "tidegate: {}", plain(line)).is_err() {
            return;
        }
    }
}

fn printed(result: io::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::BrokenPipe {
            complain(&format!("cannot print: {error}"));
        }
        ExitCode::from(EXIT_FAILED)
    })
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        assert_eq!(plain("a\tb\n\u{1b}]0;x\u{7}\u{9b}2J"), "a\tb\n\u{fffd}]0;x\u{fffd}\u{fffd}2J");
    }
}
