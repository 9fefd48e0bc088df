//! A connection: commands over a link to one server, and in a cluster over others when keys live or move elsewhere.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, RedisFuture, RedisResult, ServerError, Value};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::url::Kind;
use super::{Endpoint, Error, Greeting, Node, cluster, dial};

/// First wait for a cluster that is rearranging itself; doubles.
const FIRST_WAIT: Duration = Duration::from_millis(5);
/// Longest such wait.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// A connection that pipelines the commands of whoever holds it. Closed, with the tasks that drive it, on drop.
pub struct Connection {
    endpoint: Endpoint,
    link: Link,
    /// To the node that a key is being moved to.
    asked: Option<Link>,
    /// Which of the two carried the last command.
    last: Last,
    limit: Duration,
    moves: Moves,
}

/// One server's worth of a connection.
pub(super) struct Link {
    pub(super) commands: MultiplexedConnection,
    node: Node,
    /// Reads and writes the socket; aborted on drop.
    _driver: JoinSet<()>,
}

/// What is done about keys that live with another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moves {
    /// The connection leads there from then on.
    Followed,
    /// The command fails: subscriptions would be left behind.
    Reported,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Own,
    Asked,
}

/// How far a write got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// The server has no replica.
    Alone,
    /// This many replicas have it.
    Replicas(u64),
    /// No replica said in time that it has it.
    Nobody,
    /// It was not to be asked, or we may not (`+role`, `+wait`).
    Unasked,
}

impl Confirmed {
    /// Whether a failover would keep the write; `None` when there is nothing to fail over to, or nobody asked.
    pub fn known(self) -> Option<bool> {
        match self {
            Self::Alone | Self::Unasked => None,
            Self::Replicas(_) => Some(true),
            Self::Nobody => Some(false),
        }
    }

    /// What whoever wrote should know.
    pub fn warning(self) -> Option<&'static str> {
        let warning = "no replica of redis has confirmed it yet: a failover right now would lose it";
        (self == Self::Nobody).then_some(warning)
    }
}

/// What a server's error asks for.
enum Step {
    Ask(String),
    Moved(String),
    /// Somebody else is the master now.
    Renew,
    Wait,
}

impl Step {
    /// `None` when the error is the answer.
    fn of(error: &ServerError) -> Option<Self> {
        let address = || Some(error.details()?.split_ascii_whitespace().nth(1)?.to_owned());
        match error.code() {
            "ASK" => address().map(Self::Ask),
            "MOVED" => address().map(Self::Moved),
            "READONLY" => Some(Self::Renew),
            "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" => Some(Self::Wait),
            _ => None,
        }
    }
}

impl Link {
    pub(super) fn new(commands: MultiplexedConnection, node: Node, driver: JoinSet<()>) -> Self {
        Self { commands, node, _driver: driver }
    }

    /// Asks the server what it is; `HELLO` needs no permission.
    pub(super) async fn greet(&mut self) -> RedisResult<Greeting> {
        let fields: HashMap<String, Value> = redis::cmd("HELLO").query_async(&mut self.commands).await?;
        let role = fields.get("role").and_then(|role| redis::from_redis_value_ref(role).ok()).unwrap_or_default();
        Ok(Greeting { role })
    }
}

impl Connection {
    pub(super) fn new(endpoint: Endpoint, link: Link, limit: Duration, moves: Moves) -> Self {
        Self { endpoint, link, asked: None, last: Last::Own, limit, moves }
    }

