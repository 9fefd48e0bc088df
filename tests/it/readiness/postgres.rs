//! PostgreSQL that stops, crashes, hangs, refuses us and comes back.

use std::time::Duration;

use tidegate::cli::Output;
use tidegate::cli::check as command;
use tidegate::local::settings::Socket;
use tidegate::readiness::Settings;
use tidegate::readiness::settings::{self, Check, Class, Kind};
use tidegate::secret::Secret;

use super::{Logged, PATIENCE, Watched, check, tcp, watch};
use crate::support::chaos::{Chaos, Upstream};
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::postgres::{PASSWORD, Postgres};

const READY: (u16, &str) = (200, r#"{"status":"ready","checks":{"db":"ok"}}"#);

fn failed(reason: &str) -> String {
    let reason = reason.replace('"', "\\\"");
    format!(r#"{{"status":"not ready","error":"db: {reason}","checks":{{"db":"failed"}}}}"#)
}

fn asking(url: impl Into<String>, query: &str) -> Check {
    check(
        "db",
        Kind::Postgres(settings::Postgres { query: query.to_owned(), ..settings::Postgres::new(Secret::new(url)) }),
    )
}

fn db(url: impl Into<String>) -> Check {
    asking(url, "SELECT 1")
}

/// A timeout short enough to wait for. That an attempt on a busy machine runs into it too is made good by the next.
fn impatient(check: Check) -> Check {
    Check { timeout: Duration::from_millis(300), ..check }
}

async fn fails(watched: &Watched, reason: &str) {
    watched.says((503, &failed(reason))).await;
}

/// How many of the server's sessions are ours.
async fn sessions(client: &tokio_postgres::Client) -> i64 {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate'";
    client.query_one(count, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_database_that_stops_is_not_ready_after_fall_checks_and_ready_when_it_is_back() {
    let mut postgres = Postgres::start();
    let watched = watch([db(postgres.url())]);
    watched.says(READY).await;
    let failures = watched.attempts("db", "failed");
    postgres.stop();
    eventually(PATIENCE, "a stopped database is not ready", async || {
        let failures = watched.attempts("db", "failed") - failures;
        let (status, _) = watched.readyz();
        assert_eq!(status, if failures < 3 { 200 } else { 503 }, "after {failures} failures");
        status == 503
    })
    .await;
    fails(&watched, "connection refused").await;
    postgres.resume();
    watched.says(READY).await;
    postgres.kill();
    fails(&watched, "connection refused").await;
    postgres.resume();
    watched.says(READY).await;
}

#[tokio::test]
async fn a_database_that_hangs_is_a_timeout() {
    let postgres = Postgres::start();
    let chaos = Chaos::to(Upstream::Tcp(postgres.address()));
    let watched = watch([impatient(db(postgres.url_at(chaos.address(), PASSWORD)))]);
    watched.says(READY).await;
    // The wire hangs.
    chaos.stall();
    fails(&watched, "timeout after 300ms").await;
    chaos.restore();
    watched.says(READY).await;
    // The server hangs.
    postgres.freeze();
    fails(&watched, "timeout after 300ms").await;
    postgres.thaw();
    watched.says(READY).await;
    // It was hanging already when the connection was made.
    chaos.reset();
    chaos.stall();
    fails(&watched, "timeout after 300ms").await;
    chaos.refuse();
    fails(&watched, "connection refused").await;
    chaos.restore();
    watched.says(READY).await;
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_cancelled_on_the_server() {
    let postgres = Postgres::start();
    let (client, _tasks) = postgres.client().await;
    let mut watched = watch([impatient(asking(postgres.url(), "SELECT pg_sleep(3600)"))]);
    watched.attempts_more("db", "timeout", 4).await;
    fails(&watched, "timeout after 300ms").await;
    // What the cut off attempts left is gone; what is under way is one at most, and one in the act of ending.
    eventually(PATIENCE, "the server keeps no session of a past attempt", async || sessions(&client).await <= 1).await;
    watched.probers.shutdown().await;
    let cut_off = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidegate'";
    client.query(cut_off, &[]).await.unwrap();
    eventually(PATIENCE, "nothing is left when the check has stopped", async || sessions(&client).await == 0).await;
}

#[tokio::test]
async fn many_checks_and_failures_use_one_connection() {
    let postgres = Postgres::start();
    let (client, _tasks) = postgres.client().await;
    client.batch_execute("CREATE TABLE switch (divisor int); INSERT INTO switch VALUES (1)").await.unwrap();
    let chaos = Chaos::to(Upstream::Tcp(postgres.address()));
    let url = postgres.url_at(chaos.address(), PASSWORD);
    let mut watched = watch([asking(url, "SELECT 1 / divisor FROM switch")]);
    for _ in 0..3 {
        watched.says(READY).await;
        watched.attempts_more("db", "ok", 10).await;
        client.batch_execute("UPDATE switch SET divisor = 0").await.unwrap();
        fails(&watched, "division by zero (SQLSTATE 22012)").await;
        watched.attempts_more("db", "failed", 10).await;
        client.batch_execute("UPDATE switch SET divisor = 1").await.unwrap();
    }
    assert_eq!((chaos.accepted(), chaos.open(), sessions(&client).await), (1, 1, 1));

    // Connections lost on the way are replaced, one for one, and unnoticed when the server is there.
    let failures = watched.attempts("db", "failed");
    watched.says(READY).await;
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidegate'";
    client.query(terminate, &[]).await.unwrap();
    watched.attempts_more("db", "ok", 5).await;
    assert_eq!(chaos.accepted(), 2);
    eventually(PATIENCE, "the lost connection is closed on our side, too", async || chaos.open() == 1).await;
    assert!(watched.attempts("db", "failed") - failures <= 3, "only what followed the last UPDATE");
    eventually(PATIENCE, "the terminated session has ended", async || sessions(&client).await == 1).await;
    watched.probers.shutdown().await;
    eventually(PATIENCE, "a stopped check closes its connection", async || chaos.open() == 0).await;
    eventually(PATIENCE, "the server knows", async || sessions(&client).await == 0).await;
}

#[tokio::test]
async fn a_wrong_password_is_said_to_be_wrong_and_never_said() {
    const WRONG: &str = "not-the-passw0rd";
    let postgres = Postgres::start();
    let logged = Logged::here();
    for url in [
        postgres.url_at(postgres.address(), WRONG),
        format!("host=127.0.0.1 port={} user=app password={WRONG} dbname=postgres", postgres.address().port()),
    ] {
        let watched = watch([db(url.clone())]);
        fails(&watched, r#"password authentication failed for user "app""#).await;
        let report = command::run(&Settings { checks: vec![db(url)] }, &Socket::None).await;
        for text in [
            logged.text(),
            watched.readyz().1,
            report.render(Output::Table).unwrap(),
            report.render(Output::Json).unwrap(),
        ] {
            assert!(text.contains("authentication failed"), "{text}");
            assert!(!text.contains(WRONG), "{text}");
        }
        assert_eq!(report.exit_code(), 1);
    }
}

#[tokio::test]
async fn what_the_server_refuses_us_for_is_said() {
    let postgres = Postgres::start_with(&["max_connections=4"]);
    let watched = watch([db(postgres.url().replace("/postgres", "/nowhere"))]);
    fails(&watched, r#"database "nowhere" does not exist"#).await;
    drop(watched);

    let watched = watch([asking(postgres.url(), "SELECT * FROM nothing")]);
    fails(&watched, r#"relation "nothing" does not exist (SQLSTATE 42P01)"#).await;
    drop(watched);

    let mut taken = Vec::new();
    eventually(PATIENCE, "the sessions before have ended and all four are ours", async || {
        taken.extend(tokio_postgres::connect(&postgres.socket_url(), tokio_postgres::NoTls).await);
        taken.len() == 4
    })
    .await;
    let watched = watch([db(postgres.url())]);
    eventually(PATIENCE, "a full server is said to be full", async || {
        watched.readyz().1.contains("db: too many connections: ")
    })
    .await;
    drop(taken);
    watched.says(READY).await;
}

#[tokio::test]
async fn sslmode_means_what_it_means_to_libpq() {
    let postgres = Postgres::start_with_tls();
    let (client, _tasks) = postgres.client().await;
    for (mode, encrypted) in [("disable", false), ("prefer", true), ("require", true)] {
        let mut watched = watch([db(format!("{}?sslmode={mode}", postgres.url()))]);
        watched.says(READY).await;
        let ssl = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'tidegate'";
        assert_eq!(client.query_one(ssl, &[]).await.unwrap().get::<_, bool>(0), encrypted, "{mode}");
        watched.probers.shutdown().await;
        eventually(PATIENCE, "the session has ended", async || sessions(&client).await == 0).await;
    }
    for mode in ["verify-ca", "verify-full"] {
        let watched = watch([db(format!("{}?sslmode={mode}", postgres.url()))]);
        eventually(PATIENCE, "a certificate nobody vouches for is refused", async || {
            watched.readyz().1.contains("db: TLS: invalid peer certificate")
        })
        .await;
        assert_eq!(watched.attempts("db", "ok"), 0);
    }
    let plain = Postgres::start();
    let watched = watch([db(format!("{}?sslmode=require", plain.url()))]);
    fails(&watched, "TLS: server does not support TLS").await;
}

#[tokio::test]
async fn the_unix_socket_needs_neither_password_nor_port() {
    let mut postgres = Postgres::start();
    let watched = watch([db(postgres.socket_url())]);
    watched.says(READY).await;
    postgres.stop();
    fails(&watched, "no such socket").await;
}

#[tokio::test]
async fn the_check_command_asks_everything_once_and_fails_for_what_is_critical() {
    let postgres = Postgres::start();
    let closed = Port::reserve();
    let cache = Check { name: "cache".to_owned(), class: Class::Info, ..check("", tcp(&closed)) };
    let hanging = Check { name: "slow".to_owned(), ..impatient(asking(postgres.url(), "SELECT pg_sleep(3600)")) };

    let report = command::run(&Settings { checks: vec![cache.clone(), db(postgres.url())] }, &Socket::None).await;
    assert_eq!(report.exit_code(), 0);
    let table = report.render(Output::Table).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..4], ["CHECK", "KIND", "CLASS", "STATE"]);
    assert_eq!(rows[1][..4], ["cache", "tcp", "info", "failed"]);
    assert_eq!(rows[2][..4], ["db", "postgres", "critical", "ok"]);

    let report = command::run(&Settings { checks: vec![cache, db(postgres.url()), hanging] }, &Socket::None).await;
    assert_eq!(report.exit_code(), 1);
    assert!(report.render(Output::Json).unwrap().contains(r#""error": "timeout after 300ms""#));
    let (client, _tasks) = postgres.client().await;
    eventually(PATIENCE, "the command leaves nothing behind", async || sessions(&client).await == 0).await;
}
