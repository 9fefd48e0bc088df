//! The board by what it answers, at moments that the tests choose.

use super::*;
use crate::readiness::brake::Crowd;
use crate::readiness::settings::{Check, Kind};

const STALE: Duration = Duration::from_secs(16);

fn board(names: &[&str]) -> (Board, Vec<Reporter>) {
    let checks = names
        .iter()
        .map(|name| Check { shared: true, ..Check::new(*name, Kind::Tcp { address: "127.0.0.1:1".to_owned() }) });
    let board = Board::new(&Settings { checks: checks.collect() });
    let reporters = board.reporters().collect();
    (board, reporters)
}

fn body(board: &Board, now: Instant) -> String {
    let (ready, body) = board.snapshot().answer(now);
    format!("{ready} {}", String::from_utf8_lossy(&body))
}

#[test]
fn nothing_is_ready_before_every_check_said_so() {
    let (board, reporters) = board(&["db", "redis"]);
    let now = Instant::now();
    let done = board.first_round_done();
    let pending = "db: no result yet; redis: no result yet";
    assert_eq!(
        body(&board, now),
        format!(r#"false {{"status":"not ready","error":"{pending}","checks":{{"db":"pending","redis":"pending"}}}}"#)
    );
    let turned = reporters[0].report(Ok(()), now);
    assert_eq!(turned, Some(Transition { from: State::Pending, to: State::Ok }));
    assert!(!board.snapshot().answer(now).0 && !*done.borrow());
    reporters[1].report(Err("connection refused"), now);
    assert!(!board.snapshot().answer(now).0 && *done.borrow(), "a first failure completes the round, too");
    reporters[1].report(Ok(()), now);
    assert_eq!(reporters[1].report(Ok(()), now), None);
    assert_eq!(body(&board, now), r#"true {"status":"ready","checks":{"db":"ok","redis":"ok"}}"#);
}

#[test]
fn a_board_without_checks_is_ready_at_once() {
    let (board, _) = board(&[]);
    assert!(board.snapshot().answer(Instant::now()).0 && *board.first_round_done().borrow());
}

#[test]
fn a_result_that_nobody_renews_is_not_ready_when_read() {
    let (board, reporters) = board(&["db", "redis"]);
    let start = Instant::now();
    reporters[0].report(Ok(()), start);
    reporters[1].report(Ok(()), start);
    assert!(board.snapshot().answer(start + STALE).0);
    let later = start + STALE + Duration::from_secs(1);
    let stale = r#"false {"status":"not ready","error":"db: stale, no result for 17s; redis: stale, no result for 17s","checks":{"db":"stale","redis":"stale"}}"#;
    assert_eq!(body(&board, later), stale);
    drop(reporters.into_iter().next());
    assert_eq!(body(&board, later), stale, "a dropped writer changes nothing");
}

#[test]
fn a_brake_that_nobody_renews_lets_go_when_read() {
    let (board, reporters) = board(&["db", "redis"]);
    let (start, good) = (Instant::now(), Duration::from_secs(10));
    let holds = |check: &str| {
        (check == "db").then(|| Brake::Holds { says: "db failing on 2 of 2 instances".into(), until: start + good })
    };
    board.brake(holds);
    let failed = r#""checks":{"db":"failed","redis":"ok"}}"#;
    for reporter in &reporters {
        reporter.report(Ok(()), start);
    }
    for _ in 0..3 {
        assert_eq!(body(&board, start), r#"true {"status":"ready","checks":{"db":"ok","redis":"ok"}}"#);
        reporters[0].report(Err("down"), start);
    }
    let braked = r#"true {"status":"ready","degraded":"db: down","brake":"db failing on 2 of 2 instances","#;
    assert_eq!(body(&board, start + good), format!("{braked}{failed}"));
    let late =
        r#"false {"status":"not ready","error":"db: down","brake":"off, how many fail db was last told too long ago","#;
    assert_eq!(body(&board, start + good + Duration::from_millis(1)), format!("{late}{failed}"));
    board.brake(|_| Some(Brake::Off { says: "off, db failing on 1 of 8 instances".into(), crowd: Crowd::Few }));
    let off = r#"false {"status":"not ready","error":"db: down","brake":"off, db failing on 1 of 8 instances","#;
    assert_eq!(body(&board, start), format!("{off}{failed}"));
    // One whose results are too old is not braked: nobody knows whether it fails.
    board.brake(holds);
    let line = board.snapshot().line("db", start + STALE + Duration::from_secs(1)).expect("there is one");
    assert_eq!((line.class, line.brake), (Class::Critical, None));
}

/// What `/readyz` says at moments in seconds after the first failure of a check with `fall: 1`, before which it passed.
fn asked(brake: Option<Brake>, moments: &[f64]) -> Vec<String> {
    let tcp = Kind::Tcp { address: "127.0.0.1:1".to_owned() };
    let db = Check { shared: true, fall: 1, ..Check::new("db", tcp) };
    assert_eq!((db.interval.as_secs_f64(), db.timeout.as_secs_f64()), (5.0, 1.0));
    let board = Board::new(&Settings { checks: vec![db] });
    board.ask(Patience { word: Duration::from_secs(1), report: Duration::from_millis(1500) });
    let (reporter, start) = (board.reporters().next().expect("one check"), Instant::now());
    reporter.report(Ok(()), start);
    reporter.report(Err("down"), start);
    board.brake(|_| brake.clone());
    let at = |seconds: &f64| {
        let (ready, body) = board.snapshot().answer(start + Duration::from_secs_f64(*seconds));
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        format!("{ready} {}", body["brake"].as_str().unwrap_or("-"))
    };
    moments.iter().map(at).collect()
}

#[test]
fn a_failing_check_waits_for_a_word_of_the_fleet_and_for_the_others_no_longer_than_so() {
    assert_eq!(
        asked(None, &[0.0, 1.0, 1.1]),
        [
            "true the fleet is asked how many fail db",
            "true the fleet is asked how many fail db",
            "false off, nobody told in time how many fail db"
        ]
    );
    let few = Brake::Few { asks: "1 of 8 so far".into(), says: "off, 1 of 8".into() };
    // The others' attempts begin within 1.1 × 5 s, take 1 s at most, and are told of within 1.5 s.
    assert_eq!(asked(Some(few), &[0.0, 8.0, 8.1]), ["true 1 of 8 so far", "true 1 of 8 so far", "false off, 1 of 8"]);
    assert_eq!(
        asked(Some(Brake::Off { says: "off".into(), crowd: Crowd::Few }), &[0.0]),
        ["false off"],
        "nobody is waited for in vain"
    );
}

#[test]
fn one_that_comes_and_goes_is_not_waited_for_anew_each_time() {
    let tcp = Kind::Tcp { address: "127.0.0.1:1".to_owned() };
    let board = Board::new(&Settings { checks: vec![Check { shared: true, fall: 1, ..Check::new("db", tcp) }] });
    board.ask(Patience { word: Duration::from_secs(1), report: Duration::from_millis(1500) });
    let few = Brake::Few { asks: "so far".into(), says: "off".into() };
    board.brake(|_| Some(few.clone()));
    let (reporter, start) = (board.reporters().next().expect("one check"), Instant::now());
    let ready = |second: u64, result: Result<(), &str>| {
        let now = start + Duration::from_secs(second);
        reporter.report(result, now);
        board.snapshot().answer(now).0
    };
    let said: Vec<bool> = (0..6).flat_map(|n| [ready(n * 4, Ok(())), ready(n * 4 + 2, Err("down"))]).collect();
    assert_eq!(said, [true, true, true, true, true, true, true, false, true, false, true, false]);
    // After a time without a failure it is.
    assert!(ready(40, Ok(())) && ready(42, Err("down")));
}

/// In which interval after the end of an outage each of forty instances is ready again.
fn intervals_of_return(brake: &Brake) -> Vec<u32> {
    let moment = || {
        let (board, reporters) = board(&["db"]);
        let start = Instant::now();
        reporters[0].report(Ok(()), start);
        for _ in 0..3 {
            reporters[0].report(Err("down"), start);
        }
        board.brake(|_| Some(brake.clone()));
        // All of them find it at once, at the worst.
        reporters[0].report(Ok(()), start);
        board.brake(|_| None);
        let ready = |interval: &u32| board.snapshot().answer(start + Duration::from_secs(5) * *interval).0;
        (0..10).find(ready).expect("it comes back")
    };
    (0..40).map(|_| moment()).collect()
}

#[test]
fn one_that_never_passed_says_so_whatever_is_said_of_the_others() {
    let few = Brake::Few { asks: "so far".into(), says: "off, 1 of 8".into() };
    for brake in [few, Brake::Off { says: "off, 8 of 8 only just now".into(), crowd: Crowd::Many }] {
        let (board, reporters) = board(&["db"]);
        board.ask(Patience { word: Duration::from_secs(1), report: Duration::from_secs(1) });
        let now = Instant::now();
        reporters[0].report(Err("down"), now);
        assert!(body(&board, now).starts_with("false"), "nobody is asked about it");
        board.brake(|_| Some(brake.clone()));
        let line = board.snapshot().line("db", now).expect("there is one");
        assert_eq!(line.brake.as_deref(), Some("off, db has not passed since the start"));
    }
}

#[test]
fn those_that_left_together_do_not_come_back_together() {
    let off = |crowd| Brake::Off { says: "off".into(), crowd };
    let many = intervals_of_return(&off(Crowd::Many));
    assert!(many.contains(&1) && many.contains(&2) && many.iter().all(|interval| *interval <= 2), "{many:?}");
    assert_eq!(intervals_of_return(&off(Crowd::Few)), [0; 40], "one's own fault is over when it is");
    let until = Instant::now() + Duration::from_secs(600);
    assert_eq!(intervals_of_return(&Brake::Holds { says: "8 of 8".into(), until }), [0; 40], "they had not left");
}

#[test]
fn one_whose_results_were_too_old_is_back_with_the_next() {
    let (board, reporters) = board(&["db"]);
    let start = Instant::now();
    reporters[0].report(Ok(()), start);
    reporters[0].report(Err("down"), start);
    board.brake(|_| Some(Brake::Off { says: "off".into(), crowd: Crowd::Many }));
    reporters[0].report(Ok(()), start);
    let late = start + STALE * 2;
    assert!(!board.snapshot().answer(late).0);
    reporters[0].report(Ok(()), late);
    assert!(board.snapshot().answer(late).0, "it had not left in that outage");
}

#[test]
fn what_time_alone_changed_becomes_an_event() {
    let (board, reporters) = board(&["db"]);
    let start = Instant::now();
    reporters[0].report(Ok(()), start);
    let mut snapshots = board.subscribe();
    snapshots.borrow_and_update();
    board.look(start + STALE);
    assert!(!snapshots.has_changed().expect("the board lives"));
    board.look(start + STALE * 2);
    assert!(snapshots.has_changed().expect("the board lives"));
    assert_eq!(board.history().last().map(|turn| (turn.from, turn.to)), Some(("ready", "not ready")));
}

#[test]
fn only_shared_critical_checks_are_braked() {
    let own = Kind::Tcp { address: "127.0.0.1:1".to_owned() };
    let shared = |name, class| Check { shared: true, class, ..Check::new(name, own.clone()) };
    let checks = vec![Check::new("a", own.clone()), shared("b", Class::Critical), shared("c", Class::Degraded)];
    let board = Board::new(&Settings { checks });
    assert_eq!(board.shared(), [Arc::from("b")]);
    let now = Instant::now();
    for reporter in board.reporters() {
        reporter.report(Ok(()), now);
        reporter.report(Err("down"), now);
    }
    let snapshot = board.snapshot();
    let failing: Vec<_> = snapshot.failing(now).collect();
    assert_eq!(failing, [(&Arc::from("b"), Place::In)], "before it turns");
    assert_eq!(board.snapshot().failing(now + STALE * 2).count(), 0, "but not of results that are too old");
}

#[test]
fn one_stale_check_is_told_though_others_are_renewed() {
    let (board, reporters) = board(&["db", "redis"]);
    let start = Instant::now();
    reporters[0].report(Ok(()), start);
    let later = start + STALE + Duration::from_secs(1);
    reporters[1].report(Ok(()), later);
    for (at, age) in [(later, 17), (later + Duration::from_secs(5), 22)] {
        assert_eq!(
            body(&board, at),
            format!(
                r#"false {{"status":"not ready","error":"db: stale, no result for {age}s","checks":{{"db":"stale","redis":"ok"}}}}"#
            )
        );
    }
}

#[test]
fn a_condition_fails_until_it_holds_and_again_when_its_owner_is_gone() {
    let (board, _) = board(&[]);
    let now = Instant::now();
    let lifecycle = board.condition("lifecycle", Class::Critical, "not started");
    assert_eq!(body(&board, now), r#"false {"status":"not ready","error":"lifecycle: not started","checks":{}}"#);
    lifecycle.hold();
    assert_eq!(body(&board, now), r#"true {"status":"ready","checks":{}}"#);
    lifecycle.fail("shutting\n down");
    assert_eq!(board.snapshot().line("lifecycle", now).map(|l| l.standing.to_string()), Some("shutting down".into()));
    lifecycle.hold();
    drop(lifecycle);
    assert!(!board.snapshot().answer(now).0);
}
