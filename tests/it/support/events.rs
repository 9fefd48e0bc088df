//! A reader of event streams (the HTML standard, section 9.2).

use std::collections::VecDeque;
use std::net::SocketAddr;

use serde_json::Value;

use super::raw::{Answer, Client};

/// One event; fields it did not have are empty.
#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) data: String,
    pub(crate) retry: String,
    /// A line that begins with a colon.
    pub(crate) comment: String,
}

impl Event {
    /// The data as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A stream being read.
pub(crate) struct Events {
    client: Client,
    pub(crate) head: Answer,
    text: String,
    read: VecDeque<Event>,
}

impl Events {
    /// Opens a stream; `known` is the id of the last event of an earlier one.
    pub(crate) async fn open(address: SocketAddr, path: &str, known: Option<&str>) -> Self {
        let mut client = Client::connect(address).await.unwrap();
        let known = known.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        let head = format!("GET {path} HTTP/1.1\r\nHost: t\r\nAccept: text/event-stream\r\n{known}\r\n");
        client.send(head).await.unwrap();
        let head = client.head().await.unwrap();
        Self { client, head, text: String::new(), read: VecDeque::new() }
    }

    /// The next event or comment; `None` at the end of the answer.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        while self.read.is_empty() {
            let chunk = self.client.chunk().await.unwrap();
            if chunk.is_empty() {
                assert_eq!(self.text, "", "the stream ended in the middle of an event");
                return None;
            }
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let parsed = parse(event);
                self.text = rest.to_owned();
                self.read.push_back(parsed);
            }
        }
        self.read.pop_front()
    }

    /// The next event of this kind; comments and heartbeats are passed over.
    pub(crate) async fn expect(&mut self, kind: &str) -> Event {
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("the stream ended before {kind}"));
            if event.kind == kind {
                return event;
            }
            assert!(event.kind.is_empty() || event.kind == "keep_alive", "instead of {kind}: {event:?}");
        }
    }
}

fn parse(text: &str) -> Event {
    let mut event = Event::default();
    for line in text.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match name {
            "" => event.comment = value,
            "id" => event.id = value,
            "event" => event.kind = value,
            "data" => event.data = value,
            "retry" => event.retry = value,
            _ => panic!("no field of an event stream: {line}"),
        }
    }
    event
}
