//! What is counted of each listener's requests: by method, status class and protocol, how long they took, how long the
//! app took, and how many bytes went through. Each worker counts apart; a scrape sums.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::{Method, Version};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::{Registry, Unit};

use super::histogram::{Histogram, Sum, add};

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// A request's method, as far as it is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Verb {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Other,
}

/// What a method is for: durations are told apart by this alone, so that a listener has few histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Write,
    Other,
}

const USES: [(&str, Use); 3] = [("read", Use::Read), ("write", Use::Write), ("other", Use::Other)];

impl Verb {
    const ALL: [(&'static str, Self); 8] = [
        ("GET", Self::Get),
        ("HEAD", Self::Head),
        ("POST", Self::Post),
        ("PUT", Self::Put),
        ("PATCH", Self::Patch),
        ("DELETE", Self::Delete),
        ("OPTIONS", Self::Options),
        ("other", Self::Other),
    ];

    pub(in crate::proxy) fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::POST => Self::Post,
            Method::PUT => Self::Put,
            Method::PATCH => Self::Patch,
            Method::DELETE => Self::Delete,
            Method::OPTIONS => Self::Options,
            _ => Self::Other,
        }
    }

    /// The method, when it is told apart.
    pub(in crate::proxy) fn name(self) -> Option<&'static str> {
        Self::ALL.iter().find(|(_, verb)| *verb == self && self != Self::Other).map(|(name, _)| *name)
    }

    fn used_for(self) -> Use {
        match self {
            Self::Get | Self::Head | Self::Options => Use::Read,
            Self::Post | Self::Put | Self::Patch | Self::Delete => Use::Write,
            Self::Other => Use::Other,
        }
    }
}

/// What the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Protocol {
    Http10,
    Http11,
    Http2,
}

impl Protocol {
    /// Its name in a status line.
    pub(in crate::proxy) fn name(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }

    const ALL: [(&'static str, Self); 3] =
        [("http/1.0", Self::Http10), ("http/1.1", Self::Http11), ("h2", Self::Http2)];

    pub(in crate::proxy) fn of(version: Version) -> Self {
        match version {
            Version::HTTP_2 => Self::Http2,
            Version::HTTP_10 => Self::Http10,
            _ => Self::Http11,
        }
    }
}

/// One worker's counts of one listener. That worker's thread alone writes them.
#[derive(Default)]
#[repr(align(128))]
pub(in crate::proxy) struct Counts {
    requests: [[AtomicU64; CLASSES.len()]; Verb::ALL.len()],
    protocols: [AtomicU64; Protocol::ALL.len()],
    durations: [[Histogram; CLASSES.len()]; USES.len()],
    connect: Histogram,
    first_byte: Histogram,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Counts {
    /// A request was answered.
    pub(in crate::proxy) fn answered(&self, verb: Verb, protocol: Protocol, status: u16, took: Duration) {
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        add(&self.requests[verb as usize][class], 1);
        add(&self.protocols[protocol as usize], 1);
        // How long a tunnel was open says nothing of how quickly anybody was served.
        if class > 0 {
            self.durations[verb.used_for() as usize][class].observe(took);
        }
    }

    /// A connection to the app was opened.
    pub(in crate::proxy) fn connected(&self, took: Duration) {
        self.connect.observe(took);
    }

    /// The app's answer has begun.
    pub(in crate::proxy) fn begun(&self, took: Duration) {
        self.first_byte.observe(took);
    }

    /// Bytes of a request's body have come.
    pub(in crate::proxy) fn received(&self, bytes: usize) {
        add(&self.received, bytes as u64);
    }

    /// Bytes of an answer's body have gone.
    pub(in crate::proxy) fn sent(&self, bytes: usize) {
        add(&self.sent, bytes as u64);
    }
}

/// A listener's name, which is its address, and the counts of each worker.
pub(in crate::proxy) struct Listener {
    pub(in crate::proxy) name: Arc<str>,
    pub(in crate::proxy) workers: Vec<Arc<Counts>>,
}

impl Listener {
    /// Its name, and what one worker counts.
    pub(in crate::proxy) fn worker(&self, index: usize) -> (Arc<str>, Arc<Counts>) {
        (self.name.clone(), self.workers[index].clone())
    }
}

/// Registers the counts of all listeners.
pub(in crate::proxy) fn register(registry: &mut Registry, listeners: Vec<Listener>) {
    registry.register_collector(Box::new(Listeners(listeners)));
}

struct Listeners(Vec<Listener>);

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listeners")
    }
}

impl Listener {
    fn sum(&self, of: impl Fn(&Counts) -> &AtomicU64) -> u64 {
        self.workers.iter().map(|counts| of(counts).load(Relaxed)).sum()
    }
}

fn counted(family: &mut MetricEncoder<'_>, labels: &[(&str, &str)], count: u64) -> fmt::Result {
    ConstCounter::new(count).encode(family.encode_family(&labels)?)
}

impl Listeners {
    /// One counter a listener.
    fn plain(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        of: impl Fn(&Counts) -> &AtomicU64,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Counter)?;
        for listener in &self.0 {
            counted(&mut family, &[("listener", &listener.name)], listener.sum(&of))?;
        }
        Ok(())
    }

