//! The sources of flags, each followed by a task of its own, and the one task that puts what they give in force.

mod disk;
mod file;
mod kept;
mod pace;
mod redis;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use self::pace::Pace;
use super::compile::Invalid;
use super::context::Base;
use super::contract::{IllegalName, Keys};
use super::executor::Executor;
use super::layers::{self, Outputs};
use super::metrics::Metrics;
use super::overrides;
use super::reporter::Reporter;
use super::settings::Duty;
use super::status::Status;
use super::store::Store;
use super::{Settings, settings};
use crate::net::redis::{Endpoint, Error};

/// Reports that wait for their turn; sources wait beyond it.
const WAITING: usize = 64;
/// Problems told of one document; there may be many per flag.
const TOLD: usize = 3;

/// All sources, not yet followed.
pub struct Sources {
    settings: Settings,
    pace: Pace,
    endpoint: Option<Endpoint>,
    /// Keys of the Redis scopes, in order.
    scopes: Vec<Keys>,
    names: Vec<Arc<str>>,
    metrics: Metrics,
    outputs: Outputs,
    commands: mpsc::Receiver<overrides::Command>,
}

/// How the rest of the process follows the sources.
#[derive(Debug, Clone)]
pub struct Handle {
    /// The state of all sources, at every moment.
    pub status: watch::Receiver<Status>,
    /// The way to change overrides.
    pub overrides: overrides::Handle,
}

/// Settings that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// `redis.url`.
    #[error(transparent)]
    Redis(#[from] Error),
    /// `redis.prefix` or one of `flags.scopes`.
    #[error(transparent)]
    Name(#[from] IllegalName),
}

impl Sources {
    /// Prepares the sources of `settings`: nothing is opened. Snapshots go to `store`, which has no other writer.
    pub fn new(settings: Settings, store: Arc<Store>, metrics: Metrics) -> Result<(Self, Handle), Unusable> {
        let (mut endpoint, mut scopes) = (None, Vec::new());
        if let Some(settings::Redis { url, prefix, scopes: names }) = &settings.redis {
            endpoint = Some(Endpoint::new(url)?);
            scopes = names.iter().map(|scope| Keys::new(prefix, scope)).collect::<Result<_, _>>()?;
        }
        let names: Vec<Arc<str>> = settings.source_names().map(Into::into).collect();
        let (status, handle) = watch::channel(layers::initial(&names, settings.on_missing));
        for (at, name) in names.iter().enumerate() {
            metrics.begin(name, at < scopes.len());
        }
        let outputs = Outputs { bucketing: settings.bucketing, store, status, metrics: metrics.clone() };
        let (overrides, commands) = overrides::Handle::new();
        let sources = Self { settings, pace: Pace::default(), endpoint, scopes, names, metrics, outputs, commands };
        Ok((sources, Handle { status: handle, overrides }))
    }

    /// Who executes the schedules of the scopes, if anybody is to do that here: one for each server; `name` tells
    /// others who it is.
    pub fn executors(&self, name: &str) -> Vec<Executor> {
        let wanted = self.settings.schedules == Duty::Auto && !self.scopes.is_empty();
        let Some(endpoint) = self.endpoint.clone().filter(|_| wanted) else { return Vec::new() };
        // In a cluster each scope has a server of its own.
        let together = if endpoint.is_cluster() { 1 } else { self.scopes.len() };
        let groups = self.scopes.chunks(together);
        groups.map(|scopes| Executor::new(endpoint.clone(), scopes, name, self.metrics.clone())).collect()
    }

    /// Who reports which flags are evaluated here, if anybody is to do that.
    pub fn reporter(&self) -> Option<Reporter> {
        let wanted = self.settings.report == Duty::Auto && !self.scopes.is_empty();
        Some(Reporter::new(self.endpoint.clone().filter(|_| wanted)?, &self.scopes))
    }

    /// Other times than the default ones.
    pub fn paced(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Follows all sources for ever. A task that panics takes this one with it, so that nothing goes on half dead.
    ///
    /// # Cancellation
    /// At any point: connections and watches are closed, what is in force stays.
    pub async fn run(self) {
        let (tell, reports) = mpsc::channel(WAITING);
        let mut tasks = JoinSet::new();
        let redis = self.scopes.len();
        for (at, path) in self.settings.files.iter().enumerate() {
            let (source, name) = (redis + at, self.names[redis + at].clone());
            tasks.spawn(file::Follower::new(path.clone(), source, name, tell.clone(), self.pace.clone()).run());
        }
        if let Some(endpoint) = self.endpoint.clone().filter(|_| redis > 0) {
            let mut scopes = Vec::with_capacity(redis);
            for (source, keys) in self.scopes.iter().enumerate() {
                let disk = self.settings.state_dir.as_deref().map(|state_dir| {
                    let place = disk::Place::new(state_dir, &keys.scope, &keys.flags);
                    let (wanted, saver) = watch::channel(None);
                    tasks.spawn(disk::run(place.clone(), source, saver, tell.clone(), self.pace.clone()));
                    (place, wanted)
                });
                scopes.push(redis::Scope::new(keys.clone(), source, self.names[source].clone(), disk));
            }
            // In a cluster each scope has a server of its own.
            let groups: Vec<Vec<_>> = if endpoint.is_cluster() {
                scopes.into_iter().map(|scope| vec![scope]).collect()
            } else {
                vec![scopes]
            };
            for scopes in groups {
                let (endpoint, metrics, pace) = (endpoint.clone(), self.metrics.clone(), self.pace.clone());
                tasks.spawn(redis::Follower { endpoint, scopes, reports: tell.clone(), metrics, pace }.run());
            }
        }
        // `tell` lives on: without any source there is nothing to report, and no end to that.
        let context = Arc::new(Base::new(&self.settings.context));
        let merge = layers::run(self.names, self.settings.on_missing, context, reports, self.commands, self.outputs);
        tokio::select! {
            () = merge => {}
            ended = next(&mut tasks) => if let Err(ended) = ended && ended.is_panic() {
                std::panic::resume_unwind(ended.into_panic());
            },
        }
        drop(tell);
    }
}

/// The end of one of the tasks; of none, never.
async fn next(tasks: &mut JoinSet<()>) -> Result<(), tokio::task::JoinError> {
    match tasks.join_next().await {
        Some(ended) => ended,
        None => std::future::pending().await,
    }
}

/// The first problems of a document in one line, and how many more there are.
fn one_line(invalid: &[Invalid]) -> String {
    let problems = || invalid.iter().flat_map(|invalid| &invalid.0);
    let total = problems().count();
    let mut text = problems().take(TOLD).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if total > TOLD {
        text.push_str(&format!("; and {} more", total - TOLD));
    }
    text
}
