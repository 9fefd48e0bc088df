//! What the process says about itself: logs and metrics. Knows no other module.

pub mod logging;
pub mod metrics;
pub mod writer;
