//! Writing: one script, compare-and-set, all or nothing. Whoever writes has compiled the definitions before.

use std::io;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use redis::RedisError;
use redis::aio::ConnectionLike;
use serde::Serialize;
use thiserror::Error;
use tokio::time::{Instant, sleep};

use super::Keys;
use crate::net::redis::script::{Lua, denied};
use crate::net::redis::{Confirmed, Connection};

/// How long a write whose answer was lost is pursued: a failover's time, with room.
const PATIENCE: Duration = Duration::from_secs(20);
/// First wait before it is sent again; doubles, jittered by half.
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// Longest such wait.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// How long a replica may take to have a write.
const CONFIRM: Duration = Duration::from_secs(1);

static WRITE: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("write.lua")));

/// Operations that belong together, and who asks for them.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// The scope's revision this change was made against; `None` does not ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<u64>,
    /// Whether a scope that is not there is made. A Redis that lost its data has none, and then sidecars would take
    /// what is written first for all there is.
    pub create: bool,
    /// Who, for the log and for whoever loses a race against this change.
    pub actor: String,
    /// Why, for the log.
    pub note: String,
    /// What.
    pub ops: Vec<Op>,
}

/// One write.
#[derive(Debug, Clone, Serialize)]
pub struct Op {
    /// Where.
    #[serde(rename = "in")]
    pub place: Place,
    /// The flag's key; in `meta`, `evaluators` or `metadata`.
    pub key: String,
    /// The JSON text to write; `None` removes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// The revision of the flag this write was made against, 0 for "not there"; `None` does not ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<u64>,
}

/// The hash that is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A flag.
    Flags,
    /// What all flags of the scope share.
    Meta,
}

/// A change that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The scope's revision now, and the flags' of this change.
    pub rev: u64,
    /// The scope's revision before; 0 when this change created the scope.
    pub prev: u64,
    /// By the clock of Redis.
    pub at: SystemTime,
    /// Whether a failover would keep it.
    pub confirmed: Confirmed,
}

/// Who won a race, or wrote something last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The flag, or "" when the scope's revision was asked for.
    pub key: String,
    /// The revision in place; 0 when the flag is gone.
    pub rev: u64,
    /// Empty when the log no longer knows.
    pub actor: String,
    /// By the clock of Redis.
    pub at: Option<SystemTime>,
}

/// Why nothing was written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// Somebody else wrote in between.
    #[error("lost a race: {} is at revision {}, written by {}", if .0.key.is_empty() { "the scope" } else { &.0.key }, .0.rev, if .0.actor.is_empty() { "somebody" } else { &.0.actor })]
    Lost(Lost),
    /// There is no such scope, and it was not to be made.
    #[error("the scope is not in redis")]
    Uncreated,
    /// There is nothing to remove.
    #[error("there is no flag {0:?}")]
    Absent(String),
    /// The script refused.
    #[error("{0}")]
    Refused(String),
    /// Redis did not answer, or refused; whether the change was made is not known when the answer was lost.
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
}

/// Makes the change, or none of it, and waits until a replica has it, if there is one (`wait_replicas` of the URL).
///
/// An answer that was lost is asked for again, over a new connection to whichever server is the master by then: the
/// script knows the write by a name drawn here, so that it is made once. A write that only a failed master had is made
/// anew on the one that took its place.
///
/// # Cancellation
/// Once sent, the change is made whether or not the answer is waited for.
pub async fn write(connection: &mut Connection, keys: &Keys, change: &Change) -> Result<Written, WriteError> {
    #[derive(Serialize)]
    struct Request<'a> {
        incarnation: String,
        #[serde(flatten)]
        change: &'a Change,
    }
    // The script has no randomness of its own: what it draws is the same on every server.
    let random = || format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let request = serde_json::to_string(&Request { incarnation: random(), change })
        .map_err(|e| WriteError::Refused(format!("the change is not JSON: {e}")))?;
    let name = random();
    let until = Instant::now() + PATIENCE;
    let mut wait = FIRST_WAIT;
    let mut doubt = false;
    loop {
        let error = match once(connection, keys, &name, &request).await {
            Err(WriteError::Redis(error)) if lost(&error) || (doubt && passing(&error)) => error,
            answer => return answer,
        };
        doubt = true;
        loop {
            if Instant::now() >= until {
                let text = format!("{error}; whether the change was made is not known: look at the log");
                return Err(WriteError::Redis(io::Error::new(io::ErrorKind::ConnectionAborted, text).into()));
            }
            sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
            if connection.renew(&keys.meta).await.is_ok() {
                break;
            }
        }
    }
}

