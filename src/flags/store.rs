//! The flags in force: layers merged by priority into one immutable snapshot, swapped whole. One writer, any number
//! of readers, no lock on the way of a reader.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::changes::{self, Changes};
use super::context::Base;
use super::model::{Flag, FlagSet, Metadata};
use super::settings::Bucketing;
use super::usage::{Tally, Totals};

/// What one source last gave, kept whole: when a layer above drops a flag, the one beneath shows again.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The source: `redis:orders`, `file:/etc/x.json`.
    pub name: Arc<str>,
    /// The set's id, the Redis scope.
    pub flag_set_id: Option<Arc<str>>,
    /// The source's own revision of it.
    pub revision: u64,
    /// The flags.
    pub set: Arc<FlagSet>,
}

impl Layer {
    /// Whether both say the same of where a flag comes from.
    fn names_alike(&self, other: &Self) -> bool {
        self.name == other.name && self.flag_set_id == other.flag_set_id && self.set.metadata == other.set.metadata
    }
}

/// A flag in force, and where it comes from.
#[derive(Debug)]
pub struct Entry {
    flag: Arc<Flag>,
    layer: usize,
    metadata: Arc<Metadata>,
    metadata_json: Arc<str>,
    /// Whether its rule reads the time.
    timed: bool,
    pub(super) tally: Arc<Tally>,
}

impl Entry {
    /// The flag.
    pub fn flag(&self) -> &Arc<Flag> {
        &self.flag
    }

    /// Which of the snapshot's layers it is from.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// Its set's metadata, its own above that, and `source` and `flagSetId` of the layer.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// [`Entry::metadata`] as a JSON object.
    pub fn metadata_json(&self) -> &str {
        &self.metadata_json
    }
}

/// All that an evaluation reads, immutable.
#[derive(Debug)]
pub struct Snapshot {
    generation: u64,
    layers: Vec<Arc<Layer>>,
    /// By key, in order.
    entries: Vec<Entry>,
    /// Shared with the snapshot before as long as the keys are the same.
    index: Arc<HashMap<Arc<str>, usize>>,
    /// Flags of this layer and of those beneath it may be out of date.
    stale_from: usize,
    /// Since when.
    stale_since: Option<SystemTime>,
    context: Arc<Base>,
    bucketing: Bucketing,
    timed: bool,
    metadata_json: Box<str>,
    pub(super) totals: Arc<Totals>,
    /// What changed since the generation before, by its number.
    pub(super) since: Option<(u64, Changes)>,
}

impl Snapshot {
    /// Merges `layers`, the first of the highest priority. `generation` is the snapshot's revision, which must never
    /// fall; `stale` says that no layer is confirmed by its source, see [`Snapshot::stale_from`].
    pub fn merge(layers: Vec<Arc<Layer>>, context: Arc<Base>, generation: u64, stale: bool) -> Self {
        let stale_from = if stale { 0 } else { usize::MAX };
        Self { stale_from, ..Self::made(layers, context, generation, None) }
    }

    /// As [`Snapshot::merge`] of what is confirmed, counting on where `before` is and taking from it what did not change:
    /// one flag of thousands is not to cost as much as all of them.
    pub fn succeed(before: &Self, layers: Vec<Arc<Layer>>, context: Arc<Base>, generation: u64) -> Self {
        Self { totals: before.totals.clone(), ..Self::made(layers, context, generation, Some(before)) }
    }

