//! A Redis of the run's own, holding flags by Tidegate's contract: `tidegate:{bench}:…`.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use redis::Connection;
use serde_json::{Map, Value, json};

use crate::child::{Running, free_address};
use crate::lab::Lab;
use crate::wire;

const FLAGS: &str = "tidegate:{bench}:flags";
const META: &str = "tidegate:{bench}:meta";
/// The channel of the events.
pub(crate) const EVENTS: &str = "tidegate:{bench}:events";

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

    /// Writes one flag and announces it, as the contract asks of any writer.
    ///
    /// # Errors
    /// When Redis refuses.
    pub(crate) fn write(&mut self, key: &str, flag: &Value) -> anyhow::Result<()> {
        let told = json!({ "set": { key: flag }, "del": [] });
        self.change(&[(key, flag.to_string())], told)
    }

    /// Writes all of `flags` and announces that so much has changed that a snapshot must be read.
    ///
    /// # Errors
    /// When Redis refuses.
    pub(crate) fn rewrite(&mut self, flags: &Map<String, Value>) -> anyhow::Result<()> {
        let pairs: Vec<_> = flags.iter().map(|(key, flag)| (key.as_str(), flag.to_string())).collect();
        self.change(&pairs, json!({ "truncated": true }))
    }

    fn change(&mut self, pairs: &[(&str, String)], mut event: Value) -> anyhow::Result<()> {
        let previous = self.revision;
        self.revision += 1;
        event["rev"] = self.revision.into();
        event["prev"] = previous.into();
        event["at"] = u64::try_from(SystemTime::UNIX_EPOCH.elapsed()?.as_millis())?.into();
        redis::pipe()
            .atomic()
            .hset_multiple(FLAGS, pairs)
            .ignore()
            .hset(META, "rev", self.revision)
            .ignore()
            .publish(EVENTS, event.to_string())
            .ignore()
            .query::<()>(&mut self.connection)?;
        Ok(())
    }

    /// Reads all flags as a client would that makes nothing of them.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub(crate) fn read_all(&mut self) -> anyhow::Result<Vec<(String, String)>> {
        Ok(redis::cmd("HGETALL").arg(FLAGS).query(&mut self.connection)?)
    }

    /// A connection for a subscriber of the events.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub(crate) fn subscriber(&self) -> anyhow::Result<Connection> {
        connect(self.address)
    }

    /// Waits until the events have this many subscribers.
    ///
    /// # Errors
    /// When they have not within ten seconds.
    pub(crate) fn wait_for_subscribers(&mut self, wanted: usize) -> anyhow::Result<()> {
        let limit = Instant::now() + Duration::from_secs(10);
        loop {
            let mut ask = redis::cmd("PUBSUB");
            let (_, there): (String, usize) = ask.arg("NUMSUB").arg(EVENTS).query(&mut self.connection)?;
            if there >= wanted {
                return Ok(());
            }
            ensure!(Instant::now() < limit, "{there} of {wanted} subscribers after 10 s");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Listens to what the server is asked from now on.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub(crate) fn watch(&self) -> anyhow::Result<Watch> {
        let mut stream = wire::connect(self.address)?;
        stream.write_all(b"MONITOR\r\n")?;
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        ensure!(line.starts_with("+OK"), "MONITOR is answered with {line:?}");
        Ok(Watch { lines, line })
    }
}

/// What the server was asked, with its own times.
pub(crate) struct Watch {
    lines: BufReader<TcpStream>,
    line: String,
}

impl Watch {
    /// When the flags were first read after the next announcement.
    ///
    /// # Errors
    /// When nobody has read them.
    pub(crate) fn read_after_event(&mut self) -> anyhow::Result<SystemTime> {
        self.until(|line| line.contains("\"PUBLISH\""))?;
        self.until(|line| line.contains(FLAGS) && !line.contains("\"HSET\""))
    }

    fn until(&mut self, is_meant: impl Fn(&str) -> bool) -> anyhow::Result<SystemTime> {
        loop {
            self.line.clear();
            let read = self.lines.read_line(&mut self.line).context("nobody read the flags")?;
            ensure!(read > 0, "redis closed the connection that watches");
            if is_meant(&self.line) {
                let (seconds, _) =
                    self.line.trim_start_matches('+').split_once(' ').context("a line without a time")?;
                return Ok(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds.parse()?));
            }
        }
    }
}

fn connect(address: SocketAddr) -> anyhow::Result<Connection> {
    let client = redis::Client::open(format!("redis://{address}"))?;
    let connection = client.get_connection_with_timeout(Duration::from_secs(2))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(connection)
}
