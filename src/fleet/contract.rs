//! What instances and operators agree on about a fleet in Redis (docs/FLEET.md): three scripts and what they answer.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use redis::aio::ConnectionLike;
use redis::{ErrorKind, RedisError, RedisResult, Value};

use super::keys::Keys;
use super::presence::{Identity, Presence};
use crate::net::redis::script::{Lua, denied};

static BEAT: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("beat.lua")));
static LEAVE: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("leave.lua")));
static LIST: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!("list.lua")));

/// The most instances of one workload, suspects among them. Beyond, newcomers are not registered: suspects stay until
/// somebody says that they are gone.
pub const MOST: usize = 10_000;

/// An instance that went silent still counts among the whole of the fleet, of which a share fails, for so long.
const SILENT: Duration = Duration::from_secs(300);

/// How long it is known of an instance that it has left: whoever watches the fleet looks more often.
const LEFT: Duration = Duration::from_secs(300);

/// One heartbeat.
pub(super) struct Beat<'a> {
    /// Whose.
    pub(super) identity: &'a Identity,
    /// Since when it is registered, as Redis said; empty the first time.
    pub(super) joined: &'a str,
    /// For how long it is good.
    pub(super) good: Duration,
    /// What it says of itself, as JSON; empty when it is as it was.
    pub(super) says: &'a str,
    /// Shared checks that fail, and those that do no longer.
    pub(super) checks: Vec<(&'a str, Turn)>,
}

/// What is told of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Fails,
    Passes,
}

/// What Redis says to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It counts.
    Heard(Heard),
    /// The instance is not known: all of it is to be said.
    Again,
    /// Another process has registered itself as this instance, later.
    Replaced,
    /// There are too many instances.
    Full(u64),
}

/// What a heartbeat that counts learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    /// Since when the instance is registered.
    pub(super) joined: String,
    /// Instances whose heartbeat is good, this one among them.
    pub(super) live: u64,
    /// Whether the counts below may miss instances that are there: the fleet has just begun to be heard of.
    pub(super) young: bool,
    /// Instances of which those below are a part; 0 when nothing fails.
    pub(super) whole: u64,
    /// For each check that was told, on how many it fails.
    pub(super) failing: Vec<u64>,
}

/// One instance as Redis has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// What it last said of itself. What is no such thing reads as one that said nothing.
    pub says: Presence,
    /// Since when it is registered.
    pub joined: Option<SystemTime>,
    /// How long its heartbeat is still good for, or for how long it has not been any more.
    pub heard: Heartbeat,
}

/// Whether an instance is heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat {
    /// It expires after this.
    Live(Duration),
    /// It expired so long ago: the instance is suspect, not dead.
    Suspect(Duration),
}

/// What became of an eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evicted {
    /// It is no member of the fleet any more.
    Done,
    /// There is no such instance.
    Absent,
    /// Its heartbeat is good for this long yet.
    Live(Duration),
}

/// Sends a heartbeat: one round trip.
pub(super) async fn beat(connection: &mut impl ConnectionLike, keys: &Keys, beat: &Beat<'_>) -> RedisResult<Answer> {
    let failing: Vec<String> = beat.checks.iter().map(|(check, _)| keys.failing(check)).collect();
    let mut names = vec![keys.instances.as_str(), &keys.alive, &keys.young];
    names.extend(failing.iter().map(String::as_str));
    let Identity { id, boot, .. } = beat.identity;
    let (good, silent, most) = (millis(beat.good), millis(SILENT), MOST.to_string());
    let mut arguments = vec![id.as_str(), boot, beat.joined, &good, beat.says, &silent, &most];
    arguments.extend(beat.checks.iter().map(|(_, turn)| if *turn == Turn::Fails { "1" } else { "0" }));
    let reply = texts(BEAT.call(connection, &names, &arguments).await?)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| surprise(&reply));
    match reply.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["ok", joined, live, young, whole, counts @ ..] if counts.len() == beat.checks.len() => {
            Ok(Answer::Heard(Heard {
                joined: (*joined).to_owned(),
                live: number(live)?,
                young: *young != "0",
                whole: number(whole)?,
                failing: counts.iter().map(|count| number(count)).collect::<Result<_, _>>()?,
            }))
        }
        ["again"] => Ok(Answer::Again),
        ["replaced"] => Ok(Answer::Replaced),
        ["full", count] => Ok(Answer::Full(number(count)?)),
        ["denied", command] => Err(denied(command)),
        _ => Err(surprise(&reply)),
    }
}

