//! The part of a request's path that is another when the app speaks HTTP/2: one stream on a connection that others use
//! too, and other reasons to send a request a second time.

use std::time::{Duration, Instant};

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{Response, StatusCode, Version, request};

use super::body::{AnswerBody, RequestBody};
use super::error::Failure;
use super::flight::Flight;
use super::headers::{self, Upgrade};
use super::service::{Answered, Service};
use super::upstream::decode::settle_length;
use super::upstream::h2c::{Call, Heard, Leased, Target, Upload};
use super::upstream::{Broken, Far, Lost};
use super::websocket;

/// How often a request is sent to an app that does not look at it. Servers of gRPC count a call as under way for some time
/// after its end, and refuse the next ones meanwhile, which they had said they would take.
const TRIES: u32 = 8;

/// Before a request is sent again that has been refused so often: nothing at first, then up to 32 ms.
const fn pause(refused: u32) -> Duration {
    match refused {
        0 | 1 => Duration::ZERO,
        more => Duration::from_millis(1 << (more - 2)),
    }
}

impl Service {
    /// Sends a request over a connection that has room for it. A second time only where the app says that it has not
    /// looked at the first, or the connection did not take it.
    pub(super) async fn call(
        &self,
        flight: &mut Flight,
        head: &request::Parts,
        upgrade: Upgrade,
        body: RequestBody,
    ) -> Result<Answered, Failure> {
        let key = websocket::asked(&head.headers).filter(|_| upgrade == Upgrade::Asked);
        let mut upload = Upload::new(body);
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let leased = self.lease(flight).await?;
            // An app may leave an upgrade unanswered (RFC 9110 section 7.8); one that knows no tunnels never gets to.
            let key = key.filter(|_| leased.serves_connect());
            let target = if key.is_some() { Target::WebSocket } else { Target::Resource };
            let (stand_in, bounds) = (self.app.authority(), self.app.bounds());
            let mut call = match Call::begin(leased, head, target, stand_in, upload, bounds).await {
                Ok(call) => call,
                Err((unsent, error)) if tries > 0 && !error.is_library() => {
                    upload = unsent;
                    continue;
                }
                Err((_, error)) => return Err(Broken::Http2(error).into()),
            };
            let lost = loop {
                match self.until_expired(flight, |cx| call.poll_head(cx)).await? {
                    Ok(Heard::Interim(answer)) => flight.client.interim(answer),
                    Ok(Heard::Answer(answer)) => {
                        self.answered();
                        flight.heard();
                        return Ok(match key.filter(|_| answer.status().is_success()) {
                            Some(key) => switched(call, answer, key),
                            None => self.answer(call, answer),
                        });
                    }
                    Err(Lost::Body(error)) => return Err(error.into()),
                    Err(Lost::Line(error)) => break error,
                }
            };
            upload = call.rewound(&lost).filter(|_| tries > 0).ok_or(lost)?;
            self.counters.retry();
            flight.notes.retried();
            tokio::time::sleep(pause(TRIES - tries)).await;
        }
    }

    fn answer(&self, call: Call, answer: Response<h2::RecvStream>) -> Answered {
        let (mut head, stream) = answer.into_parts();
        headers::prepare_answer(&mut head);
        // One that is none has been refused with the head.
        if settle_length(&mut head.headers).is_err() {
            head.headers.remove(CONTENT_LENGTH);
        }
        head.version = Version::HTTP_11;
        if !call.is_sent() {
            // As in an exchange of HTTP/1.1: no request follows what is left of this one.
            head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let download = call.into_download(stream, &head, &self.tasks);
        Answered::Plain(Box::new(head), AnswerBody::Multiplexed(Box::new(download)), None)
    }

    async fn lease(&self, flight: &mut Flight) -> Result<Leased, Failure> {
        loop {
            let (asked, mut opened) = (Instant::now(), false);
            let leased = self.app.lease(&self.tasks, || opened = true).await;
            if opened {
                self.counters.connect();
            }
            if let Some(leased) = self.unless_refused(flight, leased).await? {
                if opened {
                    self.observer.connected(&mut flight.notes, asked.elapsed());
                }
                return Ok(leased);
            }
        }
    }
}

/// The answer that a client of HTTP/1.1 would have had from the app: the tunnel is open.
fn switched(call: Call, answer: Response<h2::RecvStream>, key: &HeaderValue) -> Answered {
    let (mut head, stream) = answer.into_parts();
    headers::prepare_answer(&mut head);
    (head.status, head.version) = (StatusCode::SWITCHING_PROTOCOLS, Version::HTTP_11);
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(UPGRADE, HeaderValue::from_static(websocket::NAME));
    head.headers.insert(SEC_WEBSOCKET_ACCEPT, websocket::accept(key));
    Answered::Switched(Response::from_parts(head, ()), Far::Stream(Box::new(call.into_tunnel(stream))))
}
