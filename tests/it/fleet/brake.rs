//! The brake: a shared dependency that fails for most takes nobody out, one instance's own fault does.

mod crowd;
mod sidecars;
mod trust;

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tidegate::app::fleet::{obey, tell};
use tidegate::fleet::Pace;
use tidegate::fleet::brake::Position;
use tidegate::ops::readyz;
use tidegate::readiness::settings::{Check, Kind};
use tidegate::readiness::{self, Board, Patience};
use tidegate::secret::Secret;
use tidegate::telemetry::metrics::registry;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{PATIENCE, Running, keys, quick, settings};
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::redis::Redis;

/// A database, as far as this goes: something that accepts connections, or does not.
struct Database {
    port: Port,
    listener: Arc<Mutex<Option<TcpListener>>>,
}

impl Database {
    fn start() -> Self {
        let mut database = Self { port: Port::reserve(), listener: Arc::default() };
        database.resume();
        let listener = Arc::downgrade(&database.listener);
        // Whoever is not taken out of the backlog keeps others from coming, a hundred later.
        std::thread::spawn(move || {
            while let Some(listener) = listener.upgrade() {
                while listener.lock().unwrap().as_ref().is_some_and(|listener| listener.accept().is_ok()) {}
                drop(listener);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        database
    }

    fn stop(&mut self) {
        *self.listener.lock().unwrap() = None;
    }

    fn resume(&mut self) {
        let listener = TcpListener::bind(self.port.address()).unwrap();
        listener.set_nonblocking(true).unwrap();
        *self.listener.lock().unwrap() = Some(listener);
    }

    fn check(&self, interval: Duration) -> Check {
        Check {
            shared: true,
            interval,
            timeout: Duration::from_secs(5),
            max_staleness: Duration::from_secs(600),
            ..Check::new("db", Kind::Tcp { address: self.port.address().to_string() })
        }
    }
}

/// One instance: its checks, its verdict, its part in the fleet. No proxy.
struct Replica {
    board: Board,
    member: Running,
    _tasks: JoinSet<()>,
}

impl Replica {
    fn start(url: &Secret, name: &str, check: Check, pace: Pace) -> Self {
        Self::with(&settings(url, name), check, pace)
    }

    fn with(settings: &tidegate::fleet::Settings, check: Check, pace: Pace) -> Self {
        let checks = readiness::Settings { checks: vec![check] };
        let (board, probers) = readiness::set_up(&checks, &mut registry()).unwrap();
        // A word may take long on a busy machine.
        board.ask(Patience { word: PATIENCE, report: Duration::from_millis(500) });
        let member = Running::start(settings, pace);
        let mut tasks = JoinSet::new();
        for prober in probers {
            tasks.spawn(prober.run());
        }
        tasks.spawn(tell(board.clone(), member.failing.clone()));
        tasks.spawn(obey(board.clone(), member.handle.rulings()));
        Self { board, member, _tasks: tasks }
    }

    /// Status and body of `/readyz`.
    fn readyz(&self) -> (u16, Value) {
        let answer = readyz::answer("/readyz", None, &self.board, Instant::now());
        (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap())
    }

    /// Waits until `/readyz` has this status and this to say of the brake.
    async fn says(&self, status: u16, brake: Option<&str>) {
        let mut last = self.readyz();
        let reached = async || {
            last = self.readyz();
            last.0 == status && last.1["brake"].as_str() == brake
        };
        if tokio::time::timeout(PATIENCE, eventually(PATIENCE * 2, "unreachable", reached)).await.is_err() {
            panic!("/readyz says {last:?}, not {status} {brake:?}");
        }
    }
}

/// What is short is short, what is long is long: nothing expires by itself.
const INTERVAL: Duration = Duration::from_millis(50);

/// So many instances of one database, all ready, and known to be all of the fleet.
async fn fleet(redis: &Redis, database: &Database, count: usize) -> Vec<Replica> {
    let url = redis.url();
    let replica = |n: usize| Replica::start(&url, &format!("r{n}"), database.check(INTERVAL), quick());
    let replicas: Vec<Replica> = (0..count).map(replica).collect();
    complete(redis, &replicas).await;
    replicas
}

async fn complete(redis: &Redis, replicas: &[Replica]) {
    for replica in replicas {
        replica.member.registered().await;
        replica.says(200, None).await;
    }
    grown(redis).await;
}

/// Lets the time pass in which a fleet that has just begun is not trusted.
async fn grown(redis: &Redis) {
    let _: u64 = redis::cmd("DEL").arg(keys().young).query_async(&mut redis.client().await).await.unwrap();
}

#[tokio::test]
async fn what_fails_for_most_takes_nobody_out_and_is_said_in_the_body() {
    let (redis, mut database) = (Redis::start(), Database::start());
    let replicas = fleet(&redis, &database, 8).await;
    database.stop();
    for replica in &replicas {
        replica.says(200, Some("db failing on 8 of 8 instances")).await;
    }
    let (_, body) = replicas[0].readyz();
    assert_eq!(
        body.to_string(),
        r#"{"brake":"db failing on 8 of 8 instances","checks":{"db":"failed"},"degraded":"db: connection refused","status":"ready"}"#
    );
    let answer = |target: &str| {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let answer = readyz::answer(path, query, &replicas[0].board, Instant::now());
        (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).unwrap())
    };
    let lines =
        "[-]db failed: connection refused (degraded) (brake: db failing on 8 of 8 instances)\nreadyz check passed\n";
    assert_eq!(answer("/readyz?verbose"), (200, lines.to_owned()));
    let one = r#"{"status":"failed","error":"connection refused","class":"degraded","brake":"db failing on 8 of 8 instances"}"#;
    assert_eq!(answer("/readyz/db"), (503, one.to_owned()));
    assert_eq!(answer("/readyz?exclude=db"), (200, r#"{"status":"ready","checks":{"db":"excluded"}}"#.to_owned()));
    assert_eq!(replicas[0].member.metric("tidegate_brake_holds{check=\"db\"}"), 1.0);
    assert_eq!(replicas[0].member.metric("tidegate_brake_turns_total{check=\"db\"}"), 1.0);

    database.resume();
    for replica in &replicas {
        replica.says(200, None).await;
        assert!(replica.readyz().1["degraded"].is_null());
    }
    eventually(PATIENCE, "it holds no longer", async || {
        replicas[0].member.metric("tidegate_brake_holds{check=\"db\"}") == 0.0
    })
    .await;
}

#[tokio::test]
async fn one_instances_own_fault_takes_it_out() {
    let redis = Redis::start();
    let url = redis.url();
    // Each has a way of its own to the database.
    let mut ways: Vec<Database> = (0..4).map(|_| Database::start()).collect();
    let replica = |n: usize| Replica::start(&url, &format!("r{n}"), ways[n].check(INTERVAL), quick());
    let replicas: Vec<Replica> = (0..4).map(replica).collect();
    complete(&redis, &replicas).await;
    ways[0].stop();
    replicas[0].says(503, Some("off, db failing on 1 of 4 instances")).await;
    assert!(replicas[1..].iter().all(|replica| replica.readyz().0 == 200));
    // Half is not most.
    ways[1].stop();
    replicas[1].says(503, Some("off, db failing on 2 of 4 instances")).await;
    replicas[0].says(503, Some("off, db failing on 2 of 4 instances")).await;
    // When it fails for most, those that had left before come back.
    ways[2].stop();
    replicas[2].says(200, Some("db failing on 3 of 4 instances")).await;
    for replica in &replicas[..2] {
        replica.says(200, Some("db failing on 3 of 4 instances")).await;
    }
    // At half again it holds on: nothing swings at the threshold.
    ways[2].resume();
    for replica in &replicas[..2] {
        replica.says(200, Some("db failing on 2 of 4 instances")).await;
    }
    replicas[0].member.beats("ok", 10).await;
    replicas[0].says(200, Some("db failing on 2 of 4 instances")).await;
}

/// Whether `/readyz` ever turned, from the first time that it said ready on.
fn ever_left(replica: &Replica) -> bool {
    replica.board.history().iter().any(|turn| &*turn.name == "readyz" && turn.to == "not ready")
}

#[tokio::test]
async fn at_the_first_failed_attempt_nobody_leaves_before_the_others_could_be_heard() {
    let (redis, mut ways) = (Redis::start(), (0..4).map(|_| Database::start()).collect::<Vec<_>>());
    let url = redis.url();
    let replica = |n: usize| {
        let check = Check { fall: 1, ..ways[n].check(INTERVAL) };
        Replica::with(&settings(&url, &format!("r{n}")), check, quick())
    };
    let replicas: Vec<Replica> = (0..4).map(replica).collect();
    complete(&redis, &replicas).await;
    // One after the other, as attempts that begin an interval apart find it.
    for (n, way) in ways[..3].iter_mut().enumerate() {
        way.stop();
        let says = match n + 1 {
            3 => "db failing on 3 of 4 instances".to_owned(),
            few => format!("waiting for the others, db failing on {few} of 4 instances so far"),
        };
        replicas[n].says(200, Some(&says)).await;
    }
    for replica in &replicas[..3] {
        replica.says(200, Some("db failing on 3 of 4 instances")).await;
    }
    assert!(!replicas.iter().any(ever_left), "{:?}", replicas[0].board.history());
}

#[tokio::test]
async fn a_moment_without_the_database_does_not_bring_back_who_had_a_fault_of_its_own() {
    let redis = Redis::start();
    let url = redis.url();
    let mut ways: Vec<Database> = (0..4).map(|_| Database::start()).collect();
    let replica = |n: usize| {
        let mut settings = settings(&url, &format!("r{n}"));
        settings.brake.hold = Duration::from_secs(600);
        // However slow the machine, the others are asked for before they would leave.
        let fall = if n == 0 { 3 } else { 100 };
        Replica::with(&settings, Check { fall, ..ways[n].check(INTERVAL) }, quick())
    };
    let replicas: Vec<Replica> = (0..4).map(replica).collect();
    complete(&redis, &replicas).await;
    ways[0].stop();
    replicas[0].says(503, Some("off, db failing on 1 of 4 instances")).await;
    // What is asked of the fleet follows what probes are told within a moment.
    let member = &replicas[0].member;
    let has_left = async || member.failing.borrow().get("db") == Some(&Position::Out);
    eventually(PATIENCE, "the fleet is asked for one that has left", has_left).await;
    ways[1..].iter_mut().for_each(Database::stop);
    for replica in &replicas[1..] {
        replica.says(200, Some("db failing on 4 of 4 instances")).await;
    }
    replicas[0].says(503, Some("off, db failing on 4 of 4 instances only just now")).await;
    ways[1..].iter_mut().for_each(Database::resume);
    replicas[0].says(503, Some("off, db failing on 1 of 4 instances")).await;
}

#[tokio::test]
async fn those_that_left_together_come_back_one_by_one() {
    let (redis, mut database) = (Redis::start(), Database::start());
    let url = redis.url();
    let replica = |n: usize| {
        let mut settings = settings(&url, &format!("r{n}"));
        settings.brake.panic_threshold = None;
        Replica::with(&settings, database.check(INTERVAL), quick())
    };
    let replicas: Vec<Replica> = (0..4).map(replica).collect();
    complete(&redis, &replicas).await;
    database.stop();
    eventually(PATIENCE, "all have left, and know that all have", async || {
        let says = |replica: &Replica| replica.readyz().1["brake"].as_str().unwrap_or("").contains("4 of 4");
        replicas.iter().all(|replica| replica.readyz().0 == 503 && says(replica))
    })
    .await;
    database.resume();
    for replica in &replicas {
        replica.says(200, None).await;
        let turns = replica.board.history();
        assert!(turns.iter().any(|turn| &*turn.name == "db" && turn.to == "returning"), "{turns:?}");
    }
}

#[tokio::test]
async fn a_fault_of_ones_own_after_the_outage_of_all_takes_it_out_as_ever() {
    let redis = Redis::start();
    let url = redis.url();
    let mut ways: Vec<Database> = (0..4).map(|_| Database::start()).collect();
    let replica = |n: usize| {
        let mut settings = settings(&url, &format!("r{n}"));
        settings.brake.hold = Duration::from_secs(600);
        Replica::with(&settings, ways[n].check(INTERVAL), quick())
    };
    let replicas: Vec<Replica> = (0..4).map(replica).collect();
    complete(&redis, &replicas).await;
    ways.iter_mut().for_each(Database::stop);
    for replica in &replicas {
        replica.says(200, Some("db failing on 4 of 4 instances")).await;
    }
    ways.iter_mut().for_each(Database::resume);
    for replica in &replicas {
        replica.says(200, None).await;
    }
    for replica in &replicas {
        replica.member.beats("ok", 3).await;
    }
    ways[0].stop();
    replicas[0].says(503, Some("off, db failing on 1 of 4 instances")).await;
}

#[tokio::test]
async fn once_few_have_failed_for_a_while_they_are_taken_out() {
    let redis = Redis::start();
    let url = redis.url();
    let mut ways: Vec<Database> = (0..4).map(|_| Database::start()).collect();
    let replica = |n: usize| {
        let mut settings = settings(&url, &format!("r{n}"));
        settings.brake.hold = Duration::from_millis(300);
        Replica::with(&settings, ways[n].check(INTERVAL), quick())
    };
    let replicas: Vec<Replica> = (0..4).map(replica).collect();
    complete(&redis, &replicas).await;
    ways.iter_mut().for_each(Database::stop);
    for replica in &replicas {
        replica.says(200, Some("db failing on 4 of 4 instances")).await;
    }
    ways[1..].iter_mut().for_each(Database::resume);
    for replica in &replicas[1..] {
        replica.says(200, None).await;
    }
    replicas[0].says(503, Some("off, db failing on 1 of 4 instances")).await;
}
