//! An instance's part in its fleet: heartbeats, what they learn, and a goodbye. Nobody waits for it but the goodbye, and
//! that not for long.

use std::time::Duration;

use redis::RedisError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::brake::{Count, Why};
use super::contract::{Answer, Beat, Heard, Turn, beat, leave};
use super::judge::{Failing, Judge, Rulings};
use super::keys::Keys;
use super::metrics::{Ending, Metrics};
use super::presence::{Identity, Presence};
use super::settings::Brake as Policy;
use crate::net::redis::script::{is_denial, is_elsewhere, is_read_only};
use crate::net::redis::{Connection, Endpoint};

/// The heartbeat's times.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Between two heartbeats, jittered by a tenth. 3 s.
    pub every: Duration,
    /// The same while a shared check fails here. 1 s.
    pub failing: Duration,
    /// How long a heartbeat is good for, and what was learned from it. 10 s.
    pub good: Duration,
    /// To connect, and for each answer. 2 s.
    pub answer: Duration,
    /// When checks begin or cease to fail, the next heartbeat comes within this, spread at random: a fleet notices an
    /// outage all at once. 200 ms.
    pub spread: Duration,
    /// First wait before connecting again; doubles up to the longest. 250 ms.
    pub retry: Duration,
    /// Longest wait before connecting again. 5 s.
    pub retry_most: Duration,
    /// Between two attempts after Redis said that it will not have us. 60 s.
    pub refused: Duration,
    /// Between two looks whether the server is still the master. 30 s.
    pub doubt: Duration,
    /// How long a brake that held is kept while Redis cannot be asked, or has lost what it knew. 2 min.
    pub keep: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(3),
            failing: Duration::from_secs(1),
            good: Duration::from_secs(10),
            answer: Duration::from_secs(2),
            spread: Duration::from_millis(200),
            retry: Duration::from_millis(250),
            retry_most: Duration::from_secs(5),
            refused: Duration::from_secs(60),
            doubt: Duration::from_secs(30),
            keep: Duration::from_secs(120),
        }
    }
}

/// What the rest of the process has of a member.
#[derive(Debug, Clone)]
pub struct Handle {
    rulings: watch::Receiver<Rulings>,
    leaving: CancellationToken,
    left: CancellationToken,
}

/// See the module's text.
pub struct Member {
    endpoint: Endpoint,
    keys: Keys,
    identity: Identity,
    pace: Pace,
    metrics: Metrics,
    failing: watch::Receiver<Failing>,
    judge: Judge,
    leaving: CancellationToken,
    left: CancellationToken,
    /// Since when it is registered, as Redis said; empty before.
    joined: String,
    /// What Redis was last told; empty when it has to be told anew.
    told: String,
    /// The checks that Redis was last told to fail.
    counted: Failing,
    /// What was last said of our place, so that it is said once.
    standing: &'static str,
}

/// Why a connection was given up.
enum End {
    /// It broke, or did not answer.
    Lost(String),
    /// Redis will not have us: for now there is no use in asking again.
    Refused(String),
    /// Redis answers, and takes no writes: a replica until it is promoted.
    ReadOnly(String),
    /// Redis answers that it cannot, as while it loads its data or is out of memory.
    Unable(String),
    /// We said goodbye.
    Left,
}

impl Handle {
    /// What the brake says, at every moment.
    pub fn rulings(&self) -> watch::Receiver<Rulings> {
        self.rulings.clone()
    }

    /// Says goodbye, if Redis can be told within `limit`.
    pub async fn leave(&self, limit: Duration) {
        self.leaving.cancel();
        if tokio::time::timeout(limit, self.left.cancelled()).await.is_err() {
            tracing::info!("no goodbye to the fleet: redis did not answer; this instance will be suspect");
        }
    }
}

impl Member {
    /// An instance that will be a member of the fleet at `keys`. `failing` are the shared checks that fail here.
    pub fn new(
        (endpoint, keys): (Endpoint, Keys),
        identity: Identity,
        policy: Policy,
        failing: watch::Receiver<Failing>,
        metrics: Metrics,
    ) -> (Self, Handle) {
        let pace = Pace::default();
        let judge = Judge::new(policy, metrics.clone(), pace.keep);
        let (leaving, left) = (CancellationToken::new(), CancellationToken::new());
        let handle = Handle { rulings: judge.rulings(), leaving: leaving.clone(), left: left.clone() };
        let member = Self {
            endpoint,
            keys,
            identity,
            pace,
            metrics,
            failing,
            judge,
            leaving,
            left,
            joined: String::new(),
            told: String::new(),
            counted: Failing::new(),
            standing: "",
        };
        (member, handle)
    }

