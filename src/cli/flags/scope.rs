//! A scope in Redis: the connection to it, its content at one revision, and writing a set of changes as one.

use redis::{ErrorKind, ServerError};

use super::{Failure, LIMIT, Who};
use crate::flags::contract::{
    Change as Request, Keys, Lost, MAX_BYTES, MAX_FLAGS, Unreadable, WriteError, Written, read, write,
};
use crate::flags::document::Document;
use crate::flags::plan::Change;
use crate::flags::settings::Redis;
use crate::net::redis::{Connection, Endpoint, Error};

/// How often a write that others got ahead of is tried on top of theirs.
const ATTEMPTS: usize = 10;

/// A connection, and the keys of the scope that is meant.
pub(super) struct Scope {
    pub(super) connection: Connection,
    pub(super) keys: Keys,
    endpoint: Endpoint,
    redis: Redis,
}

impl Scope {
    pub(super) async fn open(redis: Option<&Redis>, scope: Option<&str>) -> Result<Self, Failure> {
        let redis =
            redis.ok_or_else(|| Failure::usage("no Redis is configured; set redis.url or TIDEGATE_REDIS__URL"))?;
        let scope = scope.or(redis.scopes.first().map(String::as_str));
        let scope = scope.ok_or_else(|| Failure::usage("no scope is configured; write --scope or set flags.scopes"))?;
        let keys = Keys::new(&redis.prefix, scope).map_err(|e| Failure::usage(e.to_string()))?;
        let endpoint = Endpoint::new(&redis.url).map_err(|e| Failure::usage(e.to_string()))?;
        let connection = endpoint.connect(LIMIT).await.map_err(|e| Failure::redis(&e))?;
        Ok(Self { connection, keys, endpoint, redis: redis.clone() })
    }

    pub(super) fn failed(&self, error: &redis::RedisError) -> Failure {
        // Of commands sent together, the first that failed says why.
        let answers = error.clone().into_server_errors();
        let first = answers.as_deref().and_then(|answers| answers.first()).map(|(_, answer)| answer);
        let code = first.map(ServerError::code);
        match (self.endpoint.error(error, LIMIT), code) {
            (Error::Refused(text), Some("LOADING" | "BUSY" | "TRYAGAIN" | "MASTERDOWN" | "CLUSTERDOWN")) => {
                Failure::try_again(format!("redis is not ready: {text}; try again"))
            }
            (said @ Error::Refused(_), Some("NOAUTH" | "WRONGPASS")) => Failure::redis(&said),
            (Error::Refused(_), Some(code @ "WRONGTYPE")) => {
                self.no_scope(&format!("{code} {}", first.and_then(ServerError::details).unwrap_or_default()))
            }
            // Any other answer is Redis at work, and refusing.
            (Error::Refused(text), Some(_)) => Failure::failed(text),
            (Error::Refused(text), None)
                if matches!(error.kind(), ErrorKind::Parse | ErrorKind::UnexpectedReturnType) =>
            {
                self.no_scope(&text)
            }
            (said, _) => Failure::redis(&said),
        }
    }

    /// Redis answered, and what it holds was not written by a writer of flags.
    fn no_scope(&self, text: &str) -> Failure {
        let Keys { scope, meta, .. } = &self.keys;
        Failure::failed(format!(
            "scope {scope} in redis ({meta} and beside it) is not what writers of flags make: {text}"
        ))
    }

    /// The same Redis, another scope, over a connection of its own.
    pub(super) async fn other(&self, name: &str) -> Result<Self, Failure> {
        Self::open(Some(&self.redis), Some(name)).await
    }

    /// Connects anew.
    pub(super) async fn reconnect(&mut self) -> Result<(), Failure> {
        self.connection = self.endpoint.connect(LIMIT).await.map_err(|e| Failure::redis(&e))?;
        Ok(())
    }

    /// The scope as it is.
    pub(super) async fn load(&mut self) -> Result<Loaded, Failure> {
        match read(&mut self.connection, &self.keys).await {
            Ok(remote) => Ok(Loaded { rev: remote.rev, document: Document::of(&remote) }),
            Err(Unreadable::Absent) => Ok(Loaded { rev: 0, document: Document::default() }),
            Err(Unreadable::Malformed(why)) => Err(Failure::failed(format!("the scope cannot be read: {why}"))),
            Err(Unreadable::Redis(error)) => Err(self.failed(&error)),
        }
    }

    /// As [`Scope::load`]; a scope that is not there is a failure.
    pub(super) async fn load_existing(&mut self) -> Result<Loaded, Failure> {
        match self.load().await? {
            Loaded { rev: 0, .. } => Err(Failure::failed(format!("there is no scope {} in redis", self.keys.scope))),
            loaded => Ok(loaded),
        }
    }

    /// Refuses to change a scope in which something else is broken: sidecars would refuse all of it and go on with what
    /// they had, and a switch that was told to be thrown would not be. What mends something is no such change.
    pub(super) async fn sound(&mut self, key: &str, definition: Option<&str>) -> Result<(), Failure> {
        let before = self.load().await?.document;
        let mut after = before.clone();
        match definition {
            Some(definition) => after.flags.insert(key.to_owned(), definition.to_owned()),
            None => after.flags.remove(key),
        };
        let Err(left) = after.check() else { return Ok(()) };
        if before.check().is_err_and(|found| found.0.len() > left.0.len()) {
            return Ok(());
        }
        let name = &self.keys.scope;
        Err(Failure::failed(format!(
            "scope {name} does not validate, so sidecars would refuse this with all the rest; nothing was written; mend it \
             first:\n{left}"
        )))
    }

