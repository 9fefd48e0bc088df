//! Feature flags: model, compilation, evaluation, layers and the sources that feed them.

pub mod compile;
pub mod context;
pub mod contract;
pub mod diff;
pub mod document;
pub mod evaluate;
pub mod explain;
mod hash;
pub mod history;
mod layers;
pub mod lint;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod settings;
pub mod sources;
pub mod status;
pub mod store;
mod targeting;

pub use settings::Settings;
pub use status::Status;
