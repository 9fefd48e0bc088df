//! One way to ask each kind of dependency. A probe keeps one connection between attempts; it knows nothing of
//! thresholds, intervals or the board.

mod answer;
mod app;
mod disk;
mod driver;
mod failure;
mod flags;
mod grpc;
mod http;
mod mysql;
mod postgres;
mod redis;
mod schema;
#[cfg(test)]
pub(super) mod scripted;
mod stream;
mod tcp;

pub(crate) use postgres::{hosts as postgres_hosts, split_options as split_postgres_options};

pub use failure::{Cause, Failure};
pub use flags::{Age, Ages};

use std::time::Duration;

use crate::readiness::settings::{Check, Kind};

/// A dependency that can be asked, over one connection that is made when first needed and again when lost.
#[derive(Debug)]
pub enum Probe {
    /// PostgreSQL.
    Postgres(Box<postgres::Postgres>),
    /// MySQL or MariaDB.
    Mysql(Box<mysql::Mysql>),
    /// Redis.
    Redis(Box<redis::Redis>),
    /// An HTTP server.
    Http(Box<http::Http>),
    /// A gRPC server.
    Grpc(Box<grpc::Grpc>),
    /// The app.
    App(Box<app::App>),
    /// The schema of a database.
    Schema(Box<schema::Schema>),
    /// The sources of flags.
    Flags(flags::Flags),
    /// A file system.
    Disk(disk::Disk),
    /// A TCP port.
    Tcp(tcp::Tcp),
    /// What a test wants to happen.
    #[cfg(test)]
    Scripted(scripted::Scripted),
}

impl Probe {
    /// Parses what the check is told; nothing is connected. The error is one that configuration has to put right.
    pub fn new(check: &Check) -> Result<Self, Failure> {
        match &check.kind {
            Kind::Postgres(settings) => Ok(Self::Postgres(Box::new(postgres::Postgres::new(settings)?))),
            Kind::Mysql(settings) => Ok(Self::Mysql(Box::new(mysql::Mysql::new(settings, check.timeout)?))),
            Kind::Redis(settings) => Ok(Self::Redis(Box::new(redis::Redis::new(settings, check.timeout)?))),
            Kind::Http(settings) => Ok(Self::Http(Box::new(http::Http::new(settings)?))),
            Kind::Grpc(settings) => Ok(Self::Grpc(Box::new(grpc::Grpc::new(settings)?))),
            Kind::App(settings) => Ok(Self::App(Box::new(app::App::new(settings)?))),
            Kind::Schema(settings) => Ok(Self::Schema(Box::new(schema::Schema::new(settings, check.timeout)?))),
            Kind::Flags(settings) => Ok(Self::Flags(flags::Flags::new(settings))),
            Kind::Disk(settings) => Ok(Self::Disk(disk::Disk::new(settings))),
            Kind::Tcp { address } => Ok(Self::Tcp(tcp::Tcp::new(address)?)),
        }
    }

    /// Says how old flags are asked for; other kinds do not ask.
    pub fn tell(&mut self, ages: &Ages) {
        if let Self::Flags(probe) = self {
            probe.tell(ages);
        }
    }

    /// Asks once. Takes as long as it takes: the caller bounds it.
    ///
    /// # Cancellation
    /// When dropped before the end, or after a panic, [`Probe::abandon`] has to come before the next attempt.
    pub async fn attempt(&mut self) -> Result<(), Failure> {
        match self {
            Self::Postgres(probe) => probe.attempt().await,
            Self::Mysql(probe) => probe.attempt().await,
            Self::Redis(probe) => probe.attempt().await,
            Self::Http(probe) => probe.attempt().await,
            Self::Grpc(probe) => probe.attempt().await,
            Self::App(probe) => probe.attempt().await,
            Self::Schema(probe) => probe.attempt().await,
            Self::Flags(probe) => probe.attempt(),
            Self::Disk(probe) => probe.attempt().await,
            Self::Tcp(probe) => probe.attempt().await,
            #[cfg(test)]
            Self::Scripted(probe) => probe.attempt().await,
        }
    }

    /// Gives up what an attempt left under way: closes the connection, and tells a server that would otherwise go on
    /// working for nobody; for that takes `limit` at most.
    pub async fn abandon(&mut self, limit: Duration) {
        match self {
            Self::Postgres(probe) => probe.abandon(limit).await,
            Self::Mysql(probe) => probe.abandon(),
            Self::Redis(probe) => probe.abandon(),
            Self::Http(probe) => probe.abandon(),
            Self::Grpc(probe) => probe.abandon(),
            Self::App(probe) => probe.abandon(),
            Self::Schema(probe) => probe.abandon(limit).await,
            // A look at a disk that hangs is waited for by the next attempt.
            Self::Tcp(_) | Self::Flags(_) | Self::Disk(_) => {}
            #[cfg(test)]
            Self::Scripted(probe) => probe.abandon(),
        }
    }
}
