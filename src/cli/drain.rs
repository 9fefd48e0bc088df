//! `tidegate drain`: by hand, or as the sidecar's own `preStop` hook, which confirms that the pod ends.

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
    /// As the sidecar's own preStop hook: says that the pod ends, not only the app's container, and waits
    #[arg(long = "self", conflicts_with = "wait")]
    own: bool,
}

/// Drains.
pub fn main(args: &Args, settings: &Settings) -> ExitCode {
    let (path, limit) = if args.wait || args.own {
        ("/v1/drain", settings.drain.deadline + MARGIN)
    } else {
        ("/v1/drain?wait=false", MARGIN)
    };
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
