//! The flag sources at work, without the rest of the sidecar.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate::flags::contract::{Change, Keys, Op, Place, Written, write};
use tidegate::flags::settings::{OnMissing, Redis};
use tidegate::flags::sources::{Handle, Pace, Sources};
use tidegate::flags::status::Source;
use tidegate::flags::store::Store;
use tidegate::flags::{Settings, Status, metrics};
use tidegate::net::redis::{Connection, Endpoint};
use tidegate::secret::Secret;
use tidegate::telemetry::metrics as registry;
use tokio::task::JoinSet;

use super::eventually;

/// How long something may take on a busy machine before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Sources that follow, until dropped.
pub(crate) struct Flags {
    pub(crate) store: Arc<Store>,
    pub(crate) handle: Handle,
    registry: registry::Registry,
    _task: JoinSet<()>,
}

/// The sources' times where nothing is waited for but what a test is about: a reconcile would hide a lost event.
pub(crate) fn quick() -> Pace {
    Pace {
        answer: Duration::from_secs(10),
        patience: Duration::from_millis(50),
        reconcile: Duration::from_secs(3600),
        heartbeat: Duration::from_secs(3600),
        spread: Duration::ZERO,
        retry_first: Duration::from_millis(5),
        retry_most: Duration::from_millis(50),
        look: Duration::from_secs(3600),
        settle: Duration::from_millis(5),
        save: Duration::ZERO,
        save_again: Duration::from_millis(20),
    }
}

/// Scopes at `url`, the first of the highest priority.
pub(crate) fn settings(url: &Secret, scopes: &[&str]) -> Settings {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let redis = Redis { url: url.clone(), prefix: "tidegate".to_owned(), scopes };
    Settings { redis: Some(redis), on_missing: OnMissing::Wait, ..Settings::default() }
}

/// As [`settings`], kept in `state_dir`.
pub(crate) fn kept_in(state_dir: &Path, url: &Secret, scopes: &[&str]) -> Settings {
    Settings { state_dir: Some(state_dir.to_owned()), ..settings(url, scopes) }
}

/// An integer flag.
pub(crate) fn number(value: u64) -> String {
    format!(r#"{{"state":"ENABLED","variants":{{"v":{value}}},"defaultVariant":"v"}}"#)
}

impl Flags {
    pub(crate) fn start(settings: Settings, pace: Pace) -> Self {
        let mut registry = registry::registry();
        let metrics = metrics::register(&mut registry);
        let store = Arc::new(Store::new());
        let (sources, handle) = Sources::new(settings, store.clone(), metrics).unwrap();
        let mut task = JoinSet::new();
        task.spawn(sources.paced(pace).run());
        Self { store, handle, registry, _task: task }
    }

    /// The value of an integer flag in force.
    pub(crate) fn value(&self, key: &str) -> Option<u64> {
        self.store.load().get(key).map(|entry| entry.flag().variant("v").unwrap().value_json().parse().unwrap())
    }

    pub(crate) fn status(&self) -> Status {
        self.handle.status.borrow().clone()
    }

    /// The state of the source that ranks as `at`.
    pub(crate) fn source(&self, at: usize) -> Source {
        self.status().sources.remove(at)
    }

    pub(crate) fn state(&self, at: usize) -> &'static str {
        self.source(at).state.name()
    }

    pub(crate) fn why(&self, at: usize) -> String {
        self.source(at).state.why().unwrap_or_default().to_owned()
    }

    /// The metrics as they would be scraped.
    pub(crate) fn metrics(&self) -> String {
        registry::render(&self.registry)
    }

    #[track_caller]
    pub(crate) fn until(&self, why: &str, condition: impl Fn(&Self) -> bool) -> impl Future<Output = ()> {
        eventually(PATIENCE, why, async move || condition(self))
    }
}

/// Whoever writes flags.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) keys: Keys,
}

impl Writer {
    pub(crate) async fn to(url: &Secret, scope: &str) -> Self {
        let endpoint = Endpoint::new(url).unwrap();
        // For a moment after a failover most Sentinels name the master that was.
        let began = tokio::time::Instant::now();
        let connection = loop {
            match endpoint.connect(PATIENCE).await {
                Ok(connection) => break connection,
                Err(error) => assert!(began.elapsed() < PATIENCE, "no master can be reached: {error}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        Self { connection, keys: Keys::new("tidegate", scope).unwrap() }
    }

    /// Writes definitions, `None` removes; all in one change.
    pub(crate) async fn write(&mut self, changes: &[(&str, Option<&str>)]) -> Written {
        let op = |(key, set): &(&str, Option<&str>)| Op {
            place: Place::Flags,
            key: (*key).to_owned(),
            set: set.map(str::to_owned),
            expect: None,
        };
        let ops = changes.iter().map(op).collect();
        let change = Change { expect: None, create: true, actor: "test".to_owned(), note: String::new(), ops };
        write(&mut self.connection, &self.keys, &change).await.unwrap()
    }

    pub(crate) async fn set(&mut self, key: &str, value: u64) -> Written {
        self.write(&[(key, Some(&number(value)))]).await
    }
}