    /// One histogram a listener.
    fn timing(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        of: impl Fn(&Counts) -> &Histogram,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), Histogram::TYPE)?;
        for listener in &self.0 {
            let sum = Sum::of(listener.workers.iter().map(|counts| of(counts)));
            sum.encode(&[("listener", &*listener.name)], &mut family)?;
        }
        Ok(())
    }

    fn durations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Time from a request's head to the end of its answer.";
        let name = "proxy_request_duration";
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), Histogram::TYPE)?;
        for listener in &self.0 {
            for (method, used) in USES {
                for (class, status) in CLASSES.iter().enumerate().skip(1) {
                    let sum = Sum::of(listener.workers.iter().map(|counts| &counts.durations[used as usize][class]));
                    // What is hardly ever seen is not told until it is seen; the commonest is there from the start.
                    if sum.is_empty() && (used, class) != (Use::Read, 1) {
                        continue;
                    }
                    let labels = [("listener", &*listener.name), ("method", method), ("class", status)];
                    sum.encode(&labels, &mut family)?;
                }
            }
        }
        Ok(())
    }
}

impl Collector for Listeners {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests answered, by method and status class.";
        let mut family = encoder.encode_descriptor("proxy_requests", help, None, MetricType::Counter)?;
        for listener in &self.0 {
            for (method, verb) in Verb::ALL {
                for (index, class) in CLASSES.iter().enumerate() {
                    let count = listener.sum(|counts| &counts.requests[verb as usize][index]);
                    let labels = [("listener", &*listener.name), ("method", method), ("class", class)];
                    counted(&mut family, &labels, count)?;
                }
            }
        }
        let help = "Requests answered, by the protocol of the client.";
        let mut family = encoder.encode_descriptor("proxy_protocol_requests", help, None, MetricType::Counter)?;
        for listener in &self.0 {
            for (name, protocol) in Protocol::ALL {
                let count = listener.sum(|counts| &counts.protocols[protocol as usize]);
                counted(&mut family, &[("listener", &listener.name), ("protocol", name)], count)?;
            }
        }
        self.durations(&mut encoder)?;
        let connect = ("proxy_upstream_connect_duration", "Time to open a connection to the app.");
        self.timing(&mut encoder, connect, |counts| &counts.connect)?;
        let first = ("proxy_upstream_first_byte_duration", "Time from a request's head to that of the app's answer.");
        self.timing(&mut encoder, first, |counts| &counts.first_byte)?;
        let received = ("proxy_request_body", "Bytes of request bodies.");
        self.plain(&mut encoder, received, |counts| &counts.received)?;
        self.plain(&mut encoder, ("proxy_response_body", "Bytes of answers' bodies."), |counts| &counts.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics;

    fn check(counts: &[Arc<Counts>], expected: &[&str]) {
        let mut registry = metrics::registry();
        register(&mut registry, vec![Listener { name: "127.0.0.1:8080".into(), workers: counts.to_vec() }]);
        let text = metrics::render(&registry);
        for line in expected {
            assert!(text.lines().any(|known| known == *line), "no {line} in {text}");
        }
    }

    #[test]
    fn the_counts_of_all_workers_are_summed_by_listener_method_and_class() {
        let counts: [Arc<Counts>; 2] = Default::default();
        let took = Duration::from_millis(20);
        counts[0].answered(Verb::of(&Method::POST), Protocol::of(Version::HTTP_2), 503, took);
        counts[1].answered(Verb::of(&Method::POST), Protocol::of(Version::HTTP_11), 599, took);
        counts[1].answered(Verb::of(&Method::TRACE), Protocol::of(Version::HTTP_10), 999, took);
        counts[0].answered(Verb::of(&Method::GET), Protocol::of(Version::HTTP_11), 101, took);
        counts[0].sent(7);
        counts[1].sent(8);
        let on = |rest: &str| format!("{{listener=\"127.0.0.1:8080\",{rest}");
        let lines = [
            format!("tidegate_proxy_requests_total{}", on("method=\"POST\",class=\"5xx\"} 2")),
            format!("tidegate_proxy_requests_total{}", on("method=\"other\",class=\"5xx\"} 1")),
            format!("tidegate_proxy_requests_total{}", on("method=\"GET\",class=\"1xx\"} 1")),
            format!("tidegate_proxy_protocol_requests_total{}", on("protocol=\"h2\"} 1")),
            format!("tidegate_proxy_request_duration_seconds_count{}", on("method=\"write\",class=\"5xx\"} 2")),
            format!("tidegate_proxy_request_duration_seconds_count{}", on("method=\"read\",class=\"2xx\"} 0")),
            "tidegate_proxy_response_body_bytes_total{listener=\"127.0.0.1:8080\"} 15".to_owned(),
        ];
        check(&counts, &lines.each_ref().map(String::as_str));
    }

    #[test]
    fn a_worker_spends_little_on_a_listener() {
        assert!(size_of::<Counts>() <= 4096, "{}", size_of::<Counts>());
    }
}
