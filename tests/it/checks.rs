//! Every kind of check against the real thing: what it looks at, and what it says when that is not so.

mod aging;
mod declared;
mod faults;
mod grpc;
mod http;
mod migrations;
mod mysql;
mod mysql_login;
mod names;
mod own;
mod postgres;
mod redis;
mod schema;
mod server_faults;

use std::time::Duration;

use tidegate::readiness::settings::Check;

use crate::readiness::{PATIENCE, Watched};
use crate::support::eventually;

/// What `/readyz` says of one check that passes.
fn ready(name: &str) -> String {
    format!(r#"{{"status":"ready","checks":{{"{name}":"ok"}}}}"#)
}

/// Waits until the one check passes.
async fn passes(watched: &Watched, name: &str) {
    watched.says((200, &ready(name))).await;
}

/// Waits until the one check fails for this reason, of which `…` leaves the end open.
async fn fails(watched: &Watched, name: &str, reason: &str) {
    if let Some(begin) = reason.strip_suffix('…') {
        return says(watched, &format!("\"error\":\"{name}: {begin}")).await;
    }
    let reason = serde_json::Value::from(format!("{name}: {reason}"));
    let said = format!(r#"{{"status":"not ready","error":{reason},"checks":{{"{name}":"failed"}}}}"#);
    watched.says((503, &said)).await;
}

/// Waits until `/readyz` says this somewhere.
async fn says(watched: &Watched, part: &str) {
    let mut last = String::new();
    let found = eventually(PATIENCE * 2, "unreachable", async || {
        last = watched.readyz().1;
        last.contains(part)
    });
    if tokio::time::timeout(PATIENCE, found).await.is_err() {
        panic!("{last} does not say {part}");
    }
}

/// A timeout short enough to wait for.
fn impatient(check: Check) -> Check {
    Check { timeout: Duration::from_millis(300), ..check }
}