    /// Subscribes to a channel, of a connection made by [`Endpoint::connect_with_push`]. Answered once the server
    /// has confirmed: what is published from then on arrives.
    pub async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        self.link.commands.subscribe(channel).await
    }

    /// Subscribes to a shard channel; `false` when the server knows none (before Redis 7).
    pub async fn subscribe_sharded(&mut self, channel: &str) -> RedisResult<bool> {
        let subscribed = redis::cmd("SSUBSCRIBE").arg(channel).query_async::<Value>(&mut self.link.commands).await;
        match subscribed {
            Ok(_) => Ok(true),
            Err(error) if error.detail().is_some_and(|text| text.contains("unknown command")) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The server that this leads to.
    pub fn node(&self) -> &Node {
        &self.link.node
    }

    /// Whether the server says that it is a replica, which takes no writes. One that does not say is none.
    pub async fn is_replica(&mut self) -> bool {
        self.link.greet().await.is_ok_and(|greeting| greeting.role == "replica")
    }

    pub(super) fn leads_to(&self, node: &Node) -> bool {
        self.link.node == *node
    }

    /// Connects anew, to whichever server is the right one by now.
    ///
    /// # Cancellation
    /// What was there stays.
    pub async fn renew(&mut self, key: &str) -> Result<(), Error> {
        let fresh = self.endpoint.connect_for(key, self.limit).await?;
        let moves = self.moves;
        *self = fresh;
        self.moves = moves;
        Ok(())
    }

    /// Waits until a replica (`wait_replicas` of the URL, or as many as there are) has what was last written over this
    /// connection, at most `limit`: Redis replicates after
    /// it has answered, so that a failover may lose what was acknowledged (<https://redis.io/docs/latest/commands/wait/>).
    pub async fn confirm(&mut self, limit: Duration) -> RedisResult<Confirmed> {
        let replicas = self.endpoint.0.target.wait_replicas;
        if replicas == 0 {
            return Ok(Confirmed::Unasked);
        }
        let commands = match (&mut self.asked, self.last) {
            (Some(asked), Last::Asked) => &mut asked.commands,
            _ => &mut self.link.commands,
        };
        let role: Vec<Value> = redis::cmd("ROLE").query_async(commands).await?;
        let there = match role.get(2) {
            Some(Value::Array(replicas)) => replicas.len(),
            _ => 0,
        };
        if there == 0 {
            // Behind Sentinels there are replicas: they are away.
            let watched = matches!(self.endpoint.0.target.kind, Kind::Sentinel { .. });
            return Ok(if watched { Confirmed::Nobody } else { Confirmed::Alone });
        }
        // The answer must come before the command counts as unanswered.
        let limit = limit.min(self.limit / 2).as_millis();
        let wanted = replicas.min(u64::try_from(there).unwrap_or(u64::MAX));
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let have: u64 = redis::cmd("WAIT").arg(wanted).arg(limit).query_async(commands).await?;
        Ok(if have >= wanted { Confirmed::Replicas(have) } else { Confirmed::Nobody })
    }

    /// Sends a command, wherever its key lives; waits, within half the limit, for a cluster that is rearranging itself.
    /// All that is tried again here was refused by the server, so that nothing is done twice.
    async fn command(&mut self, cmd: &Cmd) -> RedisResult<Value> {
        let until = Instant::now() + self.limit / 2;
        let mut wait = FIRST_WAIT;
        let mut ask: Option<Node> = None;
        loop {
            let answer = match ask.take() {
                Some(node) => self.ask(&node, cmd).await?,
                None => {
                    self.last = Last::Own;
                    self.link.commands.send_packed_command(cmd).await?
                }
            };
            let Value::ServerError(error) = &answer else { return Ok(answer) };
            let Some(step) = self.step(error) else { return Ok(answer) };
            if Instant::now() >= until {
                return Ok(answer);
            }
            match step {
                Step::Ask(address) => ask = self.neighbour(&address),
                Step::Moved(address) => match self.neighbour(&address) {
                    Some(node) => self.follow(&node).await?,
                    None => return Ok(answer),
                },
                Step::Renew => {
                    let renewed = self.endpoint.connect(self.limit / 2).await;
                    let renewed = renewed.map_err(|e| std::io::Error::other(e.to_string()))?;
                    *self = Self { limit: self.limit, ..renewed };
                }
                Step::Wait => {}
            }
            if ask.is_none() {
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }

    /// What there is to do about an error here.
    fn step(&self, error: &ServerError) -> Option<Step> {
        let kind = &self.endpoint.0.target.kind;
        match (Step::of(error)?, kind, self.moves) {
            (step @ (Step::Ask(_) | Step::Wait), Kind::Cluster { .. }, _)
            | (step @ Step::Moved(_), Kind::Cluster { .. }, Moves::Followed)
            | (step @ Step::Renew, Kind::Cluster { .. } | Kind::Sentinel { .. }, Moves::Followed) => Some(step),
            _ => None,
        }
    }

    /// The node at an address that our own told.
    fn neighbour(&self, address: &str) -> Option<Node> {
        let (host, port) = address.rsplit_once(':')?;
        cluster::beside(&self.link.node, host.trim_matches(['[', ']']), port.parse().ok()?)
    }

    async fn follow(&mut self, node: &Node) -> RedisResult<()> {
        self.link = self.open(node).await?;
        self.asked = None;
        Ok(())
    }

    /// Sends one command to the node that is taking the slot over.
    async fn ask(&mut self, node: &Node, cmd: &Cmd) -> RedisResult<Value> {
        if self.asked.as_ref().is_none_or(|link| link.node != *node) {
            self.asked = Some(self.open(node).await?);
        }
        let link = self.asked.as_mut().expect("just opened, or there");
        self.last = Last::Asked;
        let asked = async {
            redis::cmd("ASKING").query_async::<()>(&mut link.commands).await?;
            link.commands.send_packed_command(cmd).await
        };
        let answer = asked.await;
        if answer.is_err() {
            self.asked = None;
        }
        answer
    }

    async fn open(&self, node: &Node) -> RedisResult<Link> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(self.limit));
        let login = &self.endpoint.0.target.login;
        let opening = dial::open(&self.endpoint, node, login, ProtocolVersion::RESP2, config);
        super::within(self.limit, opening).await.map_err(|e| std::io::Error::other(e.to_string()).into())
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(self.command(cmd))
    }

    /// Pipelines go to the link's own server; keys that live elsewhere are an error.
    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.link.commands.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.link.commands.get_db()
    }
}
