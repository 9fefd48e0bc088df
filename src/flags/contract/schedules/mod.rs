//! Schedules in Redis: their keys, and the four scripts that everybody uses who looks at, makes or executes them. Knows
//! a schedule only as a text.

use std::sync::LazyLock;

use redis::aio::ConnectionLike;
use redis::{ErrorKind, RedisError, RedisResult, Value};
use serde::Serialize;

use super::Keys;
use crate::net::redis::script::{Lua, denied};

/// Schedules that a scope may hold, those that are over included.
pub const MOST: usize = 1000;

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| Lua::new(concat!(include_str!("base.lua"), include_str!($file))))
    };
}

static GLANCE: LazyLock<Lua> = script!("glance.lua");
static PREPARE: LazyLock<Lua> = script!("prepare.lua");
static AMEND: LazyLock<Lua> = script!("amend.lua");
static STEP: LazyLock<Lua> = script!("step.lua");

/// The keys of a scope that schedules need beside those of its flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Hash: id → schedule.
    pub schedule: String,
    /// Sorted set: id → when it is next due, in ms since the epoch; infinite while it is paused.
    pub due: String,
    /// String that expires: who executes.
    pub lease: String,
    /// Hash: flag key → the state it was in before schedules wrote it.
    pub bases: String,
    /// Pub/sub channel: ids of schedules that somebody made or changed.
    pub channel: String,
}

impl Places {
    /// Those of the scope whose keys are `keys`.
    pub fn of(keys: &Keys) -> Self {
        let stem = keys.flags.strip_suffix("flags").unwrap_or(&keys.flags);
        Self {
            schedule: format!("{stem}schedule"),
            due: format!("{stem}schedule:due"),
            lease: format!("{stem}schedule:lease"),
            bases: format!("{stem}schedule:bases"),
            channel: format!("{stem}schedule:events"),
        }
    }
}

/// What is due first, and who executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// By the clock of Redis, in ms since the epoch.
    pub now: u64,
    /// The schedule that is due first, and when; without a time it is paused, as all are then.
    pub first: Option<(String, Option<u64>)>,
    /// Who holds the lease; empty when nobody does.
    pub holder: String,
    /// How long it does yet, in ms.
    pub left: u64,
}

/// Asks what is due first, and takes or prolongs the lease for `holder` when `lease`, in ms, is not 0.
pub async fn glance(
    connection: &mut impl ConnectionLike,
    places: &Places,
    holder: &str,
    lease: u64,
) -> RedisResult<Glance> {
    let reply = GLANCE.call(connection, &[&places.due, &places.lease], &[holder, &lease.to_string()]).await?;
    let reply = texts(reply)?;
    let [now, id, due, holder, left] = reply.as_slice() else { return Err(odd(&reply)) };
    let number = |text: &String| text.parse::<u64>().map_err(|_| odd(&reply));
    let (now, left) = (number(now)?, number(left)?);
    // Scores are floating-point numbers; whatever is none of ours counts as due, and is looked at.
    let due = match due.as_str() {
        "inf" => None,
        text => Some(text.parse::<f64>().map_or(0, |at| at.max(0.0) as u64)),
    };
    let first = if id.is_empty() { None } else { Some((id.clone(), due)) };
    Ok(Glance { now, first, holder: holder.clone(), left })
}

/// All that a step is made of, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// By the clock of Redis, in ms since the epoch.
    pub now: u64,
    /// The schedule.
    pub entry: Option<String>,
    /// The flag's definition.
    pub definition: Option<String>,
    /// Who wrote it last: `REV AT ACTOR`.
    pub record: Option<String>,
    /// The state of the flag, apart from what schedules wrote.
    pub base: String,
    /// The state of the flag.
    pub token: String,
    /// The shared rules.
    pub evaluators: Option<String>,
    /// The SHA-1 of the schedule's text as it stands there.
    pub digest: Option<String>,
}

/// Reads the schedule `id` and its flag; or `key`'s flag when there is no schedule yet.
pub async fn prepare(connection: &mut impl ConnectionLike, keys: &Keys, id: &str, key: &str) -> RedisResult<Prepared> {
    let places = Places::of(keys);
    let of = [&keys.flags, &keys.meta, &keys.revs, &places.schedule, &places.bases].map(String::as_str);
    let mut reply = PREPARE.call(connection, &of, &[id, key]).await?.into_iter();
    let mut next = || reply.next().unwrap_or(Value::Nil);
    let text = redis::from_redis_value::<Option<String>>;
    let now = redis::from_redis_value(next())?;
    // What is not UTF-8 is no schedule, and must not keep others from their turn.
    let entry = redis::from_redis_value::<Option<Vec<u8>>>(next())?.map(|entry| String::from_utf8_lossy(&entry).into());
    let (definition, record) = (text(next())?, text(next())?);
    let (base, token) = (text(next())?.unwrap_or_default(), text(next())?.unwrap_or_default());
    Ok(Prepared { now, entry, definition, record, base, token, evaluators: text(next())?, digest: text(next())? })
}

/// A schedule to be made, changed or removed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Amendment {
    /// Its id.
    pub id: String,
    /// Its text as it was read; `None` when it is to be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// Of what is no schedule, the SHA-1 of its text instead: it may be of bytes that are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Its text from now on; `None` removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// When it is next due.
    #[serde(flatten)]
    pub due: Due,
    /// The state in which its flag has to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The flag.
    pub key: String,
    /// Refused while another rollout of the flag is on its way.
    pub alone: bool,
}

/// When a schedule is next due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Due {
    /// In ms since the epoch.
    At(u64),
    /// Whenever somebody resumes it.
    Paused,
    /// Never.
    #[default]
    Never,
}

