//! The proxy's metrics: counters of each worker's own, summed when they are asked for, so that no request writes to
//! a cache line that another thread reads. What is counted by listener is in [`listener`].

mod histogram;
pub(super) mod listener;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;

use super::error::Failure;
use super::http2::Flood;
use super::tunnel::EndedBy;
use crate::net::activity::Cut;

/// Of a tunnel's bytes: from the client, to the client.
const DIRECTIONS: [&str; 2] = ["in", "out"];

/// Who ended a stream of HTTP/2 before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reset {
    /// The client, who took the request back or is gone.
    Client,
    /// A limit of ours, or the end of a drain.
    Limit,
    /// The app, which broke off.
    App,
}

const RESETS: [&str; 3] = ["client", "limit", "app"];
const FLOODS: [&str; 3] = ["control", "resets", "protocol"];

/// One worker's counters.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Counters {
    failures: [AtomicU64; Failure::KINDS.len()],
    malformed: AtomicU64,
    abandoned: AtomicU64,
    cut: [AtomicU64; Cut::NAMES.len()],
    broken: AtomicU64,
    retries: AtomicU64,
    connects: AtomicU64,
    connections: AtomicU64,
    http2_connections: AtomicU64,
    streams: AtomicU64,
    resets: [AtomicU64; RESETS.len()],
    floods: [AtomicU64; FLOODS.len()],
    tunnels_ended: [AtomicU64; EndedBy::NAMES.len()],
    tunnel_bytes: [AtomicU64; DIRECTIONS.len()],
}

impl Counters {
    /// We answered in the app's place.
    pub(super) fn failure(&self, failure: &Failure) {
        self.failures[failure.kind()].fetch_add(1, Relaxed);
    }

    /// A request that was no HTTP/1.1, or too large a head, was refused before anybody saw it.
    pub(super) fn malformed(&self) {
        self.malformed.fetch_add(1, Relaxed);
    }

    /// A client left before it had its answer.
    pub(super) fn abandoned(&self) {
        self.abandoned.fetch_add(1, Relaxed);
    }

    /// We ended a request before its client had all of the answer.
    pub(super) fn cut(&self, by: Cut) {
        self.cut[by as usize].fetch_add(1, Relaxed);
    }

    /// The app broke off in the middle of an answer.
    pub(super) fn broken(&self) {
        self.broken.fetch_add(1, Relaxed);
    }

    /// A request was sent again, on another connection.
    pub(super) fn retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// A connection to the app was opened.
    pub(super) fn connect(&self) {
        self.connects.fetch_add(1, Relaxed);
    }

    /// A tunnel has ended.
    pub(super) fn tunnel_ended(&self, by: EndedBy) {
        self.tunnels_ended[by as usize].fetch_add(1, Relaxed);
    }

    /// So many bytes have passed from the client to the app and back.
    pub(super) fn tunnel_passed(&self, up: u64, down: u64) {
        self.tunnel_bytes[0].fetch_add(up, Relaxed);
        self.tunnel_bytes[1].fetch_add(down, Relaxed);
    }

    /// What tunnels have passed so far.
    #[cfg(test)]
    pub(super) fn tunnel_bytes(&self) -> [u64; DIRECTIONS.len()] {
        std::array::from_fn(|index| self.tunnel_bytes[index].load(Relaxed))
    }

    /// A client has connected.
    pub(super) fn connection(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// A client speaks HTTP/2.
    pub(super) fn http2_connection(&self) {
        self.http2_connections.fetch_add(1, Relaxed);
    }

    /// A request has come over HTTP/2.
    pub(super) fn stream(&self) {
        self.streams.fetch_add(1, Relaxed);
    }

    /// A stream was reset.
    pub(super) fn reset(&self, by: Reset) {
        self.resets[by as usize].fetch_add(1, Relaxed);
    }

    /// A connection of HTTP/2 was ended because it asked too much.
    pub(super) fn flood(&self, of: Flood) {
        self.floods[of as usize].fetch_add(1, Relaxed);
    }
}

/// Registers the counters of all workers.
pub(super) fn register(registry: &mut Registry, workers: Vec<Arc<Counters>>) {
    registry.register_collector(Box::new(Workers(workers)));
}

struct Workers(Vec<Arc<Counters>>);

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workers")
    }
}

