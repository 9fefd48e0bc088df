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

/// A hook, and what follows it, at seconds since the hook.
fn after_a_hook(events: &[(u64, Event)]) -> Vec<&'static str> {
    let shifted = events.iter().map(|(at, event)| (at + 1, *event));
    let all: Vec<_> = [(0, Event::Started), (1, Event::Hook)].into_iter().chain(shifted).collect();
    play(&all).split_off(1)
}

#[test]
fn a_hook_that_nothing_confirms_is_a_restart_of_the_app() {
    use Event::{Gone, Held, Hook, Tick};
    assert_eq!(
        after_a_hook(&[
            (1, Tick(BUSY)),
            (2, Tick(BUSY)),
            (2, Held),
            (3, Tick(BUSY)),
            (3, Hook),
            (4, Gone),
            (4, Tick(EMPTY)),
            (5, Tick(EMPTY)),
            (6, Gone),
        ]),
        [
            "lame_duck",
            "lame_duck",
            "restarting",
            "restarting",
            "restarting",
            "restarting",
            "restarting",
            "restarting",
            "restarting",
            "serving"
        ]
    );
}

#[test]
fn an_app_is_let_go_only_when_the_gates_are_closed_and_nothing_is_with_it() {
    let start = Instant::now();
    let settings = Settings::default();
    let waiting = Traffic { in_flight: 5, dispatched: 0, connections: 5, last_arrival: Some(start) };
    let mut phase = Phase::Restarting { began: start, stage: Stage::Closing };
    for (event, released) in [
        (Event::Tick(waiting), false),
        (Event::Held, false),
        (Event::Tick(BUSY), false),
        // Requests that are held do not count.
        (Event::Tick(waiting), true),
        (Event::Tick(BUSY), true),
    ] {
        phase = step(phase, event, start, &settings);
        assert_eq!(phase.is_released(), released, "{event:?}");
    }
    let mut stuck = Phase::Restarting { began: start, stage: Stage::Closing };
    stuck = step(stuck, Event::Held, start, &settings);
    stuck = step(stuck, Event::Tick(BUSY), start + settings.restart_finish, &settings);
    assert!(stuck.is_released(), "an app that is stuck is let go all the same");
}

#[test]
fn a_restart_that_does_not_come_is_over_in_the_end_and_a_person_can_end_it() {
    use Event::{Held, Release, Tick};
    let released = [(2, Tick(EMPTY)), (2, Held), (2, Tick(EMPTY))];
    let last = |more: &[(u64, Event)]| after_a_hook(&[&released[..], more].concat()).pop();
    assert_eq!(last(&[(6, Tick(EMPTY))]), Some("restarting"));
    assert_eq!(last(&[(7, Tick(EMPTY))]), Some("serving"));
    assert_eq!(last(&[(3, Release)]), Some("serving"));
    assert_eq!(after_a_hook(&[(2, Tick(EMPTY)), (2, Release)]).last(), Some(&"serving"), "at any stage");
    assert_eq!(after_a_hook(&[(1, Release)]).last(), Some(&"lame_duck"));
}

#[test]
fn a_word_of_the_pods_end_makes_a_drain_of_it_whenever_it_comes() {
    use Event::{Drain, Held, Hook, Terminate, Tick};
    for confirmed in [Drain, Terminate] {
        assert_eq!(
            after_a_hook(&[(1, confirmed), (5, Tick(EMPTY)), (10, Tick(EMPTY))])[1..],
            ["lame_duck", "lame_duck", "shedding"]
        );
        let late = after_a_hook(&[(2, Tick(BUSY)), (2, Held), (4, confirmed), (9, Tick(EMPTY)), (10, Tick(EMPTY))]);
        assert_eq!(
            late[1..],
            ["restarting", "restarting", "lame_duck", "lame_duck", "shedding"],
            "counted from the hook on"
        );
        let first = play(&[(0, Event::Started), (1, confirmed), (1, Hook), (4, Tick(EMPTY)), (11, Tick(EMPTY))]);
        assert_eq!(first[1..], ["lame_duck", "lame_duck", "lame_duck", "shedding"]);
    }
}

#[test]
fn a_hook_is_for_good_where_restarts_are_not_told_apart() {
    let settings = Settings { restart_after: None, ..Settings::default() };
    let phase = step(Phase::Serving, Event::Hook, Instant::now(), &settings);
    assert!(matches!(phase, Phase::LameDuck { ending: Ending::Stay, .. }));
    assert!(phase.is_leaving());
    let unknown = step(Phase::Serving, Event::Hook, Instant::now(), &Settings::default());
    assert!(!unknown.is_leaving() && unknown.is_draining());
}

#[test]
fn nobody_is_asked_to_leave_before_it_is_known_to_be_for_good() {
    let start = Instant::now();
    let settings = Settings { delay: Duration::ZERO, ..Settings::default() };
    let hooked = step(Phase::Serving, Event::Hook, start, &settings);
    assert_eq!(step(hooked, Event::Tick(EMPTY), start + SECOND, &settings), hooked);
    let confirmed = step(hooked, Event::Drain, start + SECOND, &settings);
    assert_eq!(step(confirmed, Event::Tick(EMPTY), start + SECOND, &settings).as_str(), "shedding");
}
