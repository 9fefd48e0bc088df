//! Where flags come from and how they are evaluated.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// The flag service's settings.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where flags in Redis are; `None` when no Redis is configured.
    pub redis: Option<Redis>,
    /// `flags.files`: definitions in JSON or YAML, beneath Redis; the first has the highest priority.
    pub files: Vec<PathBuf>,
    /// `flags.context`: joins every evaluation; the request's own values win.
    pub context: serde_json::Map<String, serde_json::Value>,
    /// `flags.bucketing`
    pub bucketing: Bucketing,
    /// `flags.max_stale`: a snapshot not confirmed by its source for longer makes the instance not ready.
    pub max_stale: Option<Duration>,
    /// `flags.on_missing`.
    pub on_missing: OnMissing,
    /// `flags.schedules`: whether scheduled changes are executed here.
    pub schedules: Duty,
    /// `flags.report`: whether the flags evaluated here are reported to Redis.
    pub report: Duty,
    /// `flags.overrides`.
    pub overrides: Overrides,
    /// `state_dir`: where the last known good snapshot is kept; `None` keeps none.
    pub state_dir: Option<PathBuf>,
}

impl Settings {
    /// What the sources are called, the one of highest priority first: `redis:SCOPE`, `file:PATH`.
    pub fn source_names(&self) -> impl Iterator<Item = String> {
        let scopes = self.redis.iter().flat_map(|redis| &redis.scopes).map(|scope| format!("redis:{scope}"));
        scopes.chain(self.files.iter().map(|path| format!("file:{}", path.display())))
    }
}

/// Flags in Redis.
#[derive(Debug, Clone)]
pub struct Redis {
    /// `redis.url`.
    pub url: Secret,
    /// `redis.prefix`, the first part of every key. `tidegate`.
    pub prefix: String,
    /// `flags.scopes`, highest priority first. Default: the workload's name.
    pub scopes: Vec<String>,
}

/// How `fractional` puts keys into buckets. Versions differ in what they hash and how they scale, so everyone who
/// evaluates a flag has to agree. All of them hash by MurmurHash3 x86_32 with seed 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Bucketing {
    /// flagd before 0.15: the hash without its sign as a percentage, in floating point.
    V1,
    /// flagd since 0.15: `(hash × total weight) >> 32`.
    #[default]
    V2,
    /// As version 2, over the deterministic CBOR of any value: flagd's decision for 1.0.
    V3,
}

impl Bucketing {
    /// All versions.
    pub const ALL: [Self; 3] = [Self::V1, Self::V2, Self::V3];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V3 => "v3",
        }
    }
}

/// What a start without any snapshot does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnMissing {
    /// Not started (`/startupz` 503) until every source has answered, or its last known good is in force.
    #[default]
    Wait,
    /// Started with no flags.
    Empty,
}

/// Something done for the whole fleet, by whoever may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Duty {
    /// Done where the user of Redis may write.
    #[default]
    Auto,
    /// Never done.
    Off,
}

/// Who may force flags in this process alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overrides {
    /// Nobody.
    #[default]
    Off,
    /// Whoever can open the local socket.
    Socket,
    /// And whoever asks from loopback with the header that says that it is meant.
    Local,
}
