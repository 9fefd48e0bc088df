//! What stands between a request and the app: the gate, the limit on requests in flight, and an app that refuses.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use super::error::Failure;
use super::flight::Flight;
use super::gate::Reason;
use super::gate::queue::{self, Lane as _, Refused};
use super::service::Service;
use super::upstream::Line;
use crate::lifecycle::ledger::Kind;
use crate::net::activity::Expired;

impl Service {
    /// Waits until the request may go to the app.
    ///
    /// # Cancellation
    /// Dropped, the request leaves whatever line it stands in.
    pub(super) async fn admit(&self, flight: &mut Flight) -> Result<(), Failure> {
        if self.gate.is_open() && self.room.enter() {
            flight.seated = true;
            return Ok(());
        }
        Box::pin(self.wait(flight)).await
    }

    /// A new connection to the app.
    pub(super) async fn connect(&self, flight: &mut Flight) -> Result<Box<Line>, Failure> {
        loop {
            self.counters.connect();
            let asked = Instant::now();
            let connected = self.app.connect().await;
            if let Some(line) = self.unless_refused(flight, connected).await? {
                self.observer.connected(&mut flight.notes, asked.elapsed());
                return Ok(line);
            }
        }
    }

    /// What came of reaching for the app; `None`, after a wait, when it is to be tried again: while nobody listens there
    /// nothing has been sent, so that any request may wait.
    pub(super) async fn unless_refused<T>(
        &self,
        flight: &mut Flight,
        reached: Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        match reached {
            Err(Failure::AppRefuses(_)) if self.gate.holds() && !self.phase.borrow().is_leaving() => {
                self.gate.close(Reason::Refuses, None);
                // Who opens the gates of an instance that leaves may have been here before.
                if self.phase.borrow().is_leaving() {
                    self.gate.open(Reason::Refuses);
                }
                Box::pin(self.wait(flight)).await?;
                Ok(None)
            }
            reached => reached.map(Some),
        }
    }

    /// Stands aside until the gate is open and there is a place, for as long as the limits let it.
    async fn wait(&self, flight: &mut Flight) -> Result<(), Failure> {
        let (activity, began) = (flight.client.activity.clone(), Instant::now());
        flight.stands_since = Some(began);
        activity.hold();
        let admitted = {
            let mut waiting = pin!(self.stand(flight));
            poll_fn(|cx| match activity.expired() {
                Expired::Request => Poll::Ready(Err(Failure::RequestTimeout)),
                _ => waiting.as_mut().poll(cx),
            })
            .await
        };
        activity.release();
        flight.stands_since = None;
        flight.notes.stood(began.elapsed());
        admitted
    }

    async fn stand(&self, flight: &mut Flight) -> Result<(), Failure> {
        let since = *flight.held_since.get_or_insert_with(Instant::now);
        loop {
            // Not in flight while it waits, so that a hold need not wait for it, and takes no place.
            flight.enter(Kind::Waiting);
            flight.turn = None;
            if std::mem::take(&mut flight.seated) {
                self.room.give_back();
            }
            if !self.gate.is_open() {
                let turn = queue::wait(&self.gate, &mut flight.ticket, since).await;
                flight.turn = Some(turn.map_err(|refused| match refused {
                    Refused::Full => Failure::HoldFull,
                    Refused::TooLong => Failure::HoldTimeout,
                    Refused::Away => Failure::Away,
                })?);
            }
            if !self.room.enter() {
                let seat = queue::wait(&self.room, &mut None, Instant::now()).await;
                let refused = |refused| if refused == Refused::Full { Failure::Full } else { Failure::QueueTimeout };
                drop(seat.map_err(refused)?.take());
            }
            flight.seated = true;
            // In the ledger first, and then another look: see the gate.
            flight.enter(Kind::Request);
            if !self.gate.is_closed() {
                return Ok(());
            }
        }
    }
}
