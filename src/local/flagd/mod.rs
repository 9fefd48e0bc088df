//! The protocols of flagd (<https://flagd.dev/reference/specifications/protos/>) over gRPC, gRPC-Web and Connect:
//! evaluation and its events, sync, and what gRPC clients ask of any server: health and reflection.

mod definitions;
mod evaluation;
mod events;
mod health;
mod reflection;
mod structs;
mod subscription;
mod sync;
mod view;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{ALLOW, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version as HttpVersion};
use http_body::Body;
use tokio::sync::watch;

use super::streams::{Full, Place, Streams};
use crate::flags;
use crate::flags::store::{Snapshot, Store};
use crate::lifecycle::machine::Phase;
use crate::net::activity::Activity;
use crate::net::outbound::Outbound;
use crate::net::rpc::{self, Code, Format, Interrupted, Messages, Protocol, Status};
use evaluation::{Kind, Version};
use subscription::{Sources, Subscription};
use view::{Selector, Views};

/// The services by their full names.
const SERVICES: [&str; 7] = [
    "flagd.evaluation.v1.Service",
    "flagd.evaluation.v2.Service",
    "flagd.sync.v1.FlagSyncService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "schema.v1.Service",
];

/// As on the other flag routes: a number that never falls while the process lives.
const REVISION: HeaderName = HeaderName::from_static("tidegate-revision");

/// The flagd routes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Api {
    sources: Sources,
    streams: Streams,
}

/// What the flagd routes read.
#[derive(Debug)]
pub struct Parts {
    /// The flags.
    pub store: Arc<Store>,
    /// The sources, which tell when the first flags are there.
    pub flags: watch::Receiver<flags::Status>,
    /// The phase, which tells when the sidecar ends.
    pub phase: watch::Receiver<Phase>,
    /// The places for streams.
    pub streams: Streams,
}

impl Api {
    /// Serves the flags of these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { store, flags, phase, streams } = parts;
        let views = Arc::new(Views::new(store));
        Self { sources: Sources { views, phase, flags }, streams }
    }
}

/// Whether a request is for these routes: by its path, or by being gRPC, which wants even a refusal in gRPC.
pub fn serves(path: &str, headers: &HeaderMap) -> bool {
    let service = path.strip_prefix('/').unwrap_or_default();
    ["flagd.", "schema.v1.", "grpc."].iter().any(|prefix| service.starts_with(prefix)) || rpc::is_grpc(headers)
}

/// Answers a request on the connection of `activity`.
///
/// # Cancellation
/// Dropped at any point it leaves nothing behind; a stream ends with its answer's body.
pub async fn handle<B>(api: &Api, activity: &Arc<Activity>, request: Request<B>) -> Response<Outbound>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Interrupted>,
{
    let mut answer = answer(api, activity, request).await;
    let generation = api.sources.views.store().load().generation();
    answer.headers_mut().entry(REVISION).or_insert_with(|| HeaderValue::from(generation));
    answer.map(Outbound::Call)
}

async fn answer<B>(api: &Api, activity: &Arc<Activity>, request: Request<B>) -> Response<rpc::Body>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Interrupted>,
{
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        let mut refusal = rpc::refusal(StatusCode::METHOD_NOT_ALLOWED);
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return refusal;
    }
    let Some(format) = Format::of(&head.headers) else { return rpc::unsupported() };
    if format.protocol == Protocol::Grpc && head.version < HttpVersion::HTTP_2 {
        return rpc::refusal(StatusCode::HTTP_VERSION_NOT_SUPPORTED);
    }
    let Some(call) = Call::of(head.uri.path()) else {
        let status = Status::new(Code::Unimplemented, format!("there is no method {:?}", head.uri.path()));
        return format.failure(&status);
    };
    let fits = match format.protocol {
        Protocol::Grpc | Protocol::GrpcWeb(_) => true,
        Protocol::ConnectUnary => !call.streams(),
        Protocol::ConnectStream => call.streams(),
    };
    if !fits {
        return rpc::unsupported();
    }
    let answered = match call {
        Call::Unary(unary) => unary.answer(api, format, &head.headers, body).await,
        Call::Streaming(streaming) => {
            let place = || api.streams.open(streaming.name(), activity.clone());
            streaming.answer(api.sources.clone(), format, &head.headers, body, place).await
        }
    };
    answered.unwrap_or_else(|status| format.failure(&status))
}

/// A method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Unary(Unary),
    Streaming(Streaming),
}

/// A method that gives one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unary {
    Resolve(Version, Kind),
    ResolveAll(Version),
    Fetch,
    Metadata,
    Check,
    List,
}

/// A method that gives any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Streaming {
    Events,
    Sync,
    Watch,
    Reflection,
}

