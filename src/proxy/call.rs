//! The part of a request's path that is another when the app speaks HTTP/2: one stream on a connection that others use
//! too, and other reasons to send a request a second time.

use std::time::Instant;

use http::header::{CONNECTION, HeaderValue};
use http::{Response, Version, request};

use super::body::{AnswerBody, RequestBody};
use super::error::Failure;
use super::headers;
use super::service::{Flight, Service};
use super::upstream::h2c::{Call, Heard, Leased, Target, Upload};
use super::upstream::{Broken, Lost};

/// How often a request is sent to an app that does not look at it.
const TRIES: usize = 3;

impl Service {
    /// Sends a request over a connection that has room for it. A second time only where the app says that it has not
    /// looked at the first, or the connection did not take it.
    pub(super) async fn call(
        &self,
        flight: &mut Flight,
        head: &request::Parts,
        body: RequestBody,
    ) -> Result<Response<AnswerBody>, Failure> {
        let mut upload = Upload::new(body);
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let leased = self.lease(flight).await?;
            let (stand_in, bounds) = (self.app.authority(), self.app.bounds());
            let mut call = match Call::begin(leased, head, Target::Resource, stand_in, upload, bounds).await {
                Ok(call) => call,
                Err((unsent, error)) if tries > 0 && !error.is_library() => {
                    upload = unsent;
                    continue;
                }
                Err((_, error)) => return Err(Broken::Http2(error).into()),
            };
            let lost = loop {
                match self.until_expired(flight, |cx| call.poll_head(cx)).await? {
                    Ok(Heard::Interim(answer)) => flight.client.interim(&answer),
                    Ok(Heard::Answer(answer)) => {
                        self.answered();
                        flight.heard();
                        return Ok(self.answer(call, answer));
                    }
                    Err(Lost::Body(error)) => return Err(error.into()),
                    Err(Lost::Line(error)) => break error,
                }
            };
            upload = call.rewound(&lost).filter(|_| tries > 0).ok_or(lost)?;
            self.counters.retry();
            flight.notes.retried();
        }
    }

    fn answer(&self, call: Call, answer: Response<h2::RecvStream>) -> Response<AnswerBody> {
        let (mut head, stream) = answer.into_parts();
        headers::prepare_answer(&mut head);
        head.version = Version::HTTP_11;
        if !call.is_sent() {
            // As in an exchange of HTTP/1.1: no request follows what is left of this one.
            head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let download = call.into_download(stream, &head, &self.tasks);
        Response::from_parts(head, AnswerBody::Multiplexed(download))
    }

    async fn lease(&self, flight: &mut Flight) -> Result<Leased, Failure> {
        let (asked, mut opened) = (Instant::now(), false);
        let leased = self.app.lease(&self.tasks, || opened = true).await;
        if opened {
            self.counters.connect();
            if leased.is_ok() {
                self.observer.connected(&mut flight.notes, asked.elapsed());
            }
        }
        leased
    }
}
