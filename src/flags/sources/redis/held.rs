//! A scope's content as it is held: compiled, at a revision. Pure: texts in, flags or all that is wrong out.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use crate::flags::compile::{self, Invalid};
use crate::flags::contract::Remote;
use crate::flags::model::{Evaluators, Flag, FlagSet};
use crate::flags::sources::kept::Kept;
use crate::flags::sources::one_line;

/// What a scope held at a revision.
#[derive(Debug)]
pub(in crate::flags::sources) struct Held {
    pub(in crate::flags::sources) rev: u64,
    pub(in crate::flags::sources) incarnation: String,
    evaluators: Option<String>,
    metadata: Option<String>,
    pub(in crate::flags::sources) set: Arc<FlagSet>,
}

/// Why a document was refused whole: the first of its problems, and how many there are.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub(in crate::flags::sources) struct Refused(String);

impl Held {
    /// Compiles a whole scope. Flags whose text is what `last` compiled are taken from there.
    pub(super) fn compile(remote: Remote, last: Option<&Held>) -> Result<Self, Refused> {
        let last = last.filter(|last| last.evaluators == remote.evaluators && last.metadata == remote.metadata);
        let mut set = match last {
            Some(Held { set, .. }) => {
                FlagSet { flags: BTreeMap::new(), metadata: set.metadata.clone(), evaluators: set.evaluators.clone() }
            }
            None => shared(remote.evaluators.as_deref(), remote.metadata.as_deref())?,
        };
        let mut problems = Vec::new();
        let mut flags: Vec<(Arc<str>, Arc<Flag>)> = Vec::with_capacity(remote.flags.len());
        for (key, definition) in &remote.flags {
            let known = last.and_then(|last| last.set.flags.get(key.as_str()));
            if let Some(flag) = known.filter(|flag| flag.definition() == definition) {
                flags.push((flag.key.clone(), flag.clone()));
                continue;
            }
            match flag(key, definition, &set.evaluators) {
                Ok(flag) => flags.push((flag.key.clone(), Arc::new(flag))),
                Err(invalid) => problems.push(invalid),
            }
        }
        refuse(&problems)?;
        // All at once: thousands of insertions, one by one, compare and allocate several times as much.
        set.flags = flags.into_iter().collect();
        let Remote { rev, incarnation, evaluators, metadata, .. } = remote;
        Ok(Self { rev, incarnation, evaluators, metadata, set: Arc::new(set) })
    }

    /// This scope one change later.
    pub(super) fn change(&self, rev: u64, set: &BTreeMap<String, String>, del: &[String]) -> Result<Self, Refused> {
        let evaluators: &Evaluators = &self.set.evaluators;
        let compiled = set.iter().map(|(key, definition)| flag(key, definition, evaluators));
        let (flags, problems): (Vec<_>, Vec<_>) = compiled.partition(Result::is_ok);
        refuse(&problems.into_iter().filter_map(Result::err).collect::<Vec<_>>())?;
        let mut changed = FlagSet::clone(&self.set);
        for key in del {
            changed.flags.remove(key.as_str());
        }
        for flag in flags.into_iter().flatten() {
            changed.flags.insert(flag.key().into(), Arc::new(flag));
        }
        Ok(Self {
            rev,
            incarnation: self.incarnation.clone(),
            evaluators: self.evaluators.clone(),
            metadata: self.metadata.clone(),
            set: Arc::new(changed),
        })
    }

    /// Whether the two are of one revision and one content.
    pub(super) fn same(&self, other: &Held) -> bool {
        let flag = |(a, b): (&Arc<Flag>, &Arc<Flag>)| Arc::ptr_eq(a, b) || a.definition() == b.definition();
        self.rev == other.rev
            && self.incarnation == other.incarnation
            && self.evaluators == other.evaluators
            && self.metadata == other.metadata
            && self.set.flags.keys().eq(other.set.flags.keys())
            && self.set.flags.values().zip(other.set.flags.values()).all(flag)
    }

    /// For the disk.
    pub(in crate::flags::sources) fn keep(&self, flags_key: &str) -> Kept {
        let definition = |(key, flag): (&Arc<str>, &Arc<Flag>)| (key.to_string(), flag.definition().to_owned());
        Kept {
            flags_key: flags_key.to_owned(),
            rev: self.rev,
            incarnation: self.incarnation.clone(),
            evaluators: self.evaluators.clone(),
            metadata: self.metadata.clone(),
            flags: self.set.flags.iter().map(definition).collect(),
        }
    }

