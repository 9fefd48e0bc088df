//! What the proxy is told: where to listen, where the app is, and the limits that keep both alive.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::flag_headers;
use super::observe::access;
use crate::lifecycle::drain::Tunnels;
use crate::net::edge;

/// The proxy's settings. A `None` duration or size means "no limit".
#[derive(Debug, Clone)]
pub struct Settings {
    /// Pairs of listener and app, `proxy`; at least one.
    pub routes: Vec<Route>,
    /// Threads that carry traffic, `workers`. Default: the CPU quota, at most 2.
    pub workers: usize,
    /// `limits`.
    pub limits: Limits,
    /// `hold`.
    pub hold: Hold,
    /// `forwarded`: what happens to `X-Forwarded-*` and `Forwarded` of a request.
    pub forwarded: Forwarded,
    /// `drain.tunnels`.
    pub tunnels: Tunnels,
    /// `access_log`.
    pub access_log: access::Settings,
}

/// One listener and the app behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `proxy[].listen`.
    pub listen: SocketAddr,
    /// `proxy[].upstream`.
    pub upstream: Upstream,
    /// `proxy[].tls`, `proxy[].proxy_protocol`: what comes before HTTP.
    pub edge: edge::Settings,
    /// `proxy[].flag_headers`, `proxy[].flag_context`.
    pub flags: flag_headers::Settings,
}

/// Where the app answers, and what it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Where.
    pub address: Address,
    /// What.
    pub protocol: Protocol,
}

/// An address of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A host and a port.
    Tcp {
        /// Host name or address, without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// What an app speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1, as `http://HOST:PORT` or `unix:PATH` say.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge, as `h2c://HOST:PORT` or `h2c+unix:PATH` say.
    Http2,
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.address, self.protocol) {
            (Address::Tcp { .. }, Protocol::Http1) => f.write_str("http://")?,
            (Address::Tcp { .. }, Protocol::Http2) => f.write_str("h2c://")?,
            (Address::Unix(_), Protocol::Http1) => {}
            (Address::Unix(_), Protocol::Http2) => f.write_str("h2c+")?,
        }
        self.address.fmt(f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Bounds on what clients and the app may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's or answer's head. 32 KiB. Beyond: 431 (RFC 6585 §5).
    pub header_bytes: usize,
    /// Header fields of a request or answer. 100. Beyond: 431.
    pub header_count: usize,
    /// Bytes of a request's target. 8 KiB. Beyond: 414.
    pub target_bytes: usize,
    /// From the first byte of a request to the end of its head. 15 s. Beyond: 408, and the connection is closed
    /// (slow-loris).
    pub header_timeout: Duration,
    /// How long a keep-alive connection may stay idle. 620 s: above the idle time of common cloud load balancers
    /// (up to 600 s), so that they, who know of requests on their way, close first.
    pub idle_timeout: Duration,
    /// Between two reads of a request body. 30 s. Beyond: 408.
    pub body_timeout: Duration,
    /// For a client to take more of its answer. 30 s. Beyond: the connection is closed (slow readers). An app that
    /// stalls in the middle of one is bounded by `request_timeout` alone.
    pub send_timeout: Duration,
    /// To open a connection to the app. 2 s. Beyond: 504.
    pub connect_timeout: Duration,
    /// From the end of the request to the head of the app's answer. 300 s. Beyond: 504. Not for upgrades.
    pub response_timeout: Option<Duration>,
    /// Client connections, all listeners together. 10 000. Beyond: left in the kernel's queue.
    pub connections: usize,
    /// Requests in flight, all listeners together. 4 096. Beyond, they wait.
    pub requests: usize,
    /// Requests that wait for a place among those. 1 024. Beyond: 503 with `Retry-After`.
    pub queue: usize,
    /// How long they wait. 5 s. Beyond: 503 with `Retry-After`.
    pub queue_timeout: Duration,
    /// From a request's head to the last byte of its answer. None. Beyond: 504, or cut once the answer has begun. Not
    /// for upgrades.
    pub request_timeout: Option<Duration>,
    /// Requests in flight on one HTTP/2 connection (`SETTINGS_MAX_CONCURRENT_STREAMS`). 256. Beyond: refused, which its
    /// client may send again.
    pub http2_streams: u32,
    /// Bytes of a request body. None. Beyond: 413.
    pub body_bytes: Option<u64>,
    /// How long an unused connection to the app is kept. 3 s: below the keep-alive of common servers (5 s and more),
    /// so that a request seldom meets a connection the app is closing.
    pub pool_idle: Duration,
    /// Unused connections to the app kept per worker and route. 256.
    pub pool_size: usize,
    /// How long a tunnel may last without a byte either way. None. Beyond: it is ended as a drain's deadline ends it.
    pub tunnel_idle: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 32 * 1024,
            header_count: 100,
            target_bytes: 8 * 1024,
            header_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(620),
            body_timeout: Duration::from_secs(30),
            send_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Some(Duration::from_secs(300)),
            connections: 10_000,
            requests: 4096,
            queue: 1024,
            queue_timeout: Duration::from_secs(5),
            request_timeout: None,
            http2_streams: 256,
            body_bytes: None,
            pool_idle: Duration::from_secs(3),
            pool_size: 256,
            tunnel_idle: None,
        }
    }
}

/// When requests are held before the app, and how many for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Per listener. 1 024. Beyond: 503 with `Retry-After`. 0 holds nothing.
    pub max_requests: usize,
    /// 10 s. Beyond: 503 with `Retry-After`.
    pub max_wait: Duration,
    /// A check that holds requests while it fails. None.
    pub check: Option<String>,
}

impl Default for Hold {
    fn default() -> Self {
        Self { max_requests: 1024, max_wait: Duration::from_secs(10), check: None }
    }
}

/// What happens to the `X-Forwarded-*` and `Forwarded` (RFC 7239) fields that a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forwarded {
    /// The client is a proxy of ours: its fields stay and this hop is appended.
    #[default]
    Append,
    /// The client may be anybody: its fields are dropped and this hop is the only one told.
    Replace,
}
