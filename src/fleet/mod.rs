//! The registry of all instances of a workload in Redis, and the brake that keeps them from failing together.
//!
//! A [`Member`] sends a heartbeat every few seconds: one script, one round trip, nothing that waits for it. What it says
//! of itself comes in as a plain value. With the same script it tells which shared checks fail here and learns on how many
//! instances they do; what that means is [`brake`]'s, which does no IO. An instance that is not heard of any more is
//! suspect, never dead.

pub mod brake;
mod contract;
mod judge;
mod keys;
mod member;
mod metrics;
mod presence;
pub mod settings;
mod workloads;

pub use contract::{Evicted, Heartbeat, Instance, MOST, evict, has_left, list};
pub use judge::{Failing, Rulings};
pub use keys::{IllegalName, Keys};
pub use member::{Handle, Member, Pace};
pub use metrics::Metrics;
pub use presence::{Identity, Presence};
pub use settings::Settings;
pub use workloads::{Extent, Workloads, workloads};
