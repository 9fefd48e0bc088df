//! Pods with the sidecar in them: what `tidegate inject` and `tidegate webhook` make of manifests. Nothing but `cli` uses it.

pub mod inject;
pub mod patch;
pub mod webhook;
pub mod yaml;
