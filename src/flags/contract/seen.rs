//! Which flags the fleet evaluated when, to the hour, in one hash beside the flags.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use redis::aio::ConnectionLike;
use redis::{RedisError, RedisResult};

use super::Keys;
use crate::net::redis::script::{Lua, denied};

/// Flags told to the script at a time: more would hold Redis up.
const AT_ONCE: usize = 1000;

static SEEN: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("seen.lua")));

/// What was reported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// When the first report came.
    pub since: Option<SystemTime>,
    /// When the last one came.
    pub last: Option<SystemTime>,
    /// When a client last fetched all values at once: which of them it uses nobody knows.
    pub bulk: Option<SystemTime>,
    /// When a client last fetched all definitions: which of them it uses nobody knows.
    pub definitions: Option<SystemTime>,
    /// By flag, the hour in which it was last evaluated.
    pub flags: HashMap<String, SystemTime>,
}

/// The hash of the scope whose keys are `keys`.
fn hash(keys: &Keys) -> String {
    format!("{}seen", keys.flags.strip_suffix("flags").unwrap_or(&keys.flags))
}

/// Names, among flags, for clients that fetched all values, and all definitions.
pub const BULK: &str = "$bulk";
/// See [`BULK`].
pub const DEFINITIONS: &str = "$definitions";

/// Reports flags evaluated so long ago, and [`BULK`] and [`DEFINITIONS`]. `cursor` is 0 at first, and then what was answered: reports take turns in
/// forgetting flags that are gone.
pub async fn report(
    connection: &mut impl ConnectionLike,
    keys: &Keys,
    evaluated: &[(String, Duration)],
    cursor: u64,
) -> RedisResult<u64> {
    let mut cursor = cursor;
    let mut pieces = evaluated.chunks(AT_ONCE);
    let mut piece = pieces.next().unwrap_or_default();
    loop {
        let told: Vec<(&str, u64)> = piece.iter().map(|(key, age)| (key.as_str(), age.as_secs())).collect();
        let text = serde_json::to_string(&told).expect("texts and numbers always serialise");
        let reply = SEEN.call(connection, &[&hash(keys), &keys.flags], &[cursor.to_string(), text]).await?;
        let reply: Vec<String> = reply.into_iter().map(redis::from_redis_value).collect::<Result<_, _>>()?;
        match reply.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["ok", next] => cursor = next.parse().unwrap_or(0),
            ["denied", command] => return Err(denied(command)),
            _ => {
                let kind = redis::ErrorKind::UnexpectedReturnType;
                return Err(RedisError::from((kind, "the script answered", format!("{reply:?}"))));
            }
        }
        match pieces.next() {
            Some(next) => piece = next,
            None => return Ok(cursor),
        }
    }
}

/// Reads what was reported. What is no number there is as if it were not.
pub async fn seen(connection: &mut impl ConnectionLike, keys: &Keys) -> RedisResult<Seen> {
    let fields: HashMap<String, String> = redis::cmd("HGETALL").arg(hash(keys)).query_async(connection).await?;
    let mut flags = HashMap::with_capacity(fields.len());
    let mut found = Seen::default();
    for (key, text) in fields {
        let seconds = text.parse().ok().map(Duration::from_secs);
        let Some(at) = seconds.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(seconds)) else { continue };
        match key.as_str() {
            "$since" => found.since = Some(at),
            "$last" => found.last = Some(at),
            "$bulk" => found.bulk = Some(at),
            "$definitions" => found.definitions = Some(at),
            _ => drop(flags.insert(key, at)),
        }
    }
    Ok(Seen { flags, ..found })
}
