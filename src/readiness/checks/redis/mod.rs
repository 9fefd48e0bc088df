//! Sends PING to Redis over one connection, and looks at the state of its cluster and replication.

mod replication;

use std::fmt;
use std::time::Duration;

use super::{Cause, Failure};
use crate::net::redis::{Connection, Endpoint, Error};
use crate::readiness::settings::{self, RedisRole as Role};

/// A Redis server.
pub struct Redis {
    endpoint: Endpoint,
    timeout: Duration,
    settings: settings::Redis,
    connection: Option<Connection>,
}

impl Redis {
    pub(super) fn new(settings: &settings::Redis, timeout: Duration) -> Result<Self, Failure> {
        let endpoint = Endpoint::new(&settings.url).map_err(|e| failure(&e))?;
        Ok(Self { endpoint, timeout, settings: settings.clone(), connection: None })
    }

    pub(super) async fn attempt(&mut self) -> Result<(), Failure> {
        self.ask("PING", &[]).await?;
        if self.endpoint.is_cluster() {
            let info = self.ask("CLUSTER", &["INFO"]).await?;
            replication::cluster(&info)?;
        }
        let settings::Redis { role, max_lag, min_replicas, .. } = self.settings;
        if role == Role::Any && max_lag.is_none() && min_replicas == 0 {
            return Ok(());
        }
        let info = self.ask("INFO", &["replication"]).await?;
        replication::judge(&info, role, max_lag, min_replicas).inspect_err(|_| {
            // After a failover the name leads elsewhere; this connection never would.
            self.connection = None;
        })
    }

    /// Sends a command that is answered by a text; over a new connection when the one before was lost.
    async fn ask(&mut self, command: &str, arguments: &[&str]) -> Result<String, Failure> {
        let command = redis::cmd(command).arg(arguments).to_owned();
        if let Some(connection) = &mut self.connection {
            match command.query_async(connection).await {
                Ok(answer) => return Ok(answer),
                // It answered: the connection is alive, the server does not serve us.
                Err(error) if error.code().is_some() => return Err(self.failure(&error)),
                Err(error) if error.is_timeout() => return Err(self.failure(&error)),
                Err(_) => self.connection = None,
            }
        }
        let connection = self.endpoint.connect(self.timeout).await.map_err(|e| failure(&e))?;
        let answer = command.query_async(self.connection.insert(connection)).await;
        answer.map_err(|error| self.failure(&error))
    }

    pub(super) fn abandon(&mut self) {
        self.connection = None;
    }

    fn failure(&self, error: &redis::RedisError) -> Failure {
        failure(&self.endpoint.error(error, self.timeout))
    }
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
    const KNOWN: [(&str, Cause, &str); 13] = [
        ("max number of clients", Cause::Busy, "too many connections: the server has as many clients as it may"),
        ("NOAUTH", Cause::Credentials, "authentication required"),
        ("WRONGPASS", Cause::Credentials, "authentication failed"),
        ("without any password configured", Cause::Credentials, "authentication failed: the server wants no password"),
        ("BusyLoading", Cause::Busy, "loading its data"),
        ("LOADING", Cause::Busy, "loading its data"),
        ("refused (os error", Cause::Refused, "connection refused"),
        ("reset by peer", Cause::Lost, "connection reset"),
        ("failed to lookup address", Cause::Name, "host name not found"),
        ("cluster support disabled", Cause::Configuration, "not a cluster: the server's cluster support is off"),
        ("unknown command 'SENTINEL'", Cause::Configuration, "not a Sentinel"),
        ("parse error", Cause::Configuration, "not a Redis server: its answer is not in Redis's protocol"),
        // The library's words for a connection that ends before the answer: what other servers, and those that want
        // TLS, make of a Redis command. One that is proxied to a Redis that is gone looks the same.
        ("broken pipe", Cause::Lost, "connection closed in place of an answer; is it a Redis server, without TLS?"),
    ];
    // What went wrong with a Sentinel is not what is wrong with Redis.
    if let Some((whose, why)) = text.split_once("\" is: ").filter(|_| text.starts_with("no sentinel tells")) {
        if why.contains("No such master") {
            let name = whose.split_once('"').map_or("", |(_, name)| name);
            return Failure::new(Cause::Configuration, &format!("no sentinel knows a master \"{name}\""));
        }
        let why = describe(why);
        return Failure::new(why.cause, &format!("{whose}\" is: {why}"));
    }
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
