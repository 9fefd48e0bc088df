//! Who an instance is among its fleet, where the fleet meets, and when it holds the brake.

use std::time::Duration;

use crate::secret::Secret;

/// `fleet`, with what it needs of `redis` and `workload`.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where the fleet meets; `None` when no Redis is configured.
    pub redis: Option<Redis>,
    /// `workload`: whose fleet it is.
    pub workload: String,
    /// `fleet.register`.
    pub register: Register,
    /// `fleet.pod`: what people call this instance. The host name.
    pub pod: String,
    /// `fleet.pod_uid`: what tells this pod from every other, over restarts of its containers.
    pub pod_uid: Option<String>,
    /// `fleet.version`: of the app.
    pub version: Option<String>,
    /// `fleet.brake`.
    pub brake: Brake,
}

/// The Redis of a fleet.
#[derive(Debug, Clone)]
pub struct Redis {
    /// `redis.url`.
    pub url: Secret,
    /// `redis.prefix`.
    pub prefix: String,
}

/// Whether an instance tells the fleet of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Register {
    /// Where Redis is configured and its user may write.
    #[default]
    Auto,
    /// Never; then no brake holds here either.
    Off,
}

/// When a failing shared check counts as degraded, because most of the fleet fails it too.
#[derive(Debug, Clone, PartialEq)]
pub struct Brake {
    /// `fleet.brake.panic_threshold`: it holds from a larger share of instances on. 0.5; `None` never brakes.
    pub panic_threshold: Option<f64>,
    /// `fleet.brake.release_threshold`: it is let go once no larger share fails. 0.3.
    pub release_threshold: f64,
    /// `fleet.brake.hold`: for so long at most, and no less than a third of it, at random. 15 s.
    pub hold: Duration,
    /// `fleet.brake.min_instances`: it never holds in a smaller fleet. 2.
    pub min_instances: u32,
}

impl Default for Brake {
    fn default() -> Self {
        Self { panic_threshold: Some(0.5), release_threshold: 0.3, hold: Duration::from_secs(15), min_instances: 2 }
    }
}
