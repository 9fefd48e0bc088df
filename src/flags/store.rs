//! The flags in force: layers merged by priority into one immutable snapshot, swapped whole. One writer, any number
//! of readers, no lock on the way of a reader.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

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
        }
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

    /// Puts `snapshot` in force, then tells subscribers. Only one task may publish.
    pub fn publish(&self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        self.current.store(Arc::new(snapshot));
        self.generation.send_replace(generation);
    }

    /// Follows the generation in force.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::super::compile::{Format, document};
    use super::*;

    fn layer(name: &str, scope: Option<&str>, text: &str) -> Arc<Layer> {
        let set = document(text, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
        Arc::new(Layer { name: name.into(), flag_set_id: scope.map(Into::into), revision: 1, set: Arc::new(set) })
    }

    const ABOVE: &str = r#"{"metadata":{"team":"x","source":"mine"},"flags":{
        "both":{"state":"ENABLED","variants":{"v":1},"metadata":{"team":"own","n":1.0}}}}"#;
    const BENEATH: &str = r#"{"metadata":{"team":"y","area":"z"},"flags":{
        "both":{"state":"ENABLED","variants":{"v":2}},"alone":{"state":"ENABLED","variants":{"v":3}}}}"#;

    #[test]
    fn the_first_layer_wins_and_the_one_beneath_shows_again_without_it() {
        let layers = vec![layer("redis:a", Some("a"), ABOVE), layer("file:b", None, BENEATH)];
        let values = |snapshot: &Snapshot| {
            let value = |entry: &Entry| {
                (entry.flag().key().to_owned(), entry.layer(), entry.flag().variants()[0].value_json().to_owned())
            };
            snapshot.iter().map(value).collect::<Vec<_>>()
        };
        let all = Snapshot::merge(layers.clone(), Arc::default(), 1, false);
        assert_eq!(values(&all), [("alone".into(), 1, "3".into()), ("both".into(), 0, "1".into())]);
        let rest = Snapshot::merge(layers[1..].to_vec(), Arc::default(), 2, false);
        assert_eq!(values(&rest), [("alone".into(), 0, "3".into()), ("both".into(), 0, "2".into())]);
        assert!(rest.get("both").is_some() && rest.get("none").is_none());
    }

    #[test]
    fn metadata_tells_the_layer_beneath_what_authors_say() {
        let layers = vec![layer("redis:a", Some("a"), ABOVE), layer("file:b", None, BENEATH)];
        let snapshot = Snapshot::merge(layers, Arc::default(), 1, false);
        let metadata = |key: &str| snapshot.get(key).map(Entry::metadata_json);
        assert_eq!(metadata("both"), Some(r#"{"flagSetId":"a","n":1.0,"source":"mine","team":"own"}"#));
        assert_eq!(metadata("alone"), Some(r#"{"area":"z","source":"file:b","team":"y"}"#));
        assert_eq!(snapshot.metadata_json(), r#"{"area":"z","source":"mine","team":"x"}"#);
    }

    #[test]
    fn a_selection_shows_what_is_covered_and_is_otherwise_the_same() {
        let layers = vec![layer("redis:a", Some("a"), ABOVE), layer("file:b", None, BENEATH)];
        let all = Snapshot::merge(layers, Arc::default(), 7, false)
            .with_bucketing(Bucketing::V3)
            .stale_from(1, Some(SystemTime::UNIX_EPOCH));
        let beneath = all.select(|layer, _| &*layer.name == "file:b");
        let both = beneath.get("both").expect("it is in both layers");
        assert_eq!(both.flag().variants()[0].value_json(), "2");
        assert_eq!((beneath.len(), beneath.generation(), beneath.bucketing()), (2, 7, Bucketing::V3));
        assert!(beneath.is_stale(both) && beneath.stale());
    }

    #[test]
    fn rules_that_read_the_time_are_known() {
        let timed = |targeting: &str, evaluators: &str| {
            let text = format!(
                r#"{{"$evaluators":{evaluators},"flags":{{
                    "f":{{"state":"ENABLED","variants":{{"v":1}},"targeting":{targeting}}}}}}}"#
            );
            Snapshot::merge(vec![layer("f", None, &text)], Arc::default(), 1, false).timed()
        };
        let late = r#"{"<":[{"var":"$flagd.timestamp"},9]}"#;
        assert!(timed(&format!(r#"{{"if":[{late},"v"]}}"#), "{}"));
        assert!(timed(r#"{"if":[{"$ref":"late"},"v"]}"#, &format!(r#"{{"late":{late}}}"#)));
        assert!(!timed(r#"{"if":[{"var":"a"},"v"]}"#, &format!(r#"{{"late":{late}}}"#)), "nobody asks for it");
    }

    #[test]
    fn a_flag_is_stale_when_its_source_or_one_above_it_is_not_heard_of() {
        let layers = vec![layer("redis:a", Some("a"), ABOVE), layer("file:b", None, BENEATH)];
        let stale = |from| {
            let since = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
            let snapshot = Snapshot::merge(layers.clone(), Arc::default(), 1, false).stale_from(from, Some(since));
            let of = |key: &str| snapshot.get(key).map(|entry| snapshot.is_stale(entry));
            let age = snapshot.stale_age(SystemTime::UNIX_EPOCH + Duration::from_secs(160));
            (of("both"), of("alone"), snapshot.stale(), age.map(|age| age.as_secs()))
        };
        assert_eq!(stale(0), (Some(true), Some(true), true, Some(60)));
        assert_eq!(stale(1), (Some(false), Some(true), true, Some(60)), "the one beneath does not touch the one above");
        assert_eq!(stale(2), (Some(false), Some(false), true, Some(60)), "beneath all that is in force");
        assert_eq!(stale(usize::MAX), (Some(false), Some(false), false, None));
    }

    #[test]
    fn what_did_not_change_is_taken_from_the_snapshot_before() {
        let above = layer("redis:a", Some("a"), ABOVE);
        let (beneath, other) = (layer("file:b", None, BENEATH), layer("file:c", None, BENEATH));
        let before = Snapshot::merge(vec![above, beneath.clone()], Arc::default(), 1, false);
        let json = |snapshot: &Snapshot, key: &str| snapshot.get(key).map(|entry| entry.metadata_json().to_owned());
        let shared = |a: &Snapshot, b: &Snapshot| {
            let (a, b) = (a.get("alone").expect("there"), b.get("alone").expect("there"));
            (Arc::ptr_eq(&a.metadata, &b.metadata), Arc::ptr_eq(&a.tally, &b.tally))
        };

        // The flag's layer moves up, and what it covered shows again.
        let after = Snapshot::succeed(&before, vec![beneath.clone()], Arc::default(), 2);
        assert_eq!(json(&after, "both").as_deref(), Some(r#"{"area":"z","source":"file:b","team":"y"}"#));
        assert_eq!(after.get("alone").map(Entry::layer), Some(0));
        assert_eq!((shared(&before, &after), Arc::ptr_eq(&before.index, &after.index)), ((true, true), true));

        // The same flags from elsewhere say so.
        let moved = Layer { name: other.name.clone(), ..Layer::clone(&beneath) };
        let after = Snapshot::succeed(&before, vec![Arc::new(moved)], Arc::default(), 2);
        assert_eq!(json(&after, "alone").as_deref(), Some(r#"{"area":"z","source":"file:c","team":"y"}"#));
        assert_eq!(shared(&before, &after), (false, true));

        let fewer = layer("file:b", None, r#"{"flags":{"alone":{"state":"ENABLED","variants":{"v":3}}}}"#);
        let after = Snapshot::succeed(&before, vec![fewer], Arc::default(), 2);
        assert_eq!((after.len(), after.get("both").is_none()), (1, true));
        assert_eq!(json(&after, "alone").as_deref(), Some(r#"{"source":"file:b"}"#));
    }

    #[test]
    fn who_is_told_of_a_generation_finds_it_in_force() {
        let store = Store::new();
        let mut generations = store.subscribe();
        assert!(store.load().is_empty());
        store.publish(Snapshot::merge(vec![layer("file:b", None, BENEATH)], Arc::default(), 5, true));
        assert_eq!(generations.has_changed().ok(), Some(true));
        assert_eq!(*generations.borrow_and_update(), 5);
        let snapshot = store.load();
        assert_eq!((snapshot.generation(), snapshot.len(), snapshot.stale()), (5, 2, true));
    }
}
