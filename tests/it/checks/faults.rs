//! Every kind that asks over the network, under every fault of the way and of the process: when it turns, what it says, what it
//! leaves behind.

use std::time::{Duration, Instant};

use serde_json::json;
use tidegate::net::tls::client::Trust;
use tidegate::readiness::settings::{
    App, AppAddress, Check, Grpc, Http, Kind, Mysql, Postgres as PostgresSettings, Redis as RedisSettings, Schema,
    Store,
};
use tidegate::secret::Secret;

use crate::readiness::{Logged, PATIENCE, Watched, check, watch};
use crate::support::chaos::{Chaos, Upstream};
use crate::support::deployment::Server;
use crate::support::eventually;
use crate::support::health::Health;
use crate::support::mariadb::{self, Mariadb};
use crate::support::postgres::{self, Postgres};

pub(super) const INTERVAL: Duration = Duration::from_millis(300);
pub(super) const TIMEOUT: Duration = Duration::from_millis(300);
pub(super) const FALL: u32 = 3;

/// A kind under test, behind a way that can be broken.
pub(super) struct Subject {
    pub(super) kind: &'static str,
    pub(super) chaos: Chaos,
    pub(super) watched: Watched,
}

impl Subject {
    pub(super) fn new(to: std::net::SocketAddr, kind: impl FnOnce(&Chaos) -> Kind) -> Self {
        let chaos = Chaos::to(Upstream::Tcp(to));
        let kind = kind(&chaos);
        let name = kind.as_str();
        let check = Check { interval: INTERVAL, timeout: TIMEOUT, fall: FALL, ..check(name, kind) };
        Self { kind: name, chaos, watched: watch([check]) }
    }

    pub(super) fn says(&self) -> (u16, String) {
        let (status, body) = self.watched.readyz();
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        (status, body["error"].as_str().unwrap_or_default().to_owned())
    }
}

/// How long each takes since `began` until `/readyz` has this status and says its part, and what it says then.
pub(super) async fn turns(
    subjects: &[(&Subject, &str)],
    status: u16,
    began: Instant,
    why: &str,
) -> Vec<(Duration, String)> {
    let mut turned = vec![None; subjects.len()];
    let all = eventually(PATIENCE, why, async || {
        for ((subject, part), turned) in subjects.iter().zip(&mut turned).filter(|(_, turned)| turned.is_none()) {
            let (now, error) = subject.says();
            if now == status && error.contains(part) {
                *turned = Some((began.elapsed(), error));
            }
        }
        turned.iter().all(Option::is_some)
    });
    if tokio::time::timeout(PATIENCE / 2, all).await.is_err() {
        let said: Vec<_> = subjects.iter().map(|(subject, part)| (part, subject.says())).collect();
        panic!("{why}: {status} expected of {said:?}");
    }
    turned.into_iter().flatten().collect()
}

/// All of them with the same part.
fn say<'s>(subjects: &[&'s Subject], part: &'s str) -> Vec<(&'s Subject, &'s str)> {
    subjects.iter().map(|subject| (*subject, part)).collect()
}

/// Strikes, waits until all say why, heals, waits until all pass, and prints a row of the table of docs/READINESS.md for each.
pub(super) async fn fault(
    name: &str,
    subjects: &[(&Subject, &str)],
    strike: impl Future<Output = ()>,
    heal: impl Future<Output = ()>,
) {
    let began = Instant::now();
    strike.await;
    let red = turns(subjects, 503, began, name).await;
    let began = Instant::now();
    heal.await;
    let passing: Vec<_> = subjects.iter().map(|(subject, _)| (*subject, "")).collect();
    let green = turns(&passing, 200, began, &format!("back after {name}")).await;
    for (((subject, _), (red, said)), (green, _)) in subjects.iter().zip(red).zip(green) {
        let reason = said.split_once(": ").map_or("", |(_, reason)| reason);
        eprintln!("| {name} | `{}` | {reason} | {} | {} |", subject.kind, red.as_millis(), green.as_millis());
    }
}

/// The head of the table. A server that is told to cancel is given the time of an attempt once more.
pub(super) fn head() {
    let bound = (INTERVAL.mul_f64(1.1) + TIMEOUT) * FALL + TIMEOUT;
    eprintln!("red within {} ms: fall x (interval + 10 % + timeout) + timeout", bound.as_millis());
    eprintln!("| fault | kind | reason | red, ms | green, ms |\n|---|---|---|---|---|");
}

