//! What is in Redis may be anything, and may change at any moment.

use redis::AsyncCommands as _;
use serde_json::{Value, json};
use tidegate::flags::contract::schedules::{MOST, all};
use tidegate::flags::executor::{Turn, turn};

use super::shell::{SEARCH, Shell, connect, keys};
use crate::support::redis::Redis;

const HASH: &str = "tidegate:{orders}:schedule";
const DUE: &str = "tidegate:{orders}:schedule:due";

#[tokio::test]
async fn a_persons_edit_wins_and_the_schedule_says_whose_it_was() {
    let redis = Redis::start();
    let mut shell = Shell::to(&redis).await;
    let edits: [(&str, &[&str], &str); 4] = [
        ("disabled", &["disable", "search", "--actor", "bob@ci"], "bob@ci changed search, revision "),
        ("set back", &["off", "search", "--actor", "bob@ci"], "bob@ci changed search, revision "),
        ("removed", &["rm", "search"], "search is not there any more"),
        ("by hand", &[], "somebody changed search"),
    ];
    for (what, edit, expected) in edits {
        shell.ok(&["set", "search", SEARCH]).await;
        shell.ok(&["rollout", "set", "search", "10%..50%", "over", "40m", "--steps", "5"]).await;
        let all = shell.json(&["rollout", "ls"]).await;
        let id = all.as_array().unwrap().iter().find(|one| one["state"] == "running").unwrap()["id"].clone();
        let id = id.as_str().unwrap();
        match edit {
            [] => {
                // Past every script: nothing but the text tells.
                let _: () = shell.raw.hset("tidegate:{orders}:flags", "search", SEARCH).await.unwrap();
            }
            ["off", ..] => {
                // The same text again is an edit all the same.
                let there = shell.flag().await.to_string();
                shell.ok(&["on", "search", "--actor", "bob@ci"]).await;
                shell.ok(edit).await;
                assert_eq!(shell.flag().await.to_string(), there);
            }
            edit => drop(shell.ok(edit).await),
        }
        shell.passes(id, 10 * 60 * 1000).await;
        let before = shell.ok(&["ls", "--output", "json"]).await;
        let said = shell.ok(&["schedule", "run", "--once"]).await;
        assert!(said.starts_with(&format!("schedule {id}: paused: {expected}")), "{what}: {said}");
        assert_eq!(shell.ok(&["ls", "--output", "json"]).await, before, "{what}: nothing was written");
        let told = shell.json(&["rollout", "status", "search"]).await;
        assert_eq!(told["state"], "paused", "{what}");
        assert!(told["reason"].as_str().unwrap().starts_with(expected), "{what}: {told}");
        let said = shell.ok(&["rollout", "status", "search"]).await;
        assert!(said.contains(&format!("paused: {expected}")), "{said}");
        if what == "removed" {
            let (code, text) = shell.fails(&["rollout", "resume", "search"]).await;
            assert_eq!((code, text.contains("cannot go on: there is no flag")), (1, true), "{text}");
        } else {
            // Resumed, it goes on from what the person made of it.
            shell.ok(&["rollout", "resume", "search"]).await;
            assert_eq!(shell.flag().await["targeting"]["fractional"][0], json!(["on", 20]), "{what}");
            assert_eq!(shell.flag().await["state"] == "DISABLED", what == "disabled");
        }
        shell.ok(&["rollout", "cancel", "search"]).await;
    }
}