    /// From the disk: compiled as if it came from Redis, for what validated once may not any more.
    pub(super) fn recall(kept: Kept) -> Result<Self, Refused> {
        let Kept { rev, incarnation, evaluators, metadata, flags, .. } = kept;
        let flags = flags.into_iter().collect();
        Self::compile(Remote { rev, incarnation, evaluators, metadata, flags }, None)
    }
}

/// Compiles one flag; every problem names it.
fn flag(key: &str, definition: &str, evaluators: &Evaluators) -> Result<Flag, Invalid> {
    compile::flag(key, definition, evaluators).map_err(|mut invalid| {
        for problem in invalid.0.iter_mut().filter(|problem| problem.path.is_empty()) {
            problem.path = format!("flags.{key}");
        }
        invalid
    })
}

/// What all flags of a scope share.
fn shared(evaluators: Option<&str>, metadata: Option<&str>) -> Result<FlagSet, Refused> {
    let told = |field: &str, invalid: Invalid| Refused(format!("meta {field}: {}", one_line(&[invalid])));
    let evaluators = evaluators.map(compile::evaluators).transpose().map_err(|e| told("evaluators", e))?;
    let metadata = metadata.map(compile::metadata).transpose().map_err(|e| told("metadata", e))?;
    Ok(FlagSet {
        flags: BTreeMap::new(),
        metadata: metadata.unwrap_or_default(),
        evaluators: evaluators.unwrap_or_default(),
    })
}

fn refuse(problems: &[Invalid]) -> Result<(), Refused> {
    if problems.is_empty() { Ok(()) } else { Err(Refused(one_line(problems))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAG: &str = r#"{"state":"ENABLED","variants":{"v":1},"defaultVariant":"v"}"#;

    fn remote(flags: &[(&str, &str)]) -> Remote {
        let flags = flags.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        Remote { rev: 1, incarnation: "i".to_owned(), flags, ..Remote::default() }
    }

    #[test]
    fn a_refusal_names_every_flag_that_is_wrong() {
        let refused = Held::compile(remote(&[("good", FLAG), ("bad", "{"), ("worse", "{}")]), None);
        let text = refused.expect_err("refused").to_string();
        assert!(text.contains("flags.bad: ") && text.contains("flags.worse"), "{text}");
        let shared = Remote { evaluators: Some(r#"{}, "flags": {}"#.to_owned()), ..remote(&[]) };
        let text = Held::compile(shared, None).expect_err("refused").to_string();
        assert!(text.starts_with("meta evaluators: "), "{text}");
        let shared = Remote { metadata: Some("[]".to_owned()), ..remote(&[]) };
        assert!(Held::compile(shared, None).expect_err("refused").to_string().starts_with("meta metadata: "));
    }

    #[test]
    fn what_did_not_change_is_not_compiled_again() {
        let first = Held::compile(remote(&[("a", FLAG), ("b", FLAG)]), None).expect("valid");
        let other = FLAG.replace('1', "2");
        let second =
            Held::compile(Remote { rev: 2, ..remote(&[("a", FLAG), ("b", &other)]) }, Some(&first)).expect("valid");
        assert!(Arc::ptr_eq(&first.set.flags["a"], &second.set.flags["a"]));
        assert!(!Arc::ptr_eq(&first.set.flags["b"], &second.set.flags["b"]));
        assert!(!first.same(&second));
        let again = Held::compile(remote(&[("b", FLAG), ("a", FLAG)]), Some(&first)).expect("valid");
        assert!(first.same(&again));
        assert!(!first.same(&Held::compile(remote(&[("a", FLAG), ("c", FLAG)]), None).expect("valid")));
        // Rules that flags share are part of every flag.
        let ruled = Remote { evaluators: Some("{}".to_owned()), ..remote(&[("a", FLAG)]) };
        let ruled = Held::compile(ruled, Some(&first)).expect("valid");
        assert!(!Arc::ptr_eq(&first.set.flags["a"], &ruled.set.flags["a"]));
    }

    #[test]
    fn what_was_kept_is_what_was_held() {
        let shared = Remote { metadata: Some(r#"{"x":1.0}"#.to_owned()), ..remote(&[("a", FLAG)]) };
        let held = Held::compile(shared, None).expect("valid");
        let recalled = Held::recall(held.keep("key")).expect("valid");
        assert!(held.same(&recalled));
        let changed = held.change(2, &[("b".to_owned(), FLAG.to_owned())].into(), &["a".to_owned()]).expect("valid");
        assert_eq!(changed.set.flags.keys().map(|key| &**key).collect::<Vec<_>>(), ["b"]);
        assert_eq!((changed.rev, held.set.flags.len()), (2, 1));
        let refused = held.change(2, &[("b".to_owned(), "{".to_owned())].into(), &[]).expect_err("refused");
        assert!(refused.to_string().contains("flags.b"), "{refused}");
    }
}
