//! What is planned, shown, stopped and executed from the command line.

use serde_json::json;

use super::shell::{SEARCH, Shell, history};
use crate::readme;
use crate::support::redis::Redis;
use crate::support::sidecar::TIDEGATE;

/// Whether something is said to be `whole` ahead, or a moment less on a slow machine.
fn is_in(said: &str, whole: &str, less: &str) -> bool {
    said.contains(&format!("(in {whole})")) || said.contains(&format!("(in {less}"))
}

#[tokio::test]
async fn a_rollout_begins_at_once_and_goes_on_step_by_step() {
    let redis = Redis::start();
    let mut shell = Shell::to(&redis).await;
    let line = ["rollout", "set", "search", "1%→50%", "over", "2h", "--actor", "ann@laptop", "--note", "launch"];
    let said = shell.ok(&line).await;
    assert!(said.starts_with("search: on 1% → 50% in 25 steps, running\nnow at 1%, step 1/25\nnext "), "{said}");
    assert!(is_in(&said, "5m", "4m ") && said.contains("), last ") && is_in(&said, "2h", "1h "), "{said}");
    assert!(said.contains(" by ann@laptop: launch\nexecuted by any sidecar "), "{said}");
    assert_eq!(shell.flag().await["targeting"], json!({"fractional": [["on", 1], ["off", 99]]}));
    assert_eq!(shell.ok(&["schedule", "run", "--once"]).await, "nothing is due\n");

    let told = shell.only().await;
    let id = told["id"].as_str().unwrap().to_owned();
    shell.passes(&id, 5 * 60 * 1000).await;
    let said = shell.ok(&["schedule", "run", "--once"]).await;
    assert_eq!(said, format!("schedule {id}: search step 2/25, revision 3\n"));
    assert_eq!(shell.flag().await["targeting"]["fractional"][0], json!(["on", 3041]));
    // What was missed is left out: it goes on where it would be.
    shell.passes(&id, 60 * 60 * 1000).await;
    let said = shell.ok(&["schedule", "run", "--once"]).await;
    assert_eq!(said, format!("schedule {id}: search step 14/25, 11 left out, revision 4\n"));
    shell.passes(&id, 10 * 60 * 60 * 1000).await;
    shell.ok(&["schedule", "run", "--once"]).await;
    assert_eq!(shell.flag().await["targeting"], json!({"fractional": [["on", 50], ["off", 50]]}));
    let told = shell.only().await;
    assert_eq!((&told["state"], &told["done"], &told["next"]), (&json!("done"), &json!(25), &json!(null)));
    assert_eq!(shell.ok(&["schedule", "run", "--once"]).await, "nothing is due\n");

    let actor = |step| format!("schedule {id} (ann@laptop) step {step}/25");
    assert_eq!(
        history(&redis).await[1..],
        [
            (2, actor(1), "on at 1%: launch".to_owned()),
            (3, actor(2), "on at 3.041%: launch".to_owned()),
            (4, actor(14), "on at 27.541%, steps 3 to 13 left out: launch".to_owned()),
            (5, actor(25), "on at 50%, steps 15 to 24 left out: launch".to_owned()),
        ]
    );
}

