//! What is counted at the edge: handshakes and PROXY headers, by what became of them.

use std::net::SocketAddr;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use rustls::HandshakeKind;

use super::{Refused, Stage};
use crate::net::proxy_protocol::Malformed;
use crate::net::tls::metrics::Reloads;
use crate::telemetry::metrics::Registry;

type Results = Family<[(&'static str, &'static str); 1], Counter>;

/// What became of handshakes.
const HANDSHAKES: [&str; 15] = [
    "full",
    "resumed",
    "timeout",
    "closed",
    "plain_http",
    "malformed",
    "incompatible",
    "no_protocol",
    "no_certificate",
    "expired_certificate",
    "unknown_authority",
    "bad_certificate",
    "not_believed",
    "client_alert",
    "other",
];
/// What became of PROXY headers.
const HEADERS: [&str; 8] = ["ok", "local", "absent", "malformed", "wrong_checksum", "untrusted", "timeout", "closed"];

/// Counters of every listener together, and of their certificates; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    handshakes: Results,
    headers: Results,
    pub(super) reloads: Reloads,
}

impl Metrics {
    /// Exported by `registry`, every series from the start.
    pub fn register(registry: &mut Registry) -> Self {
        let (handshakes, headers) = (Results::default(), Results::default());
        for (family, results) in [(&handshakes, &HANDSHAKES[..]), (&headers, &HEADERS)] {
            for result in results {
                drop(family.get_or_create(&[("result", result)]));
            }
        }
        registry.register("tls_handshakes", "TLS handshakes, by what became of them", handshakes.clone());
        registry.register("proxy_protocol_headers", "PROXY headers, by what became of them", headers.clone());
        Self { handshakes, headers, reloads: Reloads::register(registry) }
    }

    pub(super) fn handshake(&self, kind: Option<HandshakeKind>) {
        count(&self.handshakes, if kind == Some(HandshakeKind::Resumed) { "resumed" } else { "full" });
    }

    /// A header was read; one that tells no address is the load balancer's own, or of no use.
    pub(super) fn header(&self, source: Option<SocketAddr>) {
        count(&self.headers, if source.is_some() { "ok" } else { "local" });
    }

    pub(super) fn refused(&self, refused: Refused) {
        match refused {
            Refused::Untrusted => count(&self.headers, "untrusted"),
            Refused::Header(Malformed::Absent) => count(&self.headers, "absent"),
            Refused::Header(Malformed::Checksum) => count(&self.headers, "wrong_checksum"),
            Refused::Header(_) => count(&self.headers, "malformed"),
            Refused::Ordered(Stage::Header) => count(&self.headers, "timeout"),
            Refused::Closed(Stage::Header) => count(&self.headers, "closed"),
            Refused::Ordered(Stage::Handshake) => count(&self.handshakes, "timeout"),
            Refused::Closed(Stage::Handshake) => count(&self.handshakes, "closed"),
            Refused::PlainHttp => count(&self.handshakes, "plain_http"),
            Refused::Handshake(why) => count(&self.handshakes, why),
        }
    }
}

fn count(family: &Results, result: &'static str) {
    family.get_or_create(&[("result", result)]).inc();
}
