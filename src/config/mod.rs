//! From a file, the environment and arguments to the settings of every module.

use std::path::PathBuf;

use crate::{flags, lifecycle, local, ops, proxy, readiness, telemetry};

/// Everything the sidecar is told, legal by construction.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `workload`: whose traffic this is. Default: the host name without a ReplicaSet's and pod's suffix, else `app`.
    pub workload: String,
    /// `state_dir`.
    pub state_dir: Option<PathBuf>,
    /// `log`.
    pub log: telemetry::logging::Settings,
    /// `proxy`, `workers`, `proxy_limits`, `forwarded`.
    pub proxy: proxy::Settings,
    /// `ops`.
    pub ops: ops::Settings,
    /// `local`.
    pub local: local::Settings,
    /// `drain`.
    pub drain: lifecycle::drain::Settings,
    /// `checks`.
    pub checks: readiness::Settings,
    /// `flags`, with `redis` and `state_dir`.
    pub flags: flags::Settings,
}
