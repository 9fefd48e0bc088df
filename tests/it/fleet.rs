//! The fleet: its registry in a real Redis, what the command line says of it, and the brake.

mod brake;
mod commands;
mod deployments;
mod registry;
mod scale;
mod sidecar;

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use tidegate::fleet::settings::{Brake, Redis as Where, Register};
use tidegate::fleet::{
    Failing, Handle, Heartbeat, Identity, Instance, Keys, Member, Metrics, Pace, Presence, Settings, list,
};
use tidegate::net::redis::Endpoint;
use tidegate::secret::Secret;
use tidegate::telemetry::metrics::{Registry, registry, render};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::eventually;

/// How long something may take on a busy machine before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Heartbeats where nothing is waited for but what a test is about. One is good for long: a busy machine must not make
/// suspects.
pub(crate) fn quick() -> Pace {
    Pace {
        every: Duration::from_millis(40),
        failing: Duration::from_millis(30),
        good: Duration::from_secs(20),
        answer: Duration::from_secs(10),
        spread: Duration::from_millis(5),
        retry: Duration::from_millis(5),
        retry_most: Duration::from_millis(50),
        refused: Duration::from_millis(100),
        doubt: Duration::from_millis(300),
        keep: Duration::from_secs(120),
    }
}

pub(crate) fn settings(url: &Secret, pod: &str) -> Settings {
    Settings {
        redis: Some(Where { url: url.clone(), prefix: "tidegate".to_owned() }),
        workload: "orders".to_owned(),
        register: Register::Auto,
        pod: pod.to_owned(),
        pod_uid: Some(format!("uid-of-{pod}")),
        version: Some("1.4.2".to_owned()),
        brake: Brake::default(),
    }
}

pub(crate) fn keys() -> Keys {
    Keys::new("tidegate", "orders").unwrap()
}

/// A member of the fleet, without the rest of a sidecar, until dropped: then it is gone without a word.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) failing: watch::Sender<Failing>,
    pub(crate) says: Arc<Mutex<Presence>>,
    metrics: Registry,
    _task: JoinSet<()>,
}

impl Running {
    pub(crate) fn start(settings: &Settings, pace: Pace) -> Self {
        let redis = settings.redis.as_ref().unwrap();
        let (endpoint, identity) = (Endpoint::new(&redis.url).unwrap(), Identity::new(settings));
        let (failing, told) = watch::channel(Failing::new());
        let mut metrics = registry();
        let counts = Metrics::register(&mut metrics, &["db".into()]);
        let brake = settings.brake.clone();
        let (member, handle) = Member::new((endpoint, keys()), identity.clone(), brake, told, counts);
        let says = Presence {
            pod: identity.pod.clone(),
            version: identity.version.clone(),
            phase: "serving".to_owned(),
            ready: true,
            ..Presence::default()
        };
        let says = Arc::new(Mutex::new(says));
        let mut task = JoinSet::new();
        let spoken = says.clone();
        task.spawn(member.paced(pace).run(move || spoken.lock().unwrap().clone()));
        Self { handle, failing, says, metrics, _task: task }
    }

    pub(crate) fn quick(url: &Secret, pod: &str) -> Self {
        Self::start(&settings(url, pod), quick())
    }

    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = render(&self.metrics);
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    }

    pub(crate) async fn registered(&self) {
        eventually(PATIENCE, "it is registered", async || self.metric("tidegate_fleet_registered") == 1.0).await;
    }

    /// Waits for more heartbeats that end like this.
    pub(crate) async fn beats(&self, result: &str, more: u32) {
        let series = format!("tidegate_fleet_heartbeats_total{{result=\"{result}\"}}");
        let goal = self.metric(&series) + f64::from(more);
        let why = format!("{more} more heartbeats end {result}");
        eventually(PATIENCE, &why, async || self.metric(&series) >= goal).await;
    }
}

/// The fleet as anybody would list it; empty while Redis is not to be had.
pub(crate) async fn listed(url: &Secret) -> Vec<Instance> {
    let Ok(mut connection) = Endpoint::new(url).unwrap().connect_for(&keys().alive, PATIENCE).await else {
        return Vec::new();
    };
    list(&mut connection, &keys()).await.unwrap_or_default()
}

/// Pods, those of suspects with a `?`.
pub(crate) async fn pods(url: &Secret) -> Vec<String> {
    let suspect = |instance: &Instance| matches!(instance.heard, Heartbeat::Suspect(_));
    let pod = |i: &Instance| format!("{}{}", i.says.pod, if suspect(i) { "?" } else { "" });
    listed(url).await.iter().map(pod).collect()
}

/// Waits until the fleet is made of these.
#[track_caller]
pub(crate) fn fleet_is(url: &Secret, expected: &[&str]) -> impl Future<Output = ()> {
    let why = format!("the fleet is {expected:?}");
    async move { eventually(PATIENCE, &why, async || pods(url).await == expected).await }
}
