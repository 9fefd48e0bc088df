//! How Redis is reached: one place that parses its URL, connects within a time limit and keeps the password out of
//! every error text.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use thiserror::Error;
use tokio::time::timeout;

use crate::secret::Secret;

/// A Redis server, not yet connected to.
#[derive(Clone)]
pub struct Endpoint {
    url: Secret,
    client: redis::Client,
}

/// Why Redis could not be used.
#[derive(Debug, Error)]
pub enum Error {
    /// The URL is not one of `redis://`, `rediss://`, `redis+unix://`, `unix://`.
    #[error("redis URL: {0}")]
    Url(String),
    /// No connection, or the server refused us.
    #[error("{0}")]
    Refused(String),
    /// Nothing within the limit.
    #[error("no answer from redis within {0:?}")]
    Timeout(Duration),
}

impl Endpoint {
    /// Parses a URL. Nothing is connected.
    pub fn new(url: &Secret) -> Result<Self, Error> {
        let client = redis::Client::open(url.expose()).map_err(|e| Error::Url(url.scrub(&e.to_string())))?;
        Ok(Self { url: url.clone(), client })
    }

    /// A new connection that pipelines the requests of its clones, within `limit`.
    pub async fn connect(&self, limit: Duration) -> Result<MultiplexedConnection, Error> {
        match timeout(limit, self.client.get_multiplexed_async_connection()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(e)) => Err(Error::Refused(self.scrub(&e))),
            Err(_) => Err(Error::Timeout(limit)),
        }
    }

    /// The client, for what a plain connection does not do (push messages).
    pub fn client(&self) -> &redis::Client {
        &self.client
    }

    /// An error's text without the URL's password.
    pub fn scrub(&self, error: &redis::RedisError) -> String {
        self.url.scrub(&error.to_string())
    }
}
