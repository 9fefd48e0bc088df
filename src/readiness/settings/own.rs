//! What checks of the sidecar's own surroundings are told: the app, the disk, the flags.

use std::path::PathBuf;
use std::time::Duration;

use super::service::Statuses;

/// The app itself, where the proxy sends requests.
#[derive(Debug, Clone)]
pub struct App {
    /// Where it listens.
    pub address: AppAddress,
    /// Asked with `GET`; `None` only connects.
    pub path: Option<String>,
    /// The statuses that pass. 200–399.
    pub status: Statuses,
}

/// Where an app listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppAddress {
    /// Host, without brackets, and port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

/// A file system.
#[derive(Debug, Clone)]
pub struct Disk {
    /// A directory on it.
    pub path: PathBuf,
    /// Bytes that must be free for whoever is not root.
    pub min_free: u64,
    /// Percent of the file system that must be. 5.
    pub min_free_percent: u32,
    /// Whether writing is tried.
    pub access: Access,
}

/// What is tried in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Nothing: only how much is free is asked.
    #[default]
    Space,
    /// A small file is written, made durable and removed.
    Write,
}

/// The sources of flags.
#[derive(Debug, Clone)]
pub struct Flags {
    /// For how long a source may not have confirmed what is served.
    pub max_age: Duration,
    /// `redis:SCOPE` or `file:PATH`; empty for all.
    pub sources: Vec<String>,
}
