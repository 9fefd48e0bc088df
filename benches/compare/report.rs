//! What was measured, beside its target: a table for people, JSON for machines.

use std::fs;
use std::path::Path;

use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::series::{Series, Summary};

/// One line of the table: Tidegate's figure, those of its peers, and what was aimed at.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    /// Nothing when there is no binary to measure.
    pub(crate) tidegate: Option<Series>,
    pub(crate) peers: Vec<(String, Series)>,
    pub(crate) target: Target,
    /// Requests that were not answered as they should be, over all contenders: figures with failures mean nothing.
    pub(crate) failed: u64,
}

/// What DESIGN asks of a figure.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// At most this many times the peer's figure.
    AtMost(f64, &'static str),
    /// At least this many times the peer's figure.
    AtLeast(f64, &'static str),
    /// At most this figure, in the row's unit.
    Below(f64),
    /// Shown as a ratio to the peer's figure.
    Beside(&'static str),
    /// Shown for context.
    Context,
}

#[derive(Serialize)]
struct Record {
    what: String,
    unit: &'static str,
    tidegate: Option<Summary>,
    peers: Vec<(String, Summary)>,
    ratio: Option<Summary>,
    target: Option<String>,
    verdict: &'static str,
    failed: u64,
}

impl Row {
    fn ratio(&self) -> Option<Summary> {
        let (Target::AtMost(_, peer) | Target::AtLeast(_, peer) | Target::Beside(peer)) = self.target else {
            return None;
        };
        let (_, peer) = self.peers.iter().find(|(name, _)| name == peer)?;
        self.tidegate.as_ref()?.over(peer).summary()
    }

    fn verdict(&self) -> &'static str {
        let reached = match self.target {
            Target::AtMost(limit, _) => self.ratio().map(|ratio| ratio.median <= limit),
            Target::AtLeast(limit, _) => self.ratio().map(|ratio| ratio.median >= limit),
            Target::Below(limit) => self.tidegate.as_ref().and_then(Series::summary).map(|own| own.median <= limit),
            Target::Beside(_) | Target::Context => return "",
        };
        match reached {
            _ if self.failed > 0 => "VOID",
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        }
    }

    fn target(&self) -> Option<String> {
        match self.target {
            Target::AtMost(limit, peer) => Some(format!("≤ {limit} × {peer}")),
            Target::AtLeast(limit, peer) => Some(format!("≥ {limit} × {peer}")),
            Target::Below(limit) => Some(format!("≤ {limit} {}", self.unit)),
            Target::Beside(_) | Target::Context => None,
        }
    }

    fn record(&self) -> Record {
        Record {
            what: self.what.clone(),
            unit: self.unit,
            tidegate: self.tidegate.as_ref().and_then(Series::summary),
            peers: self.peers.iter().filter_map(|(name, series)| Some((name.clone(), series.summary()?))).collect(),
            ratio: self.ratio(),
            target: self.target(),
            verdict: self.verdict(),
            failed: self.failed,
        }
    }
}

/// The table as text: medians, with the lowest and highest round in brackets.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["what", "tidegate", "peers", "ratio", "target", ""]);
    for row in rows {
        let peers = row.peers.iter().map(|(name, series)| format!("{name} {}", shown(series.summary())));
        let verdict = match row.failed {
            0 => row.verdict().to_owned(),
            failed => format!("{}: {failed} requests failed", row.verdict()),
        };
        table.add_row([
            format!("{}, {}", row.what, row.unit),
            shown(row.tidegate.as_ref().and_then(Series::summary)),
            peers.collect::<Vec<_>>().join("\n"),
            row.ratio().map_or_else(String::new, |ratio| shown(Some(ratio))),
            row.target().unwrap_or_default(),
            verdict,
        ]);
    }
    table.to_string()
}

/// Writes the rows as JSON, making the directory if need be.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(rows: &[Row], path: &Path) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let records: Vec<_> = rows.iter().map(Row::record).collect();
    fs::write(path, serde_json::to_vec_pretty(&records)?)?;
    Ok(())
}

fn shown(summary: Option<Summary>) -> String {
    let Some(Summary { median, low, high, rounds }) = summary else { return "–".to_owned() };
    let digits = match median.abs() {
        size if size >= 1000.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    if rounds == 1 {
        format!("{median:.digits$}")
    } else {
        format!("{median:.digits$} ({low:.digits$}–{high:.digits$})")
    }
}
