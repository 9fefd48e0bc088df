//! Into the pod: what Kubernetes is told and asked. Nothing but `cli` uses it.

pub mod yaml;
