//! An event: what changed between two revisions. Parsing is a pure function; the text comes from anybody who may
//! publish.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

/// Bytes of an event that are looked at: what the script writes (64 KiB), with room for writers less careful.
const MAX_EVENT: usize = 1024 * 1024;

/// One change of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The revision after it.
    pub rev: u64,
    /// The revision before it.
    pub prev: u64,
    /// The scope's incarnation, when the writer says it.
    pub incarnation: Option<String>,
    /// When it was written, by the clock of Redis.
    pub at: Option<SystemTime>,
    /// What changed.
    pub what: What,
}

/// What an event tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Flags written, with their definitions as text, and flags removed.
    Flags {
        /// Key → definition.
        set: BTreeMap<String, String>,
        /// Keys.
        del: Vec<String>,
    },
    /// Too large to be told, or more than flags: read a snapshot.
    Untold,
}

/// An event that cannot be understood.
#[derive(Debug, Error)]
pub enum Malformed {
    /// Not JSON of the expected shape.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Longer than anything that is sensibly published.
    #[error("{0} bytes; at most {MAX_EVENT} are looked at")]
    Large(usize),
    /// A revision that does not follow the one before it.
    #[error("rev {rev} does not follow prev {prev}")]
    Order {
        /// `rev`.
        rev: u64,
        /// `prev`.
        prev: u64,
    },
}

#[derive(Deserialize)]
struct Raw<'a> {
    rev: u64,
    prev: u64,
    #[serde(default)]
    incarnation: Option<String>,
    #[serde(default)]
    at: Option<u64>,
    #[serde(default, borrow)]
    set: Option<BTreeMap<String, &'a RawValue>>,
    #[serde(default)]
    del: Option<Vec<String>>,
    #[serde(default)]
    truncated: bool,
}

impl Event {
    /// Reads an event. Unknown members are left alone: a later writer may say more.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_EVENT {
            return Err(Malformed::Large(bytes.len()));
        }
        let raw: Raw<'_> = serde_json::from_slice(bytes)?;
        if raw.rev <= raw.prev {
            return Err(Malformed::Order { rev: raw.rev, prev: raw.prev });
        }
        let what = match (raw.set, raw.del) {
            (None, None) => What::Untold,
            _ if raw.truncated => What::Untold,
            (set, del) => What::Flags {
                set: set.unwrap_or_default().into_iter().map(|(key, text)| (key, text.get().to_owned())).collect(),
                del: del.unwrap_or_default(),
            },
        };
        let at = raw.at.and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
        Ok(Self { rev: raw.rev, prev: raw.prev, incarnation: raw.incarnation, at, what })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Event, Malformed> {
        Event::parse(text.as_bytes())
    }

    #[test]
    fn definitions_keep_the_text_they_were_written_as() {
        let event = parse(r#"{"rev":42,"prev":41,"set":{"a":{"variants":{"x":1.0}}},"del":["b"],"at":1500,"new":[]}"#);
        let event = event.expect("a whole event");
        assert_eq!((event.rev, event.prev, event.incarnation), (42, 41, None));
        assert_eq!(event.at, Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1500)));
        let set = BTreeMap::from([("a".to_owned(), r#"{"variants":{"x":1.0}}"#.to_owned())]);
        assert_eq!(event.what, What::Flags { set, del: vec!["b".to_owned()] });
    }

    #[test]
    fn an_event_that_does_not_tell_what_changed_asks_for_a_snapshot() {
        for text in [
            r#"{"rev":2,"prev":1}"#,
            r#"{"rev":2,"prev":1,"truncated":true,"at":1}"#,
            r#"{"rev":2,"prev":1,"truncated":true,"set":{},"del":[]}"#,
            r#"{"rev":2,"prev":1,"set":null,"del":null}"#,
        ] {
            assert_eq!(parse(text).expect(text).what, What::Untold, "{text}");
        }
    }

    #[test]
    fn what_is_not_an_event_is_said_to_be_malformed() {
        for text in [
            "",
            "null",
            "[]",
            "{}",
            "\u{0}",
            r#"{"rev":"2","prev":1}"#,
            r#"{"rev":2}"#,
            r#"{"rev":-2,"prev":-3}"#,
            r#"{"rev":2.5,"prev":1}"#,
            r#"{"rev":2,"prev":1,"set":[]}"#,
            r#"{"rev":2,"prev":1,"set":{"a":{}}"#,
            r#"{"rev":2,"prev":1,"del":{}}"#,
            r#"{"rev":2,"prev":2,"set":{}}"#,
            r#"{"rev":1,"prev":2,"set":{}}"#,
            r#"{"rev":99999999999999999999,"prev":1}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(matches!(Event::parse(&vec![b' '; MAX_EVENT + 1]), Err(Malformed::Large(_))));
        assert!(parse(&"[".repeat(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            drop(Event::parse(&bytes));
        }

        #[test]
        fn what_was_written_is_what_is_read(prev in 0u64..1 << 53, key in ".*", del in ".*") {
            let text = serde_json::json!({"rev": prev + 1, "prev": prev, "set": {&key: {"a": [key.clone()]}}, "del": [del]});
            let event = parse(&text.to_string()).expect("legal");
            let What::Flags { set, del: removed } = event.what else { panic!("told") };
            let definition: serde_json::Value = serde_json::from_str(&set[&key]).expect("verbatim");
            prop_assert_eq!(&definition, &text["set"][&key]);
            prop_assert_eq!(removed, vec![del]);
        }
    }
}