impl Workers {
    fn sum(&self, of: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.0.iter().map(|counters| of(counters).load(Relaxed)).sum()
    }

    fn labelled<const N: usize>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        label: &'static str,
        values: &[&'static str; N],
        of: impl Fn(&Counters) -> &[AtomicU64; N],
    ) -> fmt::Result {
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for (index, value) in values.iter().enumerate() {
            let counter = ConstCounter::new(self.sum(|c| &of(c)[index]));
            counter.encode(family.encode_family(&[(label, *value)])?)?;
        }
        Ok(())
    }

    fn plain(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        of: impl Fn(&Counters) -> &AtomicU64,
    ) -> fmt::Result {
        let counter = ConstCounter::new(self.sum(of));
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
    }
}

impl Collector for Workers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "Requests that were answered in the app's place, by reason.";
        let mut family = encoder.encode_descriptor("proxy_failures", help, None, kind)?;
        for (index, reason) in Failure::KINDS.iter().enumerate() {
            let counter = ConstCounter::new(self.sum(|c| &c.failures[index]));
            counter.encode(family.encode_family(&[("reason", *reason)])?)?;
        }
        let mut family = encoder.encode_descriptor("proxy_tunnels_ended", "Tunnels, by who ended them.", None, kind)?;
        for (index, by) in EndedBy::NAMES.iter().enumerate() {
            let counter = ConstCounter::new(self.sum(|c| &c.tunnels_ended[index]));
            counter.encode(family.encode_family(&[("by", *by)])?)?;
        }
        let help = "Bytes that tunnels passed, by direction.";
        let unit = prometheus_client::registry::Unit::Bytes;
        let mut family = encoder.encode_descriptor("proxy_tunnel", help, Some(&unit), kind)?;
        for (index, direction) in DIRECTIONS.iter().enumerate() {
            let counter = ConstCounter::new(self.sum(|c| &c.tunnel_bytes[index]));
            counter.encode(family.encode_family(&[("direction", *direction)])?)?;
        }
        let help = "Requests refused because they are no HTTP/1.1, or their head is too large.";
        self.plain(&mut encoder, "proxy_malformed", help, |c| &c.malformed)?;
        self.plain(&mut encoder, "proxy_abandoned", "Requests whose client left before the answer.", |c| &c.abandoned)?;
        let help = "Requests that were ended here before their answer's end, by why.";
        self.labelled(&mut encoder, "proxy_cut", help, "by", &Cut::NAMES, |c| &c.cut)?;
        self.plain(&mut encoder, "proxy_broken_answers", "Answers the app broke off.", |c| &c.broken)?;
        self.plain(&mut encoder, "proxy_retries", "Requests sent to the app a second time.", |c| &c.retries)?;
        self.plain(&mut encoder, "proxy_upstream_connects", "Connections opened to the app.", |c| &c.connects)?;
        self.plain(&mut encoder, "proxy_connections", "Client connections accepted.", |c| &c.connections)?;
        let help = "Client connections that speak HTTP/2.";
        self.plain(&mut encoder, "proxy_http2_connections", help, |c| &c.http2_connections)?;
        self.plain(&mut encoder, "proxy_http2_streams", "Requests that came over HTTP/2.", |c| &c.streams)?;
        let help = "Streams of HTTP/2 reset before their end, by who did it.";
        self.labelled(&mut encoder, "proxy_http2_resets", help, "by", &RESETS, |c| &c.resets)?;
        let help = "Connections of HTTP/2 ended because they asked too much, by what of.";
        self.labelled(&mut encoder, "proxy_http2_floods", help, "of", &FLOODS, |c| &c.floods)
    }
}
