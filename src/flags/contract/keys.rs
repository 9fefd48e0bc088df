//! The names of a scope's keys.

use thiserror::Error;

/// The keys of one scope. All carry the hash tag `{scope}`, so that they live on one slot of a cluster and one script
/// may touch them together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The scope's name.
    pub scope: String,
    /// Hash: flag key → definition.
    pub flags: String,
    /// Hash: `rev`, `incarnation`, `evaluators`, `metadata`.
    pub meta: String,
    /// Hash: flag key → who wrote it last.
    pub revs: String,
    /// Stream: the audit log.
    pub log: String,
    /// Sorted set: the names of the last writes, by revision.
    pub written: String,
    /// Pub/sub channel: the events.
    pub events: String,
}

/// A prefix or scope that cannot be part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a name for keys: write 1 to 253 of letters, digits, '.', '_', '-', ':', '/'")]
pub struct IllegalName(pub String);

impl Keys {
    /// The keys of `scope` under `prefix`.
    pub fn new(prefix: &str, scope: &str) -> Result<Self, IllegalName> {
        for name in [prefix, scope] {
            // A brace would move the hash tag: two keys of one scope on two nodes.
            let legal = |c: char| c.is_ascii_alphanumeric() || ".-_:/".contains(c);
            if name.is_empty() || name.len() > 253 || !name.chars().all(legal) {
                return Err(IllegalName(name.to_owned()));
            }
        }
        let key = |part: &str| format!("{prefix}:{{{scope}}}:{part}");
        Ok(Self {
            scope: scope.to_owned(),
            flags: key("flags"),
            meta: key("meta"),
            revs: key("revs"),
            log: key("log"),
            written: key("written"),
            events: key("events"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_the_hash_tag() {
        let keys = Keys::new("tidegate", "orders").expect("legal");
        assert_eq!(keys.flags, "tidegate:{orders}:flags");
        assert_eq!(keys.events, "tidegate:{orders}:events");
        assert_eq!(keys.written, "tidegate:{orders}:written");
    }

    #[test]
    fn a_name_that_would_break_the_hash_tag_is_refused() {
        for (prefix, scope) in [("tidegate", ""), ("", "a"), ("t", "a}b"), ("t{", "a"), ("t", "a b"), ("t", "ä")] {
            assert!(Keys::new(prefix, scope).is_err(), "{prefix:?} {scope:?}");
        }
    }
}
