//! Tests of the gate itself: order, pace, bounds, and who leaves.

use std::net::SocketAddr;

use futures_util::poll;

use super::*;
use crate::proxy::settings::{Address, Protocol};

const PATIENCE: Duration = Duration::from_secs(10);

fn gates(max_requests: usize) -> Gates {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let route = Route {
        listen,
        upstream: Upstream { address: Address::Unix("/nowhere".into()), protocol: Protocol::Http1 },
        edge: Default::default(),
        flags: Default::default(),
    };
    Gates::new(&[route], &[listen], &settings::Hold { max_requests, max_wait: PATIENCE, check: None })
}

type Waiter = std::pin::Pin<Box<dyn Future<Output = Result<Turn<Gate>, Refused>>>>;

/// Requests that wait, in the order in which they came.
struct Waiters {
    waiting: Vec<Waiter>,
}

impl Waiters {
    async fn come(gate: &Arc<Gate>, count: usize) -> Self {
        let mut waiting = Vec::new();
        for _ in 0..count {
            let gate = gate.clone();
            let mut one: Waiter = Box::pin(async move {
                let mut ticket = None;
                queue::wait(&gate, &mut ticket, Instant::now()).await
            });
            assert!(poll!(&mut one).is_pending());
            waiting.push(one);
        }
        Self { waiting }
    }

    /// The turns of those who were called, which must be the first.
    async fn called(&mut self) -> Vec<Turn<Gate>> {
        let mut turns = Vec::new();
        let mut rest = Vec::new();
        for mut one in self.waiting.drain(..) {
            match poll!(&mut one) {
                std::task::Poll::Ready(turn) => {
                    assert!(rest.is_empty(), "somebody came before its turn");
                    turns.push(turn.expect("called"));
                }
                std::task::Poll::Pending => rest.push(one),
            }
        }
        self.waiting = rest;
        turns
    }
}

#[tokio::test(start_paused = true)]
async fn it_opens_when_no_reason_is_left() {
    let gates = gates(10);
    let gate = gates.of_route(0);
    assert!(gate.is_open());
    gates.close(Reason::Check);
    gates.close(Reason::Restart);
    gates.open(Reason::Check);
    assert!(gate.is_closed());
    gates.open(Reason::Restart);
    assert!(gate.is_open());
}

