//! Whether a drain fits into the time that a pod has to end.

use crate::support::app::App;
use crate::support::sidecar::{Sidecar, cli};

fn check(settings: &str) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tidegate.yaml");
    std::fs::write(&file, settings).unwrap();
    let (code, _, said) = cli(&["--config", file.to_str().unwrap(), "config", "check"]);
    (code, said)
}

#[test]
fn a_drain_that_does_not_fit_is_told_with_its_sum() {
    for (settings, expected) in [
        // 10 + 1 + 60 + 5 + 2.
        (
            "{drain: {grace: 60s}, limits: {request_timeout: 1m}}",
            "drain.grace: \"1m\": too short for delay 10s + quiet 1s + limits.request_timeout 1m + app_stop 5s + 2s = 1m18s; raise terminationGracePeriodSeconds, and grace with it, or shorten one of them\n",
        ),
        (
            "drain: {grace: 60s, deadline: 55s, app_stop: 4s}",
            "drain.grace: \"1m\": too short for deadline 55s + app_stop 4s + 2s = 1m1s; raise terminationGracePeriodSeconds, and grace with it, or shorten one of them\n",
        ),
        (
            "drain: {grace: 15s}",
            "drain.grace: \"15s\": leaves a deadline of 8s (15s less 5s for app_stop and 2s), not longer than delay and quiet together (11s); raise terminationGracePeriodSeconds and grace with it above 18s, or shorten drain.delay (line 1)\n",
        ),
        (
            "drain: {grace: 5s}",
            "drain.grace: \"5s\": leaves no time to drain: app_stop (5s) and 2s come after it, and delay and quiet together take 11s; raise terminationGracePeriodSeconds and grace with it above 18s, or shorten drain.delay and drain.app_stop (line 1)\n",
        ),
    ] {
        assert_eq!(check(settings), (64, expected.to_owned()), "{settings}");
    }
    for settings in [
        "{drain: {deadline: 1h}, limits: {request_timeout: 1h}}",
        "{drain: {grace: 79s}, limits: {request_timeout: 1m}}",
        "drain: {grace: 60s, deadline: 53s}",
    ] {
        assert_eq!(check(settings), (0, String::new()), "{settings}");
    }
}

#[tokio::test]
async fn a_deadline_is_what_the_pods_time_leaves_and_a_sidecar_that_does_not_fit_runs_and_says_so() {
    let app = App::start().await;
    let fitting = Sidecar::start(app.address, "drain: { grace: 60s, app_stop: 10s }");
    let (_, shown, _) = fitting.cli(&["config", "show"]);
    assert!(shown.contains("deadline: 48s"), "{shown}");
    let wrong = Sidecar::start(app.address, "drain: { grace: 30s, deadline: 45s }");
    assert_eq!(wrong.logs("a drain does not fit into the pod's time to end").await, 1);
    let told = wrong.log().iter().any(|line| {
        line["problem"].as_str().is_some_and(|text| text.contains("deadline 45s + app_stop 5s + 2s = 52s"))
    });
    assert!(told, "{:?}", wrong.log());
}
