//! Layers by priority: takes what sources report, keeps each layer whole, and is the only writer of the store and of
//! the status. Knows nothing of where reports come from.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::context::Base;
use super::metrics::{self, Metrics};
use super::overrides::{Command, Overridden, Overrides};
use super::settings::{Bucketing, OnMissing};
use super::status::{Source, State, Status};
use super::store::{Layer, Snapshot, Store};

/// Merging more flags than this would hold the runtime up for longer than a millisecond.
const INLINE: usize = 1000;

/// For how long the snapshot before is kept: whoever reads it is done by then, and so none of them frees it.
const RETIRED: Duration = Duration::from_secs(2);

/// Something that a source has to say.
#[derive(Debug)]
pub(super) struct Report {
    /// Its place in the order of priority.
    pub(super) source: usize,
    pub(super) news: News,
}

/// What a source has to say.
#[derive(Debug)]
pub(super) enum News {
    /// It has new content; `written` is when, if it knows.
    Applied { layer: Arc<Layer>, written: Option<SystemTime> },
    /// It has no answer yet; this is what it said in an earlier life and confirmed at `confirmed`.
    Recalled { layer: Arc<Layer>, confirmed: SystemTime },
    /// What it last gave still holds.
    Confirmed,
    /// The source is in reach; if it was fresh it still is.
    Alive,
    /// It is out of reach.
    Unreachable { why: String },
    /// It answered that it has nothing.
    Missing { why: String },
    /// What it has does not validate.
    Rejected { why: String },
    /// Its last known good was written, or not.
    Kept(Result<(), String>),
}

/// The layers as they are. No IO: [`run`] publishes what it says.
struct Layers {
    on_missing: OnMissing,
    layers: Vec<Option<Arc<Layer>>>,
    overrides: Overrides,
    /// How often the overrides have changed.
    overridden: u64,
    /// The layer made of the overrides, and of which layers and how many changes it was made.
    above: (Option<Arc<Layer>>, Vec<Arc<Layer>>, u64),
    status: Status,
}

/// What is to be in force.
#[derive(Clone, Default)]
struct Wanted {
    layers: Vec<Arc<Layer>>,
    /// The first layer whose flags may be out of date, and since when.
    stale_from: usize,
    stale_since: Option<SystemTime>,
}

impl PartialEq for Wanted {
    fn eq(&self, other: &Self) -> bool {
        self.stale_from == other.stale_from
            && self.stale_since == other.stale_since
            && same(&self.layers, &other.layers)
    }
}

