//! What an instance says of itself to its fleet: plain values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::settings::Settings;

/// Who an instance is; the same for as long as its process lives, but for the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What tells it from all others of the fleet: the pod's UID, else its name and something random.
    pub id: String,
    /// Random: tells this process from those before it in the same place.
    pub boot: String,
    /// What people call it.
    pub pod: String,
    /// The version of the app.
    pub version: Option<String>,
}

/// What it says, at one moment. What costs a heartbeat its shortness when it changes all the time (counts of requests,
/// ages) has no place here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Presence {
    /// What people call it.
    pub pod: String,
    /// The version of the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The version of the sidecar.
    pub sidecar: String,
    /// The phase.
    pub phase: String,
    /// Whether `/readyz` says ready.
    pub ready: bool,
    /// Checks and conditions that do not pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<String>,
    /// By scope, the revision of the flags in force.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub flags: BTreeMap<String, u64>,
    /// The oldest epoch that anything in flight has seen.
    pub oldest_epoch: u64,
    /// By migration, the epoch that was applied here.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub epochs: BTreeMap<String, u64>,
    /// By migration, the highest stage that the app's code knows.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub capabilities: BTreeMap<String, String>,
    /// Objects of a database schema that the app's code uses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
}

impl Identity {
    /// A new boot of the instance that is configured.
    pub fn new(settings: &Settings) -> Self {
        let pod = settings.pod.clone();
        let id = settings.pod_uid.clone().unwrap_or_else(|| beside(&pod));
        Self { id, boot: format!("{:016x}", fastrand::u64(..)), pod, version: settings.version.clone() }
    }

    /// The same process under an id that nobody else has: another one claims its own.
    pub(super) fn elsewhere(&self) -> Self {
        Self { id: beside(&self.pod), ..self.clone() }
    }
}

fn beside(pod: &str) -> String {
    format!("{pod}/{:08x}", fastrand::u32(..))
}
