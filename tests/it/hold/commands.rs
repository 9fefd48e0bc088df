//! `tidegate hold` and `release`.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{LONG, get, held, holds, phase, reaches, status};
use crate::support::app::App;
use crate::support::eventually;
use crate::support::raw::{self, Client};
use crate::support::sidecar::{Sidecar, TIDEGATE};

async fn closed(sidecar: &Sidecar, reason: &str, is: f64) {
    let label = format!("reason=\"{reason}\"");
    eventually(LONG, reason, async || sidecar.metric("tidegate_hold_closed", &label).await == is).await;
}

/// Runs `tidegate hold` with these arguments beside the test.
fn hold(sidecar: &Sidecar, arguments: &[&str]) -> Child {
    let mut command = Command::new(TIDEGATE);
    command.arg("--config").arg(sidecar.config()).arg("hold").args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ended(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_answers_once_nothing_is_under_way_and_ends_by_release() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    sidecar.ready().await;
    let mut slow = Client::connect(sidecar.proxy()).await.unwrap();
    slow.send(get("/slow?ms=1000")).await.unwrap();
    eventually(LONG, "in flight", async || sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 1.0).await;
    let (code, said, _) = sidecar.cli(&["hold", "--for", "10s"]);
    assert!(code == 0 && said.contains("nothing is under way"), "{code} {said}");
    let answered = tokio::time::timeout(Duration::from_millis(500), slow.answer()).await;
    assert_eq!(answered.expect("it was waited for").unwrap().status, 200);
    let mut waits = held(&sidecar, &get("/"), 1).await;
    let told = status(&sidecar).await;
    assert_eq!(told["hold"]["reasons"][0]["reason"], "manual", "{told}");
    assert!(told["hold"]["by"].as_str().unwrap().starts_with("uid"), "{told}");
    let (_, table, _) = sidecar.cli(&["status"]);
    assert!(table.contains("closed: manual for ") && table.contains("held by uid"), "{table}");
    // Whoever comes second is told.
    let (code, _, said) = sidecar.cli(&["hold", "--for", "1s"]);
    assert!(code == 75 && said.contains("held already by uid"), "{code} {said}");
    assert_eq!(sidecar.cli(&["release"]), (0, "released\n".to_owned(), String::new()));
    assert_eq!(waits.answer().await.unwrap().status, 200);
    assert_eq!(sidecar.cli(&["release"]).1, "not held\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_ends_at_its_limit_by_itself_and_one_that_is_too_long_is_refused() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    sidecar.ready().await;
    let (code, _, said) = sidecar.cli(&["hold", "--for", "11s"]);
    assert!(code == 64 && said.contains("11s is longer than hold.max_wait (10s)"), "{code} {said}");
    let (code, _, said) = sidecar.cli(&["hold", "--for", "11s", "--", "touch", "never"]);
    assert!(code == 64 && said.contains("hold.max_wait (10s)"), "{code} {said}");
    assert_eq!(sidecar.cli(&["hold", "--for", "soon"]).0, 64);
    assert_eq!(sidecar.cli(&["hold", "--for", "700ms"]).0, 0);
    let mut waits = held(&sidecar, &get("/"), 1).await;
    assert_eq!(waits.answer().await.unwrap().status, 200);
    closed(&sidecar, "manual", 0.0).await;
    // What is still under way at the limit is told, and nothing is held any more.
    let mut slow = Client::connect(sidecar.proxy()).await.unwrap();
    slow.send(get("/slow?ms=4000")).await.unwrap();
    eventually(LONG, "in flight", async || sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 1.0).await;
    let (code, _, said) = sidecar.cli(&["hold", "--for", "300ms", "--", "touch", "never"]);
    assert!(code == 75 && said.contains("1 request was still under way"), "{code} {said}");
    assert!(!std::path::Path::new("never").exists());
    assert_eq!(raw::get(sidecar.proxy(), "/").await.unwrap().status, 200);
    assert_eq!(slow.answer().await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_of_which_no_time_is_said_fits_and_a_frozen_sidecar_is_not_waited_for() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "hold: { max_wait: 2s }");
    sidecar.ready().await;
    assert_eq!(sidecar.cli(&["hold", "--", "true"]).0, 0);
    let (code, said, _) = sidecar.cli(&["hold"]);
    assert!(code == 0 && said.contains("nothing is under way"), "{code} {said}");
    assert_eq!(sidecar.cli(&["release"]).0, 0);
    sidecar.signal("STOP");
    for arguments in [&["hold", "--for", "100ms"][..], &["hold", "--for", "100ms", "--", "touch", "never"]] {
        let (code, _, said) = sidecar.cli(arguments);
        assert!(code == 69 && said.contains("no answer in time"), "{code} {said}");
    }
    sidecar.signal("CONT");
    assert!(!std::path::Path::new("never").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_while_nothing_is_under_way_and_its_exit_code_is_passed_on() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    sidecar.ready().await;
    let go = sidecar.directory().join("go");
    let script = format!("while [ ! -e '{}' ]; do sleep 0.05; done; exit 7", go.display());
    let child = hold(&sidecar, &["--for", "10s", "--", "sh", "-c", &script]);
    closed(&sidecar, "manual", 1.0).await;
    let mut waits = held(&sidecar, &get("/"), 1).await;
    std::fs::write(&go, "").unwrap();
    assert_eq!(waits.answer().await.unwrap().status, 200);
    assert_eq!(ended(child).0, Some(7));
    // A command that is not there, and one that a signal ends.
    let (code, _, said) = sidecar.cli(&["hold", "--", "/no/such/command"]);
    assert!(code == 127 && said.contains("/no/such/command"), "{code} {said}");
    assert_eq!(sidecar.cli(&["hold", "--", "sh", "-c", "kill -9 $$"]).0, 137);
    closed(&sidecar, "manual", 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_line_that_is_killed_lets_requests_through_at_once() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "hold: { max_wait: 120s }");
    sidecar.ready().await;
    let mut child = hold(&sidecar, &["--for", "100s", "--", "sleep", "1"]);
    closed(&sidecar, "manual", 1.0).await;
    let mut waits = held(&sidecar, &get("/"), 1).await;
    child.kill().unwrap();
    child.wait().unwrap();
    // The answer's limit is a third of the hold's.
    assert_eq!(waits.answer().await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_outlives_its_hold_is_waited_for_and_that_is_said() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    sidecar.ready().await;
    let child = hold(&sidecar, &["--for", "300ms", "--", "sleep", "1.5"]);
    closed(&sidecar, "manual", 1.0).await;
    closed(&sidecar, "manual", 0.0).await;
    assert_eq!(raw::get(sidecar.proxy(), "/").await.unwrap().status, 200);
    let (code, said) = ended(child);
    assert!(code == Some(0) && said.contains("the hold ended before the command"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_to_the_command_line_ends_the_command_and_the_hold() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    sidecar.ready().await;
    let child = hold(&sidecar, &["--for", "10s", "--", "sleep", "60"]);
    closed(&sidecar, "manual", 1.0).await;
    // The command runs once the hold has been answered.
    let pid = child.id();
    eventually(LONG, "the command runs", async || {
        Command::new("pgrep").args(["-P", &pid.to_string()]).stdout(Stdio::null()).status().unwrap().success()
    })
    .await;
    assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
    assert_eq!(ended(child).0, Some(128 + 15));
    closed(&sidecar, "manual", 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_a_hold_and_nothing_is_held_anew_in_a_drain() {
    let app = App::start().await;
    let mut sidecar = Sidecar::start(app.address, "drain: { delay: 0s, quiet: 100ms, deadline: 30s }");
    sidecar.ready().await;
    assert_eq!(sidecar.cli(&["hold", "--for", "2s"]).0, 0);
    let mut waits = held(&sidecar, &get("/"), 1).await;
    sidecar.signal("TERM");
    reaches(&sidecar, "shedding").await;
    assert_eq!(status(&sidecar).await["hold"]["held"], 1, "a hold lasts as long as was said");
    let (code, _, said) = sidecar.cli(&["hold"]);
    assert!(code == 75 && said.contains("the phase is shedding"), "{code} {said}");
    assert_eq!(waits.answer().await.unwrap().status, 200, "the drain has waited for it");
    assert!(sidecar.ended(LONG).await.success());
}

#[tokio::test]
async fn only_the_socket_holds() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    sidecar.ready().await;
    for path in ["/v1/hold", "/v1/release"] {
        assert_eq!(raw::post(sidecar.local, path, "").await.unwrap().status, 403, "{path}");
        assert_eq!(raw::get(sidecar.local, path).await.unwrap().status, 405, "{path}");
    }
    assert_eq!(phase(&sidecar).await, "serving");
    holds(&sidecar, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_a_command_though_nobody_is_held() {
    let app = App::start().await;
    let mut sidecar = Sidecar::start(app.address, "drain: { delay: 0s, quiet: 100ms, deadline: 30s }");
    sidecar.ready().await;
    let done = sidecar.directory().join("done");
    let script = format!("sleep 2; echo > '{}'", done.display());
    let command = hold(&sidecar, &["--for", "9s", "--", "sh", "-c", &script]);
    closed(&sidecar, "manual", 1.0).await;
    sidecar.signal("TERM");
    assert_eq!(sidecar.ended(LONG).await.code(), Some(0));
    assert!(done.exists(), "the app was not to be stopped before");
    assert_eq!(ended(command).0, Some(0));
}
