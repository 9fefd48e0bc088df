//! How Redis is reached, be it one server, a master that Sentinels agree on or a cluster: one place that parses its URL,
//! finds the right server, connects and answers within a time limit, and keeps passwords out of every error text.

mod cluster;
mod connection;
mod dial;
mod login;
pub mod script;
mod sentinel;
mod url;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo};
use thiserror::Error;
use tokio::time::timeout;

pub use self::connection::{Confirmed, Connection};
use self::connection::{Link, Moves};
use self::url::{Kind, Target};
use crate::secret::Secret;

/// Servers of a cluster that are remembered beside those of the URL.
const REMEMBERED: usize = 256;

/// How often a deployment of several servers is asked for the right one within a limit.
const ATTEMPTS: u32 = 3;

/// A Redis deployment, not yet connected to. Clones share what was learned about it.
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

struct Inner {
    url: Secret,
    target: Target,
    /// The nodes of a cluster, those that answered last in front.
    known: Mutex<Vec<Node>>,
    /// The highest configuration epoch that Sentinels told.
    epoch: AtomicU64,
}

/// Where one server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Host, without brackets, and port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

/// Why Redis could not be used. No text carries the URL's passwords.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The URL is not one of `redis://`, `rediss://`, `redis+sentinel://`, `redis+cluster://`, `unix:` and their like.
    #[error("redis URL: {0}")]
    Url(String),
    /// No connection, or the server refused us.
    #[error("{0}")]
    Refused(String),
    /// Nothing within the limit.
    #[error("no answer from redis within {0:?}")]
    Timeout(Duration),
}

/// What `HELLO` tells of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Greeting {
    /// `master` or `replica`.
    role: String,
}

impl Endpoint {
    /// Parses a URL. Nothing is connected, and no file is read.
    pub fn new(url: &Secret) -> Result<Self, Error> {
        let target = url::parse(url)?;
        let known = match &target.kind {
            Kind::Cluster { seeds } => seeds.clone(),
            _ => Vec::new(),
        };
        Ok(Self(Arc::new(Inner { url: url.clone(), target, known: Mutex::new(known), epoch: AtomicU64::new(0) })))
    }

    /// Whether keys live on several servers, so that [`Endpoint::connect_for`] leads to different ones.
    pub fn is_cluster(&self) -> bool {
        matches!(self.0.target.kind, Kind::Cluster { .. })
    }

    /// The hosts of the URL, without brackets.
    pub fn hosts(&self) -> Vec<String> {
        let nodes = match &self.0.target.kind {
            Kind::Single(node) => std::slice::from_ref(node),
            Kind::Sentinel { sentinels, .. } => sentinels,
            Kind::Cluster { seeds } => seeds,
        };
        let host = |node: &Node| match node {
            Node::Tcp(host, _) => Some(host.clone()),
            Node::Unix(_) => None,
        };
        nodes.iter().filter_map(host).collect()
    }

    /// A new connection, within `limit`; each command sent over it has `limit` to be answered. It follows keys that
    /// live elsewhere in a cluster.
    ///
    /// # Cancellation
    /// Dropping the future closes what was opened.
    pub async fn connect(&self, limit: Duration) -> Result<Connection, Error> {
        self.reach(None, limit).await
    }

    /// As [`Endpoint::connect`], to the server that has `key`.
    pub async fn connect_for(&self, key: &str, limit: Duration) -> Result<Connection, Error> {
        self.reach(Some(key), limit).await
    }

    /// A connection to each server that holds a part of the keys: one, or every master of a cluster.
    pub async fn connect_all(&self, limit: Duration) -> Result<Vec<Connection>, Error> {
        if !self.is_cluster() {
            return Ok(vec![self.connect(limit).await?]);
        }
        let mut connections = Vec::new();
        for node in cluster::masters(self, limit).await? {
            let config = AsyncConnectionConfig::new().set_response_timeout(Some(limit));
            let link = within(limit, self.open_master(&node, ProtocolVersion::RESP2, config)).await?;
            connections.push(Connection::new(self.clone(), link, limit, Moves::Followed));
        }
        Ok(connections)
    }