    fn made(layers: Vec<Arc<Layer>>, context: Arc<Base>, generation: u64, before: Option<&Self>) -> Self {
        let mut merged: Vec<(Arc<Flag>, usize)> = Vec::new();
        for (at, layer) in layers.iter().enumerate() {
            merged.extend(layer.set.flags.values().map(|flag| (flag.clone(), at)));
        }
        // Stable: of those of one key the first is of the highest priority.
        merged.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
        merged.dedup_by(|(later, _), (first, _)| later.key == first.key);
        let bases: Vec<Shared> = layers.iter().map(|layer| Shared::new(base_metadata(layer))).collect();
        // Which of the layers before gave flags the same metadata.
        let same = |layer: &Arc<Layer>| before?.layers.iter().position(|old| old.names_alike(layer));
        let same: Vec<Option<usize>> = layers.iter().map(same).collect();
        let mut old = before.map_or(&[][..], |before| &before.entries).iter().peekable();
        let mut known = 0;
        let mut entries = Vec::with_capacity(merged.len());
        for (flag, layer) in merged {
            // Both are in the order of their keys: two walks, and no search.
            while old.next_if(|old| old.flag.key < flag.key).is_some() {}
            let old = old.next_if(|old| old.flag.key == flag.key);
            known += usize::from(old.is_some());
            let tally = match old {
                Some(old) => Tally::succeeding(&old.tally, &old.flag, &flag),
                None => Arc::new(Tally::new(&flag)),
            };
            entries.push(match old {
                Some(old) if Arc::ptr_eq(&old.flag, &flag) && same[layer] == Some(old.layer) => {
                    let (metadata, metadata_json) = (old.metadata.clone(), old.metadata_json.clone());
                    Entry { flag, layer, metadata, metadata_json, timed: old.timed, tally }
                }
                _ => {
                    let Shared { metadata, json } = bases[layer].with(flag.metadata());
                    let timed = reads_time(&flag, &layers[layer]);
                    Entry { flag, layer, metadata, metadata_json: json, timed, tally }
                }
            });
        }
        let index = match before {
            Some(before) if known == entries.len() && known == before.entries.len() => before.index.clone(),
            _ => Arc::new(entries.iter().enumerate().map(|(at, entry)| (entry.flag.key.clone(), at)).collect()),
        };
        let mut metadata = Metadata::default();
        for layer in layers.iter().rev() {
            metadata.values.extend(layer.set.metadata.values.clone());
        }
        Self {
            generation,
            layers,
            timed: entries.iter().any(|entry| entry.timed),
            entries,
            index,
            stale_from: usize::MAX,
            stale_since: None,
            context,
            bucketing: Bucketing::default(),
            metadata_json: metadata.json().into(),
            totals: Arc::default(),
            since: None,
        }
    }

    /// The same, with what changed since `before` noted: made where snapshots are merged, so that no reader of a stream
    /// has to.
    #[must_use]
    pub fn noting_changes(mut self, before: &Self) -> Self {
        self.since = Some((before.generation, changes::compared(before, &self).into()));
        self
    }

    /// Says that a source has not confirmed what it last gave since `since`, and that `layer` is the first layer of
    /// its priority or beneath it. What the source may hold by now would hide the flags of that layer and of those
    /// beneath, and leaves those above it as they are.
    #[must_use]
    pub fn stale_from(self, layer: usize, since: Option<SystemTime>) -> Self {
        Self { stale_from: layer, stale_since: since, ..self }
    }

    /// The same, but that `fractional` spreads keys by `bucketing`; else it does by the default version.
    #[must_use]
    pub fn with_bucketing(mut self, bucketing: Bucketing) -> Self {
        self.bucketing = bucketing;
        self
    }

    /// How `fractional` spreads keys.
    pub fn bucketing(&self) -> Bucketing {
        self.bucketing
    }

    /// Only the flags that `keep` wants, of each layer, covered by a higher one or not; otherwise the same snapshot.
    pub fn select(&self, keep: impl Fn(&Layer, &Flag) -> bool) -> Self {
        let layers = self.layers.iter().map(|layer| {
            let flags = layer.set.flags.iter().filter(|(_, flag)| keep(layer, flag));
            let flags = flags.map(|(key, flag)| (key.clone(), flag.clone())).collect();
            let FlagSet { metadata, evaluators, .. } = &*layer.set;
            let set = FlagSet { flags, metadata: metadata.clone(), evaluators: evaluators.clone() };
            Arc::new(Layer { set: Arc::new(set), ..Layer::clone(layer) })
        });
        // None is dropped, so that places in the order of layers stay what they are.
        let selected = Self::succeed(self, layers.collect(), self.context.clone(), self.generation);
        selected.with_bucketing(self.bucketing).stale_from(self.stale_from, self.stale_since)
    }