#[tokio::test(start_paused = true)]
async fn those_who_waited_go_in_order_and_a_few_at_first() {
    let gates = gates(100);
    let gate = gates.of_route(0);
    gates.close(Reason::Check);
    let mut waiters = Waiters::come(&gate, 60).await;
    assert!(waiters.called().await.is_empty());
    gates.open(Reason::Check);
    assert!(!gate.is_open() && !gate.is_closed(), "newcomers wait behind those who came before");
    let mut first = waiters.called().await;
    assert_eq!(first.len(), FIRST);
    assert!(waiters.called().await.is_empty(), "an app that just came back is not stampeded");
    first.pop().expect("one").answered();
    let second = waiters.called().await;
    assert_eq!(second.len(), 2, "an answer lets two more go");
    drop(first.pop());
    assert_eq!(waiters.called().await.len(), 1, "a failure one");
    gate.widen();
    let third = waiters.called().await;
    assert!(third.len() >= FIRST, "time lets others go, whatever the first ones do: {}", third.len());
    drop((first, second, third));
    drop(waiters.called().await);
    assert!(gate.is_open(), "the line is empty");
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_nobody_waits_and_who_leaves_frees_a_place() {
    let gates = gates(2);
    let gate = gates.of_route(0);
    gates.close(Reason::Check);
    let mut waiters = Waiters::come(&gate, 2).await;
    let late = async |gate: &Arc<Gate>| queue::wait(gate, &mut None, Instant::now()).await.err();
    assert_eq!(late(&gate).await, Some(Refused::Full));
    assert_eq!(gates.status().held, 2);
    drop(waiters.waiting.pop());
    assert_eq!(gates.status().held, 1);
    let again = Waiters::come(&gate, 1).await;
    assert_eq!(late(&gate).await, Some(Refused::Full));
    drop((waiters, again));
    assert_eq!(gates.status().held, 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_too_long_is_told_so() {
    let gates = gates(2);
    gates.close(Reason::Check);
    let begun = tokio::time::Instant::now();
    let refused = queue::wait(&gates.of_route(0), &mut None, Instant::now()).await.err();
    assert_eq!(refused, Some(Refused::TooLong));
    assert!(begun.elapsed() >= PATIENCE - Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(gates.status().held, 0);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_was_away_for_longer_than_anybody_waits_is_not_waited_for() {
    let gates = gates(2);
    let gate = gates.of_route(0);
    gates.close(Reason::Refuses);
    let long_ago = Instant::now().checked_sub(PATIENCE + Duration::from_secs(1)).expect("the machine is up for longer");
    gate.lock().closed[Reason::Refuses as usize].as_mut().expect("closed").since = long_ago;
    assert_eq!(queue::wait(&gate, &mut None, Instant::now()).await.err(), Some(Refused::Away));
    gates.open(Reason::Refuses);
    assert!(gate.is_open());
}

#[tokio::test(start_paused = true)]
async fn who_was_called_and_finds_it_closed_again_keeps_its_place() {
    let gates = gates(3);
    let gate = gates.of_route(0);
    gates.close(Reason::Check);
    let mut ticket = None;
    let mut first = Box::pin(queue::wait(&gate, &mut ticket, Instant::now()));
    assert!(poll!(&mut first).is_pending());
    let mut later = Waiters::come(&gate, 2).await;
    gate.lock().window = 1;
    gate.lock().closed = [None; 4];
    gate.advance(&mut gate.lock());
    drop(first.await.expect("called"));
    let others = later.called().await;
    assert_eq!(others.len(), 1, "the next one has been called");
    gates.close(Reason::Refuses);
    let mut again = Box::pin(queue::wait(&gate, &mut ticket, Instant::now()));
    assert!(poll!(&mut again).is_pending(), "there is room for who comes again");
    drop(others);
    gates.open(Reason::Refuses);
    gate.lock().window = 1;
    assert!(poll!(&mut again).is_ready());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_held_where_nothing_may_be() {
    let gates = gates(0);
    gates.close(Reason::Refuses);
    assert!(gates.of_route(0).is_open());
    assert!(matches!(gates.hold("me", Some(Duration::from_secs(1))), Err(NotHeld::Off)));
}

#[tokio::test(start_paused = true)]
async fn one_person_holds_at_a_time_and_the_end_of_one_hold_is_not_the_end_of_the_next() {
    let gates = gates(10);
    let gate = gates.of_route(0);
    let first = gates.hold("ann", Some(Duration::from_secs(5))).expect("nobody holds");
    assert!(matches!(gates.hold("bob", Some(Duration::from_secs(5))), Err(NotHeld::Already { by, .. }) if by == "ann"));
    assert!(matches!(gates.hold("bob", Some(Duration::from_secs(11))), Err(NotHeld::TooLong { .. })));
    assert!(gates.release() && gate.is_open());
    let second = gates.hold("bob", Some(Duration::from_secs(5))).expect("released");
    drop(first);
    assert!(gate.is_closed() && second.is_held());
    drop(second);
    assert!(gate.is_open() && !gates.release());
}

#[tokio::test]
async fn a_hold_that_nobody_ends_ends_by_itself() {
    let gates = gates(10);
    let gate = gates.of_route(0);
    let keeper = gates.keepers().pop().expect("one");
    gates.hold("ann", Some(Duration::from_millis(50))).expect("nobody holds").detach();
    assert!(gate.is_closed());
    let opened = async {
        while gate.is_closed() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = keeper.run() => unreachable!("it keeps for ever"),
        () = opened => {}
    }
}
