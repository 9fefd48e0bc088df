//! What goes wrong within a server that runs: passwords, databases, tables, places and certificates, for every kind that has
//! them. Connections are ended with each, as kept ones would not notice.

use std::time::Instant;

use serde_json::json;
use tidegate::net::mysql::{Connection, Endpoint, Keep};
use tidegate::net::tls::client::Trust;
use tidegate::readiness::settings::{
    Grpc, Http, Kind, Mysql, Postgres as PostgresSettings, Redis as RedisSettings, Schema, Store,
};
use tidegate::secret::Secret;

use super::faults::{Subject, fault, head, turns};
use crate::readiness::PATIENCE;
use crate::support::authority::{Authority, Issued};
use crate::support::deployment::Server;
use crate::support::eventually;
use crate::support::health::Health;
use crate::support::mariadb::{self, Mariadb};
use crate::support::postgres::{self, Postgres};
use crate::support::terminator::Terminator;

const EXPIRED: &str = "TLS: invalid peer certificate: expired at 20";
const FULL: &str = "too many connections";

/// A certificate for whoever connects by address.
fn issue(authority: &Authority, name: &str, days: i32) -> Issued {
    authority.issue_for(name, "/CN=localhost", "IP:127.0.0.1", days)
}

async fn passes(subjects: &[&Subject]) {
    let all: Vec<_> = subjects.iter().map(|subject| (*subject, "")).collect();
    turns(&all, 200, Instant::now(), "all pass at first").await;
}

