//! One connection's worth of following: subscribed first, then a snapshot of every scope.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};
use tokio::sync::{Notify, mpsc};

use crate::flags::contract::{self, Keys, Remote, Unreadable};
use crate::net::redis::{Connection, Endpoint};

/// Messages that wait while a snapshot is read. Beyond: they are dropped and a snapshot is read.
const WAITING: usize = 1024;

/// A message of a channel.
pub(super) struct Message {
    /// How many came before it on this connection.
    pub(super) number: u64,
    pub(super) channel: String,
    pub(super) payload: Vec<u8>,
}

/// A connection on which every scope's events arrive.
pub(super) struct Session {
    pub(super) connection: Connection,
    /// Ends when the connection does.
    messages: mpsc::Receiver<Message>,
    /// How many messages came.
    arrived: Arc<AtomicU64>,
    /// Whether messages were dropped.
    overflow: Arc<AtomicBool>,
    /// Set when the server gave the scope's slot away: nothing is told here any more.
    moved: Arc<Moved>,
    endpoint: Endpoint,
    limit: Duration,
}

#[derive(Default)]
struct Moved {
    happened: AtomicBool,
    wake: Notify,
}

/// Why a connection is of no more use.
const MOVED: &str = "the scope's slot moved to another node";

/// What reading a scope came to.
pub(super) enum Answer {
    /// With the number of messages that had arrived by then.
    Read(Remote, u64),
    /// The scope is not there.
    Absent,
    /// The scope is there and not readable, through no fault of the connection.
    Malformed(String),
}

impl Session {
    /// Connects, subscribes to every scope, then reads every scope: what changes in between arrives as an event.
    pub(super) async fn open(
        endpoint: &Endpoint,
        scopes: &[Keys],
        limit: Duration,
    ) -> Result<(Self, Vec<Answer>), String> {
        let (tell, messages) = mpsc::channel(WAITING);
        let overflow = Arc::new(AtomicBool::new(false));
        let arrived = Arc::new(AtomicU64::new(0));
        let moved = Arc::new(Moved::default());
        let (overflowed, count, gave_away) = (overflow.clone(), arrived.clone(), moved.clone());
        let push = move |info: redis::PushInfo| {
            // We never unsubscribe. Besides, the driver takes this for the answer to whatever is under way.
            if info.kind == redis::PushKind::SUnsubscribe {
                gave_away.happened.store(true, Ordering::Relaxed);
                gave_away.wake.notify_one();
            }
            let Some(message) = redis::Msg::from_push_info(info) else { return };
            let number = count.fetch_add(1, Ordering::Relaxed);
            let (channel, payload) = (message.get_channel_name().to_owned(), message.get_payload_bytes().to_vec());
            if tell.try_send(Message { number, channel, payload }).is_err() {
                overflowed.store(true, Ordering::Relaxed);
            }
        };
        let connection = endpoint.connect_with_push(&scopes[0].meta, limit, push).await.map_err(|e| e.to_string())?;
        let mut session = Self { connection, messages, arrived, overflow, moved, endpoint: endpoint.clone(), limit };
        for keys in scopes {
            if endpoint.is_cluster() {
                let subscribed = session.connection.subscribe_sharded(&keys.events).await;
                subscribed.map_err(|e| session.why(&e))?;
            }
            // In a cluster too: writers by hand may know only this.
            let subscribed = session.connection.subscribe(&keys.events).await;
            subscribed.map_err(|e| session.why(&e))?;
        }
        let mut answers = Vec::with_capacity(scopes.len());
        for keys in scopes {
            answers.push(session.read(keys).await?);
        }
        Ok((session, answers))
    }

    /// The next message, or why there will be none.
    pub(super) async fn next(&mut self) -> Result<Message, &'static str> {
        tokio::select! {
            biased;
            () = self.moved.wake.notified() => Err(MOVED),
            message = self.messages.recv() => message.ok_or("closed by the server"),
        }
    }

    /// Whether the server answers, and is still the right one as far as it knows.
    pub(super) async fn ping(&mut self) -> Result<(), String> {
        let pong = redis::cmd("PING").query_async::<()>(&mut self.connection).await;
        pong.map_err(|e| self.why(&e))
    }

    /// Whether those who know still call this the server of these keys; an error is the connection's end.
    pub(super) async fn still_there(&self, keys: &Keys) -> Result<(), String> {
        let there = self.endpoint.still_with(&self.connection, &keys.meta, self.limit).await;
        if there { Ok(()) } else { Err(format!("{} is not the master any more", self.connection.node())) }
    }

    /// Reads a scope; an error is the connection's end.
    pub(super) async fn read(&mut self, keys: &Keys) -> Result<Answer, String> {
        let read = contract::read(&mut self.connection, keys).await;
        if self.moved.happened.load(Ordering::Relaxed) {
            return Err(MOVED.to_owned());
        }
        match read {
            // Redis writes to a connection in the order of events: what was published before the snapshot was read has
            // arrived before it.
            Ok(remote) => Ok(Answer::Read(remote, self.arrived.load(Ordering::Relaxed))),
            Err(Unreadable::Absent) => Ok(Answer::Absent),
            Err(Unreadable::Malformed(why)) => Ok(Answer::Malformed(why)),
            Err(Unreadable::Redis(error)) if of_the_scope(&error) => Ok(Answer::Malformed(self.why(&error))),
            Err(Unreadable::Redis(error)) => Err(self.why(&error)),
        }
    }

    /// Whether the scope is still at this revision of this incarnation; an error is the connection's end.
    pub(super) async fn still(&mut self, keys: &Keys, rev: u64, incarnation: &str) -> Result<bool, String> {
        let head = contract::head(&mut self.connection, keys).await;
        if self.moved.happened.load(Ordering::Relaxed) {
            return Err(MOVED.to_owned());
        }
        match head {
            Ok(head) => Ok(head.rev.is_some_and(|there| there == rev.to_string())
                && head.incarnation.unwrap_or_default() == incarnation),
            // Reading it will tell what is wrong.
            Err(error) if of_the_scope(&error) => Ok(false),
            Err(error) => Err(self.why(&error)),
        }
    }

    /// Whether messages were dropped since this was last asked.
    pub(super) fn overflowed(&self) -> bool {
        self.overflow.swap(false, Ordering::Relaxed)
    }

    fn why(&self, error: &RedisError) -> String {
        self.endpoint.error(error, self.limit).to_string()
    }
}

/// Whether the fault lies with what is stored, so that another connection would meet it too and other scopes do not.
fn of_the_scope(error: &RedisError) -> bool {
    // Everybody else would be refused too, but what is stored is not at fault.
    if error.detail().is_some_and(|text| text.contains("can't run this command")) {
        return false;
    }
    // A script that meets a key of the wrong type answers with that error's code or, in older servers, with ERR.
    matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ResponseError))
        || error.code().is_some_and(|code| matches!(code, "WRONGTYPE" | "ERR"))
        || error.kind() == ErrorKind::UnexpectedReturnType
}
