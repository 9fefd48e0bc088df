//! Tidegate: a sidecar that makes deploys, feature switches and schema changes safe under live traffic.
//!
//! # Layout
//!
//! In reading order, lowest layer first. A module may use those above it in this list and never those below;
//! `readiness`, `flags`, `proxy` and `fleet` never use one another. `tests/tidy` holds the rule.
//!
//! | module | owns |
//! |---|---|
//! | [`secret`] | a string that never prints |
//! | [`telemetry`] | logging, the metrics registry and its text format |
//! | [`lifecycle`] | phases and drain, signals, owned tasks, the in-flight ledger |
//! | [`net`] | accepting, serving and draining connections; TLS; reaching Redis and collectors of spans |
//! | [`readiness`] | background checks and the verdict behind `/readyz` |
//! | [`flags`] | flag model, compilation, evaluation, layers and sources |
//! | [`proxy`] | the path of a proxied request |
//! | [`fleet`] | the registry of all instances in Redis, and the brake that keeps them from failing together |
//! | [`local`] | what the app and the CLI may ask over localhost |
//! | [`ops`] | what the kubelet, load balancers and Prometheus may ask |
//! | [`config`] | file, environment and arguments to the settings of every module |
//! | [`app`] | binds, wires, runs and stops everything |
//! | [`kube`] | the sidecar in pods: injection into manifests, and at admission |
//! | [`cli`] | one file per command |

pub mod secret;
pub mod telemetry;

pub mod lifecycle;

pub mod net;

pub mod flags;
pub mod fleet;
pub mod proxy;
pub mod readiness;

pub mod local;
pub mod ops;

pub mod config;

pub mod app;

pub mod kube;

pub mod cli;
