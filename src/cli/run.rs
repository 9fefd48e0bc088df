//! `tidegate run`: the sidecar.

use std::process::ExitCode;

use crate::config::{self, Inputs};
use crate::lifecycle::machine::Outcome;
use crate::net::listen::BindError;
use crate::{app, telemetry};

use super::{EXIT_FAILED, EXIT_TRY_AGAIN, EXIT_UNAVAILABLE, EXIT_USAGE, complain, refuse};

/// Settings that may be given on the command line; stronger than the environment and the file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app [default: http://127.0.0.1:3000]
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Where clients connect [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where probes and metrics are served [default: 0.0.0.0:8014]
    #[arg(long, value_name = "ADDR")]
    ops: Vec<String>,
    /// Where the app asks for flags [default: 127.0.0.1 on 8013, 8015 and 8016]
    #[arg(long, value_name = "ADDR")]
    local: Vec<String>,
    /// Redis, for flags
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// A file of flags
    #[arg(long, value_name = "FILE")]
    flags: Vec<String>,
    /// Whose traffic this is
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
}

impl Args {
    /// Pairs of a key's path and its value.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let given = |argument: &str| -> Vec<String> {
            match argument {
                "--upstream" => self.upstream.iter().cloned().collect(),
                "--listen" => self.listen.iter().cloned().collect(),
                "--ops" => self.ops.clone(),
                "--local" => self.local.clone(),
                "--redis" => self.redis.iter().cloned().collect(),
                "--flags" => self.flags.clone(),
                "--workload" => self.workload.iter().cloned().collect(),
                _ => Vec::new(),
            }
        };
        let pairs = config::ARGUMENTS.iter();
        pairs.flat_map(|(argument, key)| given(argument).into_iter().map(|value| ((*key).to_owned(), value))).collect()
    }
}

/// Runs until stopped: 0 when nothing was lost, 1 when something was cut or a second signal came.
pub fn main(inputs: &Inputs) -> ExitCode {
    let settings = match config::load(inputs) {
        Ok(loaded) => loaded.settings,
        Err(problems) => return refuse(&problems),
    };
    let log = match telemetry::logging::install(&settings.log) {
        Ok(log) => log,
        Err(error) => {
            complain(&format!("logging cannot be set up: {error}"));
            return ExitCode::from(EXIT_TRY_AGAIN);
        }
    };
    telemetry::logging::log_panics();
    for problem in config::budget(&settings).err().into_iter().flat_map(|problems| problems.0) {
        tracing::warn!(%problem, "a drain does not fit into the pod's time to end");
    }
    let ended = app::run(settings);
    log.flush();
    match ended {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::Cut | Outcome::Aborted) => ExitCode::from(EXIT_FAILED),
        Err(error) => {
            complain(&format!("{error:#}"));
            let of_the_machine = error.chain().any(|cause| cause.is::<std::io::Error>());
            ExitCode::from(match error.downcast_ref::<BindError>() {
                Some(_) => EXIT_UNAVAILABLE,
                None if of_the_machine => EXIT_TRY_AGAIN,
                None => EXIT_USAGE,
            })
        }
    }
}
