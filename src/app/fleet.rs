//! An instance among its fleet: what it says of itself, from all over the process, and its goodbye.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::flags;
use crate::fleet::brake::{self as fleet, Position, Ruling, Why};
use crate::fleet::settings::Register;
use crate::fleet::{Failing, Handle, Identity, Keys, Member, Metrics, Presence, Rulings, Settings};
use crate::lifecycle::driver::Lifecycle;
use crate::lifecycle::ledger::Ledger;
use crate::lifecycle::tasks::{OnEnd, Tasks};
use crate::net::redis::Endpoint;
use crate::readiness::verdict::{Line, Standing};
use crate::readiness::{Board, Brake, Crowd, Patience, Place};

/// How long an exit may wait for Redis to take note of it.
const GOODBYE: Duration = Duration::from_secs(1);

/// How often it is looked whether a result has grown too old to be told of: that is no event.
const LOOK: Duration = Duration::from_secs(1);

/// Of a heartbeat that tells of a failing check, with what it waits to be spread: the first word comes in a fraction of
/// that, and others are told again a second later.
const PATIENCE: Patience = Patience { word: Duration::from_secs(1), report: Duration::from_millis(1500) };

/// See the module's text.
pub(super) struct Fleet {
    joining: Option<Joining>,
    handle: Option<Handle>,
}

struct Joining {
    member: Member,
    identity: Identity,
    /// Takes the shared checks that fail here.
    failing: watch::Sender<Failing>,
    rulings: watch::Receiver<Rulings>,
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
    pub(super) fn new(settings: &Settings, board: &Board, registry: &mut Registry) -> anyhow::Result<Self> {
        let metrics = Metrics::register(registry, &board.shared());
        let Some(redis) = settings.redis.as_ref().filter(|_| settings.register == Register::Auto) else {
            return Ok(Self { joining: None, handle: None });
        };
        let endpoint = Endpoint::new(&redis.url).context("redis.url cannot be used")?;
        let keys = Keys::new(&redis.prefix, &settings.workload).context("workload cannot be used")?;
        let identity = Identity::new(settings);
        let (failing, told) = watch::channel(Failing::new());
        let policy = settings.brake.clone();
        let (member, handle) = Member::new((endpoint, keys), identity.clone(), policy, told, metrics);
        let joining = Joining { member, identity, failing, rulings: handle.rulings() };
        Ok(Self { joining: Some(joining), handle: Some(handle) })
    }

    /// Sends heartbeats from now on, and lets the brake act on the board. What is served does not need them: their end is
    /// not that of the process, and a brake that is not told of any more lets go by itself.
    pub(super) fn join(&mut self, tasks: &Tasks, subject: Subject) {
        let Some(Joining { member, identity, failing, rulings }) = self.joining.take() else { return };
        subject.board.ask(PATIENCE);
        tasks.spawn("checks that the fleet is told of", OnEnd::MayEnd, tell(subject.board.clone(), failing));
        tasks.spawn("brake", OnEnd::MayEnd, obey(subject.board.clone(), rulings));
        tasks.spawn("fleet", OnEnd::MayEnd, member.run(move || presence(&identity, &subject)));
    }

    /// Says goodbye.
    pub(super) async fn leave(self) {
        if let Some(handle) = self.handle {
            handle.leave(GOODBYE).await;
        }
    }
}

/// Tells which shared checks of a board fail, for ever, and the board of the time that passes.
///
/// # Cancellation
/// At any point.
pub async fn tell(board: Board, failing: watch::Sender<Failing>) {
    let mut snapshots = board.subscribe();
    loop {
        let now = tokio::time::Instant::now();
        let fails: Failing = {
            let snapshot = snapshots.borrow_and_update();
            snapshot.failing(now).map(|(check, place)| (check.clone(), position(place))).collect()
        };
        failing.send_if_modified(|told| {
            let changed = *told != fails;
            *told = fails;
            changed
        });
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK) => board.look(tokio::time::Instant::now()),
        }
    }
}

fn position(place: Place) -> Position {
    match place {
        Place::In => Position::In,
        Place::Out => Position::Out,
    }
}

/// Tells a board what the brake says, until nobody says anything any more.
///
/// # Cancellation
/// At any point: what was told expires by itself.
pub async fn obey(board: Board, mut rulings: watch::Receiver<Rulings>) {
    loop {
        let said = rulings.borrow_and_update().clone();
        board.brake(|check| said.get(check).map(|ruling| brake(check, ruling)));
        if rulings.changed().await.is_err() {
            return;
        }
    }
}

fn brake(check: &str, ruling: &Ruling) -> Brake {
    let says = ruling.says(check).into();
    match ruling {
        Ruling::Holds { until, .. } | Ruling::Kept { until, .. } => Brake::Holds { says, until: *until },
        Ruling::Off(Why::Few(count)) => {
            let asks = format!("waiting for the others, {check} failing on {count} so far").into();
            Brake::Few { asks, says }
        }
        Ruling::Off(_) => {
            let crowd = match ruling.crowd() {
                fleet::Crowd::Few => Crowd::Few,
                fleet::Crowd::Many => Crowd::Many,
            };
            Brake::Off { says, crowd }
        }
    }
}

fn presence(identity: &Identity, subject: &Subject) -> Presence {
    let verdict = subject.board.snapshot().verdict(tokio::time::Instant::now(), |_| false);
    // Of a check that has no result yet nobody knows that it fails; `ready` says that it is waited for.
    let fails = |line: &&Line| !line.standing.passes() && line.standing != Standing::Pending;
    let failing: BTreeSet<&str> = verdict.lines.iter().filter(fails).map(|line| &*line.name).collect();
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
