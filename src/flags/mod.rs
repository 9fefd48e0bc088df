//! Feature flags: model, compilation, evaluation, layers and the sources that feed them.

pub mod settings;

pub use settings::Settings;