    /// The snapshot's revision, `Tidegate-Revision`.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The layers it was merged from, the first of the highest priority.
    pub fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// Whether a source has not confirmed what it last gave.
    pub fn stale(&self) -> bool {
        self.stale_from != usize::MAX
    }

    /// Whether this flag of the snapshot may be out of date: its own source, or one of higher priority that may hide
    /// it by now, has not confirmed what it last gave.
    pub fn is_stale(&self, entry: &Entry) -> bool {
        entry.layer >= self.stale_from
    }

    /// For how long something has not been confirmed; `None` when all is, or never was.
    pub fn stale_age(&self, now: SystemTime) -> Option<Duration> {
        // A clock that was set back makes things young, not unknown.
        self.stale_since.filter(|_| self.stale()).map(|since| now.duration_since(since).unwrap_or_default())
    }

    /// The flag of this key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.index.get(key).and_then(|at| self.entries.get(*at))
    }

    /// Every flag in force, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// How many flags are in force.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no flag is in force.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a rule reads the time, so that answers may change without a new snapshot.
    pub fn timed(&self) -> bool {
        self.timed
    }

    /// Attributes that join every evaluation.
    pub fn context(&self) -> &Base {
        &self.context
    }

    /// The metadata of all sets, as a JSON object.
    pub fn metadata_json(&self) -> &str {
        &self.metadata_json
    }
}

/// Whether the flag's rule reads `$flagd.timestamp`, itself or by a rule that it names. A path that is computed is not
/// seen.
fn reads_time(flag: &Flag, layer: &Layer) -> bool {
    const TIME: &str = "$flagd.timestamp";
    let definition = flag.definition();
    flag.targeted()
        && (definition.contains(TIME)
            || (definition.contains("\"$ref\"") && layer.set.evaluators.json().contains(TIME)))
}

/// Metadata and its text, shared by all flags of a layer that have none of their own.
struct Shared {
    metadata: Arc<Metadata>,
    json: Arc<str>,
}

impl Shared {
    fn new(metadata: Metadata) -> Self {
        let json = metadata.json().into();
        Self { metadata: Arc::new(metadata), json }
    }

    fn with(&self, own: &Metadata) -> Self {
        if own.is_empty() {
            return Self { metadata: self.metadata.clone(), json: self.json.clone() };
        }
        let mut metadata = Metadata::clone(&self.metadata);
        metadata.values.extend(own.values.clone());
        Self::new(metadata)
    }
}

/// The set's metadata with the layer's name and id beneath it: what the author of a definition says wins.
pub(super) fn base_metadata(layer: &Layer) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.set_string("source", &layer.name);
    if let Some(id) = &layer.flag_set_id {
        metadata.set_string("flagSetId", id);
    }
    metadata.values.extend(layer.set.metadata.values.clone());
    metadata
}

/// Where the snapshot in force is.
#[derive(Debug)]
pub struct Store {
    current: ArcSwap<Snapshot>,
    generation: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// A store with no flags, at generation 0.
    pub fn new() -> Self {
        let empty = Snapshot::merge(Vec::new(), Arc::default(), 0, false);
        Self { current: ArcSwap::from_pointee(empty), generation: watch::Sender::new(0) }
    }

    /// The snapshot in force. Load it once per request, or two flags of one answer may be of two revisions.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The snapshot in force, for longer than a request.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts `snapshot` in force, then tells subscribers; the one before. Only one task may publish.
    pub fn publish(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let generation = snapshot.generation;
        let before = self.current.swap(Arc::new(snapshot));
        self.generation.send_replace(generation);
        before
    }

    /// Follows the generation in force.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

#[cfg(test)]
mod tests;
