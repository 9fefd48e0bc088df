//! Connections to the app: opened within a time limit, kept for a short while, used one request at a time. No task
//! of their own: who waits for an answer moves its bytes, in the task of the client's connection.

pub mod decode;
pub mod encode;
mod exchange;
mod far;
pub(super) mod h2c;
mod line;
mod upload;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::header::HeaderValue;
use http::request;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use self::decode::Bounds;
pub(super) use self::decode::Heard;
pub(super) use self::encode::WrongLength;
pub(super) use self::exchange::{Broken, Download, Exchange, Lost};
pub(super) use self::far::Far;
use self::h2c::Stream;
pub(super) use self::line::{Line, Look};
pub(super) use self::upload::Upload;
use super::body::RequestBody;
use super::error::Failure;
use super::lines;
use super::settings::{Address, Limits, Protocol, Upstream};
use crate::lifecycle::tasks::Tasks;
use crate::net::resolve::{self, Purpose};

/// One worker's connections to one app.
pub(super) struct App {
    upstream: Upstream,
    /// The address, when it needs no name resolution.
    address: Option<SocketAddr>,
    authority: HeaderValue,
    limits: Limits,
    /// Unused connections, the longest unused first.
    idle: Mutex<Vec<Idle>>,
    /// Connections that carry many requests each, to an app that speaks HTTP/2. It has no others.
    pool: Option<h2c::Pool>,
}

struct Idle {
    line: Box<Line>,
    since: Instant,
}

impl App {
    pub(super) fn new(upstream: Upstream, limits: Limits) -> Self {
        let (address, authority) = match &upstream.address {
            Address::Tcp { host, port } => (
                host.parse().ok().map(|ip| SocketAddr::new(ip, *port)),
                if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") },
            ),
            Address::Unix(_) => (None, "localhost".to_owned()),
        };
        let authority = HeaderValue::try_from(authority).unwrap_or_else(|_| HeaderValue::from_static("localhost"));
        let pool = (upstream.protocol == Protocol::Http2).then(h2c::Pool::new);
        Self { upstream, address, authority, limits, idle: Mutex::default(), pool }
    }

    /// What it speaks.
    pub(super) fn protocol(&self) -> Protocol {
        self.upstream.protocol
    }

    /// What stands for the app in `Host` when a client sends none.
    pub(super) fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// Bounds on an answer's head.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds { bytes: self.limits.header_bytes, fields: self.limits.header_count }
    }

    /// An unused connection, if one is left that the app has not closed.
    pub(super) fn reuse(&self, now: Instant, look: Look) -> Option<Box<Line>> {
        let mut idle = self.lock();
        loop {
            let last = idle.pop()?;
            if now.saturating_duration_since(last.since) > self.limits.pool_idle {
                // The others have been unused for longer still.
                idle.clear();
                return None;
            }
            if last.line.is_quiet(look) {
                return Some(last.line);
            }
        }
    }

    /// A request that can be sent over `line`, written from that one's memory, if it is not in lines already.
    pub(super) fn upload(
        line: &mut Line,
        head: &request::Parts,
        lines: Option<lines::Request>,
        body: RequestBody,
    ) -> Result<Upload, WrongLength> {
        match lines {
            Some(lines) => Upload::of_lines(lines, body),
            None => Upload::new(head, body, line.course.upload.take_scratch()),
        }
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Box<Line>, Failure> {
        let opening = timeout(self.limits.connect_timeout, self.open());
        Ok(match opening.await.unwrap_or(Err(Failure::ConnectTimeout))? {
            Stream::Tcp(stream) => Line::tcp(stream),
            Stream::Unix(stream) => Line::unix(stream),
        })
    }

    async fn open(&self) -> Result<Stream, Failure> {
        match &self.upstream.address {
            Address::Tcp { host, port } => {
                let stream = match self.address {
                    Some(address) => TcpStream::connect(address).await,
                    None => {
                        let addresses = resolve::addresses(Purpose::Upstream, host, *port);
                        let addresses = addresses.await.map_err(Failure::Resolve)?;
                        TcpStream::connect(addresses.as_slice()).await
                    }
                };
                let stream = stream.map_err(classify)?;
                stream.set_nodelay(true).map_err(Failure::Connect)?;
                Ok(Stream::Tcp(stream))
            }
            Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await.map_err(classify)?)),
        }
    }

    /// A place for one request on a connection of HTTP/2; `opens` is told when a new one is opened for it.
    pub(super) async fn lease(&self, tasks: &Tasks, opens: impl FnOnce()) -> Result<h2c::Leased, Failure> {
        let pool = self.pool.as_ref().ok_or_else(|| Failure::Connect(io::ErrorKind::Unsupported.into()))?;
        if let Some(leased) = pool.lease() {
            return Ok(leased);
        }
        let open = async || {
            opens();
            self.open().await
        };
        pool.lease_new(self.limits.connect_timeout, tasks, self.limits.header_bytes, open).await
    }

    /// Keeps a connection for the next request, if there is room.
    pub(super) fn keep(&self, mut line: Box<Line>, now: Instant) {
        line.rest();
        let mut idle = self.lock();
        if idle.len() < self.limits.pool_size {
            idle.push(Idle { line, since: now });
        }
    }

    /// Closes what has been unused for too long.
    pub(super) fn prune(&self, now: Instant) {
        if let Some(pool) = &self.pool {
            pool.prune(now);
        }
        self.lock().retain(|idle| {
            idle.line.is_quiet(Look::Heard) && now.saturating_duration_since(idle.since) <= self.limits.pool_idle
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

fn classify(error: io::Error) -> Failure {
    match error.kind() {
        // A unix socket file that is not there (yet) is an app that does not listen (yet).
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Failure::AppRefuses(error),
        io::ErrorKind::TimedOut => Failure::ConnectTimeout,
        _ => Failure::Connect(error),
    }
}
