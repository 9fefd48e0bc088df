//! Executes schedules: of all who could, the one that holds a scope's lease. The lease only saves work; what makes a
//! step be done once is the script that does it. Time is told by the clock of Redis alone.

mod turn;

use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{RedisError, RedisResult};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

pub use self::turn::{Turn, due, turn};
use super::contract::Keys;
use super::contract::schedules::{Places, all, glance};
use super::metrics::{Metrics, Scheduled, Source};
use super::schedule::{Schedule, State};
use crate::net::redis::{Connection, Endpoint};

/// Hints that wait for their turn. Beyond it they are dropped: everything is looked at in time without them.
const HINTS: usize = 64;
/// Schedules of one scope done in a row before other scopes get their turn.
const IN_A_ROW: usize = 100;

/// The executor's times.
#[derive(Debug, Clone)]
pub struct Pace {
    /// To connect, and for each answer. 5 s.
    pub answer: Duration,
    /// Between two looks while nothing is planned; somebody who plans something tells. 30 s.
    pub idle: Duration,
    /// How long the lease lasts without being prolonged. 10 s.
    pub lease: Duration,
    /// First wait before connecting again; doubles up to the longest. 250 ms.
    pub retry: Duration,
    /// Longest wait before connecting again. 10 s.
    pub retry_most: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            lease: Duration::from_secs(10),
            retry: Duration::from_millis(250),
            retry_most: Duration::from_secs(10),
        }
    }
}

/// What an executor is doing; of several, the greatest tells the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Redis is not in reach.
    Away,
    /// Its user of Redis may not write; somebody else has to execute.
    ReadOnly,
    /// Nothing is planned, or somebody else executes.
    Idle,
    /// It executes the schedules of a scope at least.
    Executing,
}

impl Standing {
    /// The name in the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Idle => "idle",
            Self::Executing => "executing",
            Self::ReadOnly => "read-only",
        }
    }
}

/// Executes the schedules of some scopes, all of one server.
pub struct Executor {
    endpoint: Endpoint,
    scopes: Vec<Scope>,
    /// In the lease; nobody else's.
    holder: String,
    pace: Pace,
    metrics: Metrics,
    standing: watch::Sender<Standing>,
    /// Whether it was said that the user may not write.
    told: bool,
}

struct Scope {
    keys: Keys,
    places: Places,
    source: Source,
    /// When to look again; never, when it must not write.
    next: Option<Instant>,
    holds: bool,
    /// Whether the schedules changed since they were counted.
    counted: Option<Instant>,
}

impl Executor {
    /// Will execute the schedules of these scopes (one at least), known to others by `name`.
    pub fn new(endpoint: Endpoint, scopes: &[Keys], name: &str, metrics: Metrics) -> Self {
        let scopes = scopes.iter().map(|keys| Scope {
            keys: keys.clone(),
            places: Places::of(keys),
            source: Source { source: Arc::from(format!("redis:{}", keys.scope)) },
            next: None,
            holds: false,
            counted: None,
        });
        Self {
            endpoint,
            scopes: scopes.collect(),
            // Two of one name must not take each other's lease for their own.
            holder: format!("{name}/{:08x}", fastrand::u32(..)),
            pace: Pace::default(),
            metrics,
            standing: watch::Sender::new(Standing::Away),
            told: false,
        }
    }

