//! When the sweeper leaves, closes or cuts a connection.

use super::*;

const LIMITS: Limits = Limits {
    head: 15_000,
    idle: 620_000,
    body: 30_000,
    send: 30_000,
    answer: Some(300_000),
    request: None,
    shed: Shed::Yes,
};

fn check(prepare: impl Fn(&Activity), shedding_since: Option<u64>, after: u64, expected: Act) {
    let start = look();
    let activity = Activity::new();
    prepare(&activity);
    let shedding_since = shedding_since.map(|ms| start + ms);
    assert_eq!(decide(&activity, 0, &LIMITS, shedding_since, start + after), expected);
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let used = |activity: &Activity| {
        activity.begin();
        activity.end();
    };
    check(used, None, 619_000, Act::Leave);
    check(used, None, 621_000, Act::Close);
    check(|_| {}, None, 59_000, Act::Leave);
    check(|_| {}, None, 61_000, Act::Close);
}

#[test]
fn a_head_that_comes_too_slowly_is_cut() {
    check(Activity::read, None, 14_000, Act::Leave);
    check(Activity::read, None, 16_000, Act::Cut(Cut::ClientTooSlow));
    check(Activity::read, Some(0), 6_000, Act::Cut(Cut::ClientTooSlow));
    check(Activity::read, Some(5_000), 6_000, Act::Leave);
}

#[test]
fn shedding_closes_what_has_been_idle_and_leaves_what_may_be_about_to_speak() {
    check(|_| {}, Some(0), 900, Act::Leave);
    check(|_| {}, Some(0), 2_100, Act::Close);
    check(|_| {}, Some(5_000), 5_900, Act::Leave);
    check(Activity::read, Some(0), 2_100, Act::Leave);
}

#[test]
fn a_request_has_time_until_its_limit_and_then_an_answer() {
    let waiting = |activity: &Activity| activity.begin();
    check(waiting, Some(0), 100_000, Act::Leave);
    check(waiting, None, 301_000, Act::Expire(Expired::Answer));
    let uploading = |activity: &Activity| {
        activity.begin();
        activity.body_blocked();
    };
    check(uploading, None, 29_000, Act::Leave);
    check(uploading, None, 31_000, Act::Expire(Expired::Body));
    let answering = |activity: &Activity| {
        activity.begin();
        activity.answer();
    };
    check(answering, None, 3_000_000, Act::Leave);
    let not_reading = |activity: &Activity| {
        activity.begin();
        activity.answer();
        activity.write_blocked();
    };
    check(not_reading, None, 31_000, Act::Cut(Cut::ClientTooSlow));
}

#[test]
fn a_request_as_a_whole_has_a_limit_where_one_is_set() {
    let limits = Limits { request: Some(5_000), ..LIMITS };
    let start = look();
    let activity = Activity::new();
    activity.begin();
    // Held, so that the app's time does not run: the request's does.
    activity.hold();
    assert_eq!(decide(&activity, 0, &LIMITS, None, start + 900_000), Act::Leave);
    assert_eq!(decide(&activity, 0, &limits, None, start + 5_000), Act::Leave);
    assert_eq!(decide(&activity, 0, &limits, None, start + 6_000), Act::Expire(Expired::Request));
    activity.answer();
    assert_eq!(decide(&activity, 0, &limits, None, start + 6_000), Act::Cut(Cut::RequestTimeout));
    activity.tunnel();
    assert_eq!(decide(&activity, 0, &limits, None, start + 6_000), Act::Leave);
}

#[test]
fn an_http2_connection_is_asked_to_leave_while_it_is_busy_and_cut_when_it_stays_idle() {
    let busy = |activity: &Activity| {
        activity.multiplexed();
        activity.begin();
    };
    check(busy, Some(0), 400, Act::Leave);
    check(busy, Some(0), 1_600, Act::Close);
    check(busy, None, 3_000_000, Act::Leave);
    let closing = |activity: &Activity| {
        busy(activity);
        activity.give(Order::Close);
    };
    check(closing, Some(0), 3_000_000, Act::Leave);
    let left = |activity: &Activity| {
        closing(activity);
        activity.end();
    };
    check(left, Some(0), 5_000, Act::Leave);
    check(left, Some(0), 6_000, Act::Cut(Cut::ClientTooSlow));
    let half_a_head = |activity: &Activity| {
        busy(activity);
        activity.head_begun();
    };
    check(half_a_head, None, 14_000, Act::Leave);
    check(half_a_head, None, 16_000, Act::Cut(Cut::ClientTooSlow));
}

#[test]
fn a_conversation_on_a_stream_has_no_limit_between_two_of_its_messages() {
    let start = look();
    let connection = Arc::new(Activity::new());
    let stream = Activity::stream(connection.clone());
    stream.begin();
    stream.body_blocked();
    assert_eq!(decide(&stream, 0, &LIMITS, None, start + 31_000), Act::Expire(Expired::Body));
    stream.answer();
    assert_eq!(decide(&stream, 0, &LIMITS, None, start + 31_000), Act::Leave);
    let call = Activity::stream(connection);
    call.begin();
    call.unhurried();
    call.body_blocked();
    assert_eq!(decide(&call, 0, &LIMITS, None, start + 9_000_000), Act::Leave);
    call.body_moved();
    assert_eq!(decide(&call, 0, &LIMITS, None, start + 301_000), Act::Expire(Expired::Answer));
}

#[test]
fn no_limit_applies_to_a_tunnel() {
    let tunnel = |activity: &Activity| {
        activity.begin();
        activity.tunnel();
        activity.write_blocked();
    };
    check(tunnel, Some(0), 9_000_000, Act::Leave);
}

#[test]
fn the_longest_idle_makes_room() {
    let sweeper = Sweeper::new(LIMITS);
    let [busy, first, second] = [sweeper.open(), sweeper.open(), sweeper.open()];
    busy.activity().begin();
    second.activity().begin();
    while look() <= first.activity().idle_since() {
        std::hint::spin_loop();
    }
    second.activity().end();
    sweeper.close_longest_idle();
    let orders = [&busy, &first, &second].map(|swept| swept.activity().order());
    assert_eq!(orders, [Order::None, Order::Close, Order::None]);
    sweeper.close_longest_idle();
    assert_eq!(second.activity().order(), Order::Close, "one each time");
}

#[test]
fn a_dropped_connection_is_forgotten() {
    let sweeper = Sweeper::new(LIMITS);
    let first = sweeper.open();
    let second = sweeper.open();
    assert_eq!(sweeper.count(), 2);
    drop((first, second));
    assert_eq!(sweeper.count(), 0);
}
