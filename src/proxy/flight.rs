//! A request under way: what is held for it, and what is noted when it ends.

use std::sync::Arc;
use std::time::Instant;

use http::header::HeaderValue;
use http::{StatusCode, request};

use super::gate::Gate;
use super::gate::queue::{Lane as _, Turn};
use super::observe::Notes;
use super::service::{Client, Service};
use super::tunnel::{Carried, Terms};
use super::upstream::{Broken, Download};
use crate::lifecycle::ledger::{Guard, Kind};
use crate::lifecycle::tasks::Tasks;

/// A request under way: its entry in the ledger, and what is noted when it ends.
pub(super) struct Flight {
    service: Arc<Service>,
    pub(super) client: Arc<Client>,
    guard: Option<Guard>,
    /// Whether it has a place among the requests in flight.
    pub(super) seated: bool,
    /// Since when it was held, or was for the first time, and its place in the line then.
    pub(super) held_since: Option<Instant>,
    pub(super) ticket: Option<u64>,
    /// Since when it stands aside, while it does.
    pub(super) stands_since: Option<Instant>,
    /// Let through by the gate, which wants to hear whether the app answers.
    pub(super) turn: Option<Turn<Gate>>,
    pub(super) began: Instant,
    /// When the app's answer had begun, until its first part is looked for.
    pub(super) heard_at: Option<Instant>,
    /// When the answer's last byte was there.
    pub(super) ended: Option<Instant>,
    pub(super) status: Option<StatusCode>,
    /// Whether the request has a body, of which something may be left when the answer is ours.
    pub(super) has_body: bool,
    /// The content type of a call of gRPC, which is answered in its own way when the app does not.
    pub(super) grpc: Option<HeaderValue>,
    pub(super) notes: Notes,
}

impl Flight {
    /// A request that came from `client`. Boxed, since it goes from hand to hand.
    pub(super) fn begin(service: &Arc<Service>, client: Arc<Client>, head: &request::Parts) -> Box<Self> {
        let began = Instant::now();
        let notes = service.observer.begin(head, &client.hop);
        client.activity.begin();
        service.writer.arrived(began);
        Box::new(Self {
            service: service.clone(),
            client,
            guard: Some(service.writer.begin(Kind::Request)),
            seated: false,
            held_since: None,
            ticket: None,
            stands_since: None,
            turn: None,
            began,
            heard_at: None,
            ended: None,
            status: None,
            has_body: false,
            grpc: None,
            notes,
        })
    }

    /// Enters it into the ledger as something else, without a moment in which it is not there.
    pub(super) fn enter(&mut self, kind: Kind) {
        self.guard = Some(self.service.writer.begin(kind));
    }

    /// The answer is complete: its connection carries the next request, if it can.
    pub(super) fn answer_ended(&mut self, download: Download) {
        self.notes.whole();
        if let Some(line) = download.into_line() {
            // All of it came with its begin: no time has passed.
            let now = self.heard_at.unwrap_or_else(Instant::now);
            self.ended = Some(now);
            self.service.app.keep(line, now);
        }
    }

    /// The app broke off in the middle of its answer.
    pub(super) fn answer_broke(&mut self, error: &Broken) {
        self.service.counters.broken();
        self.notes.failed("connection_terminated");
        tracing::debug!(%error, "the app broke off in the middle of an answer");
    }

    /// Where its tunnel's task belongs.
    pub(super) fn tasks(&self) -> Tasks {
        self.service.tasks.clone()
    }

    /// What holds for the tunnel it has become.
    pub(super) fn terms(&self) -> Terms {
        Terms {
            phase: self.service.phase.clone(),
            tunnels: self.service.tunnels,
            idle: self.service.limits.tunnel_idle,
            counters: self.service.counters.clone(),
        }
    }

    /// The app's answer did not end with its begin.
    pub(super) fn goes_on(&mut self) {
        self.heard_at = None;
    }

    /// The tunnel that it has become has ended.
    pub(super) fn carried(&mut self, carried: Carried) {
        self.notes.carried(carried);
    }

    /// A part of the answer's body went to the client.
    pub(super) fn delivered(&mut self, bytes: usize) {
        self.service.observer.delivered(&mut self.notes, bytes);
    }

    /// The app's answer has begun.
    pub(super) fn heard(&mut self) {
        let held = self.notes.held().unwrap_or_default();
        let now = Instant::now();
        self.heard_at = Some(now);
        self.service.observer.begun(&mut self.notes, now.saturating_duration_since(self.began).saturating_sub(held));
        if let Some(turn) = self.turn.take() {
            turn.answered();
        }
    }

    pub(super) fn into_tunnel(mut self: Box<Self>) -> Box<Self> {
        self.notes.whole();
        self.client.activity.tunnel();
        self.guard = self.guard.take().map(Guard::into_tunnel);
        self
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let now = self.ended.unwrap_or_else(Instant::now);
        self.client.activity.end();
        if self.seated {
            self.service.room.give_back();
        }
        if let Some(since) = self.stands_since {
            self.notes.stood(now.saturating_duration_since(since));
        }
        // Known before anything else: what we have ended is not to be blamed on the client.
        match self.client.activity.cut_by() {
            Some(cut) if !self.notes.has_error() => {
                self.service.counters.cut(cut);
                self.notes.failed(cut.name());
            }
            None if self.status.is_none() => self.service.counters.abandoned(),
            _ => {}
        }
        self.service.observer.ended(&self.notes, self.status, now.saturating_duration_since(self.began));
    }
}
