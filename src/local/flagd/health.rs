//! `grpc.health.v1.Health`: serving once flags can be evaluated, and no more when the sidecar ends.

use bytes::Bytes;
use futures_util::stream;
use tokio::time::Instant;

use super::SERVICES;
use super::subscription::Sources;
use crate::local::streams::Place;
use crate::net::rpc::wire::{Fields, Malformed, put_bytes, put_message, put_number};
use crate::net::rpc::{Code, Codec, Status, Stream};

/// `ServingStatus`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serving {
    Yes = 1,
    No = 2,
    Unknown = 3,
}

impl Serving {
    fn of(service: &str, sources: &Sources) -> Self {
        if !service.is_empty() && !SERVICES.contains(&service) {
            Serving::Unknown
        } else if sources.ready() && !sources.closing() {
            Serving::Yes
        } else {
            Serving::No
        }
    }

    fn name(self) -> &'static str {
        match self {
            Serving::Yes => "SERVING",
            Serving::No => "NOT_SERVING",
            Serving::Unknown => "SERVICE_UNKNOWN",
        }
    }

    fn put(self, codec: Codec, answer: &mut Vec<u8>) {
        match codec {
            Codec::Proto => put_number(answer, 1, self as u64),
            Codec::Json => answer.extend_from_slice(format!(r#"{{"status":"{}"}}"#, self.name()).as_bytes()),
        }
    }
}

/// `Check`
///
/// # Errors
/// `NOT_FOUND` for a service that is not here.
pub(super) fn check(codec: Codec, sources: &Sources, message: &[u8], answer: &mut Vec<u8>) -> Result<(), Status> {
    let service = service(codec, message)?;
    match Serving::of(&service, sources) {
        Serving::Unknown => Err(Status::new(Code::NotFound, format!("there is no service {service:?}"))),
        serving => {
            serving.put(codec, answer);
            Ok(())
        }
    }
}

/// `List`
pub(super) fn list(codec: Codec, sources: &Sources, answer: &mut Vec<u8>) {
    let all = [""].into_iter().chain(SERVICES);
    match codec {
        Codec::Proto => {
            for service in all {
                put_message(answer, 1, |answer| {
                    put_bytes(answer, 1, service);
                    put_message(answer, 2, |answer| Serving::of(service, sources).put(codec, answer));
                });
            }
        }
        Codec::Json => {
            answer.extend_from_slice(b"{\"statuses\":{");
            for (at, service) in all.enumerate() {
                let comma = if at > 0 { "," } else { "" };
                answer.extend_from_slice(format!("{comma}\"{service}\":").as_bytes());
                Serving::of(service, sources).put(codec, answer);
            }
            answer.extend_from_slice(b"}}");
        }
    }
}

/// `Watch`: the status at once, and again whenever it changes. Before it ends it says that nothing is served.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is no request.
pub(super) fn watch(
    codec: Codec,
    sources: Sources,
    message: &[u8],
    deadline: Option<Instant>,
    place: Place,
) -> Result<Stream, Status> {
    let service = service(codec, message)?;
    let first = Watching { codec, sources, service, deadline, place, told: None, ended: false };
    Ok(Box::pin(stream::unfold(first, |mut watching| async move {
        watching.place.asked();
        let item = watching.next().await?;
        watching.place.gave();
        Some((item, watching))
    })))
}

struct Watching {
    codec: Codec,
    sources: Sources,
    service: String,
    deadline: Option<Instant>,
    place: Place,
    told: Option<Serving>,
    ended: bool,
}

impl Watching {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        while !self.ended {
            let serving = Serving::of(&self.service, &self.sources);
            if self.told != Some(serving) {
                self.told = Some(serving);
                let mut answer = Vec::new();
                serving.put(self.codec, &mut answer);
                return Some(Ok(answer.into()));
            }
            if self.sources.closing() {
                return None;
            }
            let deadline = async {
                match self.deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let Sources { phase, flags, .. } = &mut self.sources;
            let ended = tokio::select! {
                changed = phase.changed() => changed.is_err(),
                changed = flags.changed() => changed.is_err(),
                () = deadline => {
                    self.ended = true;
                    return Some(Err(Status::new(Code::DeadlineExceeded, "the time of the stream is over")));
                }
            };
            if ended {
                return None;
            }
        }
        None
    }
}

/// The service that a `HealthCheckRequest` names; empty for all of them.
fn service(codec: Codec, message: &[u8]) -> Result<String, Status> {
    let refused = |why: String| Status::new(Code::InvalidArgument, format!("the request is not sound: {why}"));
    match codec {
        Codec::Proto => {
            let read = || -> Result<String, Malformed> {
                let mut service = "";
                for field in Fields::of(message) {
                    if let (1, text) = field? {
                        service = text.text()?;
                    }
                }
                Ok(service.to_owned())
            };
            read().map_err(|error| refused(error.to_string()))
        }
        Codec::Json => {
            #[derive(serde::Deserialize)]
            struct Asked {
                service: Option<String>,
            }
            let asked: Asked = serde_json::from_slice(message).map_err(|error| refused(error.to_string()))?;
            Ok(asked.service.unwrap_or_default())
        }
    }
}
