//! Connections to the app: opened within a time limit, kept for a short while, used one request at a time.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::header::HeaderValue;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::body::RequestBody;
use super::error::Failure;
use super::settings::{Limits, Upstream};
use crate::lifecycle::tasks::Tasks;

/// One worker's connections to one app.
pub(super) struct App {
    upstream: Upstream,
    /// The address, when it needs no name resolution.
    address: Option<SocketAddr>,
    authority: HeaderValue,
    limits: Limits,
    tasks: Tasks,
    /// Unused connections, the longest unused first.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    line: Line,
    since: Instant,
}

/// A connection to the app, held by one request.
pub(super) struct Line {
    sender: SendRequest<RequestBody>,
    /// Whether a byte of the current request's answer has come.
    heard: Arc<AtomicBool>,
    /// Whether it has carried a request before.
    pub(super) reused: bool,
}

impl App {
    pub(super) fn new(upstream: Upstream, limits: Limits, tasks: Tasks) -> Self {
        let (address, authority) = match &upstream {
            Upstream::Tcp { host, port } => (
                host.parse().ok().map(|ip| SocketAddr::new(ip, *port)),
                if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") },
            ),
            Upstream::Unix(_) => (None, "localhost".to_owned()),
        };
        let authority = HeaderValue::try_from(authority).unwrap_or_else(|_| HeaderValue::from_static("localhost"));
        Self { upstream, address, authority, limits, tasks, idle: Mutex::default() }
    }

    /// What stands for the app in `Host` when a client sends none.
    pub(super) fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// An unused connection, if one is left that the app has not closed.
    pub(super) async fn reuse(&self, now: Instant) -> Option<Line> {
        loop {
            let mut line = {
                let mut idle = self.lock();
                let last = idle.pop()?;
                if now.saturating_duration_since(last.since) > self.limits.pool_idle {
                    // The others have been unused for longer still.
                    idle.clear();
                    return None;
                }
                last.line
            };
            // Not ready for a moment: its task has yet to note the end of the answer before. An error: closed.
            if line.sender.is_ready() || line.sender.ready().await.is_ok() {
                line.heard.store(false, Ordering::Relaxed);
                return Some(line);
            }
        }
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Line, Failure> {
        let connecting = async {
            match &self.upstream {
                Upstream::Tcp { host, port } => {
                    let stream = match self.address {
                        Some(address) => TcpStream::connect(address).await,
                        None => {
                            let addresses = tokio::net::lookup_host((host.as_str(), *port));
                            let addresses: Vec<_> = addresses.await.map_err(Failure::Resolve)?.collect();
                            TcpStream::connect(addresses.as_slice()).await
                        }
                    };
                    let stream = stream.map_err(classify)?;
                    stream.set_nodelay(true).map_err(Failure::Connect)?;
                    self.speak(stream).await
                }
                Upstream::Unix(path) => self.speak(UnixStream::connect(path).await.map_err(classify)?).await,
            }
        };
        timeout(self.limits.connect_timeout, connecting).await.unwrap_or(Err(Failure::ConnectTimeout))
    }

    async fn speak<I: AsyncRead + AsyncWrite + Send + Unpin + 'static>(&self, io: I) -> Result<Line, Failure> {
        let heard = Arc::new(AtomicBool::new(false));
        let mut builder = http1::Builder::new();
        builder.max_buf_size(self.limits.header_bytes.max(64 * 1024));
        let handshake = builder.handshake(TokioIo::new(Heard { io, heard: heard.clone() }));
        let (sender, connection) = handshake.await.map_err(Failure::BadAnswer)?;
        self.tasks.spawn_connection(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to the app ended");
            }
        });
        Ok(Line { sender, heard, reused: false })
    }

    /// Keeps a connection for the next request, if there is room.
    pub(super) fn keep(&self, mut line: Line, now: Instant) {
        if line.sender.is_closed() {
            return;
        }
        line.reused = true;
        let mut idle = self.lock();
        if idle.len() < self.limits.pool_size {
            idle.push(Idle { line, since: now });
        }
    }

    /// Closes what has been unused for too long.
    pub(super) fn prune(&self, now: Instant) {
        self.lock().retain(|idle| {
            !idle.line.sender.is_closed() && now.saturating_duration_since(idle.since) <= self.limits.pool_idle
        });
    }

    /// How often [`App::prune`] is worth calling.
    pub(super) fn prune_period(&self) -> Duration {
        (self.limits.pool_idle / 2).max(Duration::from_millis(100))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.upstream.fmt(f)
    }
}

impl Line {
    /// Sends a request. The error gives the request back when not a byte of it was sent.
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        self.sender.try_send_request(request)
    }

    /// Whether any byte of an answer to the current request has come.
    pub(super) fn heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }
}

fn classify(error: io::Error) -> Failure {
    match error.kind() {
        // A unix socket file that is not there (yet) is an app that does not listen (yet).
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Failure::AppRefuses(error),
        io::ErrorKind::TimedOut => Failure::ConnectTimeout,
        _ => Failure::Connect(error),
    }
}

/// Notes whether anything was read.
struct Heard<I> {
    io: I,
    heard: Arc<AtomicBool>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Heard<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.heard.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Heard<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
