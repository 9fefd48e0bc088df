//! Steps are done once, at their time, whoever does them.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::AsyncCommands as _;
use serde_json::json;
use tidegate::flags::contract::report;
use tidegate::flags::contract::schedules::{Due, Stride, Strode, prepare, stride};
use tidegate::flags::executor::{Turn, turn};
use tidegate::flags::schedule::Schedule;
use tidegate::net::redis::Endpoint;
use tidegate::secret::Secret;

use super::shell::{Shell, connect, history, keys};
use crate::support::chaos::Chaos;
use crate::support::eventually;
use crate::support::flags::PATIENCE;
use crate::support::raw;
use crate::support::redis::Redis;
use crate::support::sidecar::{Sidecar, TIDEGATE};

fn settings(url: &str, more: &str) -> String {
    let proxy = "proxy: [{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }]";
    format!("{proxy}\nredis: {{ url: '{url}' }}\nflags: {{ scopes: [orders]{more} }}")
}

/// `tidegate flags …` as a process of its own, killed on drop.
struct Cli(Child);

impl Cli {
    fn start(url: &str, line: &[&str]) -> Self {
        let child = Command::new(TIDEGATE)
            .arg("flags")
            .args(line)
            .env_clear()
            .env("TIDEGATE_REDIS__URL", url)
            .env("TIDEGATE_FLAGS__SCOPES", "orders")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Holds that the log tells every step of the rollout once: done, or left out by the one after it.
async fn every_step_once(redis: &Redis, steps: u32) -> usize {
    let log = history(redis).await;
    let revisions: Vec<u64> = log.iter().map(|(rev, _, _)| *rev).collect();
    assert_eq!(revisions, (1..=revisions.len() as u64).collect::<Vec<_>>(), "every revision once: {log:?}");
    let mut last = 0;
    for (_, actor, note) in &log[1..] {
        let step: u32 = actor.rsplit(' ').next().unwrap().split('/').next().unwrap().parse().unwrap();
        let left_out = match step - last {
            1 => String::new(),
            2 => format!(", step {} left out", last + 1),
            _ => format!(", steps {} to {} left out", last + 1, step - 1),
        };
        assert!(step > last && note.ends_with(&format!("%{left_out}")), "step {step} after {last}: {log:?}");
        last = step;
    }
    assert_eq!(last, steps, "{log:?}");
    log.len() - 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_and_command_lines_racing_do_every_step_once_and_serve_it() {
    let redis = Redis::start();
    let shell = Shell::to(&redis).await;
    let url = redis.url().expose().to_owned();
    let sidecars = [Sidecar::start_with(&settings(&url, "")), Sidecar::start_with(&settings(&url, ""))];
    for sidecar in &sidecars {
        sidecar.ready().await;
    }
    shell.ok(&["rollout", "set", "search", "0.5%..100%", "over", "5s", "--steps", "50"]).await;
    // Those that never mind the lease race with the sidecar that holds it.
    let mut racing: Vec<Cli> = Vec::new();
    eventually(PATIENCE, "the rollout ends", async || {
        racing.retain_mut(|cli| cli.0.try_wait().unwrap().is_none());
        while racing.len() < 3 {
            racing.push(Cli::start(&url, &["schedule", "run", "--once"]));
        }
        shell.only().await["state"] == "done"
    })
    .await;
    let written = every_step_once(&redis, 50).await;
    let mut done = 0.0;
    for sidecar in &sidecars {
        done += sidecar.metric("tidegate_flags_schedule_steps_total", "").await;
        let on = async || {
            let answer =
                raw::post(sidecar.local, "/ofrep/v1/evaluate/flags/search", r#"{"context":{"targetingKey":"u"}}"#);
            answer.await.is_ok_and(|answer| answer.json()["value"] == json!(true))
        };
        eventually(PATIENCE, "everybody has it", on).await;
    }
    assert!(done <= written as f64, "{done} steps done by sidecars, {written} written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_takes_over_from_one_that_was_killed_and_nothing_is_lost_or_doubled() {
    let redis = Redis::start();
    let shell = Shell::to(&redis).await;
    let url = redis.url().expose().to_owned();
    let first = Sidecar::start_with(&settings(&url, ""));
    shell.ok(&["rollout", "set", "search", "1%..100%", "over", "8s", "--steps", "80"]).await;
    first.logs("executing the schedules of the scope").await;
    let status = raw::get(first.local, "/v1/status").await.unwrap().json();
    assert_eq!(status["schedules"], "executing");
    let holder: String = shell.raw.clone().get("tidegate:{orders}:schedule:lease").await.unwrap();
    assert!(holder.starts_with("test/"), "{holder}");
    let second = Sidecar::start_with(&settings(&url, ""));
    second.ready().await;
    eventually(PATIENCE, "some steps were done", async || shell.only().await["done"].as_u64() > Some(2)).await;
    let active = async |sidecar: &Sidecar| sidecar.metric("tidegate_flags_schedules", "running").await;
    assert_eq!((active(&first).await, active(&second).await), (1.0, 0.0), "counted once in a fleet");
    drop(first.kill());
    // Command lines killed wherever they are.
    for round in 0..20 {
        let cli = Cli::start(&url, &["schedule", "run", "--once"]);
        tokio::time::sleep(Duration::from_millis(round * 3)).await;
        drop(cli);
    }
    eventually(PATIENCE, "another went on to the end", async || shell.only().await["state"] == "done").await;
    every_step_once(&redis, 80).await;
    assert_eq!(shell.flag().await["targeting"], json!({"fractional": [["on", 100]]}));
    let free = async || {
        let holder: Option<String> = shell.raw.clone().get("tidegate:{orders}:schedule:lease").await.unwrap();
        holder.is_none()
    };
    eventually(PATIENCE, "nobody holds a lease of nothing", free).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_lost_on_the_way_double_no_step() {
    let redis = Redis::start();
    let shell = Shell::to(&redis).await;
    let chaos = Chaos::to(redis.upstream());
    let _sidecar = Sidecar::start_with(&settings(&format!("redis://{}", chaos.address()), ""));
    shell.ok(&["rollout", "set", "search", "1%..100%", "over", "4s", "--steps", "40"]).await;
    eventually(PATIENCE, "the rollout ends", async || {
        chaos.reset();
        chaos.restore();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(50..600))).await;
        shell.only().await["state"] == "done"
    })
    .await;
    every_step_once(&redis, 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_killed_in_the_middle_goes_on_where_its_disk_says() {
    let mut redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut shell = Shell::to(&redis).await;
    let _sidecar = Sidecar::start_with(&settings(redis.url().expose(), ""));
    shell.ok(&["rollout", "set", "search", "1%..100%", "over", "4s", "--steps", "40"]).await;
    for kills in 0..4 {
        let done = async || shell.only().await["done"].as_u64() > Some(kills * 4);
        eventually(PATIENCE, "it goes on", done).await;
        redis.kill();
        redis.resume();
        shell.raw = redis.client().await;
        let answers = async || shell.run(&["schedule", "ls"]).await.is_ok();
        eventually(PATIENCE, "it has read its disk", answers).await;
    }
    eventually(PATIENCE, "the rollout ends", async || shell.only().await["state"] == "done").await;
    every_step_once(&redis, 40).await;
}

#[tokio::test]
async fn a_step_is_done_by_the_clock_of_redis_and_once() {
    let redis = Redis::start();
    let mut shell = Shell::to(&redis).await;
    let mut connection = connect(&redis).await;
    shell.ok(&["rollout", "set", "search", "1%..50%", "over", "1h", "--steps", "3"]).await;
    let id = shell.only().await["id"].as_str().unwrap().to_owned();
    // Somebody whose clock is an hour ahead asks for the last step.
    let found = prepare(&mut connection, &keys(), &id, "").await.unwrap();
    let text = found.entry.clone().unwrap();
    let schedule = Schedule::parse(&text).unwrap();
    let request = Stride {
        id: id.clone(),
        expect: text.clone(),
        entry: schedule.after(3, found.now + 3_600_000).text(),
        due: Due::Never,
        at: schedule.due(3),
        key: "search".to_owned(),
        base: schedule.base.clone(),
        token: found.token.clone(),
        set: "{}".to_owned(),
        actor: "somebody".to_owned(),
        note: String::new(),
    };
    assert_eq!(stride(&mut connection, &keys(), &request).await.unwrap(), Strode::Early);
    assert_eq!(turn(&mut connection, &keys(), &id).await.unwrap(), Turn::Nothing);
    assert_eq!(history(&redis).await.len(), 2, "nothing was written");

    // The same step asked for again, its answer lost, is not done again.
    let due = Stride { at: found.now, set: found.definition.clone().unwrap(), ..request };
    assert!(matches!(stride(&mut connection, &keys(), &due).await.unwrap(), Strode::Done(3)));
    assert_eq!(stride(&mut connection, &keys(), &due).await.unwrap(), Strode::Moved);
    assert_eq!(history(&redis).await.len(), 3);
    // What is planned for later is not done when the sorted set says otherwise.
    shell.ok(&["at", "+1h", "off", "search"]).await;
    let all = shell.json(&["schedule", "ls"]).await;
    let waiting = all.as_array().unwrap().iter().find(|one| one["state"] == "waiting").unwrap();
    let id = waiting["id"].as_str().unwrap();
    let _: () = shell.raw.zadd("tidegate:{orders}:schedule:due", id, 1).await.unwrap();
    assert_eq!(shell.ok(&["schedule", "run", "--once"]).await, "nothing is due\n");
    let due: f64 = shell.raw.zscore("tidegate:{orders}:schedule:due", id).await.unwrap();
    assert!(due > found.now as f64, "planned anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_may_only_read_says_so_once_and_leaves_it_to_others() {
    let redis = Redis::start();
    let shell = Shell::to(&redis).await;
    let url = shipped(&redis, "sidecar").await;
    let sidecar = Sidecar::start_with(&settings(&url, ""));
    sidecar.ready().await;
    shell.ok(&["rollout", "set", "search", "1%..100%", "over", "2s", "--steps", "3"]).await;
    let status = async || raw::get(sidecar.local, "/v1/status").await.unwrap().json()["schedules"].clone();
    eventually(PATIENCE, "it knows that it may not", async || status().await == "read-only").await;
    shell.ok(&["rollout", "status", "search", "--wait"]).await;
    assert_eq!(shell.only().await["state"], "done");
    assert_eq!(sidecar.metric("tidegate_flags_schedule_steps_total", "").await, 0.0);
    let said = "this user of redis may not execute schedules; another sidecar or `tidegate flags schedule run` has to";
    assert_eq!(sidecar.logs(said).await, 1, "{:#?}", sidecar.log());
    let off = Sidecar::start_with(&settings(redis.url().expose(), ", schedules: off"));
    let status = raw::get(off.local, "/v1/status").await.unwrap().json();
    assert_eq!(status["schedules"], "off");
}

/// The URL of one of the users that deploy/redis-acl.conf ships, which is made.
async fn shipped(redis: &Redis, name: &str) -> String {
    let start = format!("user tidegate-{name} ");
    let users = include_str!("../../../deploy/redis-acl.conf");
    let line = users.lines().find(|line| line.starts_with(&start)).unwrap();
    let rules = line.split_whitespace().skip(2).filter(|rule| !rule.starts_with('>'));
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg(name).arg(">s3cret").arg(rules.collect::<Vec<_>>());
    let _: () = user.query_async(&mut redis.client().await).await.unwrap();
    format!("{}?user={name}&pass=s3cret", redis.url().expose())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_users_may_do_what_they_are_for() {
    let redis = Redis::start();
    let operator = shipped(&redis, "operator").await;
    let shell = Shell::with(&redis, &operator).await;
    let _sidecar = Sidecar::start_with(&settings(&shipped(&redis, "executor").await, ""));
    shell.ok(&["rollout", "set", "search", "1%..100%", "over", "300ms", "--steps", "3"]).await;
    eventually(PATIENCE, "a sidecar goes on with it", async || shell.only().await["state"] == "done").await;
    shell.ok(&["at", "+1h", "off", "search"]).await;
    let all = shell.json(&["schedule", "ls"]).await;
    let id = all[0]["id"].as_str().unwrap();
    for verb in ["show", "pause", "resume", "cancel"] {
        shell.ok(&["schedule", verb, id]).await;
    }
    shell.ok(&["schedule", "run", "--once"]).await;
    let url = Secret::new(shipped(&redis, "executor").await);
    let mut connection = Endpoint::new(&url).unwrap().connect(PATIENCE).await.unwrap();
    report(&mut connection, &keys(), &[("search".to_owned(), Duration::ZERO)], 0).await.unwrap();
    assert!(!shell.ok(&["ls"]).await.contains("no reports"));
    every_step_once(&redis, 3).await;
}