impl Serialize for Due {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let text = match self {
            // As a text: Lua has no integers of this size.
            Self::At(at) => Some(at.to_string()),
            Self::Paused => Some("inf".to_owned()),
            Self::Never => None,
        };
        let mut map = serializer.serialize_map(None)?;
        if let Some(text) = text {
            map.serialize_entry("due", &text)?;
        }
        map.end()
    }
}

/// What became of an [`Amendment`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Amended {
    /// It was made.
    Done,
    /// Somebody else changed the schedule.
    Moved,
    /// Somebody else changed the flag.
    Changed,
    /// This other rollout of the flag is on its way.
    Other(String),
    /// So many there are, and none is over.
    Full(String),
}

/// Makes, changes or removes a schedule, by compare-and-set.
pub async fn amend(connection: &mut impl ConnectionLike, keys: &Keys, amendment: &Amendment) -> RedisResult<Amended> {
    #[derive(Serialize)]
    struct Request<'a> {
        #[serde(flatten)]
        amendment: &'a Amendment,
        most: usize,
    }
    let places = Places::of(keys);
    let of = [&places.schedule, &places.due, &keys.flags, &keys.revs, &places.bases].map(String::as_str);
    let request = json(&Request { amendment, most: MOST });
    let reply = AMEND.call(connection, &of, &[&places.channel, &request]).await?;
    let reply = texts(reply)?;
    Ok(match reply.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["ok"] => Amended::Done,
        ["moved"] => Amended::Moved,
        ["changed"] => Amended::Changed,
        ["other", id] => Amended::Other((*id).to_owned()),
        ["full", count] => Amended::Full((*count).to_owned()),
        _ => return Err(odd(&reply)),
    })
}

/// One step of a schedule.
#[derive(Debug, Clone, Serialize)]
pub struct Stride {
    /// The schedule.
    pub id: String,
    /// Its text as it was read.
    pub expect: String,
    /// Its text after the step.
    pub entry: String,
    /// When it is next due.
    #[serde(flatten)]
    pub due: Due,
    /// When the step is due, in ms since the epoch.
    #[serde(serialize_with = "text")]
    pub at: u64,
    /// The flag.
    pub key: String,
    /// What the schedule was made for.
    pub base: String,
    /// What `set` was made of.
    pub token: String,
    /// The definition to write.
    pub set: String,
    /// For the audit log.
    pub actor: String,
    /// For the audit log.
    pub note: String,
}

/// What became of a [`Stride`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strode {
    /// It was done, and made this revision of the scope.
    Done(u64),
    /// It is not due.
    Early,
    /// Somebody else did it, or changed the schedule.
    Moved,
    /// Somebody who is no schedule changed the flag.
    Changed,
    /// Another schedule changed the flag in between.
    Raced,
    /// The scope is not in Redis.
    Uncreated,
    /// The script refused.
    Refused(String),
}

/// Does a step, or nothing.
///
/// # Cancellation
/// Once sent, it is done whether or not the answer is waited for; done again it answers [`Strode::Moved`].
pub async fn stride(connection: &mut impl ConnectionLike, keys: &Keys, stride: &Stride) -> RedisResult<Strode> {
    #[derive(Serialize)]
    struct Request<'a> {
        #[serde(flatten)]
        stride: &'a Stride,
        incarnation: String,
    }
    let incarnation = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let places = Places::of(keys);
    let of = [&keys.flags, &keys.meta, &keys.revs, &keys.log, &places.schedule, &places.due, &places.bases]
        .map(String::as_str);
    let reply = STEP.call(connection, &of, &[&keys.events, &json(&Request { stride, incarnation })]).await?;
    let reply = texts(reply)?;
    Ok(match reply.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["ok", rev, _, _] => match rev.parse() {
            Ok(rev) => Strode::Done(rev),
            Err(_) => return Err(odd(&reply)),
        },
        ["early", _] => Strode::Early,
        ["moved"] => Strode::Moved,
        ["changed"] => Strode::Changed,
        ["raced"] => Strode::Raced,
        ["uncreated"] => Strode::Uncreated,
        ["bad", text] => Strode::Refused((*text).to_owned()),
        _ => return Err(odd(&reply)),
    })
}

/// All schedules of a scope, in the order of their ids, and who holds the lease; of more than twice [`MOST`] only how
/// many there are.
pub async fn all(
    connection: &mut impl ConnectionLike,
    keys: &Keys,
) -> RedisResult<Result<(Vec<(String, String)>, Option<String>), usize>> {
    let places = Places::of(keys);
    let count: usize = redis::cmd("HLEN").arg(&places.schedule).query_async(connection).await?;
    if count > 2 * MOST {
        return Ok(Err(count));
    }
    type Bytes = Vec<u8>;
    let (entries, holder): (Vec<(Bytes, Bytes)>, Option<String>) =
        redis::pipe().hgetall(&places.schedule).get(&places.lease).query_async(connection).await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let mut entries: Vec<_> = entries.into_iter().map(|(id, entry)| (text(id), text(entry))).collect();
    entries.sort();
    Ok(Ok((entries, holder)))
}

fn json(request: &impl Serialize) -> String {
    serde_json::to_string(request).expect("strings and numbers always serialise")
}

fn text<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// A script's answer; that of one which the user may not run is an error, as Redis itself would tell it.
fn texts(reply: Vec<Value>) -> RedisResult<Vec<String>> {
    let reply: Vec<String> = reply.into_iter().map(redis::from_redis_value).collect::<Result<_, _>>()?;
    match reply.as_slice() {
        [first, command] if first == "denied" => Err(denied(command)),
        _ => Ok(reply),
    }
}

/// The error of an answer that no script gives: it may be that of another command, on a connection gone wrong.
fn odd(reply: &[String]) -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, "the script answered", format!("{reply:?}")))
}
