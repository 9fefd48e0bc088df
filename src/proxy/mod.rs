//! The path of a proxied request: from a client's connection to the app and back.
//!
//! [`worker`] owns a thread's connections, [`service`] is the path itself, read from top to bottom, and the other
//! files are its stations.

mod admission;
mod body;
mod buffer;
mod call;
pub mod downstream;
mod error;
pub mod flag_headers;
mod flight;
pub mod forwarded;
pub mod gate;
mod grpc;
pub mod headers;
mod hop;
mod http2;
pub mod lines;
pub mod metrics;
pub mod observe;
mod service;
pub mod settings;
pub mod tunnel;
pub mod upstream;
mod websocket;
pub mod worker;

pub use settings::Settings;
