//! The integration tests: one module per flow, against real servers started by the tests themselves.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

mod support;

mod config;
mod drain;
mod flags_file;
mod flags_redis;
mod ofrep;
mod proxy;
mod readiness;
