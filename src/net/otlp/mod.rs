//! Spans to a collector over OTLP (<https://opentelemetry.io/docs/specs/otlp/>), in protocol buffers, over HTTP/1.1 or gRPC.
//!
//! Whoever records a span encodes it and hands it over without waiting; one task gathers and sends. A collector that is
//! slow, gone or talks nonsense costs spans, which are counted, and nothing else. Written here and not taken from a crate: an
//! SDK brings a thread, a runtime and a dozen allocations a span, and counts no span that it drops.

mod collector;
mod encode;
mod export;
mod metrics;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::HeaderName;
use tokio::sync::mpsc;

pub use self::encode::{Attribute, Span};
pub use self::export::Exporter;
pub use self::metrics::register;
use crate::secret::Secret;

/// Spans that may wait.
const SPANS: usize = 2048;
/// Bytes of spans that may wait.
const BYTES: usize = 2 << 20;

/// `tracing.otlp`.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `tracing.otlp.endpoint`.
    pub endpoint: Endpoint,
    /// `tracing.otlp.protocol`.
    pub protocol: Protocol,
    /// `tracing.otlp.ca_file`: the authorities that are trusted, in PEM; `None` trusts the system's.
    pub ca_file: Option<PathBuf>,
    /// `tracing.otlp.headers`: sent with every request, the collector's key among them.
    pub headers: Vec<(HeaderName, Secret)>,
    /// `tracing.otlp.sample`: the share of traces that begin here and are recorded.
    pub sample: f64,
    /// `tracing.otlp.service_name`. Default: the workload.
    pub service_name: String,
    /// `tracing.otlp.resource`: what else is told of the service.
    pub resource: Vec<(String, String)>,
}

/// Where a collector is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Over what.
    pub scheme: Scheme,
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The path before that of the service; empty or beginning with a slash, never ending with one.
    pub path: String,
}

/// How a collector is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl Endpoint {
    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// What is spoken with a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// `http/protobuf`
    #[default]
    Http,
    /// `grpc`
    Grpc,
}

/// Where spans are handed over. Cheap to clone.
#[derive(Clone)]
pub struct Spans {
    queue: mpsc::Sender<Vec<u8>>,
    counts: Arc<Counts>,
    share: f64,
}

/// What became of the spans.
#[derive(Default)]
struct Counts {
    /// Bytes in the queue.
    waiting: AtomicUsize,
    /// Handed over and not yet settled.
    unsettled: AtomicU64,
    exported: AtomicU64,
    /// Taken by no collector.
    failed: AtomicU64,
    /// Refused by a collector that took others of the same request.
    rejected: AtomicU64,
    /// Beyond what may wait.
    dropped: AtomicU64,
}

impl Spans {
    /// A place to hand spans over, and the task that sends them.
    pub fn new(settings: Settings) -> (Self, Exporter) {
        let (queue, spans) = mpsc::channel(SPANS);
        let counts = Arc::<Counts>::default();
        let share = settings.sample;
        (Self { queue, counts: counts.clone(), share }, Exporter::new(settings, spans, counts))
    }

    /// Whether a trace that begins now is recorded.
    pub fn samples(&self) -> bool {
        fastrand::f64() < self.share
    }

    /// Hands over a span. Never waits.
    pub fn send(&self, span: &Span<'_>) {
        let span = encode::span(span);
        let length = span.len();
        let waiting = self.counts.waiting.fetch_add(length, Relaxed);
        self.counts.unsettled.fetch_add(1, Relaxed);
        if waiting + length > BYTES || self.queue.try_send(span).is_err() {
            self.counts.waiting.fetch_sub(length, Relaxed);
            self.counts.unsettled.fetch_sub(1, Relaxed);
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Waits until every span has been sent or given up, for `limit` at most: the process ends.
    pub async fn flush(&self, limit: Duration) {
        let settled = async {
            while self.counts.unsettled.load(Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(limit, settled).await.is_err() {
            tracing::warn!(spans = self.counts.unsettled.load(Relaxed), "the last spans were not exported");
        }
    }
}
