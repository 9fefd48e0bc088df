//! The measures, in the order in which they run.

mod checks;
mod ending;
mod grpc;
mod http2;
mod large;
mod memory;
mod ofrep;
mod propagation;
mod proxy;
mod readyz;
mod start;
mod steady;
mod streams;
mod tls;
mod tuning;
mod tunnel;

use crate::lab::Lab;
use crate::report::Row;

/// A group of rows measured together.
pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Runs only when asked for by name.
    pub(crate) on_request: bool,
    pub(crate) run: fn(&Lab) -> anyhow::Result<Vec<Row>>,
}

/// All there is to measure.
pub(crate) const ALL: &[Measure] = &[
    Measure {
        name: "proxy-cpu",
        about: "CPU per request, 1 KB, keep-alive, 32 connections, one worker",
        on_request: false,
        run: proxy::cpu,
    },
    Measure {
        name: "proxy-latency",
        about: "what a proxy adds to the p50 and p99 of one connection",
        on_request: false,
        run: proxy::latency,
    },
    Measure {
        name: "proxy-large",
        about: "CPU per answer of 1 MB, 8 connections, one worker",
        on_request: true,
        run: proxy::large,
    },
    Measure {
        name: "proxy-throughput",
        about: "requests per second of two workers",
        on_request: false,
        run: proxy::throughput,
    },
    Measure { name: "tls", about: "handshakes, requests and bytes over TLS", on_request: true, run: tls::run },
    Measure { name: "http2", about: "HTTP/2 in, HTTP/1.1 out", on_request: true, run: http2::run },
    Measure { name: "tunnel", about: "messages through WebSocket tunnels", on_request: true, run: tunnel::run },
    Measure {
        name: "ending",
        about: "a drain of 9 500 connections at rest, and the memory they held",
        on_request: true,
        run: ending::run,
    },
    Measure {
        name: "steady",
        about: "p99 at rest, while flags change all the time, and during a drain",
        on_request: true,
        run: steady::run,
    },
    Measure { name: "ofrep", about: "single flag evaluations over OFREP", on_request: false, run: ofrep::single },
    Measure { name: "bulk", about: "all flags at once over OFREP", on_request: false, run: ofrep::bulk },
    Measure { name: "grpc", about: "flags resolved over gRPC and Connect", on_request: false, run: grpc::run },
    Measure { name: "readyz", about: "CPU of a readiness probe", on_request: false, run: readyz::run },
    Measure { name: "checks", about: "twenty checks in the background", on_request: true, run: checks::run },
    Measure { name: "memory", about: "resident memory, idle and per connection", on_request: false, run: memory::run },
    Measure { name: "start", about: "from the start of the process to ready", on_request: false, run: start::run },
    Measure {
        name: "propagation",
        about: "from a write to Redis to the value served",
        on_request: false,
        run: propagation::run,
    },
    Measure { name: "streams", about: "a thousand readers of the event streams", on_request: false, run: streams::run },
    Measure {
        name: "large-set",
        about: "10 000 flags: start, memory, and a change of all of them under load",
        on_request: false,
        run: large::run,
    },
    Measure {
        name: "tuning",
        about: "what each choice in hyper costs the bare proxy",
        on_request: true,
        run: tuning::run,
    },
];
