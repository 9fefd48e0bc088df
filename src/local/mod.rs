//! What the app and the CLI may ask over localhost.

pub mod settings;

pub use settings::Settings;
