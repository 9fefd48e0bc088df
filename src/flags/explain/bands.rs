//! How `fractional` put a key into the share of a variant, in numbers.

use serde::Serialize;
use serde_json::Value as Json;

use super::super::targeting::Bucketed;

/// How `fractional` chose.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bucketing {
    /// `v1`, `v2` or `v3`.
    pub version: &'static str,
    /// What was hashed: the text itself, and in version 3 the value whose CBOR is.
    pub input: Json,
    /// The targeting key, when it was joined with the flag's own key and the rule named nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targeting_key: Option<String>,
    /// Its MurmurHash3 x86_32, seed 0.
    pub hash: u32,
    /// In versions 2 and 3 a whole number below `totalWeight`; in version 1 a percentage.
    pub bucket: f64,
    /// Where from 0 to 100 the key falls.
    pub percent: f64,
    /// The sum of all weights.
    pub total_weight: i64,
    /// The share of each variant, from 0 to 100 in the order of the rule.
    pub bands: Vec<Band>,
}

/// The share of one variant.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Band {
    /// Its name, or what else the rule has in its place.
    pub variant: Json,
    /// Its weight.
    pub weight: i64,
    /// Where its share begins, in percent.
    pub from_percent: f64,
    /// Where its share ends, in percent; who falls on it belongs to the next.
    pub to_percent: f64,
    /// Whether the key falls into it.
    pub chosen: bool,
}

impl Bucketing {
    pub(super) fn new(told: Bucketed) -> Self {
        let mut end = 0;
        let percent = |weight: i64| if told.total == 0 { 0.0 } else { weight as f64 * 100.0 / told.total as f64 };
        let mut bands: Vec<Band> = told
            .shares
            .into_iter()
            .map(|(variant, weight)| {
                let from_percent = percent(end);
                end += weight;
                Band { variant, weight, from_percent, to_percent: percent(end), chosen: false }
            })
            .collect();
        if let Some(chosen) = told.chosen.and_then(|at| bands.get_mut(at)) {
            chosen.chosen = true;
        }
        Self {
            version: told.version.name(),
            input: told.input,
            targeting_key: told.targeting_key,
            hash: told.hash,
            bucket: told.bucket,
            percent: told.position * 100.0,
            total_weight: told.total,
            bands,
        }
    }

    /// The share that the key falls into.
    pub fn chosen(&self) -> Option<&Band> {
        self.bands.iter().find(|band| band.chosen)
    }

    /// The percentage in words: cut, not rounded, and to so many places that it does not seem to be in another band.
    pub(super) fn position(&self) -> String {
        let least = self.chosen().map_or(0.0, |band| band.from_percent);
        for places in 1..=8 {
            let unit = 10f64.powi(places);
            let cut = (self.percent * unit).floor() / unit;
            if cut >= least {
                return trimmed(format!("{cut:.*}", places as usize));
            }
        }
        plain(self.percent)
    }
}

/// A percentage with at most four places, none of them a zero at the end.
pub(super) fn plain(percent: f64) -> String {
    trimmed(format!("{percent:.4}"))
}

fn trimmed(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
