//! Following scopes in Redis: a snapshot, then events, then looking again now and then; whatever is doubtful is
//! answered by another snapshot, and nothing that was lost is taken for empty.

mod follow;
mod held;
mod session;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use self::follow::{Verdict, judge};
pub(super) use self::held::Held;
use self::session::{Answer, Message, Session};
use super::disk::{Place, Wanted};
use super::pace::Pace;
use crate::flags::contract::{Event, Keys, Remote};
use crate::flags::layers::{News, Report};
use crate::flags::metrics::{self, Metrics, Reason, Resync};
use crate::flags::store::Layer;
use crate::net::redis::Endpoint;

/// Flags up to which a change is made on the spot.
const INLINE: usize = 1000;

/// One scope, as it is followed.
pub(super) struct Scope {
    keys: Keys,
    /// Its place in the order of priority.
    source: usize,
    name: Arc<str>,
    /// Where it is kept, and who keeps it.
    disk: Option<(Place, watch::Sender<Option<Wanted>>)>,
    held: Option<Arc<Held>>,
    /// Whether the disk was asked, which is done once.
    recalled: bool,
    /// Whether what Redis holds was refused or is gone: its revision says nothing then.
    doubtful: bool,
    /// Messages from this number on came after the snapshot was read.
    mark: u64,
    /// When to read a snapshot, and why.
    due: Option<(Instant, Reason)>,
}

/// Scopes over one connection: in a cluster one, else all.
pub(super) struct Follower {
    pub(super) endpoint: Endpoint,
    pub(super) scopes: Vec<Scope>,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) metrics: Metrics,
    pub(super) pace: Pace,
}

impl Follower {
    /// Follows for ever.
    ///
    /// # Cancellation
    /// At any point; what was reported is whole.
    pub(super) async fn run(mut self) {
        let mut attempt = 0;
        loop {
            match self.open().await {
                Ok(session) => {
                    let began = Instant::now();
                    let why = self.follow(session).await;
                    tracing::info!(error = why, "connection to redis ended; connecting again");
                    // A server that takes us in and throws us out is not to be asked ever faster.
                    if began.elapsed() > self.pace.retry_most {
                        attempt = 0;
                    }
                }
                Err(why) => {
                    for at in 0..self.scopes.len() {
                        self.recall(at).await;
                        self.report(at, News::Unreachable { why: why.clone() }).await;
                    }
                }
            }
            sleep(self.pace.backoff(attempt)).await;
            attempt = attempt.saturating_add(1);
        }
    }

    /// Connects and applies a snapshot of every scope. When that takes long the last known good serves meanwhile.
    async fn open(&mut self) -> Result<Session, String> {
        let keys: Vec<Keys> = self.scopes.iter().map(|scope| scope.keys.clone()).collect();
        let (endpoint, limit) = (self.endpoint.clone(), self.pace.answer);
        let mut opening = pin!(Session::open(&endpoint, &keys, limit));
        let opened = tokio::select! {
            opened = &mut opening => opened,
            () = sleep(self.pace.patience) => {
                for at in 0..self.scopes.len() {
                    self.recall(at).await;
                }
                opening.await
            }
        };
        let (session, answers) = opened?;
        for (at, answer) in answers.into_iter().enumerate() {
            self.count(at, Reason::Connected);
            self.scopes[at].due = None;
            self.take(at, answer).await;
        }
        Ok(session)
    }

    /// Until the connection ends; why it did.
    async fn follow(&mut self, mut session: Session) -> String {
        let mut reconcile = Instant::now() + self.pace.next_reconcile();
        let mut heartbeat = Instant::now() + self.pace.heartbeat;
        loop {
            let due = self.scopes.iter().filter_map(|scope| scope.due.map(|(at, _)| at)).min();
            let next = due.map_or(reconcile, |due| due.min(reconcile)).min(heartbeat);
            tokio::select! {
                message = session.next() => match message {
                    Ok(message) => self.message(message).await,
                    Err(why) => return why.to_owned(),
                },
                () = sleep_until(next) => {
                    if Instant::now() >= reconcile {
                        reconcile = Instant::now() + self.pace.next_reconcile();
                        if let Err(why) = self.reconcile(&mut session).await {
                            return why;
                        }
                    }
                    if Instant::now() >= heartbeat {
                        heartbeat = Instant::now() + self.pace.heartbeat;
                        if let Err(why) = session.ping().await {
                            return why;
                        }
                        self.alive().await;
                    }
                    if let Err(why) = self.resync(&mut session).await {
                        return why;
                    }
                }
            }
            if session.overflowed() {
                for at in 0..self.scopes.len() {
                    self.plan(at, Reason::Gap);
                }
            }
        }
    }