/// Whether the connection failed: what was sent may have been done.
fn lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.code() == Some("READONLY")
}

/// Whether a server refuses only for now, as one does that is just taking over.
fn passing(error: &RedisError) -> bool {
    matches!(error.code(), Some("LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK"))
}

async fn once(connection: &mut Connection, keys: &Keys, name: &str, request: &str) -> Result<Written, WriteError> {
    let keys_of = [&keys.flags, &keys.meta, &keys.revs, &keys.log, &keys.written].map(String::as_str);
    let reply = WRITE.call(connection, &keys_of, &[&keys.events, request, name]).await?;
    let reply: Vec<String> = reply
        .into_iter()
        .map(redis::from_redis_value)
        .collect::<Result<_, _>>()
        .map_err(|e| WriteError::Refused(e.to_string()))?;
    let reply: Vec<&str> = reply.iter().map(String::as_str).collect();
    match reply.as_slice() {
        ["ok", rev, prev, at] => match (rev.parse(), prev.parse(), millis(at)) {
            (Ok(rev), Ok(prev), Some(at)) => {
                let confirmed = match connection.confirm(CONFIRM).await {
                    // The master that answered is gone: only its successor can tell whether the write outlived it.
                    Err(error) if lost(&error) => return Err(error.into()),
                    outcome => outcome.unwrap_or(Confirmed::Unasked),
                };
                Ok(Written { rev, prev, at, confirmed })
            }
            _ => Err(WriteError::Refused(format!("written, but the script answered {reply:?}"))),
        },
        ["lost", key, rev, actor, at] => Err(WriteError::Lost(Lost {
            key: (*key).to_owned(),
            rev: rev.parse().map_err(|_| WriteError::Refused(format!("the script answered {reply:?}")))?,
            actor: (*actor).to_owned(),
            at: millis(at),
        })),
        ["uncreated"] => Err(WriteError::Uncreated),
        ["absent", key] => Err(WriteError::Absent((*key).to_owned())),
        ["bad", text] => Err(WriteError::Refused((*text).to_owned())),
        ["denied", command] => Err(denied(command).into()),
        _ => Err(WriteError::Refused(format!("the script answered {reply:?}"))),
    }
}

/// Who wrote each flag of the scope last, by flag key. Flags whose writer kept no record are left out.
pub async fn last_writes(connection: &mut impl ConnectionLike, keys: &Keys) -> redis::RedisResult<Vec<(String, Lost)>> {
    let records: Vec<(String, String)> = redis::cmd("HGETALL").arg(&keys.revs).query_async(connection).await?;
    Ok(records.into_iter().filter_map(|(key, record)| Some((key.clone(), Lost::parse(key, &record)?))).collect())
}

impl Lost {
    /// Reads a record of the `revs` hash: `REV AT ACTOR`.
    fn parse(key: String, record: &str) -> Option<Self> {
        let mut parts = record.splitn(3, ' ');
        let (rev, at, actor) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        Some(Self { key, rev, actor: actor.to_owned(), at: millis(at) })
    }
}

/// Milliseconds since the epoch, as the scripts write them.
pub(super) fn millis(text: &str) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(text.parse().ok()?))
}
