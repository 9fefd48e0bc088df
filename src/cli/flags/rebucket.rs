//! `flags rebucket`: who would get another variant if `flags.bucketing` were another version.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args as ClapArgs, ValueEnum};

use super::answer::{rows, say};
use super::{Failure, Output, evaluate, files};
use crate::config::Settings;
use crate::flags::rebucket::{Report, Sample, rebucket};
use crate::flags::settings::Bucketing;

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct Args {
    /// The version in use [default: `flags.bucketing`]
    #[arg(long, value_enum)]
    from: Option<Version>,
    /// The version to try
    #[arg(long, value_enum)]
    to: Version,
    /// Users to try, a line each: a targeting key, or a context as a JSON object; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "sample")]
    keys: Option<PathBuf>,
    /// How many made-up users to try
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sample: u32,
    /// Definitions in files, instead of what redis holds
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
}

/// A bucketing version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Version {
    V1,
    V2,
    V3,
}

impl From<Version> for Bucketing {
    fn from(version: Version) -> Self {
        match version {
            Version::V1 => Self::V1,
            Version::V2 => Self::V2,
            Version::V3 => Self::V3,
        }
    }
}

pub(super) async fn run(
    args: &Args,
    scope: Option<&str>,
    settings: &Settings,
    output: Output,
) -> Result<String, Failure> {
    let text = match &args.keys {
        Some(path) => files::text(path)?,
        None => String::new(),
    };
    let mut samples = Vec::new();
    for (at, line) in text.lines().enumerate() {
        match Sample::read(line) {
            Ok(sample) => samples.extend(sample),
            Err(e) => return Err(Failure::usage(format!("line {} of the keys: {e}", at + 1))),
        }
    }
    if args.keys.is_none() {
        samples.extend(Sample::generated(args.sample as usize));
    }
    if samples.is_empty() {
        return Err(Failure::usage("there is nobody to try; write a key a line"));
    }
    let snapshot = evaluate::snapshot(&args.file, scope, settings).await?;
    let from = args.from.map_or(settings.flags.bucketing, Bucketing::from);
    let report = rebucket(&snapshot, from, args.to.into(), &samples, SystemTime::now());
    let value = serde_json::to_value(&report).map_err(|e| Failure::failed(e.to_string()))?;
    say(&value, output, || {
        let table = if report.flags.is_empty() { String::new() } else { rows(Report::HEADER, report.rows()) };
        let plain = match report.unaffected {
            0 => "every flag spreads keys".to_owned(),
            1 => "1 flag spreads no keys and stays as it is".to_owned(),
            n => format!("{n} flags spread no keys and stay as they are"),
        };
        format!("{table}{plain}, {} to {}\n", report.from, report.to)
    })
}
