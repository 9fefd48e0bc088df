//! `/v1/hold` and `/v1/release`: closes the gates before the app, tells when nothing that went through is under way any
//! more, and opens them again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Control, not_allowed, problem, reply};
use crate::lifecycle::ledger::Ledger;
use crate::lifecycle::machine::{Event, Phase};
use crate::net::outbound::{Broken, Outbound};
use crate::net::server::Peer;
use crate::proxy::gate::{Hold, Manual, NotHeld, Reason, Status};

/// How often the ledger is looked at until nothing is under way, and a hold for its end.
const LOOK: Duration = Duration::from_millis(5);

/// Whether a path is served here.
pub fn serves(path: &str) -> bool {
    matches!(path, "/v1/hold" | "/v1/release")
}

struct Asked {
    lasts: Option<Duration>,
    by: String,
    until: Until,
}

/// What ends a hold before its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// A release alone.
    Released,
    /// The end of the connection that asked, too.
    Closed,
}

impl Control {
    /// Answers one request of these paths. They are for the unix socket alone, as draining is.
    ///
    /// # Cancellation
    /// A caller that goes away before its answer has held nothing.
    pub async fn hold<B>(&self, peer: Peer, request: &Request<B>) -> Response<Outbound> {
        if request.method() != Method::POST {
            return not_allowed("POST").map(Outbound::Whole);
        }
        if peer != Peer::Unix {
            return problem(StatusCode::FORBIDDEN, "holding is for the unix socket").map(Outbound::Whole);
        }
        if request.uri().path() == "/v1/release" {
            let status = if self.0.gates.release() { "released" } else { "not held" };
            self.0.ledger.hold_until(None);
            self.0.lifecycle.send(Event::Release).await;
            return reply(StatusCode::OK, &json!({ "status": status })).map(Outbound::Whole);
        }
        let asked = match asked(request.uri().query().unwrap_or("")) {
            Ok(asked) => asked,
            Err(wrong) => return problem(StatusCode::BAD_REQUEST, &wrong).map(Outbound::Whole),
        };
        match self.quiesce(&asked).await {
            Err(answer) => answer.map(Outbound::Whole),
            Ok((mut hold, answer)) if asked.until == Until::Released => {
                hold.detach();
                reply(StatusCode::OK, &answer).map(Outbound::Whole)
            }
            Ok((hold, answer)) => {
                let first = Bytes::from(format!("{answer}\n"));
                let mut response = reply(StatusCode::OK, &Value::Null).map(|_: Full<Bytes>| ());
                response.headers_mut().remove(http::header::CONTENT_LENGTH);
                response.map(|()| Outbound::stream(Holding { first: Some(first), ended: Box::pin(ended(hold)) }))
            }
        }
    }

    /// Holds requests and waits until none that was sent to the app before is under way.
    async fn quiesce(&self, asked: &Asked) -> Result<(Waited, Value), Response<Full<Bytes>>> {
        let phase = self.0.lifecycle.phase();
        if !matches!(phase, Phase::Starting | Phase::Serving) {
            let why = format!("the phase is {}: nothing else may be held now", phase.as_str());
            return Err(problem(StatusCode::CONFLICT, &why));
        }
        let began = Instant::now();
        let held = self.0.gates.hold(&asked.by, asked.lasts);
        let hold = held.map_err(|why| {
            let status =
                if matches!(why, NotHeld::Already { .. }) { StatusCode::CONFLICT } else { StatusCode::BAD_REQUEST };
            problem(status, &why.to_string())
        })?;
        let hold = Waited { hold, ledger: self.0.ledger.clone() };
        self.0.ledger.hold_until(Some(hold.until()));
        loop {
            let counts = self.0.ledger.counts();
            let now = Instant::now();
            if !hold.is_held() {
                let why = match now >= hold.until() {
                    true if counts.requests == 1 => "1 request was still under way when the hold ended".to_owned(),
                    true => format!("{} requests were still under way when the hold ended", counts.requests),
                    false => "released by somebody else before nothing was under way".to_owned(),
                };
                return Err(problem(StatusCode::SERVICE_UNAVAILABLE, &why));
            }
            if counts.requests == 0 {
                let answer = json!({
                    "status": "held",
                    "quiesced_ms": millis(began.elapsed()),
                    "left_ms": millis(hold.until() - now),
                    "tunnels": counts.tunnels,
                    "work": counts.work,
                });
                return Ok((hold, answer));
            }
            sleep(LOOK).await;
        }
    }

