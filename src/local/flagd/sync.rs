//! `flagd.sync.v1.FlagSyncService`: whole definitions, for clients that evaluate by themselves.

use std::time::SystemTime;

use bytes::Bytes;
use futures_util::stream;

use super::definitions::Definitions;
use super::structs;
use super::subscription::{News, Subscription, parted};
use super::view::View;
use crate::flags::context::Object;
use crate::flags::usage::{self, Fetch};
use crate::local::streams::Place;
use crate::net::rpc::wire::{Fields, Malformed, put_bytes};
use crate::net::rpc::{Code, Codec, Status, Stream};

/// A client's request: of its fields, the selector.
pub(super) fn selector(codec: Codec, message: &[u8]) -> Result<String, Status> {
    match codec {
        Codec::Proto => {
            let read = || -> Result<String, Malformed> {
                let mut selector = "";
                for field in Fields::of(message) {
                    if let (2, text) = field? {
                        selector = text.text()?;
                    }
                }
                Ok(selector.to_owned())
            };
            read().map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))
        }
        Codec::Json => {
            #[derive(serde::Deserialize)]
            struct Asked {
                selector: Option<String>,
            }
            let asked: Asked = serde_json::from_slice(message)
                .map_err(|error| Status::new(Code::InvalidArgument, format!("the request is not sound: {error}")))?;
            Ok(asked.selector.unwrap_or_default())
        }
    }
}

/// `FetchAllFlagsResponse`
pub(super) fn fetched(codec: Codec, view: &View, now: SystemTime, answer: &mut Vec<u8>) {
    usage::fetched(view.snapshot(), Fetch::Definitions, now);
    let Definitions { document, .. } = view.definitions();
    match codec {
        Codec::Proto => put_bytes(answer, 1, document),
        Codec::Json => {
            answer.extend_from_slice(b"{\"flagConfiguration\":");
            put_json_text(answer, document);
            answer.push(b'}');
        }
    }
}

/// `GetMetadataResponse`: the static context.
pub(super) fn metadata(codec: Codec, context: &Object<'_>, answer: &mut Vec<u8>) {
    match codec {
        Codec::Proto => structs::put_object(answer, 2, context),
        Codec::Json => {
            let json = serde_json::json!({ "metadata": structs::json(context) });
            serde_json::to_writer(answer, &json).expect("a value serialises, and a Vec takes it");
        }
    }
}

/// `SyncFlagsResponse`; in protocol buffers it is shared by all clients.
fn synced(codec: Codec, view: &View) -> Bytes {
    let Definitions { document, context, message } = view.definitions();
    match codec {
        Codec::Proto => message.clone(),
        Codec::Json => {
            let mut answer = Vec::with_capacity(document.len() + document.len() / 8 + 64);
            answer.extend_from_slice(b"{\"flagConfiguration\":");
            put_json_text(&mut answer, document);
            answer.extend_from_slice(b",\"syncContext\":");
            answer.extend_from_slice(context.as_bytes());
            answer.push(b'}');
            answer.into()
        }
    }
}

fn put_json_text(answer: &mut Vec<u8>, document: &[u8]) {
    let text = std::str::from_utf8(document).unwrap_or_default();
    serde_json::to_writer(answer, text).expect("a string serialises, and a Vec takes it");
}

/// All definitions as soon as there are any, and again whenever they changed.
pub(super) fn stream(codec: Codec, subscription: Subscription, place: Place) -> Stream {
    let first = State { codec, subscription, place, ended: false };
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
    ended: bool,
}

impl State {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        while !self.ended {
            let news = self.subscription.next().await;
            if let Some(view) = self.subscription.view() {
                // With each piece of news and in quiet times too: whoever holds the stream may use any flag.
                usage::fetched(view.snapshot(), Fetch::Definitions, SystemTime::now());
            }
            match news {
                News::Ready => {}
                News::Changed(change) if !change.is_empty() => {}
                News::Changed(_) | News::Quiet => continue,
                News::Closing => {
                    self.ended = true;
                    return Some(Err(parted()));
                }
                News::TooLate(status) => {
                    self.ended = true;
                    return Some(Err(status));
                }
            }
            if let Some(view) = self.subscription.view() {
                return Some(Ok(synced(self.codec, view)));
            }
        }
        None
    }
}
