//! The path of a proxied request: from a client's connection to the app and back.

pub mod settings;

pub use settings::Settings;