#[tokio::test]
async fn a_rollout_is_paused_resumed_and_cancelled_where_it_is() {
    let redis = Redis::start();
    let mut shell = Shell::to(&redis).await;
    let (code, text) = shell.fails(&["rollout", "status", "search"]).await;
    assert_eq!((code, text.contains("was not rolled out in scope orders")), (1, true), "{text}");
    shell.ok(&["rollout", "set", "search", "10%..20%", "--over", "10m", "--steps", "11"]).await;
    let id = shell.only().await["id"].as_str().unwrap().to_owned();
    let (code, text) = shell.fails(&["rollout", "set", "search", "60%"]).await;
    assert_eq!((code, text.contains(&format!("already, by schedule {id}"))), (1, true), "{text}");

    let said = shell.ok(&["rollout", "pause", "search"]).await;
    assert!(said.starts_with("search: on 10% → 20% in 11 steps, paused\nnow at 10%, step 1/11\nschedule "), "{said}");
    shell.passes(&id, 5 * 60 * 1000).await;
    assert_eq!(shell.ok(&["schedule", "run", "--once"]).await, "nothing is due\n");
    assert_eq!(shell.fails(&["rollout", "pause", "search"]).await.0, 1);
    let said = shell.ok(&["rollout", "resume", "search"]).await;
    assert!(is_in(&said, "1m", "5") && said.contains("), last ") && is_in(&said, "10m", "9m "), "{said}");
    shell.passes(&id, 61 * 1000).await;
    shell.ok(&["schedule", "run", "--once"]).await;
    assert_eq!(shell.only().await["share"], "11%");

    shell.ok(&["rollout", "cancel", "search"]).await;
    assert_eq!(shell.only().await["state"], "cancelled");
    let (code, text) = shell.fails(&["rollout", "resume", "search"]).await;
    assert_eq!((code, text.contains("is cancelled already")), (1, true), "{text}");
    assert_eq!(shell.flag().await["targeting"]["fractional"][0], json!(["on", 11]));
    // Another may begin, from where it is.
    let said = shell.ok(&["rollout", "set", "search", "100%", "--over", "1h"]).await;
    assert!(said.starts_with("search: on 11% → 100% in 25 steps, running\n"), "{said}");
    let table = shell.ok(&["rollout", "ls"]).await;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[1].contains("running") && lines[2].contains("cancelled"), "{table}");
    assert!(table.contains("nobody executes them at the moment"), "{table}");
}

#[tokio::test]
async fn changes_are_made_at_their_time_one_after_the_other() {
    let redis = Redis::start();
    let mut shell = Shell::to(&redis).await;
    let said = shell.ok(&["at", "+1h", "on", "search", "--actor", "ann@laptop"]).await;
    assert!(said.starts_with("search: on, waiting\nnext ") && is_in(&said, "1h", "59m"), "{said}");
    shell.ok(&["at", "+2h", "off", "search"]).await;
    shell.ok(&["at", "+3h", "disable", "search"]).await;
    shell.ok(&["at", "+3h1s", "enable", "search"]).await;
    let new = SEARCH.replace("off\"}", "on\"}");
    shell.ok(&["at", "+4h", "set", "search", &new]).await;
    shell.ok(&["at", "+4h", "set", "banner", SEARCH]).await;
    assert_eq!(shell.ok(&["rollout", "ls"]).await, "scope orders has no schedules\n");

    let all = shell.json(&["schedule", "ls"]).await;
    let ids: Vec<String> = all.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    for id in &ids {
        shell.passes(id, 3600 * 1000 + 1).await;
    }
    shell.ok(&["schedule", "run", "--once"]).await;
    assert_eq!(shell.flag().await["defaultVariant"], "on");
    // One schedule's write is no conflict for the next.
    for id in &ids[1..] {
        shell.passes(id, 3600 * 1000).await;
    }
    shell.ok(&["schedule", "run", "--once"]).await;
    assert_eq!(shell.flag().await["defaultVariant"], "off");
    for id in &ids[2..] {
        shell.passes(id, 3 * 3600 * 1000).await;
    }
    shell.ok(&["schedule", "run", "--once"]).await;
    assert_eq!(shell.flag().await.to_string(), serde_json::from_str::<serde_json::Value>(&new).unwrap().to_string());
    assert_eq!(shell.json(&["get", "banner"]).await["defaultVariant"], "off");
    let all = shell.json(&["schedule", "ls"]).await;
    assert!(all.as_array().unwrap().iter().all(|one| one["state"] == "done"), "{all}");
    let changes: Vec<String> = history(&redis).await.into_iter().map(|(_, _, note)| note).collect();
    assert_eq!(changes.len(), 6, "{changes:?}");

    shell.ok(&["at", "+0s", "on", "search"]).await;
    assert_eq!(shell.json(&["log", "search", "-n", "1"]).await[0]["after"]["defaultVariant"], "on", "due at once");
}

