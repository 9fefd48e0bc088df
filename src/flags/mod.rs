//! Feature flags: model, compilation, evaluation, layers and the sources that feed them.

pub mod changes;
pub mod compile;
pub mod context;
pub mod contract;
pub mod diff;
pub mod document;
pub mod evaluate;
pub mod executor;
pub mod explain;
mod hash;
pub mod history;
mod layers;
pub mod lint;
pub mod metrics;
pub mod model;
pub mod overrides;
pub mod plan;
pub mod rebucket;
pub mod reporter;
pub mod schedule;
pub mod settings;
pub mod sources;
pub mod status;
pub mod store;
mod targeting;
pub mod usage;

pub use settings::Settings;
pub use status::Status;
