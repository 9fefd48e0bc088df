//! Why a flag has the value it has: the evaluation itself, watched, as data and in plain words. Pure.

mod bands;
mod logic;
#[cfg(test)]
mod tests;
mod text;
mod trace;
mod words;

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value as Json;

pub use bands::{Band, Bucketing};
pub use trace::{Read, Step};

use super::context::Context;
use super::evaluate::{ErrorCode, Failure, decide};
use super::store::Snapshot;
use trace::Recorder;

/// Why a flag has the value it has. It serialises as documented in `docs/API.md`, and prints as text for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The flag's key.
    pub flag: String,
    /// The layer it is from: `redis:orders`, `file:/etc/flags.json`.
    pub source: String,
    /// The id of its set, the Redis scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flag_set_id: Option<String>,
    /// The layer's own revision.
    pub revision: u64,
    /// The snapshot's revision, `Tidegate-Revision`.
    pub generation: u64,
    /// Whether a source has not confirmed what it last gave.
    pub stale: bool,
    /// `ENABLED` or `DISABLED`.
    pub state: &'static str,
    /// The type of its values: `boolean`, `string`, `integer`, `float` or `object`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its variants' values by name.
    pub variants: BTreeMap<String, Json>,
    /// The variant that holds when targeting decides nothing; `null` leaves it to the application.
    pub default_variant: Option<String>,
    /// The metadata that its answers carry.
    pub metadata: Json,
    /// The rule as it was evaluated; absent when the flag has none or is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targeting: Option<Step>,
    /// How many parts of the rule are left out of `targeting`, which is bounded.
    #[serde(skip_serializing_if = "is_zero")]
    pub omitted: usize,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// A resolution, as evaluation answers it.
    Resolved {
        /// `STATIC`, `TARGETING_MATCH`, `DEFAULT`, `DISABLED` or `STALE`.
        reason: &'static str,
        /// The variant; absent when the application's own default holds.
        #[serde(skip_serializing_if = "Option::is_none")]
        variant: Option<String>,
        /// Its value.
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<Json>,
    },
    /// An error.
    #[serde(rename_all = "camelCase")]
    Failed {
        /// OpenFeature's code.
        error_code: &'static str,
        /// What is wrong, for people.
        error_details: String,
    },
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Evaluates the flag `key` as [`evaluate`](super::evaluate::evaluate) does, and tells how it came to its result. What
/// the rule looked at is part of the answer, personal data included. It costs some microseconds and is no part of any
/// other evaluation.
///
/// # Errors
/// [`ErrorCode::FlagNotFound`] alone; a rule that fails is explained, with its error as the outcome.
pub fn explain(snapshot: &Snapshot, key: &str, context: &Context<'_>, now: SystemTime) -> Result<Explanation, Failure> {
    let Some(entry) = snapshot.get(key) else {
        return Err(Failure { code: ErrorCode::FlagNotFound, details: format!("flag {key:?} does not exist") });
    };
    let flag = entry.flag();
    let recorder = Recorder::default();
    let resolution = decide(snapshot, entry, context, now, snapshot.bucketing(), &recorder);
    let (targeting, omitted) = recorder.finish();
    let outcome = match resolution {
        Ok(resolution) => Outcome::Resolved {
            reason: resolution.reason.name(),
            variant: resolution.variant.map(|variant| variant.name().to_owned()),
            value: resolution.variant.map(|variant| parsed(variant.value_json())),
        },
        Err(failure) => Outcome::Failed { error_code: failure.code.name(), error_details: failure.details },
    };
    let layer = &snapshot.layers()[entry.layer()];
    Ok(Explanation {
        flag: flag.key().to_owned(),
        source: layer.name.to_string(),
        flag_set_id: layer.flag_set_id.as_deref().map(str::to_owned),
        revision: layer.revision,
        generation: snapshot.generation(),
        stale: snapshot.is_stale(entry),
        state: if flag.enabled() { "ENABLED" } else { "DISABLED" },
        kind: flag.kind().name(),
        variants: flag.variants().iter().map(|v| (v.name().to_owned(), parsed(v.value_json()))).collect(),
        default_variant: flag.default_variant().map(|variant| variant.name().to_owned()),
        metadata: parsed(entry.metadata_json()),
        targeting,
        omitted,
        outcome,
    })
}

/// Text that was made as JSON.
fn parsed(json: &str) -> Json {
    serde_json::from_str(json).unwrap_or(Json::Null)
}
