//! One collector: its connection, which is kept, and requests over it (OTLP/HTTP and OTLP/gRPC).

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, TE, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::{Endpoint, Protocol, Scheme, Settings, encode};
use crate::lifecycle::tasks::Tasks;
use crate::net::resolve::{self, Purpose};
use crate::net::tls;

/// The most that is read of an answer.
const ANSWER: usize = 64 * 1024;
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Why a collector did not take spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) why: String,
    pub(super) again: Again,
}

/// Whether the same spans may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// They would be refused again, or may have been taken.
    Never,
    /// In a moment.
    Soon,
    /// After so long, as the collector said.
    After(Duration),
}

impl Failed {
    fn soon(why: String) -> Self {
        Self { why, again: Again::Soon }
    }
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self { why, again: Again::Never }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// See the module's text.
pub(super) struct Collector {
    settings: Settings,
    session: Option<Session>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

struct Session {
    sender: Sender,
    /// Held for its drop, which ends the connection.
    _driver: JoinSet<()>,
}

/// Runs what HTTP/2 does beside its connection; it ends with that.
#[derive(Clone)]
struct Beside(Tasks);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Beside {
    fn execute(&self, task: F) {
        self.0.spawn_connection(task);
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.endpoint.fmt(f)
    }
}

impl Collector {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, session: None }
    }

    /// Sends an `ExportTraceServiceRequest`: how many of its spans were refused, and why; or why all are lost.
    ///
    /// # Cancellation
    /// Call [`Collector::disconnect`] after: an answer may still be on its way.
    pub(super) async fn export(&mut self, message: Bytes) -> Result<(u64, String), Failed> {
        // A connection that was kept may have been closed meanwhile: then the request is made over a new one, once.
        if let Some(session) = &mut self.session
            && let Some(answer) = session.send(request(&self.settings, message.clone())?).await.ok()
        {
            return judge(self.settings.protocol, answer).await;
        }
        let mut session = connect(&self.settings).await.map_err(Failed::soon)?;
        let answer = session.send(request(&self.settings, message)?).await.map_err(|e| Failed::soon(told(&e)))?;
        let judged = judge(self.settings.protocol, answer).await?;
        self.session = Some(session);
        Ok(judged)
    }

    /// Gives up the connection.
    pub(super) fn disconnect(&mut self) {
        self.session = None;
    }
}

impl Session {
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

async fn connect(settings: &Settings) -> Result<Session, String> {
    let Endpoint { scheme, host, port, .. } = &settings.endpoint;
    let addresses = resolve::addresses(Purpose::Background, host, *port).await.map_err(|e| e.to_string())?;
    let stream = TcpStream::connect(addresses.as_slice()).await.map_err(|e| e.to_string())?;
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let stream: Box<dyn Stream> = match scheme {
        Scheme::Http => Box::new(stream),
        Scheme::Https => {
            let name = ServerName::try_from(host.clone()).map_err(|e| format!("{host}: {e}"))?;
            let secured = TlsConnector::from(trust(settings).await?).connect(name, stream).await;
            Box::new(secured.map_err(|e| format!("TLS: {e}"))?)
        }
    };
    let io = TokioIo::new(stream);
    let mut driver = JoinSet::new();
    let sender = match settings.protocol {
        Protocol::Http => {
            let (sender, connection) = http1::handshake(io).await.map_err(|e| told(&e))?;
            driver.spawn(async move { log(connection.await) });
            Sender::Http1(sender)
        }
        Protocol::Grpc => {
            let (sender, connection) = http2::handshake(Beside(Tasks::new()), io).await.map_err(|e| told(&e))?;
            driver.spawn(async move { log(connection.await) });
            Sender::Http2(sender)
        }
    };
    Ok(Session { sender, _driver: driver })
}

fn log(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "the connection to the collector ended");
    }
}

