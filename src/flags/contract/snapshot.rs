//! Reading a scope whole, at one revision, and asking whether it moved.

use std::sync::LazyLock;

use redis::aio::ConnectionLike;
use redis::{Script, Value};
use thiserror::Error;

use super::Keys;

/// Flags that a scope may hold. A scope beyond it is refused, not read in part.
pub const MAX_FLAGS: usize = 50_000;
/// Bytes of definitions that a scope may hold: what a sidecar's memory can take.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;

static READ: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("read.lua")));

/// A scope as it is in Redis, not yet understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remote {
    /// Its revision.
    pub rev: u64,
    /// Random, chosen when the scope was created; empty when the writer chose none.
    pub incarnation: String,
    /// The shared rules, `$evaluators` of a document, as JSON.
    pub evaluators: Option<String>,
    /// Metadata of all flags, as JSON.
    pub metadata: Option<String>,
    /// Key and definition, in no order.
    pub flags: Vec<(String, String)>,
}

/// Why there is no snapshot.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// The scope has no `meta`: nobody ever wrote it, or Redis lost its data.
    #[error("redis holds no meta for the scope")]
    Absent,
    /// The scope is there and is not one.
    #[error("{0}")]
    Malformed(String),
    /// Redis did not answer.
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
}

/// A scope's place in its history. Equal heads mean equal content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `rev` as it stands there; compared, not computed with.
    pub rev: Option<String>,
    /// `incarnation`.
    pub incarnation: Option<String>,
}

/// One flag, with what is needed to change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct One {
    /// The definition; `None` when there is no such flag.
    pub definition: Option<String>,
    /// What a change of it expects: the flag's revision, 0 when there is none.
    pub rev: u64,
    /// The shared rules it may refer to.
    pub evaluators: Option<String>,
}

/// Reads one flag, at one revision.
pub async fn one(connection: &mut impl ConnectionLike, keys: &Keys, key: &str) -> redis::RedisResult<One> {
    type Found = (Option<String>, Option<String>, (Option<u64>, Option<String>));
    let (definition, record, (scope, evaluators)): Found = redis::pipe()
        .atomic()
        .hget(&keys.flags, key)
        .hget(&keys.revs, key)
        .hmget(&keys.meta, &["rev", "evaluators"])
        .query_async(connection)
        .await?;
    let recorded = record.and_then(|record| record.split(' ').next()?.parse().ok());
    // Without a record it counts as written at the scope's revision, as in the script.
    let rev = if definition.is_some() { recorded.or(scope).unwrap_or(0) } else { 0 };
    Ok(One { definition, rev, evaluators })
}

/// Asks for the scope's head: O(1) on the server.
pub async fn head(connection: &mut impl ConnectionLike, keys: &Keys) -> redis::RedisResult<Head> {
    let (rev, incarnation) =
        redis::cmd("HMGET").arg(&keys.meta).arg("rev").arg("incarnation").query_async(connection).await?;
    Ok(Head { rev, incarnation })
}

/// Reads the scope at one revision.
pub async fn read(connection: &mut impl ConnectionLike, keys: &Keys) -> Result<Remote, Unreadable> {
    let reply: Vec<Value> =
        READ.key(&keys.flags).key(&keys.meta).arg(MAX_FLAGS).arg(MAX_BYTES).invoke_async(connection).await?;
    let mut reply = reply.into_iter();
    match reply.next().map(redis::from_redis_value::<String>).transpose().map_err(redis::RedisError::from)?.as_deref() {
        Some("ok") => understand(reply),
        Some("absent") => Err(Unreadable::Absent),
        Some("large") => {
            let text = reply.next().map(redis::from_redis_value::<String>).transpose().map_err(malformed)?;
            Err(Unreadable::Malformed(text.unwrap_or_default()))
        }
        other => Err(Unreadable::Malformed(format!("the script answered {other:?}"))),
    }
}

fn understand(mut reply: impl Iterator<Item = Value>) -> Result<Remote, Unreadable> {
    let mut text = || redis::from_redis_value::<Option<String>>(reply.next().unwrap_or(Value::Nil)).map_err(malformed);
    let (rev, incarnation, evaluators, metadata) = (text()?, text()?, text()?, text()?);
    let rev = rev.ok_or_else(|| Unreadable::Malformed("meta holds no rev".to_owned()))?;
    let rev = rev.parse().map_err(|_| Unreadable::Malformed(format!("rev {rev:?} is not a whole number")))?;
    let flags = redis::from_redis_value(reply.next().unwrap_or(Value::Nil)).map_err(malformed)?;
    Ok(Remote { rev, incarnation: incarnation.unwrap_or_default(), evaluators, metadata, flags })
}

/// A key or definition that is not UTF-8, say.
fn malformed(error: redis::ParsingError) -> Unreadable {
    Unreadable::Malformed(error.to_string())
}
