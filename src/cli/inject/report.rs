//! What became of each object: lines for people, one JSON object for programs.

use serde::Serialize;
use serde_json::Value;

use super::files::Input;
use crate::kube::inject::{Note, Outcome, Reason, Refusal};
use crate::kube::yaml::Document;

/// Comments that are shown to people.
const SHOWN: usize = 3;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Inject,
    Uninject,
}

/// All objects.
#[derive(Debug)]
pub(super) struct Report {
    verb: Verb,
    objects: Vec<Entry>,
    /// Objects, by file and line, whose comments are gone.
    anew: Vec<String>,
    /// Files with the comments of theirs that are gone.
    lost: Vec<(String, Vec<String>)>,
}

/// One object.
#[derive(Debug, Serialize)]
struct Entry {
    file: String,
    line: usize,
    object: String,
    outcome: &'static str,
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Told>,
    notes: Vec<Note>,
    refusals: Vec<Refusal>,
}

/// A reason for programs, and for people.
#[derive(Debug, Serialize)]
struct Told {
    name: Reason,
    text: String,
}

impl Report {
    pub(super) fn new(verb: Verb) -> Self {
        Self { verb, objects: Vec::new(), anew: Vec::new(), lost: Vec::new() }
    }

    pub(super) fn add(&mut self, input: &Input, document: &Document, outcome: &Outcome) {
        let value = document.value();
        if value.is_null() {
            return;
        }
        let mut entry = Entry {
            file: input.name.clone(),
            line: document.line(),
            object: named(value),
            outcome: self.verb.done(),
            changed: false,
            reason: None,
            notes: Vec::new(),
            refusals: Vec::new(),
        };
        match outcome {
            Outcome::Injected { object, notes } => {
                entry.changed = object != value;
                entry.notes.clone_from(notes);
            }
            Outcome::Untouched(reason) => {
                entry.outcome = "untouched";
                entry.reason = Some(Told { name: *reason, text: reason.to_string() });
            }
            Outcome::Refused(refusals) => {
                entry.outcome = "refused";
                entry.refusals.clone_from(refusals);
            }
        }
        self.objects.push(entry);
    }

    pub(super) fn written_anew(&mut self, input: &Input, documents: &[usize]) {
        for index in documents {
            if let Some(document) = input.stream.documents().get(*index) {
                self.anew.push(format!("{}:{}", input.name, document.line()));
            }
        }
    }

    pub(super) fn lost(&mut self, input: &Input, comments: Vec<String>) {
        if !comments.is_empty() {
            self.lost.push((input.name.clone(), comments));
        }
    }

    pub(super) fn refused(&self) -> bool {
        self.objects.iter().any(|entry| !entry.refusals.is_empty())
    }

    /// What was done, and what the owners should know.
    pub(super) fn notes(&self) -> String {
        let mut lines = Vec::new();
        for entry in &self.objects {
            let place = format!("{}:{}", entry.file, entry.line);
            let object = &entry.object;
            match &entry.reason {
                None if entry.changed => lines.push(format!("{place}: {object}: {}", entry.outcome)),
                None if entry.refusals.is_empty() => {
                    lines.push(format!("{place}: {object}: {}, as it was", entry.outcome))
                }
                Some(Told { name: Reason::Disabled | Reason::NotEnabled | Reason::ByHand, text }) => {
                    lines.push(format!("{place}: {object}: untouched: {text}"));
                }
                None | Some(_) => {}
            }
            lines.extend(entry.notes.iter().map(|note| format!("{place}: note: {note}")));
        }
        for place in &self.anew {
            lines.push(format!(
                "{place}: note: it could not be changed in place and was written anew, without its comments"
            ));
        }
        for (file, comments) in &self.lost {
            let told = comments.iter().take(SHOWN).map(|comment| format!("# {}", comment.escape_debug()));
            let told = told.collect::<Vec<_>>().join(", ");
            let more = comments.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            lines.push(format!("{file}: note: comments are gone with what they stood beside: {told}{more}"));
        }
        if self.objects.iter().all(|entry| entry.reason.is_some()) {
            lines.push(self.verb.nothing().to_owned());
        }
        lines.join("\n")
    }

    /// What stands against it.
    pub(super) fn refusals(&self) -> String {
        let lines = self.objects.iter().flat_map(|entry| {
            entry.refusals.iter().map(move |refusal| format!("{}:{}: {refusal}", entry.file, entry.line))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(super) fn json(&self) -> String {
        let lost = self.lost.iter().map(|(file, comments)| serde_json::json!({"file": file, "comments": comments}));
        let lost: Vec<Value> = lost.collect();
        serde_json::json!({"objects": self.objects, "rewritten": self.anew, "lost": lost}).to_string()
    }
}

impl Verb {
    fn done(self) -> &'static str {
        match self {
            Self::Inject => "injected",
            Self::Uninject => "uninjected",
        }
    }

    fn nothing(self) -> &'static str {
        match self {
            Self::Inject => "nothing to inject: no object has pods that are known here, or is to have a sidecar",
            Self::Uninject => "nothing to take out: no object has a sidecar that inject put in",
        }
    }
}

/// `Deployment shop/orders`.
fn named(value: &Value) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(|text| text.escape_debug().to_string());
    let kind = text(value.get("kind")).unwrap_or_else(|| "a document without a kind".to_owned());
    let metadata = value.get("metadata");
    let name = text(metadata.and_then(|m| m.get("name")));
    let namespace = text(metadata.and_then(|m| m.get("namespace")));
    match (namespace, name) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        (_, None) => kind,
    }
}
