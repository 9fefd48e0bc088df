//! Phases, drain, signals, owned tasks and the ledger of what is in flight. Knows no other domain.
//!
//! [`machine`] decides, [`driver`] is the only one that lets it, and everybody else reads a `watch` channel.

pub mod descriptors;
pub mod drain;
pub mod driver;
pub mod leases;
pub mod ledger;
pub mod machine;
pub mod metrics;
pub mod signals;
pub mod tasks;
pub mod threads;
