//! An upgraded connection: bytes both ways until both sides have closed, or a drain ends it. A WebSocket is followed
//! frame by frame, so that it ends with a Close (RFC 6455 section 7) and not in the middle of one.

mod flow;
mod leave;
#[cfg(test)]
mod tests;
pub mod walker;

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::UPGRADE;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::sleep_until;

use self::flow::{End, Flow};
use self::leave::leave;
use self::walker::{Place, Walker};
use super::flight::Flight;
use super::metrics::Counters;
use crate::lifecycle::drain::Tunnels;
use crate::lifecycle::machine::Phase;

/// How long an end has to answer a Close, and to take what is stuck.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a WebSocket lasts without a byte after one of its ends has closed, or both have said Close.
const HALF: Duration = Duration::from_secs(10);
/// How long both ends are read on after both were closed: bytes that meet a fully closed socket make the kernel send RST,
/// which can destroy what the peer has not read yet.
const LINGER: Duration = Duration::from_secs(1);
/// The least time that both ends get, however late it is.
const LEAST: Duration = Duration::from_millis(500);

/// What a tunnel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// WebSocket frames.
    WebSocket,
    /// Bytes that mean nothing here.
    Other,
}

/// Who ended a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndedBy {
    /// The client said so first.
    Client,
    /// The app did.
    App,
    /// A drain.
    Deadline,
    /// `limits.tunnel_idle`.
    Idle,
    /// An end was gone without a word.
    Broken,
}

impl EndedBy {
    /// Every name, in the order of the variants.
    pub(super) const NAMES: [&'static str; 5] = ["client", "app", "deadline", "idle", "broken"];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// What came of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) by: EndedBy,
    /// Bytes from the client to the app.
    pub(super) up: u64,
    /// Bytes from the app to the client.
    pub(super) down: u64,
}

/// What holds for a tunnel.
pub(super) struct Terms {
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) tunnels: Tunnels,
    pub(super) idle: Option<Duration>,
    pub(super) counters: Arc<Counters>,
}

impl Speaks {
    /// What the two ends have agreed on, by the head of the app's answer.
    pub(super) fn of(answer: &HeaderMap) -> Self {
        match answer.get(UPGRADE) {
            Some(protocol) if protocol.as_bytes().eq_ignore_ascii_case(b"websocket") => Self::WebSocket,
            _ => Self::Other,
        }
    }

    fn walker(self) -> Option<Walker> {
        (self == Self::WebSocket).then(Walker::new)
    }
}

