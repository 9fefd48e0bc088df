//! Asks the running sidecar over its local socket.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::Settings;
use crate::lifecycle::tasks::{OnEnd, Tasks};
use crate::local::settings::Socket;

use super::{EXIT_UNAVAILABLE, complain};

/// A sidecar that does not accept within this is no sidecar.
const CONNECT: Duration = Duration::from_secs(2);
/// More than any answer.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Sends a request and returns the JSON of its answer, waiting for it at most `limit`. What goes wrong has been
/// printed; the error is the exit code.
pub(super) async fn ask(settings: &Settings, method: Method, path: &str, limit: Duration) -> Result<Value, ExitCode> {
    let socket = socket(settings)?;
    within(limit, exchange(socket, method, path)).await.map_err(|error| unreachable(socket, &error))
}

/// Asks for what may be done without: nothing is printed.
pub(super) async fn ask_quietly(socket: &Socket, path: &str, limit: Duration) -> Result<Value, String> {
    let (Socket::Required(socket) | Socket::IfPossible(socket)) = socket else {
        return Err("the configuration has no local.socket".to_owned());
    };
    let answer = within(limit, exchange(socket, Method::GET, path)).await;
    answer.map_err(|error| format!("no sidecar answers on {}: {error}", socket.display()))
}

async fn within<T>(limit: Duration, asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(limit, asked).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}

fn socket(settings: &Settings) -> Result<&Path, ExitCode> {
    match &settings.local.socket {
        Socket::Required(socket) | Socket::IfPossible(socket) => Ok(socket),
        Socket::None => {
            complain("the configuration has no local.socket; set one to reach the sidecar");
            Err(ExitCode::from(EXIT_UNAVAILABLE))
        }
    }
}

fn unreachable(socket: &Path, error: &str) -> ExitCode {
    complain(&format!("no sidecar answers on {}: {error}; is one running with the same --config?", socket.display()));
    ExitCode::from(EXIT_UNAVAILABLE)
}

async fn exchange(socket: &Path, method: Method, path: &str) -> Result<Value, String> {
    let request = Question { method, path, accept: "application/json", body: Bytes::new() };
    let (status, body) = send(&Target::Socket(socket.to_owned()), request).await?;
    let answer: Value = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
    if !status.is_success() {
        return Err(answer["error"].as_str().map_or_else(|| status.to_string(), str::to_owned));
    }
    Ok(answer)
}

/// Asks for an answer that lasts and must begin within `limit`. What goes wrong has been printed; the error is the exit
/// code.
pub(super) async fn open(
    settings: &Settings,
    method: Method,
    path: &str,
    limit: Duration,
) -> Result<Lasting, ExitCode> {
    let socket = socket(settings)?;
    let opened = async {
        let stream = timeout(CONNECT, UnixStream::connect(socket)).await.map_err(|e| e.to_string())?;
        let stream = stream.map_err(|e| e.to_string())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let tasks = Tasks::new();
        tasks.spawn("connection to the sidecar", OnEnd::MayEnd, async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to the sidecar ended");
            }
        });
        let request = Request::builder().method(method).uri(path).header(header::HOST, "tidegate");
        let request = request.body(Full::<Bytes>::default()).map_err(|e| e.to_string())?;
        let (head, body) = sender.send_request(request).await.map_err(|e| e.to_string())?.into_parts();
        Ok(Lasting { status: head.status, body, unread: Vec::new(), tasks, _sender: sender })
    };
    within(limit, opened).await.map_err(|error: String| unreachable(socket, &error))
}

/// An answer that lasts; its connection ends when it is dropped.
pub(super) struct Lasting {
    pub(super) status: StatusCode,
    body: Incoming,
    unread: Vec<u8>,
    tasks: Tasks,
    /// Held for its drop, which would end the connection.
    _sender: http1::SendRequest<Full<Bytes>>,
}

impl Lasting {
    /// The next line, without its end; what there is when the answer ends without one. None at the end.
    pub(super) async fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let rest = self.unread.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.unread, rest);
                line.pop();
                return Some(line);
            }
            match self.body.frame().await {
                Some(Ok(frame)) if self.unread.len() < MAX_ANSWER => {
                    self.unread.extend(frame.into_data().unwrap_or_default());
                }
                _ => return Some(std::mem::take(&mut self.unread)).filter(|rest| !rest.is_empty()),
            }
        }
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// Where a sidecar listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `local.socket`
    Socket(PathBuf),
    /// Host and port of `local.listen`.
    Tcp(String, u16),
}

impl Target {
    /// Reads `http://127.0.0.1:8016`.
    pub(super) fn of_url(url: &str) -> Result<Self, String> {
        let unusable = || format!("{url:?} is no address of a sidecar; write http://127.0.0.1:8016");
        let uri: http::Uri = url.parse().map_err(|_| unusable())?;
        match (uri.scheme_str(), uri.host(), uri.path()) {
            (Some("http"), Some(host), "" | "/") => {
                Ok(Self::Tcp(host.trim_matches(['[', ']']).to_owned(), uri.port_u16().unwrap_or(80)))
            }
            _ => Err(unusable()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// A request to the local API.
pub(super) struct Question<'q> {
    pub(super) method: Method,
    pub(super) path: &'q str,
    pub(super) accept: &'q str,
    /// JSON, or nothing.
    pub(super) body: Bytes,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Asks, and returns what is answered, whatever the status. The caller bounds the time.
pub(super) async fn send(target: &Target, question: Question<'_>) -> Result<(StatusCode, Bytes), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let stream: Box<dyn Stream> = match target {
        Target::Socket(path) => {
            Box::new(timeout(CONNECT, UnixStream::connect(path)).await.map_err(|e| text(&e))?.map_err(|e| text(&e))?)
        }
        Target::Tcp(host, port) => {
            let connecting = TcpStream::connect((host.as_str(), *port));
            Box::new(timeout(CONNECT, connecting).await.map_err(|e| text(&e))?.map_err(|e| text(&e))?)
        }
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| text(&e))?;
    let tasks = Tasks::new();
    tasks.spawn("connection to the sidecar", OnEnd::MayEnd, async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to the sidecar ended");
        }
    });
    let mut request = Request::builder().method(question.method).uri(question.path).header(header::HOST, "tidegate");
    request = request.header(header::ACCEPT, question.accept);
    if !question.body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(question.body)).map_err(|e| text(&e))?;
    let response = sender.send_request(request).await.map_err(|e| text(&e))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|e| text(&e))?.to_bytes();
    Ok((status, body))
}
