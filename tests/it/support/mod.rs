//! Fixtures: real servers as processes of the tests own, and raw clients.
#![allow(dead_code, reason = "a fixture may offer more than the tests of the day use")]

pub(crate) mod app;
pub(crate) mod authority;
pub(crate) mod balancer;
pub(crate) mod browser;
pub(crate) mod chaos;
pub(crate) mod collector;
pub(crate) mod deployment;
pub(crate) mod events;
pub(crate) mod flags;
pub(crate) mod front;
pub(crate) mod h2;
pub(crate) mod health;
pub(crate) mod load;
pub(crate) mod mariadb;
pub(crate) mod port;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod redis;
pub(crate) mod rpc;
pub(crate) mod sdk;
pub(crate) mod sidecar;
pub(crate) mod terminator;
pub(crate) mod tls;

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Waits until `condition` holds; when it does not within `limit`, the test fails and says `why` it should have.
/// A condition that itself hangs counts as one that does not hold.
#[track_caller]
pub(crate) fn eventually(limit: Duration, why: &str, condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    poll(limit, why, condition, caller)
}

async fn poll(
    limit: Duration,
    why: &str,
    mut condition: impl AsyncFnMut() -> bool,
    caller: &std::panic::Location<'static>,
) {
    let deadline = Instant::now() + limit;
    while !matches!(timeout_at(deadline, condition()).await, Ok(true)) {
        assert!(Instant::now() < deadline, "not within {limit:?} ({caller}): {why}");
        sleep(Duration::from_millis(5)).await;
    }
}
