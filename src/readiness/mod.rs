//! Background checks of what the app depends on, and the verdict behind `/readyz`.

pub mod settings;

pub use settings::Settings;