#[tokio::test]
async fn every_kind_turns_red_with_a_reason_and_green_again_and_leaves_nothing_behind() {
    let logged = Logged::here();
    let (postgres, mariadb, redis) = (Postgres::start(), Mariadb::start(&[]), Server::start(&["--save", ""]));
    let mut health = Health::start(&json!({}));
    health.set("", "SERVING");
    let app = crate::support::app::App::start().await;
    let (client, _tasks) = postgres.client().await;
    client.batch_execute("CREATE TABLE orders (id int)").await.unwrap();
    mariadb.sql("CREATE TABLE test.orders (id int)");
    let secret = |url: String| Secret::new(url);
    let url = |chaos: &Chaos| postgres.url_at(chaos.address(), postgres::PASSWORD);
    let subjects = [
        Subject::new(postgres.address(), |chaos| Kind::Postgres(PostgresSettings::new(secret(url(chaos))))),
        Subject::new(postgres.address(), |chaos| {
            let tables = vec!["orders".to_owned()];
            Kind::Schema(Schema { tables, ..Schema::new(Store::Postgres(secret(url(chaos)))) })
        }),
        Subject::new(mariadb.address(), |chaos| {
            Kind::Mysql(Mysql::new(secret(mariadb.url_at(chaos.address(), mariadb::PASSWORD))))
        }),
        Subject {
            kind: "schema, MySQL",
            ..Subject::new(mariadb.address(), |chaos| {
                let store = Store::Mysql(secret(mariadb.url_at(chaos.address(), mariadb::PASSWORD)));
                Kind::Schema(Schema { tables: vec!["orders".to_owned()], ..Schema::new(store) })
            })
        },
        Subject::new(([127, 0, 0, 1], redis.port()).into(), |chaos| {
            Kind::Redis(RedisSettings::new(secret(format!("redis://{}", chaos.address()))))
        }),
        Subject::new(health.address(), |chaos| {
            let url = format!("http://{}", chaos.address());
            Kind::Grpc(Grpc { url, service: String::new(), trust: Trust::default() })
        }),
        Subject::new(app.address, |chaos| Kind::Http(Http::new(format!("http://{}/", chaos.address())))),
        Subject::new(app.address, |chaos| {
            let address = AppAddress::Tcp("127.0.0.1".to_owned(), chaos.address().port());
            Kind::App(App { address, path: Some("/".to_owned()), status: vec![(200, 399)] })
        }),
        Subject::new(app.address, |chaos| Kind::Tcp { address: chaos.address().to_string() }),
    ];
    let all: Vec<&Subject> = subjects.iter().collect();
    // The kernel accepts for a process that does not: a bare connection sees neither.
    let talking: Vec<&Subject> = subjects.iter().filter(|subject| subject.kind != "tcp").collect();
    // The servers of these run in this process.
    let frozen: Vec<&Subject> = talking.iter().copied().filter(|s| !matches!(s.kind, "http" | "app")).collect();
    turns(&say(&all, ""), 200, Instant::now(), "all pass at first").await;

    let freeze = |stop: bool| {
        if stop {
            postgres.freeze()
        } else {
            postgres.thaw()
        };
        if stop {
            mariadb.freeze()
        } else {
            mariadb.thaw()
        };
        if stop {
            redis.freeze()
        } else {
            redis.thaw()
        };
        health.signal(if stop { "STOP" } else { "CONT" });
    };
    let each = |act: fn(&Chaos)| all.iter().for_each(|subject| act(&subject.chaos));
    let timeout = "timeout after 300ms";
    type Act<'a> = Box<dyn Fn() + 'a>;
    let faults: [(&str, &[&Subject], &str, Act<'_>, Act<'_>); 4] = [
        ("refused", &all, "connection refused", Box::new(|| each(Chaos::refuse)), Box::new(|| each(Chaos::restore))),
        ("silent", &talking, timeout, Box::new(|| each(Chaos::stall)), Box::new(|| each(Chaos::restore))),
        ("reset", &talking, "connection", Box::new(|| each(Chaos::reset)), Box::new(|| each(Chaos::restore))),
        ("SIGSTOP", &frozen, timeout, Box::new(|| freeze(true)), Box::new(|| freeze(false))),
    ];
    head();
    for (name, subjects, reason, strike, heal) in faults {
        fault(name, &say(subjects, reason), async { strike() }, async { heal() }).await;
        turns(&say(&all, ""), 200, Instant::now(), &format!("all pass after {name}")).await;
    }

    for password in [postgres::PASSWORD, mariadb::PASSWORD] {
        assert!(!logged.text().contains(password), "a password is in the log");
    }
    for subject in &subjects {
        let why = format!("{} keeps one connection at most", subject.kind);
        eventually(PATIENCE, &why, async || subject.chaos.open() <= 1).await;
    }
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate'";
    eventually(PATIENCE, "postgres counts one session for each of two checks", async || {
        client.query_one(ours, &[]).await.unwrap().get::<_, i64>(0) == 2
    })
    .await;
    eventually(PATIENCE, "mariadb counts one for each of two", async || mariadb.sessions() == 2).await;
    let clients = async || {
        let list: String = redis.ask(&["CLIENT", "LIST"]).await.unwrap();
        // The one that asks is among them.
        list.lines().count() - 1
    };
    eventually(PATIENCE, "redis counts one", async || clients().await == 1).await;
    drop(subjects);
    eventually(PATIENCE, "stopped checks leave nothing", async || {
        client.query_one(ours, &[]).await.unwrap().get::<_, i64>(0) == 0
            && mariadb.sessions() == 0
            && clients().await == 0
    })
    .await;
}

#[tokio::test]
async fn a_name_without_an_address_is_said_to_be_that_by_every_kind() {
    const HOST: &str = "no-such-host.invalid";
    let secret = |scheme: &str| Secret::new(format!("{scheme}://u:s3cr3t@{HOST}/d"));
    let kinds = [
        Kind::Postgres(PostgresSettings::new(secret("postgres"))),
        Kind::Mysql(Mysql::new(secret("mysql"))),
        Kind::Redis(RedisSettings::new(Secret::new(format!("redis://{HOST}")))),
        Kind::Http(Http::new(format!("http://{HOST}/"))),
        Kind::Grpc(Grpc { url: format!("http://{HOST}:1"), service: String::new(), trust: Trust::default() }),
        Kind::App(App { address: AppAddress::Tcp(HOST.to_owned(), 1), path: None, status: vec![(200, 399)] }),
        Kind::Schema(Schema { tables: vec!["t".to_owned()], ..Schema::new(Store::Mysql(secret("mysql"))) }),
        Kind::Schema(Schema { tables: vec!["t".to_owned()], ..Schema::new(Store::Postgres(secret("postgres"))) }),
        Kind::Tcp { address: format!("{HOST}:1") },
    ];
    for kind in kinds {
        let name = kind.as_str();
        let watched = watch([check(name, kind)]);
        super::fails(&watched, name, "host name not found").await;
    }
}
