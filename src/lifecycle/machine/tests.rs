//! Tables of events and the phases that they lead to.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const BUSY: Traffic = Traffic { in_flight: 1, dispatched: 1, connections: 1, last_arrival: None };
const EMPTY: Traffic = Traffic { in_flight: 0, dispatched: 0, connections: 0, last_arrival: None };

/// Plays events at the given seconds and returns the names of the phases after each.
fn play(events: &[(u64, Event)]) -> Vec<&'static str> {
    let start = Instant::now();
    let settings = Settings::default();
    let mut phase = Phase::Starting;
    let mut names = Vec::new();
    for (at, event) in events {
        phase = step(phase, *event, start + Duration::from_secs(*at), &settings);
        names.push(phase.as_str());
    }
    names
}

#[test]
fn a_hook_drains_and_a_signal_ends() {
    use Event::{Drain, Started, Terminate, Tick};
    assert_eq!(
        play(&[
            (0, Started),
            (1, Drain),
            (10, Tick(EMPTY)),
            (11, Tick(EMPTY)),
            (12, Tick(EMPTY)),
            (20, Tick(EMPTY)),
            (21, Terminate),
            (22, Tick(EMPTY)),
        ]),
        ["serving", "lame_duck", "lame_duck", "shedding", "drained", "drained", "closing", "stopped"]
    );
}

#[test]
fn a_signal_alone_runs_the_whole_sequence() {
    use Event::{Started, Terminate, Tick};
    assert_eq!(
        play(&[
            (0, Started),
            (1, Terminate),
            (11, Tick(BUSY)),
            (12, Tick(BUSY)),
            (14, Tick(EMPTY)),
            (14, Tick(EMPTY)),
            (14, Tick(EMPTY)),
            (15, Tick(EMPTY))
        ]),
        ["serving", "lame_duck", "shedding", "shedding", "drained", "closing", "closing", "stopped"]
    );
}

#[test]
fn a_drain_before_the_start_is_complete_is_a_drain() {
    assert_eq!(play(&[(0, Event::Drain), (1, Event::Started)]), ["lame_duck", "lame_duck"]);
}

#[test]
fn hooks_may_come_twice() {
    use Event::{Drain, Started};
    assert_eq!(play(&[(0, Started), (1, Drain), (5, Drain)]), ["serving", "lame_duck", "lame_duck"]);
    let start = Instant::now();
    let settings = Settings::default();
    let first = step(Phase::Serving, Drain, start, &settings);
    assert_eq!(step(first, Drain, start + SECOND, &settings), first, "a second hook must not move the deadline");
}

#[test]
fn a_stuck_request_is_cut_at_the_deadline() {
    use Event::{Started, Terminate, Tick};
    let start = Instant::now();
    let settings = Settings::default();
    let mut phase = Phase::Serving;
    for (at, event) in [(0, Terminate), (10, Tick(BUSY)), (44, Tick(BUSY))] {
        phase = step(phase, event, start + at * SECOND, &settings);
    }
    assert_eq!(phase.as_str(), "shedding");
    phase = step(phase, Tick(BUSY), start + 45 * SECOND, &settings);
    assert_eq!(phase.outcome(), Some(Outcome::Cut));
    phase = step(phase, Tick(BUSY), start + 45 * SECOND, &settings);
    assert_eq!(phase.as_str(), "closing");
    phase = step(phase, Tick(BUSY), start + 48 * SECOND, &settings);
    assert_eq!(phase, Phase::Stopped { outcome: Outcome::Cut });
    assert_eq!(step(phase, Started, start + 50 * SECOND, &settings), phase, "stopped is the end");
}

#[test]
fn a_deadline_with_nothing_in_flight_cuts_nothing() {
    let start = Instant::now();
    let settings = Settings::default();
    let shedding = Phase::Shedding { since: start, deadline: start + SECOND, ending: Ending::Stay };
    let noisy = Traffic { last_arrival: Some(start + SECOND), ..EMPTY };
    let drained = step(shedding, Event::Tick(noisy), start + SECOND, &settings);
    assert_eq!(drained.outcome(), Some(Outcome::Clean), "never quiet, and yet nothing was lost");
}

#[test]
fn an_app_that_came_back_ends_a_drain_that_was_no_end() {
    use Event::{Drain, Resume, Started, Terminate, Tick};
    let drained = [(0, Started), (1, Drain), (11, Tick(EMPTY)), (13, Tick(EMPTY))];
    assert_eq!(play(&[&drained[..], &[(14, Resume)]].concat()).last(), Some(&"serving"));
    assert_eq!(play(&[&drained[..], &[(14, Terminate), (14, Resume)]].concat()).last(), Some(&"closing"));
    assert_eq!(play(&[(0, Started), (1, Drain), (2, Resume)]).last(), Some(&"lame_duck"));
}

#[test]
fn an_idle_connection_or_a_recent_arrival_is_not_quiet() {
    let now = Instant::now();
    let since = now - 2 * SECOND;
    let quiet = |traffic| is_quiet(traffic, since, now, SECOND);
    assert!(quiet(EMPTY));
    assert!(!quiet(Traffic { connections: 1, ..EMPTY }));
    assert!(!quiet(Traffic { in_flight: 1, ..EMPTY }));
    assert!(!quiet(Traffic { last_arrival: Some(now - SECOND / 2), ..EMPTY }));
    assert!(quiet(Traffic { last_arrival: Some(now - SECOND), ..EMPTY }));
    assert!(!is_quiet(EMPTY, now - SECOND / 2, now, SECOND), "shedding itself lasts at least as long");
}

#[test]
fn a_second_signal_aborts_from_everywhere() {
    use Event::{Abort, Started, Terminate};
    for events in [&[(0, Abort)][..], &[(0, Started), (0, Abort)], &[(0, Terminate), (1, Abort)]] {
        assert_eq!(play(events).last(), Some(&"stopped"));
    }
}
