//! The app of the matrix, as a process that can be killed: this very binary, run once more.

use std::convert::Infallible;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use sha1_smol::Sha1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::eventually;
use crate::support::port::Port;

/// The variable that makes an app of a run of the tests.
const PORT: &str = "TIDEGATE_TEST_APP";
/// Between two events of a stream.
const PACE: Duration = Duration::from_millis(20);

pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// A running app. Dropping it is `kill -9`.
pub(super) struct App(Child);

impl App {
    /// Starts it and waits until it accepts.
    pub(super) async fn start(port: &Port) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["endings::app::runs_as_a_process_when_told_to", "--exact", "--nocapture"])
            .env(PORT, port.address().port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let app = Self(child);
        eventually(Duration::from_secs(30), "the app accepts", async || {
            tokio::net::TcpStream::connect(port.address()).await.is_ok()
        })
        .await;
        app
    }
}

impl App {
    /// Sends the process a signal.
    pub(super) fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The app itself; a test that passes at once in every other run.
#[test]
fn runs_as_a_process_when_told_to() {
    let Ok(port) = std::env::var(PORT) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).await.unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let mut builder = auto::Builder::new(TokioExecutor::new());
                builder.http2().enable_connect_protocol();
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service_fn(served)).await;
            });
        }
    });
}

/// What `/work` answers to a request of this name: long enough that half of it can be missing.
pub(crate) fn work(name: &str) -> String {
    format!("{name} ").repeat(500)
}

async fn served(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(answer(request).await)
}

/// Answers what the load asks.
pub(crate) async fn answer(request: Request<Incoming>) -> Response<Body> {
    let query = request.uri().query().unwrap_or("").to_owned();
    let text = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or("");
    match request.uri().path() {
        "/work" => {
            tokio::time::sleep(Duration::from_millis(text("ms").parse().unwrap_or(0))).await;
            self::text(work(text("name")))
        }
        "/echo" => Response::new(request.into_body().boxed_unsync()),
        "/events" => events(text("count").parse().unwrap_or(u64::MAX)),
        "/chat" => chat(request),
        "/grpc" => grpc(request),
        _ => Response::builder().status(404).body(empty()).unwrap(),
    }
}

/// An answer of this body.
pub(crate) fn text(body: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync())
}

fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed_unsync()
}

/// Server-sent events, numbered.
fn events(count: u64) -> Response<Body> {
    let events = stream::unfold(0, move |number| async move {
        if number == count {
            return None;
        }
        tokio::time::sleep(PACE).await;
        Some((Ok(Frame::data(Bytes::from(format!("data: {number}\n\n")))), number + 1))
    });
    Response::builder()
        .header(header::CONTENT_TYPE, "text/event-stream")
        .body(StreamBody::new(events).boxed_unsync())
        .unwrap()
}

/// gRPC of every kind at once: each message comes back as it came, and then the status.
fn grpc(request: Request<Incoming>) -> Response<Body> {
    let status =
        HeaderMap::from_iter([(header::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = request.into_body().with_trailers(std::future::ready(Some(Ok(status))));
    Response::builder().header(header::CONTENT_TYPE, "application/grpc").body(body.boxed_unsync()).unwrap()
}

/// A WebSocket that echoes messages below 126 bytes.
fn chat(mut request: Request<Incoming>) -> Response<Body> {
    let is_http2 = request.method() == Method::CONNECT;
    // RFC 6455 section 4.2.2.
    let mut hash = Sha1::new();
    hash.update(request.headers().get(header::SEC_WEBSOCKET_KEY).map_or(b"", |key| key.as_bytes()));
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(hash.digest().bytes());
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let mut socket = TokioIo::new(upgraded);
        loop {
            let mut head = [0; 6];
            if socket.read_exact(&mut head).await.is_err() {
                return;
            }
            let mut payload = vec![0; usize::from(head[1] & 0x7f)];
            if socket.read_exact(&mut payload).await.is_err() {
                return;
            }
            payload.iter_mut().zip(head[2..].iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            let frame = [&[head[0], payload.len() as u8], payload.as_slice()].concat();
            if socket.write_all(&frame).await.is_err() {
                return;
            }
            if head[0] == 0x88 {
                let _ = socket.shutdown().await;
                return;
            }
        }
    });
    if is_http2 {
        // RFC 8441 section 5.
        return Response::new(empty());
    }
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .body(empty())
        .unwrap()
}
