//! What became of an object, in words for the person who wrote it.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// What became of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It was changed, or would have been had it not been so already: `object` may equal what came in.
    Injected {
        /// The object as it is to be.
        object: Value,
        /// What its owner should know.
        notes: Vec<Note>,
    },
    /// It is none of ours, or is to stay as it is.
    Untouched(Reason),
    /// The sidecar would break it, or nobody can tell what was meant. At least one.
    Refused(Vec<Refusal>),
}

/// Why an object stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Its kind has no pods that we know of.
    NoPods,
    /// `tidegate.dev/inject: disabled`.
    Disabled,
    /// Only what says `tidegate.dev/inject: enabled` is asked for.
    NotEnabled,
    /// It has a container `tidegate` that was written by hand.
    ByHand,
    /// There is nothing of ours to take out.
    NotInjected,
    /// A Service that leads to no injected pods, or needs no change.
    Routed,
}

/// Something that the owner of an object should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Kind, namespace and name: `Deployment shop/orders`.
    pub object: String,
    /// The field, `spec.template.spec.containers[0].ports`.
    pub path: String,
    /// One sentence, with what to do where there is something to do.
    pub text: String,
}

/// Why an object cannot have a sidecar as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Kind, namespace and name: `Deployment shop/orders`.
    pub object: String,
    /// The field, `spec.template.spec.hostNetwork`.
    pub path: String,
    /// What is wrong.
    pub wrong: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPods => "its kind has no pods that are known here; --pod-template names where those of others are",
            Self::Disabled => "tidegate.dev/inject is disabled",
            Self::NotEnabled => "tidegate.dev/inject is not enabled",
            Self::ByHand => "a container tidegate is there that inject did not write",
            Self::NotInjected => "nothing of Tidegate's is in it",
            Self::Routed => "it needs no change",
        })
    }
}

/// One line: `Deployment shop/orders: spec.replicas: …`.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object.escape_debug(), self.path.escape_debug(), self.text)
    }
}

/// One line: `Deployment shop/orders: spec.template.spec.hostNetwork: …; …`.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, path, wrong, remedy } = self;
        let place = if path.is_empty() { String::new() } else { format!("{}: ", path.escape_debug()) };
        write!(f, "{}: {place}{wrong}; {remedy}", object.escape_debug())
    }
}