    /// Reads the scopes whose time has come.
    async fn resync(&mut self, session: &mut Session) -> Result<(), String> {
        for at in 0..self.scopes.len() {
            let Some((_, reason)) = self.scopes[at].due.filter(|(due, _)| *due <= Instant::now()) else { continue };
            self.count(at, reason);
            self.scopes[at].due = None;
            let answer = session.read(&self.scopes[at].keys).await?;
            self.take(at, answer).await;
        }
        Ok(())
    }

    /// Asks every scope whether it moved without telling, and plans to read those that did.
    async fn reconcile(&mut self, session: &mut Session) -> Result<(), String> {
        // A master cut off from those who replaced it answers as ever.
        session.still_there(&self.scopes[0].keys).await?;
        for at in 0..self.scopes.len() {
            let scope = &self.scopes[at];
            let same = match &scope.held {
                Some(held) if !scope.doubtful => session.still(&scope.keys, held.rev, &held.incarnation).await?,
                _ => false,
            };
            if same {
                self.confirm(at).await;
            } else if scope.due.is_none() {
                // The times of reconciles are spread already.
                self.scopes[at].due = Some((Instant::now(), Reason::Reconcile));
            }
        }
        Ok(())
    }

    async fn message(&mut self, message: Message) {
        let Some(at) = self.scopes.iter().position(|scope| scope.keys.events == message.channel) else { return };
        let scope = &self.scopes[at];
        if scope.due.is_some() {
            // The snapshot that is about to be read has it. Until then nothing is applied to what is in doubt.
            return;
        }
        let event = match Event::parse(&message.payload) {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(source = &*scope.name, %error, "malformed event; reading a snapshot");
                return self.plan(at, Reason::Malformed);
            }
        };
        let (rev, written) = (event.rev, event.at);
        match judge(scope.held.as_ref().map(|held| (held.rev, held.incarnation.as_str())), event) {
            Verdict::Old if message.number < scope.mark => {}
            // Revisions only fall when Redis was restored to an earlier state under this very connection.
            Verdict::Old => self.plan(at, Reason::Behind),
            Verdict::Resync(reason) => self.plan(at, reason),
            Verdict::Apply { set, del } => {
                let Some(held) = scope.held.clone() else { return self.plan(at, Reason::Gap) };
                match change(held, rev, set, del).await {
                    Ok(held) => self.apply(at, held, written).await,
                    Err(why) => {
                        self.scopes[at].doubtful = true;
                        self.plan(at, Reason::Invalid);
                        self.report(at, News::Rejected { why }).await;
                    }
                }
            }
        }
    }

    /// Takes what reading a scope came to.
    async fn take(&mut self, at: usize, answer: Answer) {
        let news = match answer {
            Answer::Read(remote, arrived) => {
                self.scopes[at].mark = arrived;
                match self.compile(at, remote).await {
                    Ok(held) => return self.replace(at, held).await,
                    Err(why) => News::Rejected { why },
                }
            }
            Answer::Absent => News::Missing { why: format!("redis holds no {}", self.scopes[at].keys.meta) },
            Answer::Malformed(why) => News::Rejected { why },
        };
        self.scopes[at].doubtful = true;
        self.recall(at).await;
        self.report(at, news).await;
    }

    /// Compiling many flags takes longer than the runtime may be held up.
    async fn compile(&self, at: usize, remote: Remote) -> Result<Held, String> {
        let last = self.scopes[at].held.clone();
        match spawn_blocking(move || Held::compile(remote, last.as_deref())).await {
            Ok(outcome) => outcome.map_err(|refused| refused.to_string()),
            // One panic over one document must not end the service of the last good one.
            Err(ended) => Err(format!("compiling it failed: {ended}")),
        }
    }

    /// A snapshot is the truth, even when it lies behind what is held: Redis lost writes, or was replaced. Events are
    /// only ever applied to a snapshot of the history they belong to, so two histories never mix.
    async fn replace(&mut self, at: usize, held: Held) {
        self.scopes[at].doubtful = false;
        let scope = &self.scopes[at];
        if let Some(last) = &scope.held {
            if last.same(&held) {
                return self.confirm(at).await;
            }
            let (source, rev, last_rev) = (&*scope.name, held.rev, last.rev);
            if last.incarnation != held.incarnation {
                tracing::warn!(
                    source,
                    rev,
                    last_rev,
                    "redis holds another incarnation of the scope; it is the truth now"
                );
            } else if held.rev < last.rev {
                self.metrics.rewinds.get_or_create(&metrics::Source { source: scope.name.clone() }).inc();
                tracing::warn!(source, rev, last_rev, "redis lost writes of the scope; what it holds is the truth now");
            }
        }
        self.apply(at, held, None).await;
    }

    async fn apply(&mut self, at: usize, held: Held, written: Option<SystemTime>) {
        let held = Arc::new(held);
        let layer = self.scopes[at].layer(&held);
        self.scopes[at].keep(&held);
        self.scopes[at].held = Some(held);
        self.report(at, News::Applied { layer, written }).await;
    }

    /// The connection that would have told of a change works: what is held is what there is.
    async fn alive(&self) {
        for (at, scope) in self.scopes.iter().enumerate() {
            if scope.held.is_some() && !scope.doubtful && scope.due.is_none() {
                self.report(at, News::Alive).await;
            }
        }
    }

    async fn confirm(&self, at: usize) {
        if let Some(held) = &self.scopes[at].held {
            self.scopes[at].keep(held);
        }
        self.report(at, News::Confirmed).await;
    }

    /// Serves the last known good, when nothing better is held.
    async fn recall(&mut self, at: usize) {
        let scope = &mut self.scopes[at];
        if scope.held.is_some() || std::mem::replace(&mut scope.recalled, true) {
            return;
        }
        let Some((place, _)) = &scope.disk else { return };
        let Some((kept, confirmed)) = place.load().await else { return };
        match spawn_blocking(move || Held::recall(kept)).await {
            Ok(Ok(held)) => {
                let held = Arc::new(held);
                let layer = scope.layer(&held);
                scope.held = Some(held);
                self.report(at, News::Recalled { layer, confirmed }).await;
            }
            Ok(Err(refused)) => {
                tracing::warn!(source = &*scope.name, error = %refused, "last known good flags do not validate any more");
            }
            Err(ended) => tracing::error!(source = &*scope.name, error = %ended, "last known good flags were not read"),
        }
    }

    /// Plans to read the scope, spread over time unless nothing is held: then nothing is there, or nearly so.
    fn plan(&mut self, at: usize, reason: Reason) {
        let wait = if self.scopes[at].held.is_some() { self.pace.jitter() } else { Duration::ZERO };
        let due = Instant::now() + wait;
        self.scopes[at].due.get_or_insert((due, reason));
    }

    fn count(&self, at: usize, reason: Reason) {
        let label = Resync { source: self.scopes[at].name.clone(), reason };
        self.metrics.resyncs.get_or_create(&label).inc();
    }

    async fn report(&self, at: usize, news: News) {
        // Without anybody to report to, everything is being dropped.
        drop(self.reports.send(Report { source: self.scopes[at].source, news }).await);
    }
}

