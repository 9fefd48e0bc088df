//! Reading a scope whole, at one revision, and asking whether it moved.

use std::collections::HashMap;
use std::sync::LazyLock;

use redis::Value;
use redis::aio::ConnectionLike;
use thiserror::Error;

use super::Keys;
use crate::net::redis::script::{Lua, denied};

/// Flags that a scope may hold. A scope beyond it is refused, not read in part.
pub const MAX_FLAGS: usize = 50_000;
/// Bytes of definitions that a scope may hold: what a sidecar's memory can take.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Flags that are read at once. Beyond, the scope is read in pieces: one answer of megabytes would hold Redis up, and
/// whoever takes it apart.
const AT_ONCE: usize = 500;
/// How often reading in pieces is begun anew when the scope changes meanwhile. Then it is read at once after all.
const ATTEMPTS: usize = 3;

static READ: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("read.lua")));
static ONE: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("one.lua")));

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
    let found = ONE.call(connection, &[&keys.flags, &keys.meta, &keys.revs], &[key]).await?;
    let mut found = found.into_iter();
    let mut next = || found.next().unwrap_or(Value::Nil);
    let text = redis::from_redis_value::<Option<String>>;
    let (definition, record) = (text(next())?, text(next())?);
    let (scope, evaluators) = (redis::from_redis_value::<Option<u64>>(next())?, text(next())?);
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
    for _ in 0..ATTEMPTS {
        match script(connection, keys, AT_ONCE).await? {
            Found::Whole(remote) => return Ok(remote),
            Found::Many { rev, incarnation } => {
                if let Some(remote) = pieces(connection, keys, rev, incarnation).await? {
                    return Ok(remote);
                }
            }
        }
    }
    match script(connection, keys, MAX_FLAGS).await? {
        Found::Whole(remote) => Ok(remote),
        Found::Many { .. } => Err(Unreadable::Malformed("the script answered with too many flags".to_owned())),
    }
}

/// What the script found.
enum Found {
    Whole(Remote),
    /// More than fit one answer, at this revision.
    Many {
        rev: Option<String>,
        incarnation: Option<String>,
    },
}

async fn script(connection: &mut impl ConnectionLike, keys: &Keys, at_once: usize) -> Result<Found, Unreadable> {
    let reply = READ.call(connection, &[&keys.flags, &keys.meta], &[MAX_FLAGS, MAX_BYTES, at_once]).await?;
    let mut reply = reply.into_iter();
    let mut text = || reply.next().map(redis::from_redis_value::<Option<String>>).transpose().map(Option::flatten);
    match text().map_err(malformed)?.as_deref() {
        Some("ok") => understand(reply).map(Found::Whole),
        Some("absent") => Err(Unreadable::Absent),
        Some("large") => Err(Unreadable::Malformed(text().map_err(malformed)?.unwrap_or_default())),
        Some("many") => {
            text().map_err(malformed)?;
            Ok(Found::Many { rev: text().map_err(malformed)?, incarnation: text().map_err(malformed)? })
        }
        Some("denied") => Err(denied(&text().map_err(malformed)?.unwrap_or_default()).into()),
        other => Err(Unreadable::Malformed(format!("the script answered {other:?}"))),
    }
}

/// Reads the flags piece by piece; `None` when the scope is not at the same revision afterwards. Every write raises
/// the revision in the same step, so that an unchanged one means unchanged flags.
async fn pieces(
    connection: &mut impl ConnectionLike,
    keys: &Keys,
    rev: Option<String>,
    incarnation: Option<String>,
) -> Result<Option<Remote>, Unreadable> {
    // HSCAN may tell an element twice.
    let mut flags: HashMap<String, String> = HashMap::new();
    let (mut cursor, mut bytes) = (0u64, 0);
    loop {
        let mut piece = redis::cmd("HSCAN");
        piece.arg(&keys.flags).arg(cursor).arg("COUNT").arg(AT_ONCE);
        let (next, found): (u64, Vec<Value>) = piece.query_async(connection).await?;
        let mut found = found.into_iter().map(redis::from_redis_value::<String>);
        while let (Some(key), Some(definition)) = (found.next(), found.next()) {
            let (key, definition) = (key.map_err(malformed)?, definition.map_err(malformed)?);
            bytes += key.len() + definition.len();
            flags.insert(key, definition);
        }
        if bytes > MAX_BYTES || flags.len() > MAX_FLAGS {
            let (count, told) = (flags.len(), "flags or more; too many, or too large, to be read");
            return Err(Unreadable::Malformed(format!("{count} {told}")));
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    let meta: Vec<Value> = redis::cmd("HMGET")
        .arg(&keys.meta)
        .arg(&["rev", "incarnation", "evaluators", "metadata"])
        .query_async(connection)
        .await?;
    let remote = meta_of(&mut meta.into_iter())?;
    let same = rev == Some(remote.rev.to_string()) && incarnation.unwrap_or_default() == remote.incarnation;
    Ok(same.then(|| Remote { flags: flags.into_iter().collect(), ..remote }))
}

fn understand(mut reply: impl Iterator<Item = Value>) -> Result<Remote, Unreadable> {
    let remote = meta_of(&mut reply)?;
    let flags = redis::from_redis_value(reply.next().unwrap_or(Value::Nil)).map_err(malformed)?;
    Ok(Remote { flags, ..remote })
}

/// `rev`, `incarnation`, `evaluators`, `metadata`.
fn meta_of(reply: &mut impl Iterator<Item = Value>) -> Result<Remote, Unreadable> {
    let mut text = || redis::from_redis_value::<Option<String>>(reply.next().unwrap_or(Value::Nil)).map_err(malformed);
    let (rev, incarnation, evaluators, metadata) = (text()?, text()?, text()?, text()?);
    let rev = rev.ok_or_else(|| Unreadable::Malformed("meta holds no rev".to_owned()))?;
    let rev = rev.parse().map_err(|_| Unreadable::Malformed(format!("rev {rev:?} is not a whole number")))?;
    Ok(Remote { rev, incarnation: incarnation.unwrap_or_default(), evaluators, metadata, flags: Vec::new() })
}

/// A key or definition that is not UTF-8, say.
fn malformed(error: redis::ParsingError) -> Unreadable {
    Unreadable::Malformed(error.to_string())
}