    /// The gates in `status`.
    pub(super) fn gates(&self) -> Value {
        let manual = self.0.gates.manual();
        let left = |manual: &Manual| millis(manual.until.saturating_duration_since(Instant::now()));
        let mut gates = told(&self.0.gates.status());
        gates["by"] = json!(manual.as_ref().map(|manual| &manual.by));
        gates["left_ms"] = json!(manual.as_ref().map(left));
        let routes = self.0.gates.standings().into_iter().map(|standing| {
            let mut route = told(&standing.status);
            route["listener"] = json!(&*standing.listener);
            route["app"] = json!(standing.app.to_string());
            route
        });
        gates["routes"] = routes.collect();
        gates
    }
}

/// Of one gate, or of all together.
fn told(status: &Status) -> Value {
    let reason =
        |(reason, since): &(Reason, Instant)| json!({ "reason": reason.as_str(), "since_ms": millis(since.elapsed()) });
    json!({
        "state": if status.reasons.is_empty() { "open" } else { "closed" },
        "reasons": status.reasons.iter().map(reason).collect::<Value>(),
        "held": status.held,
        "oldest_ms": status.oldest.map(|since| millis(since.elapsed())),
    })
}

fn asked(query: &str) -> Result<Asked, String> {
    let mut asked = Asked { lasts: None, by: "somebody".to_owned(), until: Until::Released };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("for", text)) => match humantime::parse_duration(text) {
                Ok(lasts) if !lasts.is_zero() => asked.lasts = Some(lasts),
                _ => return Err("for is a duration above 0, such as 5s".to_owned()),
            },
            Some(("by", text)) if text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                text.clone_into(&mut asked.by);
            }
            Some(("by", _)) => return Err("by is at most 64 characters of printable ASCII".to_owned()),
            Some(("until", "closed")) => asked.until = Until::Closed,
            Some(("until", "released")) => asked.until = Until::Released,
            _ => return Err("the parameters are for, by and until, which is released or closed".to_owned()),
        }
    }
    Ok(asked)
}

/// A hold for which a drain waits.
struct Waited {
    hold: Hold,
    ledger: Arc<Ledger>,
}

impl Waited {
    fn until(&self) -> Instant {
        self.hold.until()
    }

    fn is_held(&self) -> bool {
        self.hold.is_held()
    }

    /// Lets it last until its limit, or a release; so long a drain waits.
    fn detach(&mut self) {
        self.hold.detach();
    }
}

impl Drop for Waited {
    fn drop(&mut self) {
        if self.hold.is_owned() {
            self.ledger.hold_until(None);
        }
    }
}

async fn ended(hold: Waited) {
    while hold.is_held() {
        sleep(LOOK).await;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A first line, and then nothing until the hold has ended. Dropped with its connection, which ends the hold.
struct Holding {
    first: Option<Bytes>,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Body for Holding {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.first.take() {
            Some(line) => Poll::Ready(Some(Ok(Frame::data(line)))),
            None => self.ended.as_mut().poll(cx).map(|()| None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_few_and_bounded() {
        let sound = asked("for=3s&by=ann&until=closed").expect("sound");
        assert_eq!((sound.lasts, sound.by.as_str(), sound.until), (Some(Duration::from_secs(3)), "ann", Until::Closed));
        assert_eq!(asked("").expect("sound").until, Until::Released);
        let long = format!("by={}", "x".repeat(65));
        for wrong in ["for=0s", "for=soon", "for", "by=a%20b c", "until=later", "wait=true", long.as_str()] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }
}
