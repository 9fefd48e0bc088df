//! `grpc.health.v1.Health` (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>) over whatever can say
//! what it serves.

use bytes::Bytes;
use futures_util::stream;
use tokio::time::Instant;

use super::wire::{Fields, Malformed, put_bytes, put_message, put_number};
use super::{Code, Codec, Status, Stream};

/// `ServingStatus`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// It is served.
    Yes = 1,
    /// It is not, now.
    No = 2,
    /// There is no such service.
    Unknown = 3,
}

/// What may be asked about.
pub trait Services: Send + 'static {
    /// How the service of this name stands; the empty one is all of them.
    fn serving(&self, service: &str) -> Serving;
    /// All names.
    fn names(&self) -> Vec<String>;
    /// Whether nothing changes any more: streams end once they have told the last state.
    fn closing(&self) -> bool;
    /// Waits until something may have changed; false when nothing ever will.
    ///
    /// # Cancellation
    /// Loses nothing.
    fn changed(&mut self) -> impl Future<Output = bool> + Send;
}

impl Serving {
    /// `Yes` or `No`.
    pub fn when(served: bool) -> Self {
        if served { Self::Yes } else { Self::No }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Yes => "SERVING",
            Self::No => "NOT_SERVING",
            Self::Unknown => "SERVICE_UNKNOWN",
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
pub fn check(codec: Codec, services: &impl Services, message: &[u8], answer: &mut Vec<u8>) -> Result<(), Status> {
    let service = service(codec, message)?;
    match services.serving(&service) {
        Serving::Unknown => Err(Status::new(Code::NotFound, format!("there is no service {service:?}"))),
        serving => {
            serving.put(codec, answer);
            Ok(())
        }
    }
}

/// `List`
pub fn list(codec: Codec, services: &impl Services, answer: &mut Vec<u8>) {
    let all = services.names();
    match codec {
        Codec::Proto => {
            for service in all {
                put_message(answer, 1, |answer| {
                    put_bytes(answer, 1, &service);
                    put_message(answer, 2, |answer| services.serving(&service).put(codec, answer));
                });
            }
        }
        Codec::Json => {
            answer.extend_from_slice(b"{\"statuses\":{");
            for (at, service) in all.iter().enumerate() {
                let comma = if at > 0 { "," } else { "" };
                answer.extend_from_slice(format!("{comma}\"{service}\":").as_bytes());
                services.serving(service).put(codec, answer);
            }
            answer.extend_from_slice(b"}}");
        }
    }
}

/// `Watch`: the status at once, and again whenever it changes. Before it ends it says that nothing is served; it ends with
/// UNAVAILABLE, as a stream that nobody has asked to end: clients take OK for the last word and may not come again.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is no request.
pub fn watch(
    codec: Codec,
    services: impl Services + Sync,
    message: &[u8],
    deadline: Option<Instant>,
) -> Result<Stream, Status> {
    let service = service(codec, message)?;
    let first = Watching { codec, services, service, deadline, told: None, ended: false };
    Ok(Box::pin(stream::unfold(first, |mut watching| async move {
        let item = watching.next().await?;
        Some((item, watching))
    })))
}

struct Watching<S> {
    codec: Codec,
    services: S,
    service: String,
    deadline: Option<Instant>,
    told: Option<Serving>,
    ended: bool,
}

impl<S: Services> Watching<S> {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        while !self.ended {
            let serving = self.services.serving(&self.service);
            if self.told != Some(serving) {
                self.told = Some(serving);
                let mut answer = Vec::new();
                serving.put(self.codec, &mut answer);
                return Some(Ok(answer.into()));
            }
            if self.services.closing() {
                return self.over(Status::new(Code::Unavailable, "the sidecar ends"));
            }
            let deadline = async {
                match self.deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                goes_on = self.services.changed() => if !goes_on {
                    return self.over(Status::new(Code::Unavailable, "the sidecar ends"));
                },
                () = deadline => {
                    return self.over(Status::new(Code::DeadlineExceeded, "the time of the stream is over"));
                }
            }
        }
        None
    }

    /// The last that is said.
    fn over(&mut self, status: Status) -> Option<Result<Bytes, Status>> {
        self.ended = true;
        Some(Err(status))
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
