//! What checks of databases are told.

use std::time::Duration;

use crate::secret::Secret;

/// A PostgreSQL server.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// `postgres://…` URL or `key=value` string (libpq's connection string formats).
    pub url: Secret,
    /// The query; any answer without an error passes. `SELECT 1`.
    pub query: String,
    /// Which end of a replication the server has to be.
    pub role: PostgresRole,
    /// How far a standby may be behind; `None` does not look.
    pub max_lag: Option<Duration>,
}

impl Postgres {
    /// `SELECT 1` on any server.
    pub fn new(url: Secret) -> Self {
        Self { url, query: "SELECT 1".to_owned(), role: PostgresRole::Any, max_lag: None }
    }
}

/// Which end of PostgreSQL's streaming replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PostgresRole {
    /// Either.
    #[default]
    Any,
    /// One that takes writes.
    Primary,
    /// One that follows another and only reads.
    Standby,
}

/// A server of MySQL or MariaDB.
#[derive(Debug, Clone)]
pub struct Mysql {
    /// `mysql://…` or `mariadb://…`.
    pub url: Secret,
    /// The query; any answer without an error passes. `SELECT 1`.
    pub query: String,
    /// Which end of a replication the server has to be.
    pub role: MysqlRole,
    /// How far a replica may be behind; `None` does not look.
    pub max_lag: Option<Duration>,
}

impl Mysql {
    /// `SELECT 1` on any server.
    pub fn new(url: Secret) -> Self {
        Self { url, query: "SELECT 1".to_owned(), role: MysqlRole::Any, max_lag: None }
    }
}

/// Which end of MySQL's replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MysqlRole {
    /// Either.
    #[default]
    Any,
    /// One that takes writes: `read_only` is off.
    Primary,
    /// One that follows another.
    Replica,
}
