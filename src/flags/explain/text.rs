//! An explanation as text for people.

use std::fmt;

use super::trace::Step;
use super::{Explanation, Outcome};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is", self.flag)?;
        match &self.outcome {
            Outcome::Resolved { variant: Some(variant), value: Some(value), .. } => {
                writeln!(f, " {value}, its variant `{variant}`: {}", self.because())?;
            }
            Outcome::Resolved { .. } => writeln!(f, " left to the application's own default: {}", self.because())?,
            Outcome::Failed { error_code, error_details } => {
                writeln!(f, " an error, and the application's own default holds: {error_details} ({error_code})")?;
            }
        }
        write!(f, "\nThe flag\n  comes from {}, revision {}", self.source, self.revision)?;
        writeln!(f, " (generation {} here)", self.generation)?;
        if self.stale {
            writeln!(f, "  may be out of date: a source has not confirmed what it last gave")?;
        }
        let state = if self.state == "ENABLED" { "is switched on (ENABLED)" } else { "is switched off (DISABLED)" };
        writeln!(f, "  {state} and of type {}", self.kind)?;
        for (name, value) in &self.variants {
            let default = if self.default_variant.as_deref() == Some(name) { ", the default" } else { "" };
            writeln!(f, "  has the variant `{name}`: {value}{default}")?;
        }
        if self.default_variant.is_none() {
            writeln!(f, "  has no default variant: the application's own default holds instead")?;
        }
        if let Some(step) = &self.targeting {
            writeln!(f, "\nThe rule, as it was followed")?;
            write_step(step, 1, f)?;
        }
        if self.omitted > 0 {
            writeln!(f, "  … and {} more parts that are not shown", self.omitted)?;
        }
        Ok(())
    }
}

impl Explanation {
    fn because(&self) -> &'static str {
        match &self.outcome {
            Outcome::Resolved { reason: "DISABLED", .. } => "the flag is switched off (DISABLED)",
            Outcome::Resolved { reason: "STATIC", .. } => "it has no rule (STATIC)",
            Outcome::Resolved { reason: "TARGETING_MATCH", .. } => "its rule chose it (TARGETING_MATCH)",
            Outcome::Resolved { reason: "DEFAULT", .. } if self.targeting.is_none() => {
                "it has no rule and no default variant (DEFAULT)"
            }
            Outcome::Resolved { reason: "DEFAULT", .. } => "its rule chose nothing (DEFAULT)",
            Outcome::Resolved { reason: "STALE", .. } if self.targeting.is_none() => {
                "it has no rule; its source does not confirm it (STALE)"
            }
            Outcome::Resolved { .. } => "its rule says so; its source does not confirm it (STALE)",
            Outcome::Failed { .. } => "",
        }
    }
}

fn write_step(step: &Step, level: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{:indent$}- {}", "", step.says, indent = level * 2)?;
    if let (Some(error), true) = (&step.error, step.steps.iter().all(|step| step.error.is_none())) {
        writeln!(f, "{:indent$}{error}", "", indent = level * 2 + 2)?;
    }
    if let Some(bucketing) = &step.bucketing {
        for band in bucketing.bands.iter().filter(|_| bucketing.bands.len() > 1) {
            let (from, to) = (super::bands::plain(band.from_percent), super::bands::plain(band.to_percent));
            let chosen = if band.chosen { "  ← here" } else { "" };
            writeln!(f, "{:indent$}{}: {from}–{to} %{chosen}", "", band.variant, indent = level * 2 + 4)?;
        }
    }
    step.steps.iter().try_for_each(|step| write_step(step, level + 1, f))
}
