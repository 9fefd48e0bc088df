//! MariaDB that stops, hangs, refuses us, follows another and comes back.

use std::time::Duration;

use tidegate::readiness::settings::{Check, Kind, Mysql as Settings, MysqlRole as Role};
use tidegate::secret::Secret;

use super::{impatient, says};
use crate::readiness::{Logged, PATIENCE, Watched, check, watch};
use crate::support::authority::Authority;
use crate::support::chaos::{Chaos, Upstream};
use crate::support::eventually;
use crate::support::mariadb::{Mariadb, PASSWORD, USER};
use crate::support::postgres::Postgres;

const READY: (u16, &str) = (200, r#"{"status":"ready","checks":{"db":"ok"}}"#);

fn of(settings: Settings) -> Check {
    check("db", Kind::Mysql(settings))
}

fn db(url: impl Into<String>) -> Settings {
    Settings::new(Secret::new(url))
}

async fn fails(watched: &Watched, reason: &str) {
    super::fails(watched, "db", reason).await;
}

#[tokio::test]
async fn one_connection_carries_many_queries_and_faults_are_named_and_pass() {
    let mut server = Mariadb::start(&[]);
    let chaos = Chaos::to(Upstream::Tcp(server.address()));
    let mut watched = watch([impatient(of(db(server.url_at(chaos.address(), PASSWORD))))]);
    watched.says(READY).await;
    chaos.stall();
    fails(&watched, "timeout after 300ms").await;
    chaos.restore();
    watched.says(READY).await;
    server.freeze();
    fails(&watched, "timeout after 300ms").await;
    server.thaw();
    watched.says(READY).await;
    chaos.refuse();
    fails(&watched, "connection refused").await;
    chaos.restore();
    watched.says(READY).await;
    server.kill();
    says(&watched, "connection").await;
    server.resume();
    watched.says(READY).await;
    eventually(PATIENCE, "one session, whatever went before", async || server.sessions() == 1 && chaos.open() == 1)
        .await;
    let accepted = chaos.accepted();
    watched.attempts_more("db", "ok", 20).await;
    assert_eq!((chaos.accepted(), chaos.open()), (accepted, 1));
    // A session that the server ends is replaced before anybody sees it.
    let failed = watched.attempts("db", "failed");
    server.sql("KILL CONNECTION USER app");
    watched.attempts_more("db", "ok", 5).await;
    assert_eq!((watched.attempts("db", "failed"), chaos.accepted()), (failed, accepted + 1));
    watched.probers.shutdown().await;
    eventually(PATIENCE, "a stopped check closes its connection", async || server.sessions() == 0).await;
}

#[tokio::test]
async fn what_the_server_refuses_us_for_is_said_and_no_password_is() {
    const WRONG: &str = "not-the-passw0rd";
    let server = Mariadb::start(&["--max-connections=10"]);
    let logged = Logged::here();
    let watched = watch([of(db(server.url_at(server.address(), WRONG)))]);
    fails(&watched, "Access denied for user 'app'@'localhost' (using password: YES)").await;
    assert!(!watched.readyz().1.contains(WRONG) && !logged.text().contains(WRONG));
    drop(watched);
    fails(&watch([of(db(server.url().replace("/test", "/nowhere")))]), "Unknown database 'nowhere'").await;

    server.sql("CREATE TABLE test.there (n int); INSERT INTO test.there VALUES (1)");
    let asking = |query: &str| of(Settings { query: query.to_owned(), ..db(server.url()) });
    let watched = watch([asking("SELECT n FROM there")]);
    watched.says(READY).await;
    server.sql("DROP TABLE test.there");
    fails(&watched, "Table 'test.there' doesn't exist (error 1146)").await;
    server.sql("CREATE TABLE test.there (n int)");
    watched.says(READY).await;
    drop(watched);
    let syntax = watch([asking("SELEC 1")]);
    says(&syntax, "(error 1064)").await;
    drop(syntax);

    let mut taken = Vec::new();
    eventually(PATIENCE, "every place is taken", async || {
        // Ten, and one more for a superuser, which the fixture's own client is.
        let endpoint = tidegate::net::mysql::Endpoint::new(&Secret::new(server.url())).unwrap();
        taken.extend(endpoint.connect(PATIENCE).await);
        taken.len() >= 11
    })
    .await;
    let watched = watch([of(db(server.url()))]);
    fails(&watched, "too many connections: Too many connections").await;
    drop(taken);
    watched.says(READY).await;
}

#[tokio::test]
async fn a_statement_that_takes_too_long_ends_on_the_server_and_costs_no_connection() {
    let server = Mariadb::start(&[]);
    let sleeping = Settings { query: "SELECT sleep(3600)".to_owned(), ..db(server.url()) };
    let mut watched = watch([impatient(of(sleeping))]);
    watched.attempts_more("db", "timeout", 4).await;
    fails(&watched, "timeout after 300ms").await;
    watched.probers.shutdown().await;
    eventually(PATIENCE, "no statement of a past attempt is left", async || server.sessions() == 0).await;
}

/// What `tidegate check` says to do.
async fn remedy(settings: Settings) -> String {
    let settings = tidegate::readiness::settings::Settings { checks: vec![of(settings)] };
    let report = tidegate::cli::check::run(&settings, &tidegate::local::settings::Socket::None).await;
    report.render(tidegate::cli::Output::Json).unwrap()
}

#[tokio::test]
async fn a_replica_is_told_from_its_primary_and_what_it_lacks_is_lag() {
    let mut primary = Mariadb::start(&["--server-id=1", "--log-bin=log", "--binlog-format=ROW"]);
    let replica = Mariadb::start(&["--server-id=2", "--read-only=1", "--log-bin=log"]);
    replica.follow(&primary);
    let of_role = |server: &Mariadb, role| watch([of(Settings { role, ..db(server.url()) })]);
    of_role(&primary, Role::Primary).says(READY).await;
    of_role(&replica, Role::Any).says(READY).await;
    of_role(&replica, Role::Replica).says(READY).await;
    fails(&of_role(&primary, Role::Replica), "it follows no other server; expected a replica").await;
    let taking_writes = of_role(&replica, Role::Primary);
    fails(&taking_writes, "read_only is on, so it takes no writes; expected the primary").await;

    let lagging = Settings { role: Role::Replica, max_lag: Some(Duration::ZERO), ..db(replica.url()) };
    let close = watch([of(lagging)]);
    close.says(READY).await;
    // Somebody on the replica holds what the next change wants to change.
    primary.sql("CREATE TABLE test.t (n int primary key) ENGINE=InnoDB; INSERT INTO test.t VALUES (1)");
    eventually(PATIENCE, "the table is there", async || {
        replica.sql("SELECT count(*) FROM information_schema.tables WHERE table_name = 't'") == "1"
    })
    .await;
    let endpoint = tidegate::net::mysql::Endpoint::new(&Secret::new(replica.url())).unwrap();
    let mut holder = endpoint.connect(PATIENCE).await.unwrap();
    holder.query("LOCK TABLES t READ", tidegate::net::mysql::Keep::Nothing).await.unwrap();
    primary.sql("INSERT INTO test.t VALUES (2)");
    says(&close, "behind, more than 0s").await;
    drop(holder);
    close.says(READY).await;

    // Without the privilege, the statement and the grant are named: what `query` says by hand would say nothing.
    replica.sql("CREATE USER nobody@localhost IDENTIFIED BY 'p'; CREATE USER nobody@'127.0.0.1' IDENTIFIED BY 'p'");
    let of_nobody =
        Settings { role: Role::Replica, ..db(replica.url().replace(&format!("{USER}:{PASSWORD}"), "nobody:p")) };
    let nobody = watch([of(of_nobody.clone())]);
    says(&nobody, "(error 1227)").await;
    assert!(remedy(of_nobody).await.contains("GRANT REPLICA MONITOR ON *.* TO USER"));
    replica.sql("GRANT REPLICA MONITOR ON *.* TO nobody@localhost; GRANT REPLICA MONITOR ON *.* TO nobody@'127.0.0.1'");
    nobody.says(READY).await;

    primary.kill();
    says(&close, "the replica has no connection to its primary").await;
    primary.resume();
    close.says(READY).await;
    replica.sql("STOP SLAVE SQL_THREAD");
    fails(&close, "the replica has stopped to apply").await;

    // A failover.
    replica.sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = 0");
    fails(&close, "it follows no other server; expected a replica").await;
    taking_writes.says(READY).await;
}

#[tokio::test]
async fn tls_is_as_much_as_ssl_mode_asks_for() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let issued = authority.issue("server", 2);
    let option = |name: &str, file: &str| format!("--{name}={file}");
    let mut server = Mariadb::start(&[
        &option("ssl-cert", &issued.certificate),
        &option("ssl-key", &issued.key),
        &option("ssl-ca", &authority.certificate()),
    ]);
    let port = server.address().port();
    let at = |host: &str, options: &str| format!("mysql://app:{PASSWORD}@{host}:{port}/test?{options}");
    let ca = format!("ssl-ca={}", authority.certificate());
    // The query fails without encryption: it divides by nothing, which strict mode makes an error of an INSERT alone.
    server.sql("CREATE TABLE test.secret (n int not null)");
    let encrypted = "INSERT INTO secret SELECT if(variable_value = '', NULL, 1) FROM information_schema.session_status \
                     WHERE variable_name = 'Ssl_version'";
    let asking = |url: String| of(Settings { query: encrypted.to_owned(), ..db(url) });
    let full = watch([asking(at("localhost", &format!("ssl-mode=VERIFY_IDENTITY&{ca}")))]);
    full.says(READY).await;
    watch([asking(at("127.0.0.1", &format!("ssl-mode=VERIFY_CA&{ca}")))]).says(READY).await;
    watch([asking(at("127.0.0.1", "ssl-mode=REQUIRED"))]).says(READY).await;
    watch([asking(at("127.0.0.1", ""))]).says(READY).await;
    says(&watch([asking(at("127.0.0.1", "ssl-mode=DISABLED"))]), "cannot be null").await;
    for (host, options, reason) in [
        (
            "127.0.0.1",
            format!("ssl-mode=VERIFY_IDENTITY&{ca}"),
            "TLS: invalid peer certificate: not for the name of this server: for localhost…",
        ),
        (
            "localhost",
            format!("ssl-mode=VERIFY_CA&ssl-ca={}", stranger.certificate()),
            "TLS: invalid peer certificate: no authority that we trust vouches for it",
        ),
        ("localhost", "ssl-mode=VERIFY_CA&ssl-ca=/nowhere".to_owned(), "TLS: /nowhere: no such file"),
    ] {
        fails(&watch([of(db(at(host, &options)))]), reason).await;
    }
    server.sql("CREATE USER shown@'%' REQUIRE X509");
    let shown = |more: &str| {
        of(db(at("localhost", &format!("ssl-mode=VERIFY_IDENTITY&{ca}{more}"))
            .replace(&format!("app:{PASSWORD}"), "shown")
            .replace("/test", "/")))
    };
    says(&watch([shown("")]), "Access denied for user 'shown'").await;
    let ours = authority.issue_for("client", "/CN=shown", "DNS:shown", 2);
    watch([shown(&format!("&ssl-cert={}&ssl-key={}", ours.certificate, ours.key))]).says(READY).await;

    server.kill();
    let expired = authority.issue("expired", -1);
    std::fs::copy(&issued.certificate, format!("{}.good", issued.certificate)).unwrap();
    std::fs::copy(&expired.certificate, &issued.certificate).unwrap();
    let good = std::fs::read(&issued.key).unwrap();
    std::fs::copy(&expired.key, &issued.key).unwrap();
    server.resume();
    fails(&full, "TLS: invalid peer certificate: expired at 20…").await;
    server.kill();
    std::fs::copy(format!("{}.good", issued.certificate), &issued.certificate).unwrap();
    std::fs::write(&issued.key, good).unwrap();
    server.resume();
    full.says(READY).await;
    let plain = Mariadb::start(&["--skip-ssl"]);
    fails(&watch([of(db(format!("{}?ssl-mode=REQUIRED", plain.url())))]), "TLS: server does not support TLS").await;
    watch([of(db(format!("mysql://root@/?socket={}", plain.socket().display())))]).says(READY).await;
}

#[tokio::test]
async fn what_is_no_mysql_is_said_to_be_none() {
    let postgres = Postgres::start();
    let watched = watch([impatient(of(db(format!("mysql://u@{}", postgres.address()))))]);
    // It waits for us to speak first.
    fails(&watched, "timeout after 300ms").await;
    let greeting = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = greeting.local_addr().unwrap();
    let watched = watch([of(db(format!("mysql://u@{address}")))]);
    std::thread::spawn(move || {
        for stream in greeting.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"SSH-2.0-OpenSSH_9.2\r\n");
        }
    });
    fails(&watched, "not a server of MySQL: its packets are not in order").await;
    fails(&watch([of(db("mysql://no-such-host.invalid"))]), "host name not found").await;
}