    /// Other times than the default ones.
    pub fn paced(mut self, pace: Pace) -> Self {
        self.judge.keep(pace.keep);
        Self { pace, ..self }
    }

    /// Until it has said goodbye. `presence` tells what there is to say of the instance.
    ///
    /// # Cancellation
    /// At any point; the instance is suspect then.
    pub async fn run(mut self, presence: impl Fn() -> Presence + Send) {
        let mut attempt = 0_u32;
        loop {
            let began = Instant::now();
            let end = match self.open().await {
                Ok(connection) => self.serve(connection, &presence).await,
                Err(end) => end,
            };
            let unregistered = "not registered in the fleet, and no brake holds here";
            let unasked = "the fleet cannot be asked; nothing that is served depends on it";
            let why = match end {
                End::Left => break,
                End::Refused(why) => {
                    if self.ended(Ending::Refused, "refused") {
                        tracing::warn!(error = why, "{unregistered}");
                    }
                    Why::Refused
                }
                End::ReadOnly(why) => {
                    if self.ended(Ending::Refused, "read-only") {
                        tracing::warn!(error = why, "{unregistered}");
                    }
                    Why::ReadOnly
                }
                End::Unable(why) => {
                    if self.ended(Ending::Refused, "unable") {
                        tracing::info!(error = why, "{unasked}");
                    }
                    Why::Refused
                }
                End::Lost(why) => {
                    if self.ended(Ending::Failed, "away") {
                        tracing::info!(error = why, "{unasked}");
                    }
                    Why::Unasked
                }
            };
            if began.elapsed() > self.pace.retry_most {
                attempt = 0;
            }
            let wait = match self.standing {
                "refused" => self.pace.refused,
                _ => self.pace.retry.saturating_mul(1 << attempt.min(16)).min(self.pace.retry_most),
            };
            attempt = attempt.saturating_add(1);
            // Whoever comes back to a server that was away must be believed to be there again.
            self.told.clear();
            if !self.wait_uncounted(wait.mul_f64(0.5 + fastrand::f64() / 2.0), why).await {
                break;
            }
        }
        self.metrics.registered.set(0);
        self.left.cancel();
    }

    /// Counts a heartbeat that did not count; whether this is another standing than before, and to be told.
    fn ended(&mut self, ending: Ending, standing: &'static str) -> bool {
        self.metrics.count(ending);
        std::mem::replace(&mut self.standing, standing) != standing
    }

    /// Lets time pass in which nobody counts; false when it is time to leave.
    async fn wait_uncounted(&mut self, wait: Duration, why: Why) -> bool {
        let until = Instant::now() + wait;
        loop {
            self.judge.uncounted(&self.failing.borrow_and_update().clone(), why);
            tokio::select! {
                () = self.leaving.cancelled() => return false,
                () = sleep_until(until) => return true,
                changed = self.failing.changed() => if changed.is_err() { return false },
            }
        }
    }

    async fn open(&self) -> Result<Connection, End> {
        tokio::select! {
            () = self.leaving.cancelled() => Err(End::Left),
            opened = self.endpoint.connect_for(&self.keys.alive, self.pace.answer) => {
                opened.map_err(|error| End::Lost(error.to_string()))
            }
        }
    }

