//! Tidegate against nginx, HAProxy and bare hyper, on one machine in one run; docs/BENCHMARKS.md tells the method.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a table on stdout and progress on stderr are the output"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the harness is no part of the sidecar: it waits, and finds its peers in PATH"
)]

mod child;
mod contender;
mod flags;
mod lab;
mod measure;
mod messages;
mod readers;
mod redis;
mod report;
mod role;
mod series;
mod service;
mod tidegate;
mod usage;
mod wire;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Parser;

use crate::lab::Lab;
use crate::measure::Measure;

/// The allocator that Tidegate uses: a baseline with another one would measure the allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Compares Tidegate with nginx, HAProxy and bare hyper, side by side.
#[derive(Parser)]
#[command(name = "compare")]
struct Arguments {
    /// Only the measures of these names; --list names them.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Names the measures and ends.
    #[arg(long)]
    list: bool,
    /// Rounds in which every contender takes its turn; medians are over these.
    #[arg(long)]
    rounds: Option<usize>,
    /// Fewer rounds of fewer requests: a minute and a half, and rougher.
    #[arg(long)]
    quick: bool,
    /// The binary to measure.
    #[arg(long, env = "TIDEGATE_BIN", value_name = "FILE")]
    tidegate: Option<PathBuf>,
    /// Where to leave the figures for machines.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == "--role") {
        return role::run(arguments);
    }
    match compare(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.list {
        for measure in measure::ALL {
            println!("{:<18}{}", measure.name, measure.about);
        }
        return Ok(());
    }
    let measures = chosen(&arguments.only)?;
    let (rounds, requests, limit) = if arguments.quick { (5, 10_000, 75) } else { (15, 20_000, 420) };
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let binary = arguments.tidegate.clone().unwrap_or_else(|| target.join("dist/tidegate"));
    let tidegate = Some(binary).filter(|binary| binary.is_file());
    if tidegate.is_none() {
        eprintln!("tidegate itself is left out: build it (cargo build --profile dist) or name it in TIDEGATE_BIN");
    }
    let lab = Lab::new(tidegate, arguments.rounds.unwrap_or(rounds), requests, Duration::from_secs(limit))?;

    let mut rows = Vec::new();
    let mut broken = Vec::new();
    for measure in measures {
        if lab.is_over() {
            eprintln!("{}: left out, the time for this run is used up", measure.name);
            continue;
        }
        let begun = Instant::now();
        eprint!("{}: {} … ", measure.name, measure.about);
        // One that fails must not take the others' figures with it.
        match (measure.run)(&lab) {
            Ok(measured) => rows.extend(measured),
            Err(error) => {
                eprint!("failed: {error:#} … ");
                broken.push(measure.name);
            }
        }
        eprintln!("{:.0} s", begun.elapsed().as_secs_f64());
    }
    println!("{}", report::table(&rows));
    let json = arguments.json.clone().unwrap_or_else(|| target.join("bench/compare.json"));
    report::write(&rows, &json)?;
    eprintln!("figures in {}", json.display());
    ensure!(broken.is_empty(), "could not measure {}", broken.join(", "));
    Ok(())
}

/// The measures of these names, or all that run unasked.
fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Measure>> {
    for name in names {
        ensure!(measure::ALL.iter().any(|one| one.name == name), "no measure is called {name}: see --list");
    }
    let wanted = |one: &&Measure| if names.is_empty() { !one.on_request } else { names.iter().any(|n| n == one.name) };
    Ok(measure::ALL.iter().filter(wanted).collect())
}
