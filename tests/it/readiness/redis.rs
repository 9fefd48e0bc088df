//! Redis that is killed, hangs, asks for a password or is still loading.

use std::time::Duration;

use tidegate::readiness::settings::{self, Check, Kind};
use tidegate::secret::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Logged, PATIENCE, check, watch};
use crate::support::chaos::Chaos;
use crate::support::eventually;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;

const READY: (u16, &str) = (200, r#"{"status":"ready","checks":{"redis":"ok"}}"#);

fn redis(url: impl Into<String>) -> Check {
    check("redis", Kind::Redis(settings::Redis::new(Secret::new(url))))
}

fn failed(reason: &str) -> String {
    format!(r#"{{"status":"not ready","error":"redis: {reason}","checks":{{"redis":"failed"}}}}"#)
}

#[tokio::test]
async fn redis_that_is_killed_or_hangs_is_not_ready_until_it_is_back() {
    let mut server = Redis::start();
    let chaos = Chaos::to(server.upstream());
    let impatient = Check { timeout: Duration::from_millis(300), ..redis(format!("redis://{}", chaos.address())) };
    let watched = watch([impatient]);
    watched.says(READY).await;
    server.freeze();
    watched.says((503, &failed("timeout after 300ms"))).await;
    server.thaw();
    watched.says(READY).await;
    chaos.stall();
    watched.says((503, &failed("timeout after 300ms"))).await;
    chaos.refuse();
    watched.says((503, &failed("connection refused"))).await;
    chaos.restore();
    watched.says(READY).await;
    server.kill();
    watched.attempts_more("redis", "failed", 3).await;
    assert_eq!(watched.readyz().0, 503);
    server.resume();
    watched.says(READY).await;
}

#[tokio::test]
async fn many_pings_use_one_connection() {
    let server = Redis::start();
    let chaos = Chaos::to(server.upstream());
    let mut watched = watch([redis(format!("redis://{}", chaos.address()))]);
    watched.attempts_more("redis", "ok", 20).await;
    assert_eq!((chaos.accepted(), chaos.open()), (1, 1));
    // A connection that was lost meanwhile is replaced unnoticed.
    chaos.reset();
    chaos.restore();
    watched.attempts_more("redis", "ok", 5).await;
    eventually(PATIENCE, "one connection is open", async || chaos.open() == 1).await;
    watched.probers.shutdown().await;
    eventually(PATIENCE, "a stopped check closes its connection", async || chaos.open() == 0).await;
}

#[tokio::test]
async fn a_password_that_is_missing_or_wrong_is_said_and_never_the_password() {
    let server = Redis::start_with(&["--requirepass", "right-passw0rd"]);
    let chaos = Chaos::to(server.upstream());
    let logged = Logged::here();
    for (credentials, reason) in [("", "authentication required"), (":wrong-passw0rd@", "authentication failed")] {
        let watched = watch([redis(format!("redis://{credentials}{}", chaos.address()))]);
        watched.says((503, &failed(reason))).await;
    }
    let watched = watch([redis(format!("redis://:right-passw0rd@{}", chaos.address()))]);
    watched.says(READY).await;
    assert!(!logged.text().contains("-passw0rd"), "{}", logged.text());
}

/// Answers every command with the same bytes.
async fn parrot(answer: &'static [u8]) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut commands = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut commands).await {
                    // Each command is an array, `*LENGTH`; the client sends several in one piece.
                    for _ in commands[..length].iter().filter(|byte| **byte == b'*') {
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    (url, tasks)
}

#[tokio::test]
async fn a_server_that_is_loading_or_is_no_redis_is_said_to_be_that() {
    let (url, _tasks) = parrot(b"-LOADING Redis is loading the dataset in memory\r\n").await;
    let watched = watch([redis(url)]);
    watched.says((503, &failed("loading its data"))).await;

    const OTHER: &str = "not a Redis server: its answer is not in Redis's protocol";
    const CLOSED: &str = "connection closed in place of an answer; is it a Redis server, without TLS?";
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"220 mail.example ESMTP\r\n"] {
        let (url, _tasks) = parrot(answer).await;
        let watched = watch([redis(url)]);
        watched.says((503, &failed(OTHER))).await;
    }
    let postgres = Postgres::start();
    let watched = watch([redis(format!("redis://{}", postgres.address()))]);
    watched.says((503, &failed(CLOSED))).await;
}