/// Joins the client's side and the app's, whatever they are made of. What either has read ahead it gives first, and
/// closing it is a plain half-close. The flight (the ledger's entry, as a tunnel) ends with it.
pub(super) async fn join<C, A>(client: C, app: A, speaks: Speaks, mut flight: Box<Flight>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    A: AsyncRead + AsyncWrite + Unpin,
{
    let terms = flight.terms();
    let counters = terms.counters.clone();
    let carried = Tunnel::new(client, app, speaks).run(terms).await;
    counters.tunnel_ended(carried.by);
    flight.carried(carried);
}

struct Tunnel<C, A> {
    client: C,
    app: A,
    /// From the client to the app.
    up: Flow,
    /// From the app to the client.
    down: Flow,
    stage: Stage,
    by: Option<EndedBy>,
    /// Bytes that went up and down.
    passed: (u64, u64),
    /// Whether the process is on its way out: what a client is told of an app that is gone.
    draining: bool,
    moved: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// A WebSocket that nobody keeps up any more.
    Half,
    /// Whoever is left was told to go, and has until then.
    Leaving(Instant),
    /// Both directions are being closed, until then.
    Ending(Instant),
}

enum Next {
    Over,
    Rearm,
}

impl<C, A> Tunnel<C, A>
where
    C: AsyncRead + AsyncWrite + Unpin,
    A: AsyncRead + AsyncWrite + Unpin,
{
    fn new(client: C, app: A, speaks: Speaks) -> Self {
        Self {
            client,
            app,
            up: Flow::new(speaks.walker()),
            down: Flow::new(speaks.walker()),
            stage: Stage::Open,
            by: None,
            passed: (0, 0),
            draining: false,
            moved: now(),
        }
    }

    /// Carries bytes until the end. No timer runs for a tunnel that may stay.
    async fn run(mut self, terms: Terms) -> Carried {
        let Terms { mut phase, tunnels, idle, counters } = terms;
        let place = fastrand::f64();
        loop {
            let current = *phase.borrow_and_update();
            self.draining = current.is_draining();
            if matches!(current, Phase::Stopped { .. }) {
                // The process ends, and with it this; so it is told of.
                self.by.get_or_insert(EndedBy::Deadline);
                return self.carried();
            }
            let leave = leave(current, tunnels, place).filter(|_| self.stays());
            if let Some(leave) = leave.filter(|leave| leave.at <= now()) {
                self.leave(EndedBy::Deadline, leave.by);
            }
            let leave = leave.filter(|_| self.stays()).map(|leave| leave.at);
            let next = [leave, self.limit(idle)].into_iter().flatten().min();
            tokio::select! {
                biased;
                next = poll_fn(|cx| self.poll(cx, &counters)) => match next {
                    Next::Over => return self.carried(),
                    Next::Rearm => {}
                },
                () = changed(&mut phase) => {}
                () = until(next) => {
                    if self.limit(idle).is_some_and(|limit| limit <= now()) && self.expired() {
                        return self.carried();
                    }
                }
            }
        }
    }

    fn carried(&self) -> Carried {
        let (up, down) = self.passed;
        Carried { by: self.by.unwrap_or(EndedBy::Broken), up, down }
    }

    fn stays(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Half)
    }

    fn limit(&self, idle: Option<Duration>) -> Option<Instant> {
        match self.stage {
            Stage::Open => idle.map(|idle| self.moved + idle),
            Stage::Half => Some(self.moved + HALF),
            Stage::Leaving(by) | Stage::Ending(by) => Some(by),
        }
    }

    /// The stage's time is over. Whether the tunnel is, too.
    fn expired(&mut self) -> bool {
        match self.stage {
            Stage::Open => self.leave(EndedBy::Idle, now() + ANSWER),
            Stage::Half | Stage::Leaving(_) => self.end(),
            Stage::Ending(_) => return true,
        }
        false
    }

    fn poll(&mut self, cx: &mut Context<'_>, counters: &Counters) -> Poll<Next> {
        self.up.poll(cx, &mut self.client, &mut self.app);
        self.down.poll(cx, &mut self.app, &mut self.client);
        let (up, down) = (self.up.take_passed(), self.down.take_passed());
        if up + down > 0 {
            counters.tunnel_passed(up, down);
            self.passed = (self.passed.0 + up, self.passed.1 + down);
            self.moved = now();
        }
        let before = self.stage;
        self.judge();
        if self.up.is_over() && self.down.is_over() {
            return Poll::Ready(Next::Over);
        }
        let ordered = self.up.is_ordered() || self.down.is_ordered();
        if self.stage == before && !ordered { Poll::Pending } else { Poll::Ready(Next::Rearm) }
    }

    /// Draws the conclusions from how far both directions have come.
    fn judge(&mut self) {
        let closed = (self.up.place() == Place::Closed, self.down.place() == Place::Closed);
        self.blame(closed);
        match self.stage {
            Stage::Open | Stage::Half => {
                if self.up.ended() == Some(End::Broken) || self.down.is_refused() {
                    return self.end();
                }
                match self.down.ended() {
                    Some(_) if self.follows() && !closed.1 => return self.app_is_gone(closed.0),
                    Some(End::Broken) => return self.end(),
                    Some(End::Closed) => self.down.finish(),
                    None => {}
                }
                if self.up.ended().is_some() {
                    self.up.finish();
                }
                let ended = self.up.ended().is_some() || self.down.ended().is_some() || self.up.is_refused();
                if self.stage == Stage::Open && self.follows() && (ended || closed == (true, true)) {
                    self.stage = Stage::Half;
                    self.moved = now();
                }
            }
            Stage::Leaving(_) => {
                let client_is_done = closed.0 || self.up.ended().is_some();
                let app_is_done = closed.1 || self.down.ended().is_some();
                // Neither end waits for the other's answer.
                if client_is_done && self.down.is_told() {
                    self.down.finish();
                }
                if app_is_done && self.up.is_told() {
                    self.up.finish();
                }
                let said = self.up.is_said() && self.down.is_said();
                let broken = self.up.ended() == Some(End::Broken) || self.down.is_refused();
                if broken || (client_is_done && app_is_done && said) {
                    self.end();
                }
            }
            Stage::Ending(_) => {}
        }
    }

    /// Notes who ended it, once.
    fn blame(&mut self, closed: (bool, bool)) {
        if self.by.is_some() {
            return;
        }
        let broken = Some(End::Broken);
        self.by = match (closed, self.up.ended(), self.down.ended()) {
            ((true, _), _, _) => Some(EndedBy::Client),
            ((_, true), _, _) => Some(EndedBy::App),
            (_, up, down) if up == broken || down == broken => Some(EndedBy::Broken),
            (_, Some(_), _) => Some(if self.follows() { EndedBy::Broken } else { EndedBy::Client }),
            (_, _, Some(_)) => Some(if self.follows() { EndedBy::Broken } else { EndedBy::App }),
            _ if self.up.is_refused() || self.down.is_refused() => Some(EndedBy::Broken),
            _ => None,
        };
    }

    /// Whether both directions are known to be frames.
    fn follows(&self) -> bool {
        self.up.place() != Place::Opaque && self.down.place() != Place::Opaque
    }

    /// Ends the tunnel from here: with a Close towards each end at the end of a frame, or a half-close when these are no
    /// frames. Where a Close has passed already none is made up: the answer is waited for.
    fn leave(&mut self, by: EndedBy, until: Instant) {
        let until = until.max(now() + LEAST);
        if !self.follows() {
            self.by.get_or_insert(by);
            self.end();
            self.stage = Stage::Ending(until);
            return;
        }
        if self.up.place() != Place::Closed && self.down.place() != Place::Closed {
            self.by.get_or_insert(by);
            self.down.tell(close(GOING_AWAY, None));
            self.up.tell(close(GOING_AWAY, Some(fastrand::u32(..).to_be_bytes())));
        }
        self.stage = Stage::Leaving(until);
    }

    /// The app's end has closed or broken without a word: the client learns of it by a Close, if no frame is cut. One that
    /// has `asked` to close gets the answer that the app cannot give any more.
    fn app_is_gone(&mut self, asked: bool) {
        self.up.discard();
        self.up.finish();
        let code = match (asked, self.draining) {
            (true, _) => NORMAL,
            (false, true) => GOING_AWAY,
            (false, false) => SERVICE_RESTART,
        };
        self.down.tell(close(code, None));
        if self.down.place() == Place::Boundary {
            self.stage = Stage::Leaving(now() + ANSWER);
        } else {
            self.end();
        }
    }

    /// Closes both directions behind what is stuck, and reads both ends on for a moment.
    fn end(&mut self) {
        self.up.discard();
        self.down.discard();
        self.up.finish();
        self.down.finish();
        self.stage = Stage::Ending(now() + LINGER);
    }
}

/// RFC 6455 section 7.4.1.
const NORMAL: (u16, &str) = (1000, "");
/// The same.
const GOING_AWAY: (u16, &str) = (1001, "going away");
/// IANA's WebSocket Close Code Number Registry: the client may come back, to another instance or a later one.
const SERVICE_RESTART: (u16, &str) = (1012, "service restart");

/// A Close frame (RFC 6455 section 5.5.1), masked as those of clients are.
fn close((code, reason): (u16, &str), mask: Option<[u8; 4]>) -> Vec<u8> {
    let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    let mut frame = vec![0x88, payload.len() as u8];
    match mask {
        None => frame.extend(payload),
        Some(mask) => {
            frame[1] |= 0x80;
            frame.extend(mask);
            frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}

/// By the event loop's clock, which tests may hold.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant.into()).await,
        None => pending().await,
    }
}

/// The phase is another; never, when there is nobody left to change it.
async fn changed(phase: &mut watch::Receiver<Phase>) {
    if phase.changed().await.is_err() {
        pending::<()>().await;
    }
}