fn same(a: &[Arc<Layer>], b: &[Arc<Layer>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

impl Layers {
    fn new(names: &[Arc<str>], on_missing: OnMissing) -> Self {
        let source = |name: &Arc<str>| Source {
            name: name.clone(),
            state: State::Waiting,
            revision: None,
            flags: 0,
            from_disk: false,
            confirmed_at: None,
            disk_error: None,
        };
        let sources = names.iter().map(source).collect();
        let status = Status { ready: false, stale: false, generation: 0, flags: 0, sources, overrides: Vec::new() };
        let mut layers = Self {
            on_missing,
            layers: vec![None; names.len()],
            overrides: Overrides::default(),
            overridden: 0,
            above: (None, Vec::new(), 0),
            status,
        };
        layers.conclude();
        layers
    }

    /// Takes one report in.
    fn take(&mut self, report: Report, now: SystemTime) {
        let (layer, source) = (&mut self.layers[report.source], &mut self.status.sources[report.source]);
        match report.news {
            News::Applied { layer: new, .. } => {
                source.hold(&new, now);
                source.from_disk = false;
                source.state = State::Fresh;
                *layer = Some(new);
            }
            News::Recalled { layer: new, confirmed } => {
                source.hold(&new, confirmed);
                source.from_disk = true;
                source.state = State::Stale { why: "no answer since the start".to_owned() };
                *layer = Some(new);
            }
            News::Confirmed => {
                source.confirmed_at = Some(now);
                source.from_disk = false;
                source.state = State::Fresh;
            }
            News::Alive if source.state == State::Fresh => source.confirmed_at = Some(now),
            News::Alive => {}
            News::Unreachable { why } => source.state = State::Stale { why },
            News::Missing { why } => source.state = State::Missing { why },
            News::Rejected { why } => source.state = State::Rejected { why },
            News::Kept(outcome) => source.disk_error = outcome.err(),
        }
    }

    /// Draws the conclusions from all sources together.
    fn conclude(&mut self) {
        let settled = |source: &Source| {
            source.revision.is_some()
                || match source.state {
                    State::Waiting => false,
                    // It has answered: there is nothing. A scope that nobody wrote yet is no reason to wait.
                    State::Fresh | State::Missing { .. } => true,
                    State::Stale { .. } | State::Rejected { .. } => self.on_missing == OnMissing::Empty,
                }
        };
        self.status.ready = self.status.ready || self.status.sources.iter().all(settled);
        self.status.stale = self.status.sources.iter().any(Source::is_stale);
    }

    /// What is to be in force; the overrides' layer is made anew when they or what they force has changed.
    fn wanted(&mut self) -> Wanted {
        let beneath: Vec<Arc<Layer>> = self.layers.iter().flatten().cloned().collect();
        let (_, made_of, changes) = &self.above;
        if *changes != self.overridden || !(self.overrides.is_empty() || same(made_of, &beneath)) {
            let (layer, told) = self.overrides.layer(self.overridden, &beneath);
            self.status.overrides = told;
            self.above = (layer, beneath.clone(), self.overridden);
        }
        let mut layers: Vec<Arc<Layer>> = self.above.0.iter().cloned().collect();
        let (mut stale_from, mut stale_since) = (usize::MAX, None);
        for (source, layer) in self.status.sources.iter().zip(&self.layers) {
            if source.is_stale() {
                stale_from = stale_from.min(layers.len());
                stale_since = [stale_since, source.confirmed_at].into_iter().flatten().min();
            }
            layers.extend(layer.clone());
        }
        Wanted { layers, stale_from, stale_since }
    }

    /// Does what is asked of the overrides; the reply is due once that is in force.
    fn obey(&mut self, command: Command) -> Due {
        let beneath: Vec<Arc<Layer>> = self.layers.iter().flatten().cloned().collect();
        let due: Due = match command {
            Command::Set(order, reply) => {
                match self.overrides.set(order, &beneath, Instant::now(), SystemTime::now()) {
                    Ok(over) => {
                        log_override("override set", &over);
                        Box::new(move |generation| drop(reply.send(Ok((over, generation)))))
                    }
                    Err(refused) => Box::new(move |_| drop(reply.send(Err(refused)))),
                }
            }
            Command::Remove(key, reply) => {
                let removed = self.overrides.remove(&key);
                if let Some(over) = &removed {
                    log_override("override removed", over);
                }
                Box::new(move |generation| drop(reply.send(removed.map(|over| (over, generation)))))
            }
        };
        self.overridden += 1;
        due
    }

    /// Ends the overrides whose time is over.
    fn expire(&mut self) {
        for over in self.overrides.expire(Instant::now()) {
            log_override("override expired", &over);
            self.overridden += 1;
        }
    }
}

/// A reply that waits for the generation it tells of.
type Due = Box<dyn FnOnce(u64) + Send>;

fn log_override(message: &'static str, over: &Overridden) {
    let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs());
    let expires = over.expires_at.and_then(seconds);
    let (key, by, note) = (&*over.key, &*over.by, over.note.as_deref());
    tracing::info!(key, forced = %over.force, by, note, expires, "{message}");
}

impl Source {
    fn hold(&mut self, layer: &Layer, confirmed: SystemTime) {
        self.revision = Some(layer.revision);
        self.flags = layer.set.flags.len();
        self.confirmed_at = Some(confirmed);
    }
}

/// Everything [`run`] writes to.
pub(super) struct Outputs {
    /// What every snapshot spreads keys by.
    pub(super) bucketing: Bucketing,
    pub(super) store: Arc<Store>,
    pub(super) status: watch::Sender<Status>,
    pub(super) metrics: Metrics,
}

/// The status before any report.
pub(super) fn initial(names: &[Arc<str>], on_missing: OnMissing) -> Status {
    Layers::new(names, on_missing).status
}

/// Takes reports and commands for as long as sources live, and publishes.
///
/// # Cancellation
/// Between two reports nothing is lost; a snapshot is published whole or not.
pub(super) async fn run(
    names: Vec<Arc<str>>,
    on_missing: OnMissing,
    context: Arc<Base>,
    mut reports: mpsc::Receiver<Report>,
    mut commands: mpsc::Receiver<Command>,
    outputs: Outputs,
) {
    let mut layers = Layers::new(&names, on_missing);
    let mut published: Option<Wanted> = None;
    let mut batch = Vec::new();
    let mut due: Option<Due> = None;
    let mut retired: Option<(Instant, Arc<Snapshot>)> = None;
    loop {
        let before = layers.status.clone();
        let mut written = Vec::new();
        for report in batch.drain(..) {
            outputs.count(&layers, &report);
            if let News::Applied { written: Some(at), .. } = report.news {
                written.push(at);
            }
            layers.take(report, SystemTime::now());
        }
        layers.expire();
        layers.conclude();
        let wanted = layers.wanted();
        // Before anything is known an empty snapshot would be an answer: "flag not found" in place of "not ready".
        if layers.status.ready && published.as_ref() != Some(&wanted) {
            let generation = layers.status.generation + 1;
            let (flags, old) = outputs.publish(wanted.clone(), context.clone(), generation).await;
            layers.status.flags = flags;
            layers.status.generation = generation;
            published = Some(wanted);
            free(retired.replace((Instant::now() + RETIRED, old)));
        }
        outputs.tell(&before, &layers.status, &written);
        if let Some(due) = due.take() {
            due(layers.status.generation);
        }
        let expiry = layers.overrides.next_end();
        let over = retired.as_ref().map(|(until, _)| *until);
        tokio::select! {
            taken = reports.recv_many(&mut batch, 64) => if taken == 0 {
                return;
            },
            Some(command) = commands.recv() => due = Some(layers.obey(command)),
            () = tokio::time::sleep_until(expiry.unwrap_or_else(Instant::now)), if expiry.is_some() => {}
            () = tokio::time::sleep_until(over.unwrap_or_else(Instant::now)), if over.is_some() => free(retired.take()),
        }
    }
}

/// Frees a snapshot that was replaced. Tens of thousands of pieces take tens of milliseconds, of which the event loops
/// have none to spare.
fn free(retired: Option<(Instant, Arc<Snapshot>)>) {
    match retired {
        Some((_, snapshot)) if snapshot.len() > INLINE => drop(tokio::task::spawn_blocking(move || drop(snapshot))),
        few => drop(few),
    }
}

impl Outputs {
    /// Merges and publishes; the number of flags in force, and the snapshot before.
    async fn publish(&self, wanted: Wanted, context: Arc<Base>, generation: u64) -> (usize, Arc<Snapshot>) {
        let Wanted { layers, stale_from, stale_since } = wanted;
        let total: usize = layers.iter().map(|layer| layer.set.flags.len()).sum();
        let (bucketing, before) = (self.bucketing, self.store.load_full());
        let merge = move || {
            Snapshot::succeed(&before, layers, context, generation)
                .noting_changes(&before)
                .stale_from(stale_from, stale_since)
                .with_bucketing(bucketing)
        };
        let snapshot = if total <= INLINE {
            merge()
        } else {
            match tokio::task::spawn_blocking(merge).await {
                Ok(snapshot) => snapshot,
                Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
                // The runtime is shutting down: nobody asks any more.
                Err(_) => std::future::pending().await,
            }
        };
        let flags = snapshot.len();
        (flags, self.store.publish(snapshot))
    }

    fn count(&self, layers: &Layers, report: &Report) {
        let source = || metrics::Source { source: layers.status.sources[report.source].name.clone() };
        match &report.news {
            News::Rejected { .. } => drop(self.metrics.rejected.get_or_create(&source()).inc()),
            News::Kept(Err(_)) => drop(self.metrics.disk_failures.get_or_create(&source()).inc()),
            _ => {}
        }
    }

    /// Puts the new status where it is read: log lines for what changed, metrics, the watch.
    fn tell(&self, before: &Status, after: &Status, written: &[SystemTime]) {
        let now = SystemTime::now();
        for at in written {
            // Two clocks: what seems to arrive before it was written took no time.
            self.metrics.propagation.observe(now.duration_since(*at).unwrap_or_default().as_secs_f64());
        }
        for (before, after) in before.sources.iter().zip(&after.sources) {
            log(before, after, now);
            let label = metrics::Source { source: after.name.clone() };
            self.metrics.up.get_or_create(&label).set(i64::from(after.state == State::Fresh));
            self.metrics.revision.get_or_create(&label).set(signed(after.revision.unwrap_or(0)));
            if let Some(since) = after.confirmed_at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()) {
                self.metrics.confirmed.get_or_create(&label).set(signed(since.as_secs()));
            }
        }
        if after.ready && !before.ready {
            tracing::info!(flags = after.flags, stale = after.stale, "flags are ready");
        }
        self.metrics.generation.set(signed(after.generation));
        self.metrics.stale.set(i64::from(after.stale));
        self.metrics.flags.set(signed(after.flags as u64));
        self.metrics.overrides.set(signed(after.overrides.len() as u64));
        self.status.send_if_modified(|status| {
            let modified = status != after;
            if modified {
                status.clone_from(after);
            }
            modified
        });
    }
}