    /// Other times than the default ones.
    pub fn paced(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// What it is doing, at every moment.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Executes for ever.
    ///
    /// # Cancellation
    /// At any point: a step that was sent is done, one that was not will be done by another.
    pub async fn run(mut self) {
        for scope in &self.scopes {
            self.metrics.begin_schedules(&scope.source);
        }
        let mut attempt = 0_u32;
        loop {
            let (tell, hints) = mpsc::channel(HINTS);
            match self.open(tell).await {
                Ok(connection) => {
                    let began = Instant::now();
                    let why = self.serve(connection, hints).await;
                    tracing::debug!(error = why, "connection to redis for schedules ended");
                    if began.elapsed() > self.pace.retry_most {
                        attempt = 0;
                    }
                }
                Err(why) => tracing::debug!(error = why, "no connection to redis for schedules"),
            }
            self.stand(Standing::Away);
            for scope in &mut self.scopes {
                scope.holds = false;
            }
            let wait = self.pace.retry.saturating_mul(1 << attempt.min(16)).min(self.pace.retry_most);
            sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            attempt = attempt.saturating_add(1);
        }
    }

    async fn open(&mut self, tell: mpsc::Sender<String>) -> Result<Connection, String> {
        let push = move |info: redis::PushInfo| {
            // We never unsubscribe: the slot moved. What the driver then takes for answers are others'.
            if info.kind == redis::PushKind::SUnsubscribe {
                drop(tell.try_send(String::new()));
            } else if let Some(message) = redis::Msg::from_push_info(info) {
                // Full: everything is about to be looked at anyway.
                drop(tell.try_send(message.get_channel_name().to_owned()));
            }
        };
        let limit = self.pace.answer;
        let opened = self.endpoint.connect_with_push(&self.scopes[0].keys.meta, limit, push).await;
        let mut connection = opened.map_err(|e| e.to_string())?;
        for scope in &mut self.scopes {
            let channel = &scope.places.channel;
            if self.endpoint.is_cluster() {
                connection.subscribe_sharded(channel).await.map_err(|e| self.endpoint.scrub(&e))?;
            }
            connection.subscribe(channel).await.map_err(|e| self.endpoint.scrub(&e))?;
            scope.next = Some(Instant::now());
        }
        Ok(connection)
    }

    /// Until the connection ends; why it did.
    async fn serve(&mut self, mut connection: Connection, mut hints: mpsc::Receiver<String>) -> String {
        self.stand(Standing::Idle);
        let mut doubt = Instant::now() + self.pace.idle;
        loop {
            // A server that was replaced and cannot know it would go on as if nothing were.
            if Instant::now() >= doubt {
                doubt = Instant::now() + self.pace.idle;
                let key = &self.scopes[0].keys.meta;
                if !self.endpoint.still_with(&connection, key, self.pace.answer).await {
                    return format!("{} is not the master any more", connection.node());
                }
            }
            for at in 0..self.scopes.len() {
                if self.scopes[at].next.is_none_or(|next| next > Instant::now()) {
                    continue;
                }
                match self.look(at, &mut connection).await {
                    Ok(wait) => self.scopes[at].next = Some(Instant::now() + wait),
                    Err(error) if denied(&error) => self.give_up(at, &error),
                    Err(error) if of_the_scope(&error) => {
                        let (source, error) = (&*self.scopes[at].source.source, self.endpoint.scrub(&error));
                        tracing::warn!(source, error, "schedules cannot be executed: what redis holds is none");
                        self.scopes[at].next = Some(Instant::now() + self.pace.idle);
                    }
                    Err(error) => return self.endpoint.scrub(&error),
                }
            }
            self.stand(self.present());
            let next = self.scopes.iter().filter_map(|scope| scope.next).min();
            tokio::select! {
                () = sleep_until(next.map_or(doubt, |next| next.min(doubt))) => {}
                hint = hints.recv() => match hint {
                    Some(moved) if moved.is_empty() => return "the slot of the scope moved".to_owned(),
                    Some(channel) => {
                        for scope in self.scopes.iter_mut().filter(|scope| scope.places.channel == channel) {
                            scope.next = scope.next.map(|_| Instant::now());
                            scope.counted = None;
                        }
                    }
                    None => return "closed by the server".to_owned(),
                },
            }
        }
    }

    /// Does what is due in a scope; how long to wait before looking again.
    async fn look(&mut self, at: usize, connection: &mut Connection) -> Result<Duration, RedisError> {
        let mut done = Vec::new();
        let passed = pass(connection, &self.scopes[at].keys, &self.holder, &self.pace, &mut done).await;
        for (id, outcome) in &done {
            self.scopes[at].counted = None;
            self.tell(at, id, outcome);
        }
        let Pass { holds, wait } = passed?;
        self.hold(at, holds);
        if holds {
            self.count(at, connection).await?;
        }
        Ok(wait)
    }

    /// Says what a schedule did.
    fn tell(&self, at: usize, id: &str, outcome: &Turn) {
        let source = &self.scopes[at].source;
        let name = &*source.source;
        match outcome {
            Turn::Done { step, left_out, rev, schedule } => {
                self.metrics.schedule_steps.get_or_create(source).inc();
                let (key, steps, author) = (&schedule.key, schedule.steps(), &schedule.author);
                tracing::info!(
                    source = name,
                    schedule = id,
                    key,
                    author,
                    step,
                    steps,
                    left_out,
                    rev,
                    "schedule: step done"
                );
            }
            Turn::Conflict { why } => {
                self.metrics.schedule_conflicts.get_or_create(source).inc();
                tracing::warn!(source = name, schedule = id, why, "schedule paused: resume or cancel it");
            }
            Turn::Failed { why } => tracing::warn!(source = name, schedule = id, why, "schedule failed"),
            Turn::Corrupt { why } => tracing::warn!(source = name, schedule = id, why, "not a schedule; set aside"),
            Turn::Nothing => {}
        }
    }

    /// Counts the schedules by state, now and then: whoever executes does so for the fleet.
    async fn count(&mut self, at: usize, connection: &mut Connection) -> Result<(), RedisError> {
        if self.scopes[at].counted.is_some_and(|counted| counted.elapsed() < self.pace.idle) {
            return Ok(());
        }
        self.scopes[at].counted = Some(Instant::now());
        let Ok((entries, _)) = all(connection, &self.scopes[at].keys).await? else { return Ok(()) };
        let source = self.scopes[at].source.clone();
        let schedules: Vec<Schedule> = entries.iter().filter_map(|(_, text)| Schedule::parse(text).ok()).collect();
        for state in [State::Waiting, State::Running, State::Paused] {
            let count = schedules.iter().filter(|schedule| schedule.state == state).count();
            let label = Scheduled { source: source.source.clone(), state: state.name() };
            self.metrics.schedules.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        Ok(())
    }

    /// Takes note of who executes.
    fn hold(&mut self, at: usize, holds: bool) {
        let scope = &mut self.scopes[at];
        if std::mem::replace(&mut scope.holds, holds) == holds {
            return;
        }
        scope.counted = None;
        if holds {
            tracing::info!(source = &*scope.source.source, "executing the schedules of the scope");
        } else {
            // Another tells how many there are, or there are none.
            self.metrics.begin_schedules(&scope.source);
        }
    }

    /// A user that may only read never writes: said once, tried again with the next connection.
    fn give_up(&mut self, at: usize, error: &RedisError) {
        self.scopes[at].next = None;
        self.hold(at, false);
        if !std::mem::replace(&mut self.told, true) {
            let error = self.endpoint.scrub(error);
            tracing::info!(
                error,
                "this user of redis may not execute schedules; another sidecar or `tidegate flags schedule run` has to"
            );
        }
    }

    fn present(&self) -> Standing {
        if self.scopes.iter().any(|scope| scope.holds) {
            Standing::Executing
        } else if self.scopes.iter().all(|scope| scope.next.is_none()) {
            Standing::ReadOnly
        } else {
            Standing::Idle
        }
    }

    fn stand(&self, standing: Standing) {
        self.standing.send_if_modified(|now| std::mem::replace(now, standing) != standing);
    }
}

/// One look at a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Whether the lease is held by whoever looked.
    pub holds: bool,
    /// How long to wait before looking again.
    pub wait: Duration,
}

/// Takes or prolongs the lease of a scope and does what is due, if it is to be had. What was done goes to `done`, also
/// when an error ends it.
pub async fn pass(
    connection: &mut impl ConnectionLike,
    keys: &Keys,
    holder: &str,
    pace: &Pace,
    done: &mut Vec<(String, Turn)>,
) -> RedisResult<Pass> {
    let places = Places::of(keys);
    let lease = u64::try_from(pace.lease.as_millis()).unwrap_or(u64::MAX);
    for _ in 0..IN_A_ROW {
        let seen = glance(connection, &places, holder, lease).await?;
        let Some((id, due)) = seen.first else {
            return Ok(Pass { holds: false, wait: pace.idle.mul_f64(0.9 + fastrand::f64() / 5.0) });
        };
        if seen.holder != holder {
            // Whoever holds it prolongs it, or is gone.
            let left = Duration::from_millis(seen.left).min(pace.idle);
            return Ok(Pass { holds: false, wait: left + (pace.lease / 4).mul_f64(fastrand::f64()) });
        }
        // Counted here in time that passes, so that nobody's clock matters but that of Redis.
        let wait = due.map(|due| Duration::from_millis(due.saturating_sub(seen.now)));
        if wait.is_none_or(|wait| !wait.is_zero()) {
            let renew = pace.lease / 3;
            return Ok(Pass { holds: true, wait: wait.map_or(renew, |wait| wait.min(renew)) });
        }
        let outcome = turn(connection, keys, &id).await?;
        done.push((id, outcome));
    }
    Ok(Pass { holds: true, wait: Duration::ZERO })
}

/// Whether Redis refused for want of a permission. A script that lacks one in the middle fails with the text alone.
pub fn denied(error: &RedisError) -> bool {
    crate::net::redis::script::is_denial(error)
}

/// Whether the fault lies with what is stored: another connection would meet it too.
fn of_the_scope(error: &RedisError) -> bool {
    // An answer that makes no sense may be another command's, after the slot moved: better begun anew.
    matches!(error.kind(), redis::ErrorKind::Server(redis::ServerErrorKind::ResponseError))
        || error.code().is_some_and(|code| matches!(code, "WRONGTYPE" | "ERR"))
}
