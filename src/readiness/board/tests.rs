//! The board by what it answers, at moments that the tests choose.

use super::*;
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
    board.brake(|_| Some(Brake::Off { says: "off, db failing on 1 of 8 instances".into() }));
    let off = r#"false {"status":"not ready","error":"db: down","brake":"off, db failing on 1 of 8 instances","#;
    assert_eq!(body(&board, start), format!("{off}{failed}"));
    // One whose results are too old is not braked: nobody knows whether it fails.
    board.brake(holds);
    let line = board.snapshot().line("db", start + STALE + Duration::from_secs(1)).expect("there is one");
    assert_eq!((line.class, line.brake), (Class::Critical, None));
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
    assert_eq!(failing, [(&Arc::from("b"), State::Ok)], "before it turns");
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
