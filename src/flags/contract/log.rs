//! The audit log: who changed which flag from what to what, when and why.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use redis::aio::ConnectionLike;
use redis::streams::{StreamId, StreamRangeReply, StreamReadReply};

use super::Keys;
use super::writer::millis;

/// Entries asked for at a time.
const PAGE: usize = 500;

/// One operation of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the stream.
    pub id: String,
    /// The revision it made.
    pub rev: u64,
    /// When, by the clock of Redis.
    pub at: Option<SystemTime>,
    /// Who.
    pub actor: String,
    /// `set` or `del`.
    pub op: String,
    /// The flag, or `$evaluators`, `$metadata`.
    pub key: String,
    /// The definition before; empty when there was none.
    pub before: String,
    /// The definition after; empty when there is none.
    pub after: String,
    /// Why.
    pub note: String,
    /// How many operations the change had; 0 when its writer did not say.
    pub of: u64,
}

/// The newest `count` entries, of `key` or of all flags, newest first.
pub async fn entries(
    connection: &mut impl ConnectionLike,
    keys: &Keys,
    key: Option<&str>,
    count: usize,
) -> redis::RedisResult<Vec<Entry>> {
    let mut found = Vec::new();
    walk(connection, keys, |entry| {
        if found.len() == count {
            return ControlFlow::Break(());
        }
        if key.is_none_or(|key| entry.key == key) {
            found.push(entry);
        }
        ControlFlow::Continue(())
    })
    .await?;
    Ok(found)
}

/// Shows every entry, newest first, until `visit` has seen enough.
pub async fn walk(
    connection: &mut impl ConnectionLike,
    keys: &Keys,
    mut visit: impl FnMut(Entry) -> ControlFlow<()>,
) -> redis::RedisResult<()> {
    let mut before = "+".to_owned();
    loop {
        let page: StreamRangeReply = redis::cmd("XREVRANGE")
            .arg(&keys.log)
            .arg(&before)
            .arg("-")
            .arg("COUNT")
            .arg(PAGE)
            .query_async(connection)
            .await?;
        let Some(last) = page.ids.last() else { return Ok(()) };
        before = format!("({}", last.id);
        for entry in page.ids {
            if visit(Entry::from(entry)).is_break() {
                return Ok(());
            }
        }
    }
}

/// The entries that follow `id` (`0` is before all), oldest first, a page at most. When there are none it waits for one as
/// long as `wait` says, which must be less than the connection's own limit, and holds the connection meanwhile.
pub async fn following(
    connection: &mut impl ConnectionLike,
    keys: &Keys,
    id: &str,
    wait: Duration,
) -> redis::RedisResult<Vec<Entry>> {
    let reply: Option<StreamReadReply> = redis::cmd("XREAD")
        .arg("COUNT")
        .arg(PAGE)
        .arg("BLOCK")
        .arg(wait.as_millis().max(1) as u64)
        .arg("STREAMS")
        .arg(&keys.log)
        .arg(id)
        .query_async(connection)
        .await?;
    let streams = reply.map(|reply| reply.keys).unwrap_or_default();
    Ok(streams.into_iter().flat_map(|stream| stream.ids).map(Entry::from).collect())
}

impl From<StreamId> for Entry {
    /// A field that is missing is empty: the log is for people, and a writer may have left something out.
    fn from(entry: StreamId) -> Self {
        let mut fields: HashMap<String, redis::Value> = entry.map;
        let mut text = |name| {
            fields.remove(name).and_then(|value| redis::from_redis_value::<String>(value).ok()).unwrap_or_default()
        };
        Self {
            id: entry.id,
            rev: text("rev").parse().unwrap_or(0),
            at: millis(&text("at")),
            actor: text("actor"),
            op: text("op"),
            key: text("key"),
            before: text("before"),
            after: text("after"),
            note: text("note"),
            of: text("of").parse().unwrap_or(0),
        }
    }
}
