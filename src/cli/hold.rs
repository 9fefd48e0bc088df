//! `tidegate hold` and `tidegate release`: requests wait while a command runs, or for a moment.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use http::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::output::counted;
use super::sidecar::{self, Lasting};
use super::{EXIT_FAILED, EXIT_TRY_AGAIN, EXIT_USAGE, block_on, complain, say};
use crate::config::Settings;

/// How long the sidecar may take beyond the hold itself.
const MARGIN: Duration = Duration::from_secs(5);

/// What to hold for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long requests are held at most, from now on; at most hold.max_wait [default: 5s, or hold.max_wait if shorter]
    #[arg(long = "for", value_name = "DURATION", value_parser = lasts)]
    lasts: Option<Duration>,
    /// A command to run once nothing is under way; requests are let through as soon as it ends
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

fn lasts(text: &str) -> Result<Duration, String> {
    let lasts = humantime::parse_duration(text).map_err(|_| "write a duration, such as 5s".to_owned())?;
    if lasts < Duration::from_millis(1) { Err("write at least 1ms".to_owned()) } else { Ok(lasts) }
}

/// Holds.
pub fn main(args: &Args, settings: &Settings) -> ExitCode {
    let held = block_on(async {
        match args.command.split_first() {
            None => hold(args, settings).await,
            Some((program, arguments)) => run(args, settings, program, arguments).await,
        }
    });
    match held {
        Ok(Ok(code)) | Ok(Err(code)) | Err(code) => code,
    }
}

/// Lets requests through.
pub fn release(settings: &Settings) -> ExitCode {
    match block_on(sidecar::ask(settings, Method::POST, "/v1/release", MARGIN)) {
        Ok(Ok(answer)) => {
            say(answer["status"].as_str().unwrap_or("released"));
            ExitCode::SUCCESS
        }
        Ok(Err(code)) | Err(code) => code,
    }
}

fn path(args: &Args, more: &str) -> String {
    let who = rustix::process::getuid().as_raw();
    let pid = std::process::id();
    let lasts = args.lasts.map(|lasts| format!("&for={}ms", lasts.as_millis())).unwrap_or_default();
    format!("/v1/hold?by=uid{who}-pid{pid}{lasts}{more}")
}

/// How long the sidecar may take to say that nothing is under way.
fn patience(args: &Args) -> Duration {
    args.lasts.unwrap_or(Duration::from_secs(5)) + MARGIN
}

async fn hold(args: &Args, settings: &Settings) -> Result<ExitCode, ExitCode> {
    let mut stream = sidecar::open(settings, Method::POST, &path(args, ""), patience(args)).await?;
    let answer = quiesced(args, &mut stream).await?;
    say(&format!("held for {} ms more at most: {}", answer["left_ms"], told(&answer)));
    Ok(ExitCode::SUCCESS)
}

/// Runs a command while requests are held. They are let through when this process is gone, however it goes: the sidecar
/// sees the end of the connection.
async fn run(args: &Args, settings: &Settings, program: &str, arguments: &[String]) -> Result<ExitCode, ExitCode> {
    let mut stream = sidecar::open(settings, Method::POST, &path(args, "&until=closed"), patience(args)).await?;
    let answer = quiesced(args, &mut stream).await?;
    complain(&format!("requests are held for {} ms more at most: {}", answer["left_ms"], told(&answer)));
    let mut child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(error) => {
            complain(&format!("{program}: {error}"));
            // As shells have it: 127 not found, 126 not to be run.
            return Ok(ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }));
        }
    };
    let mut ends = std::pin::pin!(wait(&mut child));
    let status = tokio::select! {
        status = &mut ends => status,
        // The sidecar ends the stream at the hold's limit, at a release, or with itself.
        _ = stream.line() => {
            complain("the hold ended before the command, and requests go through; waiting for the command");
            ends.await
        }
    };
    match status {
        Ok(status) => Ok(code(status)),
        Err(error) => {
            complain(&format!("{program}: {error}"));
            Ok(ExitCode::from(EXIT_FAILED))
        }
    }
}

/// Waits for the command. Ctrl-C reaches it by itself; SIGTERM, which reaches this process alone, is passed on.
async fn wait(child: &mut Child) -> std::io::Result<ExitStatus> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
                if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
                    complain(&format!("the command cannot be told to end: {error}"));
                }
            }
        }
    }
}

/// The command's own exit code; 128 and the signal's number when one ended it, as shells have it.
fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// The sidecar's word that no request is under way.
async fn quiesced(args: &Args, stream: &mut Lasting) -> Result<Value, ExitCode> {
    let line = timeout(patience(args), stream.line()).await.ok().flatten();
    let answer: Value = line.and_then(|line| serde_json::from_slice(&line).ok()).unwrap_or_default();
    if answer["status"] == "held" {
        return Ok(answer);
    }
    complain(answer["error"].as_str().unwrap_or("the sidecar has ended"));
    // What the sidecar will never do is no matter of trying again.
    let never = stream.status == StatusCode::BAD_REQUEST;
    Err(ExitCode::from(if never { EXIT_USAGE } else { EXIT_TRY_AGAIN }))
}

fn told(answer: &Value) -> String {
    let (tunnels, work) = (&answer["tunnels"], &answer["work"]);
    if *tunnels == 0 && *work == 0 {
        return "nothing is under way".to_owned();
    }
    format!("no request is under way; {} and {} are", counted(tunnels, "tunnel"), counted(work, "work lease"))
}