/// Whom to trust. The system's authorities are read once, a file each time: it may have been replaced.
async fn trust(settings: &Settings) -> Result<Arc<ClientConfig>, String> {
    static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let trusted = match &settings.ca_file {
        None => SYSTEM.get_or_init(tls::client_config).clone(),
        Some(path) => {
            let roots = tokio::fs::read(path).await.map_err(|e| format!("{}: {e}", path.display()))?;
            tls::client_config_from(Some(&roots), None).map_err(|e| e.to_string())?
        }
    };
    if settings.protocol == Protocol::Http {
        return Ok(trusted);
    }
    let mut config = ClientConfig::clone(&trusted);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn request(settings: &Settings, message: Bytes) -> Result<Request<Full<Bytes>>, String> {
    let Settings { endpoint, protocol, .. } = settings;
    let (target, body) = match protocol {
        Protocol::Http => (format!("{}/v1/traces", endpoint.path), message),
        Protocol::Grpc => {
            let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
            let scheme = if endpoint.scheme == Scheme::Https { "https" } else { "http" };
            // One message, not compressed (gRPC over HTTP/2, "Length-Prefixed-Message").
            let mut framed = BytesMut::with_capacity(message.len() + 5);
            framed.put_u8(0);
            framed.put_u32(u32::try_from(message.len()).map_err(|e| e.to_string())?);
            framed.put(message);
            (format!("{scheme}://{}{path}", endpoint.authority()), framed.freeze())
        }
    };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.parse::<Uri>().map_err(|e| e.to_string())?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION"))));
    match protocol {
        Protocol::Http => {
            headers.insert(CONTENT_TYPE, PROTOBUF);
            headers.insert(HOST, HeaderValue::try_from(endpoint.authority()).map_err(|e| e.to_string())?);
        }
        Protocol::Grpc => {
            headers.insert(CONTENT_TYPE, GRPC);
            headers.insert(TE, HeaderValue::from_static("trailers"));
            *request.version_mut() = Version::HTTP_2;
        }
    }
    for (name, secret) in &settings.headers {
        let mut value =
            HeaderValue::try_from(secret.expose()).map_err(|_| "a header that cannot be sent".to_owned())?;
        value.set_sensitive(true);
        request.headers_mut().insert(name.clone(), value);
    }
    Ok(request)
}

/// What an answer says of the spans.
async fn judge(protocol: Protocol, answer: Response<Incoming>) -> Result<(u64, String), Failed> {
    if !answer.status().is_success() {
        let why = format!("the collector answers {}", answer.status());
        return Err(Failed { why, again: again(answer.status(), answer.headers()) });
    }
    let (head, body) = answer.into_parts();
    let (message, trailers) = read(body).await?;
    if protocol == Protocol::Http {
        // A body of another type says nothing of spans: a proxy before the collector may have made it.
        let told = head.headers.get(CONTENT_TYPE) == Some(&PROTOBUF);
        let refused = if told { encode::refused(&message) } else { Ok((0, String::new())) };
        return refused.map_err(|e| format!("the collector's answer: {e}").into());
    }
    let status = trailers.as_ref().and_then(|trailers| trailers.get(GRPC_STATUS)).or(head.headers.get(GRPC_STATUS));
    match status.map(HeaderValue::as_bytes) {
        Some(b"0") => {
            let message = message.get(5..).unwrap_or_default();
            encode::refused(message).map_err(|e| format!("the collector's answer: {e}").into())
        }
        Some(code) => {
            let why = format!("the collector answers grpc-status {}", String::from_utf8_lossy(code));
            // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS (OTLP, "Failures"). After
            // RESOURCE_EXHAUSTED only where the status has details, which are not read here.
            let again =
                if matches!(code, b"1" | b"4" | b"10" | b"11" | b"14" | b"15") { Again::Soon } else { Again::Never };
            Err(Failed { why, again })
        }
        None => Err("the collector does not speak gRPC".to_owned().into()),
    }
}

/// What an answer of HTTP says of another attempt (OTLP, "Retryable Response Codes").
fn again(status: StatusCode, headers: &HeaderMap) -> Again {
    let retryable = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    if !retryable.contains(&status) {
        return Again::Never;
    }
    let Some(told) = headers.get(RETRY_AFTER).and_then(|told| told.to_str().ok()) else { return Again::Soon };
    // RFC 9110 section 10.2.3: seconds, or a date.
    let until = |date: SystemTime| date.duration_since(SystemTime::now()).unwrap_or_default();
    match (told.parse(), httpdate::parse_http_date(told)) {
        (Ok(seconds), _) => Again::After(Duration::from_secs(seconds)),
        (_, Ok(date)) => Again::After(until(date)),
        _ => Again::Soon,
    }
}

/// Reads a body of bounded length, and what follows it.
async fn read(mut body: Incoming) -> Result<(Vec<u8>, Option<HeaderMap>), String> {
    let (mut message, mut trailers) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame.map_err(|e| told(&e))?.into_data() {
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
        if message.len() > ANSWER {
            return Err("the collector's answer is too long".to_owned());
        }
    }
    Ok((message, trailers))
}

/// An error with its causes, in one line.
fn told(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_sent_again_is_what_the_specification_says() {
        for (status, told, expected) in [
            (429, None, Again::Soon),
            (502, None, Again::Soon),
            (503, Some("7"), Again::After(Duration::from_secs(7))),
            (504, Some("soon"), Again::Soon),
            (503, Some("Sun, 06 Nov 1994 08:49:37 GMT"), Again::After(Duration::ZERO)),
            (400, Some("7"), Again::Never),
            (401, None, Again::Never),
            (500, None, Again::Never),
        ] {
            let headers = told.map(|told| (RETRY_AFTER, HeaderValue::from_static(told))).into_iter().collect();
            assert_eq!(again(StatusCode::from_u16(status).expect("one"), &headers), expected, "{status} {told:?}");
        }
    }
}
