//! `EventStream`: says at once that flags can be evaluated, then what changed, and that the sidecar ends.

use bytes::Bytes;
use futures_util::stream;
use serde_json::json;

use super::streams::{End, Place};
use super::structs::{put_entry, put_struct, put_text};
use super::subscription::{News, Subscription};
use crate::flags::store::{Entry, Snapshot};
use crate::net::rpc::wire::{put_bytes, put_message};
use crate::net::rpc::{Codec, Status, Stream};

/// What changed between two snapshots, as the event that tells it.
#[derive(Debug)]
pub(super) struct Change {
    /// Keys, each with `write`, `update` or `delete`.
    flags: Vec<(Box<str>, &'static str)>,
}

impl Change {
    pub(super) fn between(old: &Snapshot, new: &Snapshot) -> Self {
        let mut flags = Vec::new();
        let mut tell = |entry: &Entry, kind| flags.push((entry.flag().key().into(), kind));
        for entry in new.iter() {
            match old.get(entry.flag().key()) {
                None => tell(entry, "write"),
                Some(known) if !same((old, known), (new, entry)) => tell(entry, "update"),
                Some(_) => {}
            }
        }
        for entry in old.iter() {
            if new.get(entry.flag().key()).is_none() {
                tell(entry, "delete");
            }
        }
        Self { flags }
    }

    /// Whether nothing did.
    pub(super) fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    fn event(&self, codec: Codec) -> Vec<u8> {
        match codec {
            Codec::Proto => {
                let mut event = Vec::with_capacity(64 + self.flags.len() * 48);
                put_bytes(&mut event, 1, "configuration_change");
                put_message(&mut event, 2, |data| {
                    put_entry(data, "flags", |data| {
                        put_struct(data, |data| {
                            for (key, kind) in &self.flags {
                                put_entry(data, key, |data| {
                                    put_struct(data, |data| put_entry(data, "type", |data| put_text(data, kind)));
                                });
                            }
                        });
                    });
                });
                event
            }
            Codec::Json => {
                let flags: serde_json::Map<_, _> =
                    self.flags.iter().map(|(key, kind)| (key.to_string(), json!({ "type": kind }))).collect();
                json!({ "type": "configuration_change", "data": { "flags": flags } }).to_string().into_bytes()
            }
        }
    }
}

/// Whether two entries evaluate alike and say the same of themselves.
fn same((old, known): (&Snapshot, &Entry), (new, entry): (&Snapshot, &Entry)) -> bool {
    if known.metadata() != entry.metadata() {
        return false;
    }
    if std::sync::Arc::ptr_eq(known.flag(), entry.flag()) {
        return true;
    }
    let evaluators = |snapshot: &Snapshot, entry: &Entry| snapshot.layers()[entry.layer()].set.clone();
    let definition = entry.flag().definition();
    // A file is compiled anew as a whole, so equal definitions need not be the same flag.
    known.flag().definition() == definition
        && (!definition.contains("$ref")
            || evaluators(old, known).evaluators.json() == evaluators(new, entry).evaluators.json())
}

/// An event without flags.
fn plain(codec: Codec, kind: &str) -> Vec<u8> {
    match codec {
        Codec::Proto => {
            let mut event = Vec::with_capacity(32);
            put_bytes(&mut event, 1, kind);
            put_message(&mut event, 2, |_| {});
            event
        }
        Codec::Json => format!(r#"{{"type":"{kind}","data":{{}}}}"#).into_bytes(),
    }
}

/// Events for one client. Those that it is too slow for come as one.
pub(super) fn stream(codec: Codec, subscription: Subscription, place: Place) -> Stream {
    let first = State { codec, subscription, place, stage: Stage::Begins };
    Box::pin(stream::unfold(first, |mut state| async move {
        state.place.asked();
        let item = state.next().await?;
        state.place.gave();
        Some((item, state))
    }))
}

struct State {
    codec: Codec,
    subscription: Subscription,
    place: Place,
    stage: Stage,
}

enum Stage {
    Begins,
    Lasts,
    Ends,
}

impl State {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        if let Stage::Ends = self.stage {
            return None;
        }
        loop {
            let event = match (self.subscription.next().await, &self.stage) {
                (News::Ready, _) => {
                    self.stage = Stage::Lasts;
                    plain(self.codec, "provider_ready")
                }
                // Only who was told that flags are ready can be told that they changed.
                (News::Changed(change), Stage::Lasts) if !change.is_empty() => change.event(self.codec),
                (News::Changed(_), _) => continue,
                (News::Quiet, _) => plain(self.codec, "keep_alive"),
                (News::Closing, _) => {
                    self.stage = Stage::Ends;
                    self.place.ends(End::Shutdown);
                    plain(self.codec, "provider_shutdown")
                }
                (News::TooLate(status), _) => {
                    self.stage = Stage::Ends;
                    self.place.ends(End::Deadline);
                    return Some(Err(status));
                }
            };
            return Some(Ok(event.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::flags::compile::{Format, document};
    use crate::flags::store::Layer;

    fn snapshot(text: &str) -> Snapshot {
        let set = document(text, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
        let layer = Layer { name: "file:x".into(), flag_set_id: None, revision: 1, set: Arc::new(set) };
        Snapshot::merge(vec![Arc::new(layer)], Arc::default(), 1, false)
    }

    #[test]
    fn a_change_is_of_definitions_of_evaluators_and_of_metadata() {
        let flags = r#""same":{"state":"ENABLED","variants":{"v":1}},"gone":{"state":"ENABLED","variants":{"v":1}},
            "edited":{"state":"ENABLED","variants":{"v":1}},
            "refers":{"state":"ENABLED","variants":{"true":1,"false":2},"targeting":{"$ref":"e"}}"#;
        let old = snapshot(&format!(r#"{{"$evaluators":{{"e":{{"==":[1,1]}}}},"flags":{{{flags}}}}}"#));
        let edited = flags
            .replace(r#""gone""#, r#""new""#)
            .replace(r#""edited":{"state":"ENABLED""#, r#""edited":{"state":"DISABLED""#);
        let new = snapshot(&format!(r#"{{"$evaluators":{{"e":{{"==":[1,2]}}}},"flags":{{{edited}}}}}"#));
        let change = Change::between(&old, &new);
        let told: Vec<_> = change.flags.iter().map(|(key, kind)| (&**key, *kind)).collect();
        assert_eq!(told, [("edited", "update"), ("new", "write"), ("refers", "update"), ("gone", "delete")]);
        assert_eq!(
            String::from_utf8(change.event(Codec::Json)).as_deref(),
            Ok(concat!(
                r#"{"data":{"flags":{"edited":{"type":"update"},"gone":{"type":"delete"},"new":{"type":"write"},"#,
                r#""refers":{"type":"update"}}},"type":"configuration_change"}"#
            ))
        );
        assert!(Change::between(&old, &old).is_empty());
        let told =
            snapshot(&format!(r#"{{"metadata":{{"team":"a"}},"flags":{{{flags}}},"$evaluators":{{"e":true}}}}"#));
        assert_eq!(Change::between(&old, &told).flags.len(), 4, "metadata of the set is of every flag");
    }
}