/// One line per transition; a reason that changes is one too.
fn log(before: &Source, after: &Source, now: SystemTime) {
    let (source, state) = (&*after.name, after.state.name());
    if before.disk_error != after.disk_error {
        match &after.disk_error {
            Some(error) => tracing::error!(source, error, "last known good flags cannot be written"),
            None => tracing::info!(source, "last known good flags are written again"),
        }
    }
    // Attempts fail in turns for this reason and that; it is one outage, and the status has the latest.
    let same_outage = matches!((&before.state, &after.state), (State::Stale { .. }, State::Stale { .. }));
    if same_outage || before.state == after.state {
        if before.revision != after.revision {
            tracing::debug!(source, revision = after.revision, flags = after.flags, "flags changed");
        }
        return;
    }
    let (revision, age_s) = (after.revision, after.age(now).map(|age| age.as_secs()));
    match &after.state {
        State::Waiting => {}
        State::Fresh => tracing::info!(source, state, revision, flags = after.flags, "flag source is fresh"),
        State::Stale { why } => {
            tracing::warn!(
                source,
                state,
                revision,
                age_s,
                error = why,
                "flag source is out of reach; its last flags stay"
            );
        }
        State::Missing { .. } if revision.is_none() && after.is_file() => {
            tracing::warn!(source, state, "flag file is not there; its flags come into force once it is");
        }
        State::Missing { why } if revision.is_none() => {
            tracing::info!(source, state, reason = why, "flag source has no flags yet");
        }
        State::Missing { why } => {
            tracing::error!(
                source,
                state,
                revision,
                age_s,
                reason = why,
                "flag source lost its flags; the last ones stay"
            );
        }
        State::Rejected { why } => {
            tracing::error!(
                source,
                state,
                revision,
                age_s,
                error = why,
                "flags do not validate; the last good ones stay"
            );
        }
    }
}

fn signed(figure: u64) -> i64 {
    i64::try_from(figure).unwrap_or(i64::MAX)
}