impl Call {
    fn of(path: &str) -> Option<Self> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let evaluation = |version| {
            let kind = match method {
                "ResolveBoolean" => Kind::Boolean,
                "ResolveString" => Kind::String,
                "ResolveInt" => Kind::Integer,
                "ResolveFloat" => Kind::Float,
                "ResolveObject" => Kind::Object,
                "ResolveAll" if version != Version::V2 => return Some(Self::Unary(Unary::ResolveAll(version))),
                "EventStream" => return Some(Self::Streaming(Streaming::Events)),
                _ => return None,
            };
            Some(Self::Unary(Unary::Resolve(version, kind)))
        };
        match (service, method) {
            ("flagd.evaluation.v2.Service", _) => evaluation(Version::V2),
            ("flagd.evaluation.v1.Service", _) => evaluation(Version::V1),
            ("schema.v1.Service", _) => evaluation(Version::Schema),
            ("flagd.sync.v1.FlagSyncService", "SyncFlags") => Some(Self::Streaming(Streaming::Sync)),
            ("flagd.sync.v1.FlagSyncService", "FetchAllFlags") => Some(Self::Unary(Unary::Fetch)),
            ("flagd.sync.v1.FlagSyncService", "GetMetadata") => Some(Self::Unary(Unary::Metadata)),
            ("grpc.health.v1.Health", "Check") => Some(Self::Unary(Unary::Check)),
            ("grpc.health.v1.Health", "List") => Some(Self::Unary(Unary::List)),
            ("grpc.health.v1.Health", "Watch") => Some(Self::Streaming(Streaming::Watch)),
            (
                "grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection",
                "ServerReflectionInfo",
            ) => Some(Self::Streaming(Streaming::Reflection)),
            _ => None,
        }
    }

    fn streams(self) -> bool {
        matches!(self, Self::Streaming(_))
    }
}

impl Unary {
    async fn answer<B>(
        self,
        api: &Api,
        format: Format,
        headers: &HeaderMap,
        body: B,
    ) -> Result<Response<rpc::Body>, Status>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Interrupted>,
    {
        let message = rpc::message(format, headers, body, rpc::deadline(format, headers)?).await?;
        let codec = format.codec;
        let mut buffer = format.buffer();
        // One snapshot for the whole answer, taken when everything else is at hand.
        let views = &api.sources.views;
        let revision = match self {
            Unary::Resolve(version, kind) => views.with(&Selector::of(headers, "")?, |snapshot| {
                let asked = (version, kind);
                started(snapshot)?;
                evaluation::resolve(asked, codec, snapshot, &message, SystemTime::now(), &mut buffer)?;
                Ok::<_, Status>(snapshot.generation())
            })?,
            Unary::ResolveAll(version) => views.with(&Selector::of(headers, "")?, |snapshot| {
                started(snapshot)?;
                evaluation::resolve_all(version, codec, snapshot, &message, SystemTime::now(), &mut buffer)?;
                Ok::<_, Status>(snapshot.generation())
            })?,
            Unary::Fetch => {
                let view = views.get(&Selector::of(headers, &sync::selector(codec, &message)?)?);
                started(view.snapshot())?;
                sync::fetched(codec, &view, SystemTime::now(), &mut buffer);
                view.snapshot().generation()
            }
            Unary::Metadata => {
                let snapshot = views.store().load();
                sync::metadata(codec, snapshot.context().attributes(), &mut buffer);
                snapshot.generation()
            }
            Unary::Check => {
                rpc::health::check(codec, &api.sources, &message, &mut buffer)?;
                views.store().load().generation()
            }
            Unary::List => {
                rpc::health::list(codec, &api.sources, &mut buffer);
                views.store().load().generation()
            }
        };
        let mut response = format.answer(buffer);
        response.headers_mut().insert(REVISION, HeaderValue::from(revision));
        Ok(response)
    }
}

impl Streaming {
    /// What it is counted as.
    fn name(self) -> &'static str {
        match self {
            Streaming::Events => "flagd_events",
            Streaming::Sync => "flagd_sync",
            Streaming::Watch => "health",
            Streaming::Reflection => "reflection",
        }
    }

    async fn answer<B>(
        self,
        sources: Sources,
        format: Format,
        headers: &HeaderMap,
        body: B,
        place: impl FnOnce() -> Result<Place, Full>,
    ) -> Result<Response<rpc::Body>, Status>
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Interrupted>,
    {
        let deadline = rpc::deadline(format, headers)?;
        let codec = format.codec;
        if sources.closing() {
            return Err(subscription::parted());
        }
        let messages = match self {
            Streaming::Reflection if codec == rpc::Codec::Json => {
                return Err(Status::new(Code::Unimplemented, "reflection is in protocol buffers only"));
            }
            Streaming::Reflection => {
                let questions = Messages::new(format, headers, body)?;
                reflection::stream(questions, sources, place()?)
            }
            Streaming::Events => {
                rpc::message(format, headers, body, deadline).await?;
                events::stream(codec, Subscription::new(sources, Selector::of(headers, "")?, deadline), place()?)
            }
            Streaming::Sync => {
                let message = rpc::message(format, headers, body, deadline).await?;
                let selector = Selector::of(headers, &sync::selector(codec, &message)?)?;
                sync::stream(codec, Subscription::new(sources, selector, deadline), place()?)
            }
            Streaming::Watch => {
                let message = rpc::message(format, headers, body, deadline).await?;
                place()?.on(rpc::health::watch(codec, sources, &message, deadline)?)
            }
        };
        Ok(format.stream(messages))
    }
}

impl From<Full> for Status {
    fn from(full: Full) -> Self {
        Status::new(Code::ResourceExhausted, full.to_string())
    }
}

/// Before the first flags are in force, none is known not to be there.
fn started(snapshot: &Snapshot) -> Result<(), Status> {
    if snapshot.generation() > 0 { Ok(()) } else { Err(Status::new(Code::Unavailable, "there are no flags yet")) }
}
