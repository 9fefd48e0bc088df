//! What is said about one object while it is worked on.

use std::fmt::Display;

use super::outcome::{Note, Refusal};

/// Notes and refusals of one object.
pub(super) struct Report {
    object: String,
    /// Where the pod template is in it: `spec.template`, empty for a pod.
    base: String,
    pub(super) notes: Vec<Note>,
    pub(super) refusals: Vec<Refusal>,
}

impl Report {
    /// Of the object `object` whose pod template is at `base`.
    pub(super) fn new(object: String, base: String) -> Self {
        Self { object, base, notes: Vec::new(), refusals: Vec::new() }
    }

    /// Something that the owner should know about a field of the pod template.
    pub(super) fn note(&mut self, path: impl Display, text: impl Into<String>) {
        let path = self.below(&path.to_string());
        self.note_at(path, text);
    }

    /// The same about a field of the object.
    pub(super) fn note_at(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.notes.push(Note { object: self.object.clone(), path: path.into(), text: text.into() });
    }

    /// Why the object cannot have a sidecar, by a field of its pod template.
    pub(super) fn refuse(&mut self, path: impl Display, wrong: impl Into<String>, remedy: impl Into<String>) {
        let path = self.below(&path.to_string());
        let refusal = Refusal { object: self.object.clone(), path, wrong: wrong.into(), remedy: remedy.into() };
        if !self.refusals.contains(&refusal) {
            self.refusals.push(refusal);
        }
    }

    /// Whether something was refused.
    pub(super) fn refused(&self) -> bool {
        !self.refusals.is_empty()
    }

    /// A path within the object; an option of the run is nowhere in it.
    fn below(&self, path: &str) -> String {
        match (self.base.is_empty() || path.starts_with("--"), path.is_empty()) {
            (true, _) => path.to_owned(),
            (false, true) => self.base.clone(),
            (false, false) => format!("{}.{path}", self.base),
        }
    }
}