#[tokio::test]
async fn what_cannot_be_done_later_is_refused_now() {
    let redis = Redis::start();
    let shell = Shell::to(&redis).await;
    shell.ok(&["set", "size", r#"{"state":"ENABLED","variants":{"s":1,"m":2},"defaultVariant":"s"}"#]).await;
    let ruled = r#"{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"var":"x"},"on","off"]}}"#;
    shell.ok(&["set", "ruled", ruled]).await;
    let half = ruled.replace(r#"{"if":[{"var":"x"},"on","off"]}"#, r#"{"fractional":[["on",1],["off",1]]}"#);
    shell.ok(&["set", "half", &half]).await;
    for (line, code, part) in [
        (&["rollout", "set", "nope", "1%"][..], 1, "there is no flag \"nope\""),
        (&["rollout", "set", "search", "101%"], 64, "is not a share; write"),
        (&["rollout", "set", "search", "1%..2%"], 64, "add: over DURATION"),
        (&["rollout", "set", "search", "1%..2%", "under", "2h"], 64, "write: over DURATION"),
        (&["rollout", "set", "search", "1%..2%", "over", "2 parsecs"], 64, "is not a duration"),
        (&["rollout", "set", "search", "1%..2%", "over", "1s", "--steps", "1000"], 64, "less than 100ms apart"),
        (&["rollout", "set", "search", "0%"], 1, "has 0% already"),
        (&["rollout", "set", "search", "1%", "--variant", "nope"], 1, "there is no variant \"nope\", they are off, on"),
        (&["rollout", "set", "search", "1%", "--variant", "off"], 1, "\"off\" is the default variant"),
        (&["rollout", "set", "search", "1%", "--at", "18:30"], 64, "which time zone"),
        (&["rollout", "set", "search", "1%", "--if-rev", "7"], 1, "at revision 1, not 7"),
        (
            &["rollout", "set", "half", "10%..60%", "over", "1h"],
            1,
            "has 50%, and would lose some of it at the first step",
        ),
        (&["rollout", "set", "half", "60%..10%", "over", "1h"], 1, "has 50%, and would gain some at the first step"),
        (&["rollout", "set", "size", "1%"], 64, "say which of s, m is rolled out, with --variant"),
        (&["rollout", "set", "ruled", "1%"], 1, "no `fractional` of its own"),
        (&["at", "yesterday", "on", "search"], 64, "is not a time; write +2h"),
        (&["at", "+1h", "on", "size"], 1, "no variant of \"size\" is true, they are s, m"),
        (&["at", "+1h", "on", "nope"], 1, "there is no flag \"nope\""),
        (&["at", "+1h", "set", "search", "{}"], 64, "does not validate"),
        (&["at", "+1h", "set", "x", SEARCH, "--scope", "elsewhere"], 1, "there is no scope elsewhere"),
        (&["schedule", "show", "x"], 1, "there is no schedule \"x\""),
    ] {
        let (got, text) = shell.fails(line).await;
        assert!(got == code && text.contains(part), "{line:?}: {got} {text}");
    }
    assert_eq!(shell.json(&["schedule", "ls"]).await, json!([]));
}

#[tokio::test]
async fn a_share_may_be_set_at_once_and_without_steps() {
    let redis = Redis::start();
    let shell = Shell::to(&redis).await;
    let said = shell.ok(&["rollout", "set", "search", "12.5%"]).await;
    assert!(said.starts_with("search: on at 12.5%, done\nschedule "), "{said}");
    assert_eq!(shell.flag().await["targeting"], json!({"fractional": [["on", 125], ["off", 875]]}));
    shell.ok(&["rollout", "set", "search", "100%"]).await;
    let said = shell.ok(&["rollout", "set", "search", "100%..0%", "over", "300ms", "--steps", "3", "--wait"]).await;
    assert!(said.contains("done"), "{said}");
    assert_eq!(shell.flag().await["targeting"], json!({"fractional": [["off", 100]]}));
}

#[tokio::test]
async fn every_command_of_the_document_answers_as_it_says() {
    let redis = Redis::start();
    let steps = readme::steps(include_str!("../../../docs/ROLLOUTS.md"));
    assert!(steps.len() > 8, "the commands have been found");
    let script = readme::script(&steps).replace("redis://127.0.0.1:6379", redis.url().expose());
    let path = std::path::Path::new(TIDEGATE).parent().unwrap().display().to_string() + ":/usr/bin:/bin";
    let session = std::process::Command::new("bash").arg("-c").arg(script).env("PATH", path).output().unwrap();
    readme::check(&steps, &String::from_utf8(session.stdout).unwrap());
}
