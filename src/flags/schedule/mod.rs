//! Changes of flags at a time, and step by step: what is to be done when. Pure: no Redis here, and the time is an
//! argument.

mod bands;
mod change;
#[cfg(test)]
mod laws;
mod plan;
mod share;
mod when;

pub use change::{Action, Impossible};
pub use plan::{MAX_STEPS, Next, Plan, Rollout, Schedule, State};
pub use share::{NotAShare, Share, Unfit, share, with_share};
pub use when::{LONGEST, NoTime, moment};
