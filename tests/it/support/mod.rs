//! Fixtures: real servers as processes of the tests own, and raw clients.

pub mod chaos;
pub mod postgres;
pub mod raw;
pub mod redis;
pub mod sidecar;
