//! `tidegate drain`: the same drain that a `preStop` hook asks for, by hand.

use std::process::ExitCode;
use std::time::Duration;

use http::Method;

use crate::config::Settings;

use super::{EXIT_FAILED, block_on, say, sidecar};

/// How long the sidecar may take beyond its own deadline.
const MARGIN: Duration = Duration::from_secs(5);

/// How to drain.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Waits until drained; exits 1 when the deadline cut something
    #[arg(long)]
    wait: bool,
}

/// Drains.
pub fn main(args: &Args, settings: &Settings) -> ExitCode {
    let (path, limit) =
        if args.wait { ("/v1/drain", settings.drain.deadline + MARGIN) } else { ("/v1/drain?wait=false", MARGIN) };
    match block_on(sidecar::ask(settings, Method::POST, path, limit)) {
        Ok(Ok(answer)) => {
            let status = answer["status"].as_str().unwrap_or("unknown");
            let outcome = answer["outcome"].as_str();
            say(&outcome.map_or_else(|| status.to_owned(), |outcome| format!("{status}: {outcome}")));
            if outcome.is_none_or(|outcome| outcome == "clean") {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(EXIT_FAILED)
            }
        }
        Ok(Err(code)) | Err(code) => code,
    }
}
