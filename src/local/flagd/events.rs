//! `EventStream`: says at once that flags can be evaluated, then what changed, and that the sidecar ends.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::stream;

use super::structs::{put_entry, put_struct, put_text};
use super::subscription::{News, Subscription, parted};
use crate::flags::changes::{self, Change};
use crate::flags::store::Snapshot;
use crate::local::streams::Place;
use crate::net::rpc::wire::{put_bytes, put_message};
use crate::net::rpc::{Codec, Status, Stream};

/// What changed between two snapshots, as the event that tells it.
#[derive(Debug)]
pub(super) struct Changes {
    flags: changes::Changes,
    /// The event, in each codec that was asked for: of thousands of flags it is put into words once, not per client.
    worded: [OnceLock<Bytes>; 2],
}

impl Changes {
    pub(super) fn between(old: &Snapshot, new: &Snapshot) -> Self {
        Self { flags: changes::between(old, new), worded: Default::default() }
    }

    /// Everything there is, as if it were new.
    fn whole(snapshot: &Snapshot) -> Self {
        let key = |key: &str| -> Arc<str> { key.into() };
        let flags = snapshot.iter().map(|entry| (key(entry.flag().key()), Change::Write)).collect();
        Self { flags, worded: Default::default() }
    }

    /// Whether nothing did.
    pub(super) fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    fn event(&self, codec: Codec) -> Bytes {
        let worded = match codec {
            Codec::Proto => &self.worded[0],
            Codec::Json => &self.worded[1],
        };
        worded.get_or_init(|| self.words(codec).into()).clone()
    }

    fn words(&self, codec: Codec) -> Vec<u8> {
        match codec {
            Codec::Proto => {
                let mut event = Vec::with_capacity(64 + self.flags.len() * 48);
                put_bytes(&mut event, 1, "configuration_change");
                put_message(&mut event, 2, |data| {
                    put_entry(data, "flags", |data| {
                        put_struct(data, |data| {
                            for (key, change) in self.flags.iter() {
                                put_entry(data, key, |data| {
                                    put_struct(data, |data| {
                                        put_entry(data, "type", |data| put_text(data, change.name()))
                                    });
                                });
                            }
                        });
                    });
                });
                event
            }
            Codec::Json => {
                let flags = changes::json(&self.flags);
                format!(r#"{{"data":{{"flags":{flags}}},"type":"configuration_change"}}"#).into_bytes()
            }
        }
    }
}

/// An event without flags.
fn plain(codec: Codec, kind: &str) -> Bytes {
    match codec {
        Codec::Proto => {
            let mut event = Vec::with_capacity(32);
            put_bytes(&mut event, 1, kind);
            put_message(&mut event, 2, |_| {});
            event.into()
        }
        Codec::Json => format!(r#"{{"type":"{kind}","data":{{}}}}"#).into(),
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
    /// Nothing was told yet.
    Begins,
    /// The client knows that flags can be evaluated.
    Greeted,
    /// It knows what changed, up to now.
    Lasts,
    /// It knows that the sidecar ends.
    Parts,
    Ends,
}

impl State {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        match self.stage {
            Stage::Greeted => {
                self.stage = Stage::Lasts;
                // What it cached may have changed while it was away, and nobody knows how long that was: Python's
                // provider (0.6.1) keeps its cache over a reconnect and drops only the keys it is told.
                let all = self.subscription.view().map(|view| Changes::whole(view.snapshot()));
                if let Some(all) = all.filter(|all| !all.is_empty()) {
                    return Some(Ok(all.event(self.codec)));
                }
            }
            Stage::Parts => {
                self.stage = Stage::Ends;
                return Some(Err(parted()));
            }
            Stage::Ends => return None,
            Stage::Begins | Stage::Lasts => {}
        }
        loop {
            let event = match (self.subscription.next().await, &self.stage) {
                (News::Ready, _) => {
                    self.stage = Stage::Greeted;
                    plain(self.codec, "provider_ready")
                }
                // Only who was told that flags are ready can be told that they changed.
                (News::Changed(change), Stage::Lasts) if !change.is_empty() => change.event(self.codec),
                (News::Changed(_), _) => continue,
                (News::Quiet, _) => plain(self.codec, "keep_alive"),
                (News::Closing, _) => {
                    self.stage = Stage::Parts;
                    plain(self.codec, "provider_shutdown")
                }
                (News::TooLate(status), _) => {
                    self.stage = Stage::Ends;
                    return Some(Err(status));
                }
            };
            return Some(Ok(event));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::compile::{Format, document};
    use crate::flags::store::Layer;

    fn snapshot(text: &str) -> Snapshot {
        let set = document(text, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
        let layer = Layer { name: "file:x".into(), flag_set_id: None, revision: 1, set: Arc::new(set) };
        Snapshot::merge(vec![Arc::new(layer)], Arc::default(), 1, false)
    }

    #[test]
    fn a_change_is_one_event_with_all_keys() {
        let old = snapshot(
            r#"{"flags":{"a":{"state":"ENABLED","variants":{"v":1}},"b":{"state":"ENABLED","variants":{"v":1}}}}"#,
        );
        let new = snapshot(
            r#"{"flags":{"a":{"state":"ENABLED","variants":{"v":2}},"c":{"state":"ENABLED","variants":{"v":1}}}}"#,
        );
        assert_eq!(
            std::str::from_utf8(&Changes::between(&old, &new).event(Codec::Json)),
            Ok(concat!(
                r#"{"data":{"flags":{"a":{"type":"update"},"b":{"type":"delete"},"c":{"type":"write"}}},"#,
                r#""type":"configuration_change"}"#
            ))
        );
        assert!(Changes::between(&old, &old).is_empty());
    }
}
