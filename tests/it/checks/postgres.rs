//! PostgreSQL over TLS, and as the two ends of a replication.

use std::time::Duration;

use tidegate::readiness::settings::{Check, Kind, Postgres as Settings, PostgresRole as Role};
use tidegate::secret::Secret;

use super::says;
use crate::readiness::{PATIENCE, Watched, check, watch};
use crate::support::authority::Authority;
use crate::support::eventually;
use crate::support::postgres::{PASSWORD, Postgres};

const READY: (u16, &str) = (200, r#"{"status":"ready","checks":{"db":"ok"}}"#);

fn of(settings: Settings) -> Check {
    check("db", Kind::Postgres(settings))
}

fn db(url: impl Into<String>) -> Settings {
    Settings::new(Secret::new(url))
}

async fn fails(watched: &Watched, reason: &str) {
    super::fails(watched, "db", reason).await;
}

async fn number(client: &tokio_postgres::Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_standby_is_told_from_its_primary_and_what_it_lacks_is_lag() {
    let mut primary = Postgres::start();
    let standby = primary.standby();
    let (writer, _tasks) = primary.client().await;
    let (reader, _more) = standby.client().await;
    writer.batch_execute("CREATE TABLE written (n int)").await.unwrap();

    let of_role = |url: String, role| watch([of(Settings { role, ..db(url) })]);
    of_role(primary.url(), Role::Primary).says(READY).await;
    of_role(standby.url(), Role::Standby).says(READY).await;
    of_role(standby.url(), Role::Any).says(READY).await;
    fails(&of_role(primary.url(), Role::Standby), "a primary; expected a standby").await;
    let taking_writes = of_role(standby.url(), Role::Primary);
    fails(&taking_writes, "a standby, which takes no writes; expected the primary").await;

    // A primary that has nothing to do is no lag, however old its last transaction is.
    let close =
        watch([of(Settings { role: Role::Standby, max_lag: Some(Duration::from_millis(500)), ..db(standby.url()) })]);
    close.says(READY).await;
    let age = "SELECT extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::int8";
    eventually(PATIENCE, "the last transaction is old", async || number(&reader, age).await >= 2).await;
    close.attempts_more("db", "ok", 5).await;
    close.says(READY).await;

    // What came and is not replayed is.
    reader.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    writer.batch_execute("INSERT INTO written VALUES (1)").await.unwrap();
    says(&close, "behind, more than 500ms\"").await;
    reader.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    close.says(READY).await;

    // Neither is what cannot come.
    drop((writer, _tasks));
    primary.stop();
    says(&close, "behind, more than 500ms, and no connection to its primary\"").await;
    primary.resume();
    let (writer, _tasks) = primary.client().await;
    writer.batch_execute("INSERT INTO written VALUES (2)").await.unwrap();
    close.says(READY).await;

    // A failover in the middle of the checks.
    reader.batch_execute("SELECT pg_promote()").await.unwrap();
    fails(&close, "a primary; expected a standby").await;
    taking_writes.says(READY).await;
}

#[tokio::test]
async fn the_servers_certificate_is_checked_as_sslmode_says() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let issued = authority.issue("server", 2);
    let mut postgres = Postgres::start_secured(&authority, &issued, "hostssl all app all scram-sha-256");
    let port = postgres.address().port();
    let at = |host: &str, options: &str| format!("postgres://app:{PASSWORD}@{host}:{port}/postgres?{options}");
    let trusted = format!("sslrootcert={}", authority.certificate());
    let not_trusted = format!("sslrootcert={}", stranger.certificate());

    let full = watch([of(db(at("localhost", &format!("sslmode=verify-full&{trusted}"))))]);
    full.says(READY).await;
    watch([of(db(at("127.0.0.1", &format!("sslmode=verify-ca&{trusted}"))))]).says(READY).await;
    watch([of(db(at("127.0.0.1", &format!("sslmode=require&{trusted}"))))]).says(READY).await;
    watch([of(db(at("127.0.0.1", "sslmode=require")))]).says(READY).await;
    let pairs = format!(
        "host=localhost port={port} user=app password={PASSWORD} dbname=postgres sslmode=verify-full sslrootcert='{}'",
        authority.certificate()
    );
    watch([of(db(pairs))]).says(READY).await;
    for (host, options, reason) in [
        (
            "127.0.0.1",
            format!("sslmode=verify-full&{trusted}"),
            "TLS: invalid peer certificate: not for the name of this server: for localhost…",
        ),
        (
            "localhost",
            format!("sslmode=verify-full&{not_trusted}"),
            "TLS: invalid peer certificate: no authority that we trust vouches for it",
        ),
        (
            "localhost",
            format!("sslmode=verify-ca&{not_trusted}"),
            "TLS: invalid peer certificate: no authority that we trust vouches for it",
        ),
        (
            "localhost",
            format!("sslmode=require&{not_trusted}"),
            "TLS: invalid peer certificate: no authority that we trust vouches for it",
        ),
        (
            "localhost",
            "sslmode=verify-full&sslrootcert=/nowhere/ca.pem".to_owned(),
            "TLS: /nowhere/ca.pem: no such file",
        ),
    ] {
        let watched = watch([of(db(at(host, &options)))]);
        fails(&watched, reason).await;
        assert_eq!(watched.attempts("db", "ok"), 0, "{options}");
    }

    postgres.stop();
    postgres.show(&authority.issue("expired", -1));
    postgres.resume();
    fails(&full, "TLS: invalid peer certificate: expired at 20…").await;
    postgres.stop();
    postgres.show(&issued);
    postgres.resume();
    full.says(READY).await;
}

#[tokio::test]
async fn a_certificate_of_ours_is_shown_and_a_statement_is_cancelled_over_tls() {
    let authority = Authority::new();
    let postgres = Postgres::start_secured(&authority, &authority.issue("server", 2), "hostssl all app all cert");
    let ours = authority.issue_for("client", "/CN=app", "DNS:app", 2);
    let base = format!(
        "postgres://app@localhost:{}/postgres?sslmode=verify-full&sslrootcert={}",
        postgres.address().port(),
        authority.certificate()
    );
    fails(&watch([of(db(base.clone()))]), "connection requires a valid client certificate").await;
    let shown = format!("{base}&sslcert={}&sslkey={}", ours.certificate, ours.key);
    let mut watched = watch([of(db(shown.clone()))]);
    watched.says(READY).await;
    watched.probers.shutdown().await;

    let (client, _tasks) = postgres.client().await;
    let sleeping = Settings { query: "SELECT pg_sleep(3600)".to_owned(), ..db(shown) };
    let mut watched = watch([Check { timeout: Duration::from_millis(300), ..of(sleeping) }]);
    watched.attempts_more("db", "timeout", 4).await;
    watched.probers.shutdown().await;
    let under_way = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate' AND state = 'active'";
    // The attempt that was under way when the check stopped was not cut off at its timeout.
    eventually(PATIENCE, "no statement of a past attempt is left", async || number(&client, under_way).await <= 1)
        .await;
}
