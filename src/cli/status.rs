//! `tidegate status`: what the running sidecar is doing.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{Table, presets};
use http::Method;
use serde_json::Value;

use crate::config::Settings;

use super::output::counted;
use super::{EXIT_FAILED, Output, answer, block_on, sidecar};

/// How long the sidecar may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// The last turns that the table shows; JSON has all that are kept.
const TURNS: usize = 20;

/// How to answer.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Also tells when checks, their brakes and readiness last turned, and why
    #[arg(long)]
    history: bool,
}

/// Asks and prints.
pub fn main(args: &Args, settings: &Settings) -> ExitCode {
    let status = match block_on(sidecar::ask(settings, Method::GET, "/v1/status", LIMIT)) {
        Ok(Ok(status)) => status,
        Ok(Err(code)) | Err(code) => return code,
    };
    let code = if status["ready"] == Value::Bool(true) { 0 } else { EXIT_FAILED };
    answer(
        args.output.render(&status, || {
            let turns = if args.history { history(&status) } else { String::new() };
            table(&status) + &turns
        }),
        code,
    )
}

/// `open`, or why requests are held; of each listener by itself, where there are several.
fn gates(hold: &Value) -> Vec<String> {
    match hold["routes"].as_array().map_or(&[][..], Vec::as_slice) {
        routes @ [_, _, ..] => {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let told = |route: &Value| {
                format!("{} → {}: {}", text(&route["listener"]), text(&route["app"]), gate(route, hold))
            };
            routes.iter().map(told).collect()
        }
        _ => vec![gate(hold, hold)],
    }
}

/// One gate, and who closed it by hand.
fn gate(hold: &Value, manual: &Value) -> String {
    let reasons = hold["reasons"].as_array().map_or(&[][..], Vec::as_slice);
    if reasons.is_empty() {
        return "open".to_owned();
    }
    let seconds = |value: &Value| value.as_u64().unwrap_or(0) as f64 / 1e3;
    let mut why: Vec<String> = reasons
        .iter()
        .map(|reason| format!("{} for {:.1} s", reason["reason"].as_str().unwrap_or(""), seconds(&reason["since_ms"])))
        .collect();
    if let Some(by) = manual["by"].as_str() {
        why.push(format!("held by {by}, {:.1} s left", seconds(&manual["left_ms"])));
    }
    let oldest = match hold["oldest_ms"].is_null() {
        true => String::new(),
        false => format!(", the first for {:.1} s", seconds(&hold["oldest_ms"])),
    };
    let verb = if hold["held"] == 1 { "waits" } else { "wait" };
    format!("closed: {}; {} {verb}{oldest}", why.join(", "), counted(&hold["held"], "request"))
}

fn table(status: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut lines = String::new();
    let ready = if status["ready"] == Value::Bool(true) { "ready" } else { "not ready" };
    let flight = &status["in_flight"];
    let mut line = |name: &str, value: String| {
        writeln!(lines, "{name:<10} {value}").expect("a String takes all");
    };
    line("workload", text(&status["workload"]));
    line("version", text(&status["version"]));
    line("phase", format!("{}, {ready}", text(&status["phase"])));
    line(
        "in flight",
        format!(
            "{}, {}, {} on {}",
            counted(&flight["requests"], "request"),
            counted(&flight["tunnels"], "tunnel"),
            counted(&flight["work"], "work lease"),
            counted(&flight["connections"], "connection")
        ),
    );
    for check in status["checks"].as_object().into_iter().flat_map(|checks| checks.values()) {
        if let Some(says) = check["brake"].as_str() {
            line("brake", says.to_owned());
        }
    }
    for gate in gates(&status["hold"]) {
        line("gate", gate);
    }
    line("flags", format!("{} in force, revision {}", status["flags"]["flags"], status["flags"]["generation"]));
    let overrides = status["flags"]["overrides"].as_array().map_or(&[][..], Vec::as_slice);
    let keys: Vec<&str> = overrides.iter().filter_map(|over| over["key"].as_str()).collect();
    if !keys.is_empty() {
        line("overrides", keys.join(", "));
    }
    let mut checks = Table::new();
    checks.load_style(presets::NOTHING);
    checks.set_header(["CHECK", "CLASS", "STATUS", "ERROR"]);
    for (name, check) in status["checks"].as_object().into_iter().flatten() {
        let error = check["error"].as_str().unwrap_or("");
        checks.add_row([name.as_str(), &text(&check["class"]), &text(&check["status"]), error]);
    }
    let mut sources = Table::new();
    sources.load_style(presets::NOTHING);
    sources.set_header(["FLAG SOURCE", "STATE", "REVISION", "FLAGS", "WHY"]);
    for source in status["flags"]["sources"].as_array().into_iter().flatten() {
        let why = source["why"].as_str().unwrap_or("");
        let revision = if source["revision"].is_null() { String::new() } else { text(&source["revision"]) };
        sources.add_row([&text(&source["name"]), &text(&source["state"]), &revision, &text(&source["flags"]), why]);
    }
    format!("{lines}\n{checks}\n\n{sources}\n")
}

/// The last turns, the newest at the end.
fn history(status: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let all = status["history"].as_array().map_or(&[][..], Vec::as_slice);
    let mut turns = Table::new();
    turns.load_style(presets::NOTHING);
    turns.set_header(["TURNED", "NAME", "FROM", "TO", "WHY"]);
    for turn in &all[all.len().saturating_sub(TURNS)..] {
        turns.add_row(["at", "name", "from", "to", "why"].map(|field| text(&turn[field])));
    }
    format!("\n{turns}\n")
}
