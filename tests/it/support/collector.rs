//! A collector of spans by the official types of OTLP, over gRPC and over HTTP, on ports of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tonic::Status;

use super::authority::Issued;

/// A span as it came, with its service and what the request's `authorization` said.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) service: String,
    pub(crate) authorization: Option<String>,
    pub(crate) span: Span,
}

impl Received {
    /// An attribute as text.
    pub(crate) fn attribute(&self, name: &str) -> Option<String> {
        let pair = self.span.attributes.iter().find(|pair| pair.key == name)?;
        Some(match pair.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => text.clone(),
            Value::IntValue(number) => number.to_string(),
            other => panic!("{name}: {other:?}"),
        })
    }

    /// The ids of trace, span and parent, in hexadecimal.
    pub(crate) fn ids(&self) -> [String; 3] {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        [&self.span.trace_id, &self.span.span_id, &self.span.parent_span_id].map(|id| hex(id))
    }
}

/// What a collector does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Takes,
    /// Refuses one span of each request.
    Refuses,
    /// Answers 503, or UNAVAILABLE.
    Fails,
    /// Does so once, and takes what comes after.
    FailsOnce,
    /// Answers 400, or INVALID_ARGUMENT.
    Denies,
}

/// Stopped on drop.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _server: JoinSet<()>,
}

struct State {
    received: Mutex<Vec<Received>>,
    mood: Mutex<Mood>,
    asked: AtomicUsize,
}

impl State {
    fn take(
        &self,
        request: ExportTraceServiceRequest,
        authorization: Option<String>,
    ) -> Option<ExportTraceServiceResponse> {
        let mood = *self.mood.lock().unwrap();
        let mut spans = Vec::new();
        for resource in request.resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            let service =
                attributes.iter().find(|pair| pair.key == "service.name").unwrap().value.clone().unwrap().value;
            let Some(Value::StringValue(service)) = service else { panic!("no text: {service:?}") };
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                spans.push(Received { service: service.clone(), authorization: authorization.clone(), span });
            }
        }
        self.asked.fetch_add(1, Relaxed);
        match mood {
            Mood::Fails | Mood::Denies => return None,
            Mood::FailsOnce => {
                *self.mood.lock().unwrap() = Mood::Takes;
                return None;
            }
            Mood::Takes | Mood::Refuses => {}
        }
        self.received.lock().unwrap().extend(spans);
        let refused = ExportTracePartialSuccess { rejected_spans: 1, error_message: "not this one".into() };
        Some(ExportTraceServiceResponse { partial_success: (mood == Mood::Refuses).then_some(refused) })
    }
}

struct Service(Arc<State>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        let authorization = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let answer = self.0.take(request.into_inner(), authorization);
        answer.map(tonic::Response::new).ok_or_else(|| match *self.0.mood.lock().unwrap() {
            Mood::Denies => Status::invalid_argument("never"),
            _ => Status::unavailable("not now"),
        })
    }
}

impl Collector {
    /// One that is spoken to over gRPC.
    pub(crate) async fn grpc() -> Self {
        Self::start_grpc(None).await
    }

    /// The same, over TLS.
    pub(crate) async fn grpc_secured(issued: &Issued) -> Self {
        Self::start_grpc(Some(acceptor(issued))).await
    }

    async fn start_grpc(tls: Option<TlsAcceptor>) -> Self {
        let (listener, state) = Self::listen().await;
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        let service = TraceServiceServer::new(Service(state.clone()));
        server.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = hyper_util::service::TowerToHyperService::new(service.clone());
                let tls = tls.clone();
                open.spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    match tls {
                        None => drop(server.serve_connection(TokioIo::new(stream), service).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(server.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        });
        Self { address, state, _server: server }
    }

    /// One that is spoken to over HTTP.
    pub(crate) async fn http() -> Self {
        let (listener, state) = Self::listen().await;
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        let shared = state.clone();
        server.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = shared.clone();
                let answer = service_fn(move |request| answer(state.clone(), request));
                open.spawn(async move {
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Self { address, state, _server: server }
    }

    async fn listen() -> (TcpListener, Arc<State>) {
        let state = State { received: Mutex::default(), mood: Mutex::new(Mood::Takes), asked: AtomicUsize::new(0) };
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::new(state))
    }

    pub(crate) fn be(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    /// How often it was asked to take something.
    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(Relaxed)
    }

    /// Everything taken so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }
}

/// A server's side of TLS that speaks HTTP/2.
fn acceptor(issued: &Issued) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(&issued.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&issued.key).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri().path(), "/base/v1/traces");
    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
    let authorization = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let request = ExportTraceServiceRequest::decode(body).expect("an export request");
    Ok(match state.take(request, authorization) {
        Some(answer) => Response::builder()
            .header("content-type", "application/x-protobuf")
            .body(Full::from(answer.encode_to_vec()))
            .unwrap(),
        None if *state.mood.lock().unwrap() == Mood::Denies => {
            Response::builder().status(StatusCode::BAD_REQUEST).body(Full::default()).unwrap()
        }
        None => Response::builder()
            .status(StatusCode::SERVICE_UNAVAILABLE)
            .header("retry-after", "1")
            .body(Full::from("not now"))
            .unwrap(),
    })
}
