//! A Redis of the run's own, holding flags by Tidegate's contract: `tidegate:{bench}:…`.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use redis::Connection;
use serde_json::{Map, Value, json};

use crate::child::{Running, free_address};
use crate::lab::Lab;

const FLAGS: &str = "tidegate:{bench}:flags";
const META: &str = "tidegate:{bench}:meta";
const EVENTS: &str = "tidegate:{bench}:events";

/// A server, and a connection to write with.
pub(crate) struct Redis {
    _running: Running,
    pub(crate) address: SocketAddr,
    connection: Connection,
    revision: u64,
}

impl Redis {
    /// An empty server that keeps nothing on disk.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub(crate) fn start(lab: &Lab) -> anyhow::Result<Self> {
        let address = free_address()?;
        let dir = lab.scratch("redis")?;
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &address.port().to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.arg("--dir").arg(&dir);
        let mut running =
            Running::start("redis-server", &dir, command).context("redis-server: apt install redis-server")?;
        running.listens(address, Duration::from_millis(5))?;
        let connection = connect(address)?;
        Ok(Redis { _running: running, address, connection, revision: 0 })
    }

    /// Writes all of `flags` and the first revision.
    ///
    /// # Errors
    /// When Redis refuses.
    pub(crate) fn fill(&mut self, flags: &Map<String, Value>) -> anyhow::Result<()> {
        let pairs: Vec<_> = flags.iter().map(|(key, flag)| (key.as_str(), flag.to_string())).collect();
        self.revision = 1;
        redis::pipe()
            .atomic()
            .hset_multiple(FLAGS, &pairs)
            .ignore()
            .hset_multiple(META, &[("rev", "1"), ("incarnation", "bench")])
            .ignore()
            .query::<()>(&mut self.connection)?;
        Ok(())
    }

    /// Writes one flag and announces it, as the contract asks of any writer; returns the revision it made.
    ///
    /// # Errors
    /// When Redis refuses.
    pub(crate) fn write(&mut self, key: &str, flag: &Value) -> anyhow::Result<u64> {
        let previous = self.revision;
        self.revision += 1;
        let at = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_millis();
        let at = u64::try_from(at)?;
        let event = json!({ "rev": self.revision, "prev": previous, "set": { key: flag }, "del": [], "at": at });
        redis::pipe()
            .atomic()
            .hset(FLAGS, key, flag.to_string())
            .ignore()
            .hset(META, "rev", self.revision)
            .ignore()
            .publish(EVENTS, event.to_string())
            .ignore()
            .query::<()>(&mut self.connection)?;
        Ok(self.revision)
    }

    /// A connection for a subscriber of the events, and their channel.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub(crate) fn subscriber(&self) -> anyhow::Result<(Connection, &'static str)> {
        Ok((connect(self.address)?, EVENTS))
    }
}

fn connect(address: SocketAddr) -> anyhow::Result<Connection> {
    let client = redis::Client::open(format!("redis://{address}"))?;
    let connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(connection)
}
