//! An instance among its fleet: what it says of itself, from all over the process, and its goodbye.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::flags;
use crate::fleet::settings::Register;
use crate::fleet::{Failing, Handle, Identity, Keys, Member, Metrics, Presence, Settings};
use crate::lifecycle::driver::Lifecycle;
use crate::lifecycle::ledger::Ledger;
use crate::lifecycle::tasks::{OnEnd, Tasks};
use crate::net::redis::Endpoint;
use crate::readiness::Board;

/// How long an exit may wait for Redis to take note of it.
const GOODBYE: Duration = Duration::from_secs(1);

/// See the module's text.
pub(super) struct Fleet {
    joining: Option<(Member, Identity)>,
    handle: Option<Handle>,
    /// The shared checks that fail here.
    failing: watch::Sender<Failing>,
}

/// What an instance speaks of.
pub(super) struct Subject {
    pub(super) board: Board,
    pub(super) flags: watch::Receiver<flags::Status>,
    pub(super) lifecycle: Lifecycle,
    pub(super) ledger: Arc<Ledger>,
}

impl Fleet {
    /// Sets up what the settings ask for; nothing is connected.
    pub(super) fn new(settings: &Settings, registry: &mut Registry) -> anyhow::Result<Self> {
        let metrics = Metrics::register(registry, &[]);
        let (failing, told) = watch::channel(Failing::new());
        let Some(redis) = settings.redis.as_ref().filter(|_| settings.register == Register::Auto) else {
            return Ok(Self { joining: None, handle: None, failing });
        };
        let endpoint = Endpoint::new(&redis.url).context("redis.url cannot be used")?;
        let keys = Keys::new(&redis.prefix, &settings.workload).context("workload cannot be used")?;
        let identity = Identity::new(settings);
        let (member, handle) = Member::new((endpoint, keys), identity.clone(), settings.brake.clone(), told, metrics);
        Ok(Self { joining: Some((member, identity)), handle: Some(handle), failing })
    }

    /// Sends heartbeats from now on. What is served does not need them: their end is not that of the process.
    pub(super) fn join(&mut self, tasks: &Tasks, subject: Subject) {
        if let Some((member, identity)) = self.joining.take() {
            tasks.spawn("fleet", OnEnd::MayEnd, member.run(move || presence(&identity, &subject)));
        }
    }

    /// Says goodbye.
    pub(super) async fn leave(self) {
        if let Some(handle) = self.handle {
            handle.leave(GOODBYE).await;
        }
    }
}

fn presence(identity: &Identity, subject: &Subject) -> Presence {
    let verdict = subject.board.snapshot().verdict(tokio::time::Instant::now(), |_| false);
    let failing: BTreeSet<&str> =
        verdict.lines.iter().filter(|line| !line.standing.passes()).map(|line| &*line.name).collect();
    let flags = subject.flags.borrow();
    let scopes = flags.sources.iter().filter_map(|source| {
        let scope = source.name.strip_prefix("redis:")?;
        Some((scope.to_owned(), source.revision?))
    });
    Presence {
        pod: identity.pod.clone(),
        version: identity.version.clone(),
        sidecar: env!("CARGO_PKG_VERSION").to_owned(),
        phase: subject.lifecycle.phase().as_str().to_owned(),
        ready: verdict.ready(),
        failing: failing.into_iter().map(str::to_owned).collect(),
        flags: scopes.collect(),
        oldest_epoch: subject.ledger.oldest_epoch(),
        ..Presence::default()
    }
}