    /// Writes `changes`, which were made against `seen`, as one change. What others wrote elsewhere in the meantime is
    /// kept, if the whole still compiles.
    pub(super) async fn commit(
        &mut self,
        seen: Loaded,
        changes: &[Change],
        who: &Who,
        terms: &Terms,
    ) -> Result<Written, Uncommitted> {
        let mut seen = seen;
        let mut request = Request {
            expect: Some(seen.rev),
            create: terms.create,
            actor: who.actor(),
            note: terms.note.clone(),
            ops: changes.iter().map(Change::op).collect(),
        };
        let mut attempts = 0;
        loop {
            bounded(&seen.document, changes)?;
            let lost = match write(&mut self.connection, &self.keys, &request).await {
                Ok(written) => return Ok(written),
                Err(WriteError::Lost(lost)) => lost,
                Err(WriteError::Uncreated) => return Err(self.uncreated().into()),
                Err(WriteError::Absent(key)) => {
                    return Err(Failure::failed(format!("{key:?} is gone already; nothing was written")).into());
                }
                Err(WriteError::Refused(why)) => return Err(Failure::failed(why).into()),
                Err(WriteError::Redis(error)) => return Err(self.unsure(&error).into()),
            };
            attempts += 1;
            if terms.others == Others::Refuse || attempts == ATTEMPTS {
                return Err(Uncommitted::Lost(lost));
            }
            seen = self.load().await?;
            let touched: Vec<Change> = changes
                .iter()
                .filter(|change| change.now(&seen.document) != change.before.as_ref())
                .map(|change| {
                    // What somebody made of it meanwhile.
                    let now = change.now(&seen.document).cloned();
                    Change { before: change.before.clone(), after: now, ..change.clone() }
                })
                .collect();
            if !touched.is_empty() {
                return Err(Uncommitted::Conflict(lost, touched));
            }
            let mut whole = seen.document.clone();
            changes.iter().for_each(|change| change.apply(&mut whole));
            if let Err(invalid) = whole.check() {
                let text = format!("together with what {} wrote meanwhile it does not validate:\n{invalid}", by(&lost));
                return Err(Failure::failed(text).into());
            }
            request.expect = Some(seen.rev);
        }
    }

    /// What happened when Redis did not answer a write.
    fn unsure(&self, error: &redis::RedisError) -> Failure {
        let mut failure = self.failed(error);
        if failure.code != super::super::EXIT_FAILED {
            failure.text.push_str("; whether the change was made, `tidegate flags log` tells");
        }
        failure
    }

    /// There is no such scope, and nobody asked for one.
    pub(super) fn uncreated(&self) -> Failure {
        let name = &self.keys.scope;
        Failure::failed(format!(
            "there is no scope {name} in redis; --create makes it, and what is written now is then all that it holds: if \
             redis lost its data, restore it first"
        ))
    }
}

/// A scope's content, and the revision it was read at; 0 when there is no such scope.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) rev: u64,
    pub(super) document: Document,
}

/// How a set of changes is written.
pub(super) struct Terms {
    pub(super) create: bool,
    pub(super) note: String,
    pub(super) others: Others,
}

/// What others wrote in the scope since it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// It stays, unless it is what is to be written too.
    Keep,
    /// It stops the write.
    Refuse,
}

/// Why nothing was written.
pub(super) enum Uncommitted {
    /// Somebody wrote in between.
    Lost(Lost),
    /// Somebody wrote the same flags in between: what they were, and what they are.
    Conflict(Lost, Vec<Change>),
    /// Anything else.
    Failure(Failure),
}

impl From<Failure> for Uncommitted {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Uncommitted {
    /// The failure, with a diff of what others wrote.
    pub(super) fn failure(self, remedy: &str) -> Failure {
        match self {
            Self::Failure(failure) => failure,
            Self::Lost(lost) => Failure::failed(format!(
                "lost a race: the scope is at revision {}, written by {}; nothing was written; {remedy}",
                lost.rev,
                by(&lost)
            )),
            Self::Conflict(lost, changes) => {
                let names: Vec<String> = changes.iter().map(Change::name).collect();
                let text = format!(
                    "lost a race: {} changed meanwhile, in revision {} or before, written last by {}; nothing was \
                     written; {remedy}",
                    names.join(", "),
                    lost.rev,
                    by(&lost)
                );
                let answer = changes.iter().map(|change| change.diff("as it was read", "as it is now")).collect();
                Failure { answer, ..Failure::failed(text) }
            }
        }
    }
}

fn by(lost: &Lost) -> &str {
    if lost.actor.is_empty() { "somebody" } else { &lost.actor }
}

/// Sidecars refuse a scope beyond the bounds as a whole, so it is not made.
fn bounded(document: &Document, changes: &[Change]) -> Result<(), Failure> {
    let mut whole = document.clone();
    changes.iter().for_each(|change| change.apply(&mut whole));
    let (flags, bytes) = (whole.flags.len(), whole.bytes());
    if flags > MAX_FLAGS || bytes > MAX_BYTES {
        return Err(Failure::failed(format!(
            "the scope would hold {flags} flags and {bytes} bytes; at most {MAX_FLAGS} and {MAX_BYTES} are read by \
             sidecars; use several scopes"
        )));
    }
    Ok(())
}
