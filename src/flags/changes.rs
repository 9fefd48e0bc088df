//! What differs between two snapshots, flag by flag. Pure.

use std::cmp::Ordering;
use std::sync::Arc;

use super::store::{Entry, Snapshot};

/// What became of a flag; the names are those of flagd's event streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is there now.
    Write,
    /// Its definition, its metadata or the layer it is from differs.
    Update,
    /// It is gone.
    Delete,
}

impl Change {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// What became of the flags of `old` in `new`, by key. That a source was lost or found is no change of a flag.
pub fn between<'s>(old: &'s Snapshot, new: &'s Snapshot) -> Vec<(&'s str, Change)> {
    let mut changes = Vec::new();
    let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
    loop {
        // Both are in the order of keys.
        let order = match (olds.peek(), news.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(after)) => before.flag().key().cmp(after.flag().key()),
        };
        let before = if order.is_le() { olds.next() } else { None };
        let after = if order.is_ge() { news.next() } else { None };
        match (before, after) {
            (Some(gone), None) => changes.push((gone.flag().key(), Change::Delete)),
            (None, Some(made)) => changes.push((made.flag().key(), Change::Write)),
            (Some(before), Some(after)) if !same((old, before), (new, after)) => {
                changes.push((after.flag().key(), Change::Update));
            }
            _ => {}
        }
    }
}

/// A set that was read anew has other flags in memory that say the same.
fn same((old, before): (&Snapshot, &Entry), (new, after): (&Snapshot, &Entry)) -> bool {
    if before.metadata_json() != after.metadata_json() {
        return false;
    }
    if Arc::ptr_eq(before.flag(), after.flag()) {
        return true;
    }
    let definition = before.flag().definition();
    if definition != after.flag().definition() {
        return false;
    }
    // The same text means something else when the rules that it names are others.
    let rules = |snapshot: &Snapshot, entry: &Entry| snapshot.layers()[entry.layer()].set.clone();
    !definition.contains("\"$ref\"") || rules(old, before).evaluators.json() == rules(new, after).evaluators.json()
}

#[cfg(test)]
mod tests {
    use super::super::compile::{Format, document};
    use super::super::store::Layer;
    use super::*;

    fn snapshot(name: &str, text: &str) -> Snapshot {
        let set = document(text, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
        let layer = Layer { name: name.into(), flag_set_id: None, revision: 1, set: Arc::new(set) };
        Snapshot::merge(vec![Arc::new(layer)], Arc::default(), 1, false)
    }

    const FLAG: &str = r#"{"state":"ENABLED","variants":{"v":1},"defaultVariant":"v"}"#;
    const NAMED: &str =
        r#"{"state":"ENABLED","variants":{"v":1},"defaultVariant":"v","targeting":{"if":[{"$ref":"who"},"v"]}}"#;

    #[test]
    fn flags_come_go_and_change() {
        let old = snapshot("file:a", &format!(r#"{{"flags":{{"a":{FLAG},"b":{FLAG},"c":{FLAG}}}}}"#));
        let changed = FLAG.replace(":1", ":2");
        let new = snapshot("file:a", &format!(r#"{{"flags":{{"b":{changed},"c":{FLAG},"d":{FLAG}}}}}"#));
        assert_eq!(between(&old, &new), [("a", Change::Delete), ("b", Change::Update), ("d", Change::Write)]);
        assert_eq!(between(&new, &new), []);
        let elsewhere = snapshot("file:b", &format!(r#"{{"flags":{{"b":{changed},"c":{FLAG},"d":{FLAG}}}}}"#));
        assert_eq!(between(&new, &elsewhere).len(), 3, "their metadata tells another source");
    }

    #[test]
    fn a_rule_that_flags_share_changes_those_that_use_it() {
        let with = |rule: &str| {
            snapshot("f", &format!(r#"{{"$evaluators":{{"who":{rule}}},"flags":{{"a":{NAMED},"b":{FLAG}}}}}"#))
        };
        let old = with(r#"{"==":[{"var":"x"},1]}"#);
        assert_eq!(between(&old, &with(r#"{"==":[{"var":"x"},2]}"#)), [("a", Change::Update)]);
        assert_eq!(between(&old, &with(r#"{"==":[{"var":"x"},1]}"#)), []);
    }
}
