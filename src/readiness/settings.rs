//! What is checked, how often, and what a failure means. Below: what each kind is told.

mod database;
mod own;
mod schema;
mod service;

use std::time::Duration;

pub use database::{Mysql, MysqlRole, Postgres, PostgresRole};
pub use own::{Access, App, AppAddress, Disk, Flags};
pub use schema::{Migration, Schema, Store, Tool};
pub use service::{Grpc, Http, Redis, RedisRole, Statuses};

/// All configured checks, in the order of their names.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `checks`.
    pub checks: Vec<Check>,
}

/// One check, `checks.NAME`.
#[derive(Debug, Clone)]
pub struct Check {
    /// Its name in bodies, paths and metrics: `[a-z0-9_-]{1,63}`.
    pub name: String,
    /// What is asked.
    pub kind: Kind,
    /// What a failure means.
    pub class: Class,
    /// Whether all instances of the workload ask the same dependency: when it fails for most of them, that is no reason to
    /// take them all out.
    pub shared: bool,
    /// Between the starts of two attempts; each is jittered by up to 10 %. 5 s.
    pub interval: Duration,
    /// An attempt that takes longer has failed. 1 s.
    pub timeout: Duration,
    /// Successes in a row that turn a failing check to ok. 1.
    pub rise: u32,
    /// Failures in a row that turn a passing check to failed. 3.
    pub fall: u32,
    /// A result older than this is a failure, whatever it said. Default: 3 × interval + timeout.
    pub max_staleness: Duration,
}

impl Check {
    /// A check of which nothing but name and kind is said: the defaults named above.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        let (interval, timeout) = (Duration::from_secs(5), Duration::from_secs(1));
        Self {
            name: name.into(),
            shared: kind.is_shared(),
            kind,
            class: Class::default(),
            interval,
            timeout,
            rise: 1,
            fall: 3,
            max_staleness: interval * 3 + timeout,
        }
    }
}

/// What a failing check means for the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Class {
    /// Not ready.
    #[default]
    Critical,
    /// Ready, and said in the body.
    Degraded,
    /// Ready; for people to read.
    Info,
}

impl Class {
    /// The name in configuration, bodies and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Degraded => "degraded",
            Self::Info => "info",
        }
    }
}

/// What a check asks.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Runs a query on PostgreSQL.
    Postgres(Postgres),
    /// Runs a query on MySQL or MariaDB.
    Mysql(Mysql),
    /// Sends `PING` to Redis, and looks at its cluster and replication.
    Redis(Redis),
    /// Asks an HTTP server.
    Http(Http),
    /// Asks a gRPC server.
    Grpc(Grpc),
    /// Asks the app itself.
    App(App),
    /// Looks whether a database has what the code needs.
    Schema(Schema),
    /// Looks how old the flags are.
    Flags(Flags),
    /// Looks how much of a disk is free.
    Disk(Disk),
    /// Opens a TCP connection and closes it.
    Tcp {
        /// `HOST:PORT`.
        address: String,
    },
}

impl Kind {
    /// Whether checks of this kind are shared unless they say otherwise.
    pub fn is_shared(&self) -> bool {
        matches!(self.as_str(), "postgres" | "mysql" | "redis")
    }

    /// The name in configuration and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Mysql(_) => "mysql",
            Self::Redis(_) => "redis",
            Self::Http(_) => "http",
            Self::Grpc(_) => "grpc",
            Self::App(_) => "app",
            Self::Schema(_) => "schema",
            Self::Flags(_) => "flags",
            Self::Disk(_) => "disk",
            Self::Tcp { .. } => "tcp",
        }
    }
}