#[tokio::test]
async fn postgres_says_what_is_wrong_within_it() {
    let authority = Authority::new();
    let (good, expired) = (issue(&authority, "good", 2), issue(&authority, "expired", -1));
    let postgres = Postgres::start_secured(&authority, &good, "hostssl all app all scram-sha-256");
    let (control, _tasks) = postgres.client().await;
    let run = async |sql: &str| control.batch_execute(sql).await.unwrap();
    run("CREATE DATABASE orders").await;
    let inside = postgres.socket_url().replace("dbname=postgres", "dbname=orders");
    let within = async |sql: &str| {
        let (client, connection) = tokio_postgres::connect(&inside, tokio_postgres::NoTls).await.unwrap();
        tokio::select! {
            done = client.batch_execute(sql) => done.unwrap(),
            _ = connection => panic!("the connection ended"),
        }
    };
    within("CREATE TABLE orders (id int)").await;
    let cut = async || {
        run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidegate'").await;
    };
    let url = |address: std::net::SocketAddr| {
        let (password, ca) = (postgres::PASSWORD, authority.certificate());
        Secret::new(format!("postgres://app:{password}@{address}/orders?sslmode=verify-full&sslrootcert={ca}"))
    };
    let asked = Subject::new(postgres.address(), |chaos| {
        let query = "SELECT id FROM orders LIMIT 1".to_owned();
        Kind::Postgres(PostgresSettings { query, ..PostgresSettings::new(url(chaos.address())) })
    });
    let schema = Subject::new(postgres.address(), |chaos| {
        Kind::Schema(Schema { tables: vec!["orders".to_owned()], ..Schema::new(Store::Postgres(url(chaos.address()))) })
    });
    let all = [&asked, &schema];
    passes(&all).await;
    let both = |reason| [(&asked, reason), (&schema, reason)];
    head();

    let strike = async {
        run("ALTER ROLE app PASSWORD 'another'").await;
        cut().await;
    };
    let heal = async { run(&format!("ALTER ROLE app PASSWORD '{}'", postgres::PASSWORD)).await };
    fault("wrong password", &both("password authentication failed for user \"app\""), strike, heal).await;

    let strike = async {
        run("ALTER DATABASE orders ALLOW_CONNECTIONS false").await;
        eventually(PATIENCE, "nobody is in it", async || {
            cut().await;
            control.batch_execute("ALTER DATABASE orders RENAME TO elsewhere").await.is_ok()
        })
        .await;
    };
    let heal = async {
        run("ALTER DATABASE elsewhere RENAME TO orders").await;
        run("ALTER DATABASE orders ALLOW_CONNECTIONS true").await;
    };
    fault("missing database", &both("database \"orders\" does not exist"), strike, heal).await;

    let gone = [(&asked, "relation \"orders\" does not exist"), (&schema, "table orders is missing")];
    let strike = within("DROP TABLE orders");
    fault("dropped table", &gone, strike, within("CREATE TABLE orders (id int)")).await;

    let taken = std::cell::RefCell::new(Vec::new());
    let strike = async {
        eventually(PATIENCE, "every place is taken by others", async || {
            cut().await;
            while let Ok(more) = tokio_postgres::connect(&postgres.socket_url(), tokio_postgres::NoTls).await {
                taken.borrow_mut().push(more);
            }
            let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate'";
            control.query_one(ours, &[]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await;
    };
    fault("server full", &both(FULL), strike, async { taken.borrow_mut().clear() }).await;

    let show = async |issued: &Issued| {
        let loaded = async || control.query_one("SELECT pg_conf_load_time()::text", &[]).await.unwrap().get(0);
        let before: String = loaded().await;
        postgres.show(issued);
        run("SELECT pg_reload_conf()").await;
        eventually(PATIENCE, "it is read", async || loaded().await != before).await;
        cut().await;
    };
    fault("expired certificate", &both(EXPIRED), show(&expired), show(&good)).await;
    for subject in all {
        eventually(PATIENCE, "one connection is left", async || subject.chaos.open() <= 1).await;
    }
}

#[tokio::test]
async fn mariadb_says_what_is_wrong_within_it() {
    let authority = Authority::new();
    let (good, expired) = (issue(&authority, "good", 2), issue(&authority, "expired", -1));
    let shown = issue(&authority, "shown", 2);
    let mariadb = Mariadb::start(&[
        &format!("--ssl-cert={}", shown.certificate),
        &format!("--ssl-key={}", shown.key),
        &format!("--ssl-ca={}", authority.certificate()),
        "--max-connections=10",
    ]);
    let root = Endpoint::new(&Secret::new(format!("mysql://root@/?socket={}", mariadb.socket().display()))).unwrap();
    let control = tokio::sync::Mutex::new(root.connect(PATIENCE).await.unwrap());
    let run = async |statements: &str| {
        let mut control = control.lock().await;
        for sql in statements.split("; ") {
            control.query(sql, Keep::Rows).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
    };
    run("CREATE DATABASE orders; CREATE TABLE orders.orders (id int)").await;
    let url = |address: std::net::SocketAddr| {
        let (password, ca) = (mariadb::PASSWORD, authority.certificate());
        Secret::new(format!("mysql://app:{password}@{address}/orders?ssl-mode=VERIFY_IDENTITY&ssl-ca={ca}"))
    };
    let asked = Subject::new(mariadb.address(), |chaos| {
        let query = "SELECT id FROM orders LIMIT 1".to_owned();
        Kind::Mysql(Mysql { query, ..Mysql::new(url(chaos.address())) })
    });
    let schema = Subject::new(mariadb.address(), |chaos| {
        Kind::Schema(Schema { tables: vec!["orders".to_owned()], ..Schema::new(Store::Mysql(url(chaos.address()))) })
    });
    let all = [&asked, &schema];
    passes(&all).await;
    let both = |reason| [(&asked, reason), (&schema, reason)];
    head();

    let strike = run("ALTER USER app@'%' IDENTIFIED BY 'another'; KILL CONNECTION USER app");
    let heal = format!("ALTER USER app@'%' IDENTIFIED BY '{}'", mariadb::PASSWORD);
    fault("wrong password", &both("Access denied for user 'app'"), strike, run(&heal)).await;
    let strike = run("DROP DATABASE orders; KILL CONNECTION USER app");
    let heal = run("CREATE DATABASE orders; CREATE TABLE orders.orders (id int)");
    fault("missing database", &both("Unknown database 'orders'"), strike, heal).await;
    let gone = [(&asked, "Table 'orders.orders' doesn't exist"), (&schema, "table orders is missing")];
    let heal = run("CREATE TABLE orders.orders (id int)");
    fault("dropped table", &gone, run("DROP TABLE orders.orders"), heal).await;

    let taken = std::cell::RefCell::new(Vec::<Connection>::new());
    let strike = async {
        eventually(PATIENCE, "every place is taken by others", async || {
            run("KILL CONNECTION USER app").await;
            while let Ok(more) = root.connect(PATIENCE).await {
                taken.borrow_mut().push(more);
            }
            // Ten, and one more for a superuser: with the one that gives orders.
            taken.borrow().len() >= 10
        })
        .await;
    };
    fault("server full", &both(FULL), strike, async { taken.borrow_mut().clear() }).await;

    let show = async |issued: &Issued| {
        std::fs::copy(&issued.certificate, &shown.certificate).unwrap();
        std::fs::copy(&issued.key, &shown.key).unwrap();
        run("FLUSH SSL; KILL CONNECTION USER app").await;
    };
    fault("expired certificate", &both(EXPIRED), show(&expired), show(&good)).await;
    for subject in all {
        eventually(PATIENCE, "one connection is left", async || subject.chaos.open() <= 1).await;
    }
}

#[tokio::test]
async fn redis_and_services_say_what_is_wrong_within_them() {
    const PASSWORD: &str = "s3cr3t-of-redis";
    let authority = Authority::new();
    let (good, expired) = (issue(&authority, "good", 2), issue(&authority, "expired", -1));
    let ca = authority.certificate();
    let plain = Server::start(&["--save", ""]);
    let files = ["--tls-cert-file", &good.certificate, "--tls-key-file", &good.key, "--tls-ca-cert-file", &ca];
    let secured = Server::start_tls(&[&["--save", ""][..], &files, &["--tls-auth-clients", "no"]].concat());
    let control = tokio::sync::Mutex::new(plain.client().await);
    let over_tls = tokio::sync::Mutex::new(secured.socket_client().await);
    let command = async |to: &tokio::sync::Mutex<redis::aio::MultiplexedConnection>, text: &str| {
        let words: Vec<&str> = text.split(' ').collect();
        let mut to = to.lock().await;
        redis::cmd(words[0]).arg(&words[1..]).query_async::<redis::Value>(&mut *to).await.unwrap();
    };
    let run = async |text: &str| command(&control, text).await;
    run(&format!("ACL SETUSER app on >{PASSWORD} ~* &* +@all")).await;

    let app = crate::support::app::App::start().await;
    let mut health = Health::start(&json!({}));
    health.set("", "SERVING");
    let web = Terminator::start(app.address, &good, "http/1.1").await;
    let calls = Terminator::start(health.address(), &good, "h2").await;
    let trust = || Trust { ca_file: Some(ca.clone().into()), ..Trust::default() };
    let known = Subject::new(([127, 0, 0, 1], plain.port()).into(), |chaos| {
        Kind::Redis(RedisSettings::new(Secret::new(format!("redis://app:{PASSWORD}@{}", chaos.address()))))
    });
    let anybody = Subject::new(([127, 0, 0, 1], plain.port()).into(), |chaos| {
        Kind::Redis(RedisSettings::new(Secret::new(format!("redis://{}", chaos.address()))))
    });
    let encrypted = Subject::new(([127, 0, 0, 1], secured.port()).into(), |chaos| {
        Kind::Redis(RedisSettings::new(Secret::new(format!("rediss://{}?ca_file={ca}", chaos.address()))))
    });
    let http = Subject::new(web.address, |chaos| {
        Kind::Http(Http { trust: trust(), ..Http::new(format!("https://{}/", chaos.address())) })
    });
    let grpc = Subject::new(calls.address, |chaos| {
        let url = format!("https://{}", chaos.address());
        Kind::Grpc(Grpc { url, service: String::new(), trust: trust() })
    });
    let all = [&known, &anybody, &encrypted, &http, &grpc];
    passes(&all).await;
    head();

    let strike = async {
        run("ACL SETUSER app resetpass >another").await;
        run("CLIENT KILL USER app").await;
    };
    let heal = format!("ACL SETUSER app resetpass >{PASSWORD}");
    fault("wrong password", &[(&known, "authentication failed")], strike, run(&heal)).await;
    let strike = async {
        run("CONFIG SET maxclients 1").await;
        run("CLIENT KILL TYPE normal SKIPME yes").await;
    };
    fault("server full", &[(&anybody, FULL), (&known, FULL)], strike, run("CONFIG SET maxclients 100")).await;
    let show = async |issued: &Issued| {
        let (certificate, key) = (&issued.certificate, &issued.key);
        command(&over_tls, &format!("CONFIG SET tls-cert-file {certificate} tls-key-file {key}")).await;
        command(&over_tls, "CLIENT KILL TYPE normal SKIPME yes").await;
    };
    fault("expired certificate", &[(&encrypted, EXPIRED)], show(&expired), show(&good)).await;
    for (subject, front) in [(&http, &web), (&grpc, &calls)] {
        let (strike, heal) = (async { front.show(&expired) }, async { front.show(&good) });
        fault("expired certificate", &[(subject, EXPIRED)], strike, heal).await;
    }
    for subject in all {
        eventually(PATIENCE, "one connection is left", async || subject.chaos.open() <= 1).await;
    }
}
