//! The audit log: who changed which flag from what to what, when and why.

use std::collections::HashMap;
use std::time::SystemTime;

use redis::aio::ConnectionLike;
use redis::streams::StreamRangeReply;

use super::Keys;
use super::writer::millis;

/// Entries asked for at a time.
const PAGE: usize = 500;

/// One operation of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
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
}

/// The newest `count` entries, of `key` or of all flags, newest first.
pub async fn entries(
    connection: &mut impl ConnectionLike,
    keys: &Keys,
    key: Option<&str>,
    count: usize,
) -> redis::RedisResult<Vec<Entry>> {
    let mut found = Vec::new();
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
        let Some(last) = page.ids.last() else { return Ok(found) };
        before = format!("({}", last.id);
        for entry in page.ids {
            if found.len() == count {
                return Ok(found);
            }
            let entry = Entry::from_fields(entry.map);
            if key.is_none_or(|key| entry.key == key) {
                found.push(entry);
            }
        }
    }
}

impl Entry {
    /// A field that is missing is empty: the log is for people, and a writer may have left something out.
    fn from_fields(mut fields: HashMap<String, redis::Value>) -> Self {
        let mut text = |name| {
            fields.remove(name).and_then(|value| redis::from_redis_value::<String>(value).ok()).unwrap_or_default()
        };
        Self {
            rev: text("rev").parse().unwrap_or(0),
            at: millis(&text("at")),
            actor: text("actor"),
            op: text("op"),
            key: text("key"),
            before: text("before"),
            after: text("after"),
            note: text("note"),
        }
    }
}
