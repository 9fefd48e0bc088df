//! One way to ask each kind of dependency. A probe keeps one connection between attempts; it knows nothing of
//! thresholds, intervals or the board.

mod driver;
mod failure;
mod http;
mod postgres;
mod redis;
#[cfg(test)]
pub(super) mod scripted;
mod tcp;

pub(crate) use postgres::split_options as split_postgres_options;

pub use failure::{Cause, Failure};

use std::time::Duration;

use crate::readiness::settings::{Check, Kind};

/// A dependency that can be asked, over one connection that is made when first needed and again when lost.
#[derive(Debug)]
pub enum Probe {
    /// PostgreSQL.
    Postgres(Box<postgres::Postgres>),
    /// Redis.
    Redis(Box<redis::Redis>),
    /// An HTTP server.
    Http(Box<http::Http>),
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
            Kind::Redis { url } => Ok(Self::Redis(Box::new(redis::Redis::new(url, check.timeout)?))),
            Kind::Http { url, host, status } => {
                Ok(Self::Http(Box::new(http::Http::new(url, host.as_deref(), *status)?)))
            }
            Kind::Tcp { address } => Ok(Self::Tcp(tcp::Tcp::new(address)?)),
        }
    }

    /// Asks once. Takes as long as it takes: the caller bounds it.
    ///
    /// # Cancellation
    /// When dropped before the end, or after a panic, [`Probe::abandon`] has to come before the next attempt.
    pub async fn attempt(&mut self) -> Result<(), Failure> {
        match self {
            Self::Postgres(probe) => probe.attempt().await,
            Self::Redis(probe) => probe.attempt().await,
            Self::Http(probe) => probe.attempt().await,
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
            Self::Redis(probe) => probe.abandon(),
            Self::Http(probe) => probe.abandon(),
            Self::Tcp(_) => {}
            #[cfg(test)]
            Self::Scripted(probe) => probe.abandon(),
        }
    }
}