    /// A connection to the server that has `key` and that also takes subscriptions: messages and the library's own
    /// `Disconnection` go to `push`, which must not block. It stays with its server: a key that moved away for good is
    /// an error. Needs RESP3, that is Redis 6 or later.
    pub async fn connect_with_push(
        &self,
        key: &str,
        limit: Duration,
        push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<Connection, Error> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(limit)).set_push_sender(move |info| {
            push(info);
            Ok::<(), redis::aio::SendError>(())
        });
        let opening = async {
            let node = self.locate(Some(key), limit).await?;
            let link = self.open_master(&node, ProtocolVersion::RESP3, config).await?;
            Ok(Connection::new(self.clone(), link, limit, Moves::Reported))
        };
        within(limit, opening).await
    }

    /// Whether `key` is, as far as can be told, still with the server that `connection` leads to: what a server that was
    /// replaced and cannot know it would not say itself. Nobody to ask is no reason to doubt.
    pub async fn still_with(&self, connection: &Connection, key: &str, limit: Duration) -> bool {
        match &self.0.target.kind {
            Kind::Single(_) => true,
            _ => match within(limit, self.locate(Some(key), limit)).await {
                Ok(node) => connection.leads_to(&node),
                Err(_) => true,
            },
        }
    }

    /// The error in our words, without the URL's passwords.
    pub fn error(&self, error: &redis::RedisError, limit: Duration) -> Error {
        if error.is_timeout() { Error::Timeout(limit) } else { Error::Refused(self.scrub(error)) }
    }

    /// An error's text without the URL's passwords, with the remedy when a permission is missing.
    pub fn scrub(&self, error: &redis::RedisError) -> String {
        if script::is_read_only(error) {
            return self.read_only();
        }
        if script::is_elsewhere(error) {
            return "redis is a node of a cluster here, and keeps a part of the keys: write redis+cluster://"
                .to_owned();
        }
        let text = self.clean(&error.to_string());
        // Where in a script of ours it happened helps nobody who has its name and not its text.
        let text = match text.split_once(" script: ") {
            Some((what, place)) if place.contains("@user_script") => what.to_owned(),
            _ => text,
        };
        match missing_permission(&text) {
            Some(grant) => format!("{text}: {grant}"),
            None => text,
        }
    }

    /// What there is to do about a server that turns out to be a replica.
    pub fn read_only(&self) -> String {
        let remedy = match self.0.target.kind {
            Kind::Single(_) => "name its master, or redis+sentinel:// or redis+cluster://, which follow it",
            Kind::Sentinel { .. } | Kind::Cluster { .. } => "its master is not known yet",
        };
        format!("redis is a read-only replica here: {remedy}")
    }

    /// Where several servers may be the right one, the one that is said to be may hang, while the others are just about
    /// to find that out: the limit is for several attempts then.
    async fn reach(&self, key: Option<&str>, limit: Duration) -> Result<Connection, Error> {
        let attempts = if matches!(self.0.target.kind, Kind::Single(_)) { 1 } else { ATTEMPTS };
        let each = limit / attempts;
        for _ in 1..attempts {
            match within(each, self.attempt(key, each, limit)).await {
                Err(Error::Timeout(_)) => {}
                outcome => return outcome,
            }
        }
        let last = within(each, self.attempt(key, each, limit)).await;
        last.map_err(|error| if matches!(error, Error::Timeout(_)) { Error::Timeout(limit) } else { error })
    }

    async fn attempt(&self, key: Option<&str>, each: Duration, limit: Duration) -> Result<Connection, Error> {
        let node = self.locate(key, each).await?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(limit));
        let link = self.open_master(&node, ProtocolVersion::RESP2, config).await?;
        Ok(Connection::new(self.clone(), link, limit, Moves::Followed))
    }

    /// Where `key` is, or anything that answers.
    async fn locate(&self, key: Option<&str>, limit: Duration) -> Result<Node, Error> {
        match &self.0.target.kind {
            Kind::Single(node) => Ok(node.clone()),
            Kind::Sentinel { sentinels, master } => sentinel::master(self, sentinels, master, limit).await,
            Kind::Cluster { .. } => cluster::owner(self, key, limit).await,
        }
    }

    /// Opens a link; what Sentinels call the master must think so itself, or it is the old one that they replaced, or
    /// the new one that they have not promoted yet.
    async fn open_master(
        &self,
        node: &Node,
        protocol: ProtocolVersion,
        config: AsyncConnectionConfig,
    ) -> Result<Link, Error> {
        let mut link = dial::open(self, node, &self.0.target.login, protocol, config).await?;
        if let Kind::Sentinel { master, .. } = &self.0.target.kind {
            let greeting = link.greet().await.map_err(|e| Error::Refused(self.scrub(&e)))?;
            if greeting.role != "master" {
                let role = greeting.role;
                return Err(Error::Refused(format!(
                    "{node} is the master {master:?} to the sentinels and says {role}"
                )));
            }
        }
        Ok(link)
    }

    /// The known nodes of a cluster, those that answered last in front.
    fn known(&self) -> Vec<Node> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers which node answered, which did not, and which there are.
    fn remember(&self, answered: &Node, silent: &[Node], told: Vec<Node>) {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        for node in told {
            if known.len() < REMEMBERED && !known.contains(&node) {
                known.push(node);
            }
        }
        known.sort_by_key(|node| (node != answered, silent.contains(node)));
    }

    /// A text from elsewhere without our passwords.
    fn clean(&self, text: &str) -> String {
        let mut text = self.0.url.scrub(text);
        let Target { login, sentinel_login, .. } = &self.0.target;
        for password in [login.password(), sentinel_login.password()].into_iter().flatten() {
            text = Secret::new(password).scrub(&text);
        }
        text
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(limit, work).await.unwrap_or(Err(Error::Timeout(limit)))
}

