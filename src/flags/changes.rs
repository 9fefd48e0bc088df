//! What differs between two snapshots, flag by flag. Pure.

use std::cmp::Ordering;
use std::sync::Arc;

use super::model::json_string;
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

/// Flags that changed, by key.
pub type Changes = Arc<[(Arc<str>, Change)]>;

/// What became of the flags of `old` in `new`, by key. That a source was lost or found is no change of a flag. Taken
/// from `new` when it was noted there ([`Snapshot::noting_changes`]), else made here.
pub fn between(old: &Snapshot, new: &Snapshot) -> Changes {
    match &new.since {
        Some((from, changes)) if *from == old.generation() => changes.clone(),
        _ => compared(old, new).into(),
    }
}

/// The walk itself: as long as there are flags, and through all of their definitions where all were read anew.
pub(super) fn compared(old: &Snapshot, new: &Snapshot) -> Vec<(Arc<str>, Change)> {
    let mut changes = Vec::new();
    let key = |entry: &Entry| entry.flag().key.clone();
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
            (Some(gone), None) => changes.push((key(gone), Change::Delete)),
            (None, Some(made)) => changes.push((key(made), Change::Write)),
            (Some(before), Some(after)) if !same((old, before), (new, after)) => {
                changes.push((key(after), Change::Update));
            }
            _ => {}
        }
    }
}

/// The changes as a JSON object: `{"key":{"type":"update"},…}`.
pub fn json(changes: &[(Arc<str>, Change)]) -> String {
    let mut text = String::with_capacity(2 + changes.len() * 48);
    text.push('{');
    for (at, (key, change)) in changes.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(&json_string(key));
        text.push_str(":{\"type\":\"");
        text.push_str(change.name());
        text.push_str("\"}");
    }
    text.push('}');
    text
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

    fn told(old: &Snapshot, new: &Snapshot) -> Vec<(String, Change)> {
        between(old, new).iter().map(|(key, change)| (key.to_string(), *change)).collect()
    }

    fn expected(changes: &[(&str, Change)]) -> Vec<(String, Change)> {
        changes.iter().map(|(key, change)| ((*key).to_owned(), *change)).collect()
    }

    const FLAG: &str = r#"{"state":"ENABLED","variants":{"v":1},"defaultVariant":"v"}"#;
    const NAMED: &str =
        r#"{"state":"ENABLED","variants":{"v":1},"defaultVariant":"v","targeting":{"if":[{"$ref":"who"},"v"]}}"#;

    #[test]
    fn flags_come_go_and_change() {
        let old = snapshot("file:a", &format!(r#"{{"flags":{{"a":{FLAG},"b":{FLAG},"c":{FLAG}}}}}"#));
        let other = FLAG.replace(":1", ":2");
        let new = snapshot("file:a", &format!(r#"{{"flags":{{"b":{other},"c":{FLAG},"d":{FLAG}}}}}"#));
        let changed = [("a", Change::Delete), ("b", Change::Update), ("d", Change::Write)];
        assert_eq!(told(&old, &new), expected(&changed));
        assert_eq!(told(&new, &new), []);
        let elsewhere = snapshot("file:b", &format!(r#"{{"flags":{{"b":{other},"c":{FLAG},"d":{FLAG}}}}}"#));
        assert_eq!(between(&new, &elsewhere).len(), 3, "their metadata tells another source");
    }

    #[test]
    fn a_rule_that_flags_share_changes_those_that_use_it() {
        let with = |rule: &str| {
            snapshot("f", &format!(r#"{{"$evaluators":{{"who":{rule}}},"flags":{{"a":{NAMED},"b":{FLAG}}}}}"#))
        };
        let old = with(r#"{"==":[{"var":"x"},1]}"#);
        assert_eq!(told(&old, &with(r#"{"==":[{"var":"x"},2]}"#)), expected(&[("a", Change::Update)]));
        assert_eq!(told(&old, &with(r#"{"==":[{"var":"x"},1]}"#)), []);
    }

    #[test]
    fn what_was_noted_is_told_of_that_generation_alone() {
        let of = |text: &str| document(text, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
        let layer =
            |text: &str| Arc::new(Layer { name: "f".into(), flag_set_id: None, revision: 1, set: Arc::new(of(text)) });
        let after = |before: &Snapshot, text: &str| {
            let next = before.generation() + 1;
            Snapshot::succeed(before, vec![layer(text)], Arc::default(), next).noting_changes(before)
        };
        let first = snapshot("f", &format!(r#"{{"flags":{{"a":{FLAG}}}}}"#));
        let second = after(&first, &format!(r#"{{"flags":{{"a":{FLAG},"b":{FLAG}}}}}"#));
        let third = after(&second, &format!(r#"{{"flags":{{"b":{FLAG}}}}}"#));
        assert!(Arc::ptr_eq(&between(&second, &third), &between(&second, &third)), "made once");
        assert_eq!(told(&second, &third), expected(&[("a", Change::Delete)]));
        let skipped = [("a", Change::Delete), ("b", Change::Write)];
        assert_eq!(told(&first, &third), expected(&skipped), "who missed one is told of both");
        let selected = third.select(|_, _| false);
        assert_eq!(told(&second.select(|_, _| false), &selected), [], "of what is selected");
    }
}
