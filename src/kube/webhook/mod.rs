//! The sidecar at admission: what `tidegate inject` does to manifests, done to pods as they are made. Pods alone: a
//! template that differs from what was applied would look like drift to whoever applied it, and each new version of the
//! sidecar would roll out workloads that nobody touched.

mod api;
pub mod cert;
mod metrics;
pub mod review;
mod serve;

pub use self::serve::{Settings, serve};