/// What to grant, from the words of Redis about a permission that is missing.
fn missing_permission(text: &str) -> Option<String> {
    let manual = "docs/REDIS.md, Access control";
    if let Some((_, rest)) = text.split_once("no permissions to run the '") {
        let command = rest.split('\'').next().unwrap_or_default();
        return Some(format!("grant +{command} ({manual})"));
    }
    if !text.contains("NOPERM") && !text.contains("can't run this command") && !text.contains("o permissions") {
        return None;
    }
    Some(match text {
        _ if text.contains("channel") => format!("grant the channels, as &tidegate:* ({manual})"),
        _ if text.contains("key") => format!("grant the keys, as ~tidegate:* ({manual})"),
        _ => format!("grant every command that the scripts use ({manual})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_url_is_refused_without_its_password() {
        for url in
            ["http://u:s3cret@h/", "redis://u:s3cret@h:port/", "", "redis+sentinel://:s3cret@h", "rediss://h/#insecure"]
        {
            let Err(error) = Endpoint::new(&Secret::new(url)) else { panic!("{url} was accepted") };
            assert!(matches!(error, Error::Url(_)), "{error:?}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_missing_permission_is_named() {
        for (text, expected) in [
            ("NOPERM this user has no permissions to run the 'ssubscribe' command", Some("+ssubscribe")),
            ("NOPERM User x has no permissions to run the 'config|get' command", Some("+config|get")),
            ("NOPERM this user has no permissions to access one of the keys used as arguments", Some("~tidegate:*")),
            (
                "NOPERM this user has no permissions to access one of the channels used as arguments",
                Some("&tidegate:*"),
            ),
            ("The user executing the script can't run this command or subcommand script: 1", Some("every command")),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", None),
        ] {
            let said = missing_permission(text);
            assert_eq!(said.is_some(), expected.is_some(), "{text}: {said:?}");
            assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()), "{text}");
        }
    }

    #[tokio::test]
    async fn nobody_listening_is_an_answer() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("an ephemeral port");
        let address = listener.local_addr().expect("bound");
        let endpoint = Endpoint::new(&Secret::new(format!("redis://:s3cret@{address}"))).expect("a legal URL");
        // Accepted by the kernel, never answered.
        let silent = endpoint.connect(Duration::from_millis(50)).await.err();
        assert_eq!(silent, Some(Error::Timeout(Duration::from_millis(50))));
        drop(listener);
        let Some(Error::Refused(text)) = endpoint.connect(Duration::from_secs(5)).await.err() else {
            panic!("connected to nobody")
        };
        assert!(text.contains("refused") && !text.contains("s3cret"), "{text}");
    }
}
