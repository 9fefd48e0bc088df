//! What is noted of a connection, and what follows from it.

use super::*;

#[test]
fn a_pipelined_partial_head_has_its_time_running() {
    let activity = Activity::new();
    activity.read();
    assert!(activity.head_since().is_some());
    activity.begin();
    assert_eq!(activity.head_since(), None);
    activity.read();
    activity.end();
    assert!(activity.head_since().is_some());
}

#[test]
fn a_body_read_after_the_head_is_no_new_head() {
    let activity = Activity::new();
    activity.read();
    activity.begin();
    activity.read();
    activity.body_moved();
    activity.end();
    assert_eq!(activity.head_since(), None);
}

#[test]
fn a_multiplexed_connection_is_idle_when_its_last_request_has_ended_and_pings_are_no_heads() {
    let activity = Activity::new();
    activity.read();
    activity.multiplexed();
    activity.read();
    assert_eq!(activity.head_since(), None);
    activity.begin();
    activity.begin();
    activity.end();
    assert_ne!(activity.stage(), Stage::Idle);
    activity.end();
    assert_eq!(activity.stage(), Stage::Idle);
}

#[test]
fn the_first_reason_of_a_cut_stays_and_is_that_of_the_connections_requests_too() {
    let connection = Arc::new(Activity::new());
    let [first, second] = [0, 1].map(|_| Activity::stream(connection.clone()));
    assert_eq!(first.cut_by(), None);
    first.cut(Cut::RequestTimeout);
    connection.cut(Cut::ClientTooSlow);
    connection.cut(Cut::Aborted);
    let reasons = [first.cut_by(), second.cut_by(), connection.cut_by()];
    assert_eq!(reasons, [Some(Cut::RequestTimeout), Some(Cut::ClientTooSlow), Some(Cut::ClientTooSlow)]);
    assert_eq!((second.order(), connection.order()), (Order::None, Order::Cut));
    for (at, cut) in Cut::ALL.into_iter().enumerate() {
        assert_eq!(cut as usize, at, "{}", cut.name());
    }
}

#[test]
fn a_milder_order_does_not_replace_a_harsher_one() {
    let activity = Activity::new();
    activity.give(Order::Cut);
    activity.give(Order::Close);
    assert_eq!(activity.order(), Order::Cut);
}