    /// Sends heartbeats over one connection until it ends.
    async fn serve(&mut self, mut connection: Connection, presence: &(impl Fn() -> Presence + Send)) -> End {
        let mut doubt = Instant::now() + self.pace.doubt;
        loop {
            let leaving = self.leaving.clone();
            let beaten = tokio::select! {
                () = leaving.cancelled() => return self.goodbye(&mut connection).await,
                beaten = self.beat(&mut connection, presence) => beaten,
            };
            let again = match beaten {
                Ok(again) => again,
                Err(end) => return end,
            };
            // A server that was replaced and cannot know it would go on as if nothing were.
            if Instant::now() >= doubt {
                doubt = Instant::now() + self.pace.doubt;
                if !self.endpoint.still_with(&connection, &self.keys.alive, self.pace.answer).await {
                    return End::Lost(format!("{} is not the master any more", connection.node()));
                }
            }
            let next = Instant::now() + again;
            tokio::select! {
                () = leaving.cancelled() => return self.goodbye(&mut connection).await,
                () = sleep_until(next) => {}
                changed = self.failing.changed() => {
                    if changed.is_err() {
                        return self.goodbye(&mut connection).await;
                    }
                    sleep(self.pace.spread.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                }
            }
        }
    }

    /// One heartbeat; how long to wait for the next.
    async fn beat(
        &mut self,
        connection: &mut Connection,
        presence: &(impl Fn() -> Presence + Send),
    ) -> Result<Duration, End> {
        let failing = self.failing.borrow_and_update().clone();
        let says = serde_json::to_string(&presence()).expect("texts and numbers always serialise");
        let ceased =
            self.counted.keys().filter(|check| !failing.contains_key(*check)).map(|check| (&**check, Turn::Passes));
        let checks = failing.keys().map(|check| (&**check, Turn::Fails)).chain(ceased).collect();
        let beaten = Beat {
            identity: &self.identity,
            joined: &self.joined,
            good: self.pace.good,
            says: if says == self.told { "" } else { &says },
            checks,
        };
        let asked = Instant::now();
        match beat(connection, &self.keys, &beaten).await {
            Ok(Answer::Heard(heard)) => {
                self.heard(&heard, &failing, asked);
                self.told = says;
                self.counted = failing;
                let every = if self.counted.is_empty() { self.pace.every } else { self.pace.failing };
                Ok(every.mul_f64(0.9 + fastrand::f64() / 5.0))
            }
            Ok(Answer::Again) => {
                self.told.clear();
                Ok(Duration::ZERO)
            }
            Ok(Answer::Replaced) => {
                let id = self.identity.id.clone();
                self.identity = self.identity.elsewhere();
                (self.joined, self.told) = (String::new(), String::new());
                tracing::warn!(id, now = self.identity.id, "another process has this instance's place in the fleet");
                Ok(Duration::ZERO)
            }
            Ok(Answer::Full(count)) => Err(End::Refused(format!(
                "{count} instances are registered, suspects among them: tidegate fleet evict"
            ))),
            Err(error) if is_denial(&error) || is_elsewhere(&error) => Err(End::Refused(self.endpoint.scrub(&error))),
            Err(error) if of_the_keys(&error) => Err(End::Refused(self.endpoint.scrub(&error))),
            Err(error) if is_read_only(&error) => Err(End::ReadOnly(self.endpoint.scrub(&error))),
            Err(error) if error.code().is_some() => Err(End::Unable(self.endpoint.scrub(&error))),
            Err(error) => Err(End::Lost(self.endpoint.error(&error, self.pace.answer).to_string())),
        }
    }

    fn heard(&mut self, heard: &Heard, failing: &Failing, asked: Instant) {
        self.metrics.count(Ending::Ok);
        self.metrics.live.set(i64::try_from(heard.live).unwrap_or(i64::MAX));
        if std::mem::replace(&mut self.standing, "registered") != "registered" {
            tracing::info!(id = self.identity.id, workload = self.keys.workload, "registered in the fleet");
        }
        self.joined.clone_from(&heard.joined);
        let counts = failing.iter().zip(&heard.failing).map(|((check, position), failing)| {
            (check, *position, Count { failing: *failing, whole: heard.whole, young: heard.young })
        });
        self.judge.counted(counts, asked, self.pace.good);
    }

    async fn goodbye(&self, connection: &mut Connection) -> End {
        let checks: Vec<String> = self.counted.keys().map(ToString::to_string).collect();
        if let Err(error) = leave(connection, &self.keys, &self.identity, &checks).await {
            tracing::debug!(error = self.endpoint.scrub(&error), "no goodbye to the fleet");
        }
        End::Left
    }
}

/// Whether the fault lies with what is stored, so that another connection would meet it too.
fn of_the_keys(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE") || error.to_string().contains("WRONGTYPE")
}