/// A scope one change later. Many flags take longer to copy than the runtime may be held up.
async fn change(held: Arc<Held>, rev: u64, set: BTreeMap<String, String>, del: Vec<String>) -> Result<Held, String> {
    if held.set.flags.len() + set.len() <= INLINE {
        return held.change(rev, &set, &del).map_err(|refused| refused.to_string());
    }
    match spawn_blocking(move || held.change(rev, &set, &del)).await {
        Ok(outcome) => outcome.map_err(|refused| refused.to_string()),
        Err(ended) => Err(format!("compiling it failed: {ended}")),
    }
}

impl Scope {
    pub(super) fn new(
        keys: Keys,
        source: usize,
        name: Arc<str>,
        disk: Option<(Place, watch::Sender<Option<Wanted>>)>,
    ) -> Self {
        Self { keys, source, name, disk, held: None, recalled: false, doubtful: false, mark: 0, due: None }
    }

    fn layer(&self, held: &Held) -> Arc<Layer> {
        let (name, id) = (self.name.clone(), self.keys.scope.as_str().into());
        Arc::new(Layer { name, flag_set_id: Some(id), revision: held.rev, set: held.set.clone() })
    }

    fn keep(&self, held: &Arc<Held>) {
        if let Some((_, wanted)) = &self.disk {
            wanted.send_replace(Some(Wanted { held: held.clone(), confirmed: SystemTime::now() }));
        }
    }
}