/// Says goodbye: what the instance held up goes on without it.
pub(super) async fn leave(
    connection: &mut impl ConnectionLike,
    keys: &Keys,
    identity: &Identity,
    checks: &[String],
) -> RedisResult<()> {
    let failing: Vec<String> = checks.iter().map(|check| keys.failing(check)).collect();
    let left = keys.left(&identity.id);
    let mut names = vec![keys.instances.as_str(), &keys.alive, &left];
    names.extend(failing.iter().map(String::as_str));
    LEAVE.call(connection, &names, &[&identity.id, &identity.boot, &millis(LEFT)]).await.map(drop)
}

/// Takes a suspect out of the fleet, by an operator's word that it is gone.
pub async fn evict(connection: &mut impl ConnectionLike, keys: &Keys, id: &str) -> RedisResult<Evicted> {
    let names = [keys.instances.as_str(), &keys.alive, &keys.left(id)];
    let reply = texts(LEAVE.call(connection, &names, &[id, "", &millis(LEFT)]).await?)?;
    match reply.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["ok"] => Ok(Evicted::Done),
        ["absent"] => Ok(Evicted::Absent),
        ["live", left] => {
            let left = left.parse().map_err(|_| surprise(&reply))?;
            Ok(Evicted::Live(Duration::from_millis(left)))
        }
        _ => Err(surprise(&reply)),
    }
}

/// Whether an instance that is not there any more has said goodbye, or was evicted, in the last minutes: one that has not was
/// lost together with what else Redis knew.
pub async fn has_left(connection: &mut impl ConnectionLike, keys: &Keys, id: &str) -> RedisResult<bool> {
    redis::cmd("EXISTS").arg(keys.left(id)).query_async(connection).await
}

/// Every instance, live and suspect, by pod and id.
pub async fn list(connection: &mut impl ConnectionLike, keys: &Keys) -> RedisResult<Vec<Instance>> {
    let mut instances: Vec<Instance> = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let reply = texts(LIST.call(connection, &[&keys.instances, &keys.alive], &[&cursor]).await?)?;
        let [next, now, rows @ ..] = reply.as_slice() else { return Err(surprise(&reply)) };
        let now = now.parse::<f64>().map_err(|_| surprise(&reply))?;
        for row in rows.chunks_exact(3) {
            instances.push(instance(&row[0], &row[1], &row[2], now));
        }
        cursor.clone_from(next);
        // More than anybody who keeps to the bound has put there.
        if cursor == "0" || instances.len() > 4 * MOST {
            break;
        }
    }
    instances.sort_by(|a, b| (&a.says.pod, &a.id).cmp(&(&b.says.pod, &b.id)));
    instances.dedup_by(|a, b| a.id == b.id);
    Ok(instances)
}

fn instance(id: &str, says: &str, expires: &str, now: f64) -> Instance {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Stored {
        joined: u64,
        #[serde(flatten)]
        says: Presence,
    }
    let stored: Stored = serde_json::from_str(says).unwrap_or_default();
    let expires = expires.parse::<f64>().unwrap_or(0.0);
    let distance = Duration::try_from_secs_f64((expires - now).abs() / 1e3).unwrap_or(Duration::MAX);
    let heard = if expires > now { Heartbeat::Live(distance) } else { Heartbeat::Suspect(distance) };
    let joined = (stored.joined > 0).then_some(Duration::from_millis(stored.joined));
    let joined = joined.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(at));
    Instance { id: id.to_owned(), says: stored.says, joined, heard }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

fn texts(reply: Vec<Value>) -> RedisResult<Vec<String>> {
    reply.into_iter().map(|value| redis::from_redis_value(value).map_err(RedisError::from)).collect()
}

fn surprise(reply: &[String]) -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, "the script answered", format!("{reply:?}")))
}