#[tokio::test]
async fn what_is_no_schedule_is_set_aside_and_holds_nobody_up() {
    let redis = Redis::start();
    let mut shell = Shell::to(&redis).await;
    shell.ok(&["at", "+1h", "on", "search"]).await;
    let id = shell.only().await["id"].as_str().unwrap().to_owned();
    let deep = "[".repeat(5000);
    let many = format!(r#"{{"key":"search","plan":{{"rollout":{{"steps":{}}}}}}}"#, u64::MAX);
    for (at, text) in ["", "null", "[]", "{", "{}", "\u{0}", &deep, &many, r#"{"key":7}"#].into_iter().enumerate() {
        let _: () = shell.raw.hset(HASH, format!("bad{at}"), text).await.unwrap();
        let _: () = shell.raw.zadd(DUE, format!("bad{at}"), at).await.unwrap();
    }
    let _: () = shell.raw.hset(HASH, "bad9", &b"{\"key\":\"\xff\"}"[..]).await.unwrap();
    let _: () = shell.raw.zadd(DUE, "bad9", 9).await.unwrap();
    let _: () = shell.raw.zadd(DUE, &b"\xff\xfe"[..], -7).await.unwrap();
    let _: () = shell.raw.zadd(DUE, "gone", -5).await.unwrap();
    let _: () = shell.raw.zadd(DUE, "later", "-inf").await.unwrap();
    shell.passes(&id, 2 * 3600 * 1000).await;
    let said = shell.ok(&["schedule", "run", "--once"]).await;
    assert_eq!(said.lines().filter(|line| line.contains("not a schedule, set aside")).count(), 10, "{said}");
    assert!(said.contains(&format!("schedule {id}: search step 1/1, revision 2")), "{said}");
    assert_eq!(shell.ok(&["schedule", "run", "--once"]).await, "nothing is due\n");
    let table = shell.ok(&["schedule", "ls"]).await;
    assert_eq!(table.matches("CORRUPT").count(), 10, "{table}");
    let (code, text) = shell.fails(&["schedule", "resume", "bad0"]).await;
    assert_eq!((code, text.contains("cancel removes it")), (1, true), "{text}");
    for at in 0..10 {
        shell.ok(&["schedule", "cancel", &format!("bad{at}")]).await;
    }
    assert_eq!(shell.only().await["state"], "done");
    let left: usize = shell.raw.zcard(DUE).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn schedules_are_bounded_and_make_room_of_those_that_are_over() {
    let redis = Redis::start();
    let mut shell = Shell::to(&redis).await;
    shell.ok(&["at", "+1h", "on", "search"]).await;
    let id = shell.only().await["id"].as_str().unwrap().to_owned();
    let text: String = shell.raw.hget(HASH, &id).await.unwrap();
    let entry: Value = serde_json::from_str(&text).unwrap();
    let mut many = redis::pipe();
    for at in 1..MOST {
        let mut one = entry.clone();
        // The oldest of those that are over is the one with the largest number.
        one["state"] = if at < 10 { json!("waiting") } else { json!("done") };
        one["changed_at"] = json!(10_000_000 - at);
        many.hset(HASH, format!("x{at}"), one.to_string()).ignore();
    }
    let _: () = many.query_async(&mut shell.raw).await.unwrap();
    shell.ok(&["at", "+2h", "off", "search"]).await;
    let count: usize = shell.raw.hlen(HASH).await.unwrap();
    let oldest: bool = shell.raw.hexists(HASH, format!("x{}", MOST - 1)).await.unwrap();
    assert_eq!((count, oldest), (MOST, false));
    assert_eq!(shell.json(&["schedule", "ls"]).await.as_array().unwrap().len(), MOST);

    let mut many = redis::pipe();
    for at in 1..MOST {
        many.hset(HASH, format!("x{at}"), entry.to_string()).ignore();
    }
    let _: () = many.query_async(&mut shell.raw).await.unwrap();
    let (code, text) = shell.fails(&["at", "+2h", "off", "search"]).await;
    assert_eq!((code, text.contains("none of them over; cancel some")), (1, true), "{text}");
    let mut many = redis::pipe();
    for at in 0..2 * MOST {
        many.hset(HASH, format!("y{at}"), "{}").ignore();
    }
    let _: () = many.query_async(&mut shell.raw).await.unwrap();
    assert!(all(&mut connect(&redis).await, &keys()).await.unwrap().is_err());
    let (code, text) = shell.fails(&["schedule", "ls"]).await;
    assert_eq!((code, text.contains("more than are looked at")), (1, true), "{text}");
}

#[tokio::test]
async fn a_step_that_can_never_be_done_fails_with_the_reason() {
    let redis = Redis::start();
    let mut shell = Shell::to(&redis).await;
    shell.ok(&["at", "+1h", "on", "search"]).await;
    let id = shell.only().await["id"].as_str().unwrap().to_owned();
    let _: () = shell.raw.hset("tidegate:{orders}:meta", "evaluators", r#"{"x":{"nonsense":[1]}}"#).await.unwrap();
    shell.passes(&id, 2 * 3600 * 1000).await;
    let said = shell.ok(&["schedule", "run", "--once"]).await;
    assert!(said.contains("failed: the scope's evaluators do not validate"), "{said}");
    let told = shell.only().await;
    assert_eq!((&told["state"], told["reason"].is_string()), (&json!("failed"), true));
}

#[tokio::test]
async fn a_scope_that_was_lost_is_not_made_anew_by_a_schedule() {
    let redis = Redis::start();
    let mut shell = Shell::to(&redis).await;
    shell.ok(&["at", "+1h", "set", "banner", SEARCH]).await;
    let id = shell.only().await["id"].as_str().unwrap().to_owned();
    shell.passes(&id, 2 * 3600 * 1000).await;
    let _: () = shell.raw.del("tidegate:{orders}:meta").await.unwrap();
    let said = shell.ok(&["schedule", "run", "--once"]).await;
    assert!(said.contains("paused: the scope is not in redis"), "{said}");
    let meta: bool = shell.raw.exists("tidegate:{orders}:meta").await.unwrap();
    assert!(!meta);
}

#[tokio::test]
async fn keys_of_another_type_are_told_and_nothing_is_half_done() {
    let redis = Redis::start();
    let mut shell = Shell::to(&redis).await;
    for key in ["schedule", "schedule:due", "schedule:bases", "log"] {
        let _: () = redis::cmd("FLUSHALL").query_async(&mut shell.raw).await.unwrap();
        shell.ok(&["set", "--create", "search", SEARCH]).await;
        shell.ok(&["rollout", "set", "search", "1%..50%", "over", "1h"]).await;
        let id = shell.only().await["id"].as_str().unwrap().to_owned();
        shell.passes(&id, 3600 * 1000).await;
        let _: () = shell.raw.set(format!("tidegate:{{orders}}:{key}"), "a text").await.unwrap();
        let before = shell.flag().await;
        let outcome = turn(&mut connect(&redis).await, &keys(), &id).await;
        assert!(outcome.is_err(), "{key}: {outcome:?}");
        assert_eq!(shell.flag().await, before, "{key}");
        if key != "log" {
            let (code, text) = shell.fails(&["at", "+1h", "on", "search"]).await;
            assert!(code == 1 && text.contains("WRONGTYPE"), "{key}: {code} {text}");
        }
    }
}

#[tokio::test]
async fn a_step_that_changes_nothing_writes_nothing() {
    let redis = Redis::start();
    let mut shell = Shell::to(&redis).await;
    shell.ok(&["at", "+1h", "off", "search"]).await;
    let id = shell.only().await["id"].as_str().unwrap().to_owned();
    shell.passes(&id, 3600 * 1000).await;
    let done = turn(&mut connect(&redis).await, &keys(), &id).await.unwrap();
    assert!(matches!(done, Turn::Done { rev: None, step: 1, .. }), "{done:?}");
    assert_eq!(shell.only().await["state"], "done");
    assert_eq!(shell.json(&["log"]).await.as_array().unwrap().len(), 1);
}
