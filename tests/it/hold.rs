//! Requests wait while the app is away: it refuses, its check fails, it restarts, or a person holds them.

mod budget;
mod commands;
mod gate;
mod queue;
mod restarts;

use std::time::Duration;

use crate::support::eventually;
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;

const LONG: Duration = Duration::from_secs(30);

/// Waits until so many requests are held.
async fn holds(sidecar: &Sidecar, count: usize) {
    eventually(LONG, "held", async || sidecar.metric("tidegate_hold_requests", "").await == count as f64).await;
}

/// Sends a request and waits until it is one of `count` that are held.
async fn held(sidecar: &Sidecar, request: &str, count: usize) -> Client {
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send(request).await.unwrap();
    holds(sidecar, count).await;
    client
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n")
}

async fn status(sidecar: &Sidecar) -> serde_json::Value {
    raw::get(sidecar.local, "/v1/status").await.unwrap().json()
}

async fn phase(sidecar: &Sidecar) -> String {
    status(sidecar).await["phase"].as_str().unwrap().to_owned()
}

async fn reaches(sidecar: &Sidecar, wanted: &str) {
    eventually(LONG, wanted, async || phase(sidecar).await == wanted).await;
}

/// The head of a request; nothing when there is none.
async fn head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    while !read.windows(4).any(|four| four == b"\r\n\r\n") {
        match tokio::io::AsyncReadExt::read_buf(stream, &mut read).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    String::from_utf8(read).unwrap()
}
