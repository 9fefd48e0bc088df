//! Sends PING to Redis over one connection.

use std::fmt;
use std::time::Duration;

use super::{Cause, Failure};
use crate::net::redis::{Connection, Endpoint, Error};
use crate::secret::Secret;

/// A Redis server.
pub struct Redis {
    endpoint: Endpoint,
    timeout: Duration,
    connection: Option<Connection>,
}

impl Redis {
    pub(super) fn new(url: &Secret, timeout: Duration) -> Result<Self, Failure> {
        let endpoint = Endpoint::new(url).map_err(|e| failure(&e))?;
        Ok(Self { endpoint, timeout, connection: None })
    }

    pub(super) async fn attempt(&mut self) -> Result<(), Failure> {
        if let Some(connection) = &mut self.connection {
            match ping(connection).await {
                Ok(()) => return Ok(()),
                // It answered: the connection is alive, the server does not serve us.
                Err(error) if error.code().is_some() => return Err(self.failure(&error)),
                Err(error) if error.is_timeout() => return Err(self.failure(&error)),
                Err(_) => self.connection = None,
            }
        }
        let connection = self.endpoint.connect(self.timeout).await.map_err(|e| failure(&e))?;
        let pinged = ping(self.connection.insert(connection)).await;
        pinged.map_err(|error| self.failure(&error))
    }

    pub(super) fn abandon(&mut self) {
        self.connection = None;
    }

    fn failure(&self, error: &redis::RedisError) -> Failure {
        failure(&self.endpoint.error(error, self.timeout))
    }
}

async fn ping(connection: &mut Connection) -> redis::RedisResult<()> {
    redis::cmd("PING").query_async(connection).await
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::Url(_) => Failure::new(Cause::Configuration, &error.to_string()),
        Error::Timeout(limit) => Failure::timeout(*limit),
        Error::Refused(text) => describe(text),
    }
}

/// The texts of the server (its error codes) and of the system, as an operator would say them.
fn describe(text: &str) -> Failure {
    const KNOWN: [(&str, Cause, &str); 11] = [
        ("NOAUTH", Cause::Credentials, "authentication required"),
        ("WRONGPASS", Cause::Credentials, "authentication failed"),
        ("AuthenticationFailed", Cause::Credentials, "authentication failed"),
        ("authentication failed", Cause::Credentials, "authentication failed"),
        ("BusyLoading", Cause::Busy, "loading its data"),
        ("LOADING", Cause::Busy, "loading its data"),
        ("refused (os error", Cause::Refused, "connection refused"),
        ("reset by peer", Cause::Lost, "connection reset"),
        ("failed to lookup address", Cause::Name, "host name not found"),
        ("parse error", Cause::Configuration, "not a Redis server: its answer is not in Redis's protocol"),
        // The library's words for a connection that ends before the answer: what other servers, and those that want
        // TLS, make of a Redis command. One that is proxied to a Redis that is gone looks the same.
        ("broken pipe", Cause::Lost, "connection closed in place of an answer; is it a Redis server, without TLS?"),
    ];
    let lower = text.to_lowercase();
    let known = KNOWN.iter().find(|(sign, ..)| lower.contains(&sign.to_lowercase()));
    match known {
        Some((_, cause, reason)) => Failure::new(*cause, reason),
        None if text.starts_with("TLS:") => Failure::new(Cause::Tls, text),
        None => Failure::new(Cause::Answer, text),
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("connected", &self.connection.is_some()).finish_non_exhaustive()
    }
}
