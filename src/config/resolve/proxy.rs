//! `proxy`, `limits`, `forwarded`: listeners and apps, and the bounds that keep both alive.

use std::time::Duration;

use super::super::machine::Machine;
use super::super::reader::Section;
use super::super::urls;
use super::super::values::{address, choice, duration, integer, size};
use super::edge;
use super::flag_headers::flag_headers;
use super::listeners::Listeners;
use crate::proxy::flag_headers;
use crate::proxy::settings::{Address, Forwarded, Limits, Protocol, Route, Upstream};

/// A month: nobody waits longer, and sums of it stay far from what clocks can count.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
const SHORTEST: Duration = Duration::from_millis(1);

/// Pairs of listener and app.
pub(super) fn routes(root: &mut Section<'_>, listeners: &mut Listeners, machine: &Machine) -> Vec<Route> {
    let routes =
        root.sections("proxy", "Pairs of listener and app. Without the key, one pair of the defaults.", |section| {
            section.refuse(&["access_log"], "one access log serves all listeners", "write access_log at the top level");
            let default = default_route();
            let listen = section.or("listen", &address(), default.listen, "Where clients connect.");
            let upstream = section.or(
                "upstream",
                &urls::upstream(),
                default.upstream,
                "Where the app answers: `http://HOST:PORT` or `unix:/path/to/socket`; `h2c://HOST:PORT` or \
                 `h2c+unix:/path/to/socket` if it speaks HTTP/2, as servers of gRPC do.",
            );
            listeners.add(section, "listen", &[listen]);
            listeners.leads_to(section, "upstream", &upstream);
            let flags = flag_headers(section);
            Route { listen, upstream, edge: edge::settings(section, machine), flags }
        });
    if routes.is_empty() && root.sound(&["proxy"]) {
        root.problem("proxy", None, "no element", "add one, or remove the key for the default");
    }
    routes
}

fn default_route() -> Route {
    Route {
        listen: ([0, 0, 0, 0], 8080).into(),
        upstream: Upstream {
            address: Address::Tcp { host: "127.0.0.1".into(), port: 3000 },
            protocol: Protocol::Http1,
        },
        edge: crate::net::edge::Settings::default(),
        flags: flag_headers::Settings::default(),
    }
}

pub(super) fn limits(section: &mut Section<'_>) -> Limits {
    let default = Limits::default();
    let time = || duration(SHORTEST..=LONGEST);
    let count = |number: u32| usize::try_from(number).expect("usize holds 32 bits here");
    let number = |count: usize| u32::try_from(count).expect("defaults are small");
    let bytes = |bytes: u64| usize::try_from(bytes).expect("the range ends below 32 bits");
    Limits {
        header_bytes: bytes(section.or(
            "header_bytes",
            &size(8 * 1024..=1 << 20),
            default.header_bytes as u64,
            "Bytes of a request's or answer's head. Beyond: 431.",
        )),
        header_count: count(section.or(
            "header_count",
            &integer(8..=1024),
            number(default.header_count),
            "Header fields of a request or answer. Beyond: 431, or 502 for an answer.",
        )),
        target_bytes: bytes(section.or(
            "target_bytes",
            &size(256..=1 << 20),
            default.target_bytes as u64,
            "Bytes of a request's target, path and query. Beyond: 414.",
        )),
        header_timeout: section.or(
            "header_timeout",
            &time(),
            default.header_timeout,
            "From the first byte of a request to the end of its head. Beyond: 408, and the connection is closed (over \
             HTTP/2 closed without).",
        ),
        idle_timeout: section.or(
            "idle_timeout",
            &time(),
            default.idle_timeout,
            "How long a keep-alive connection may stay idle. Longer than the load balancer's own, so that it closes \
             first.",
        ),
        body_timeout: section.or(
            "body_timeout",
            &time(),
            default.body_timeout,
            "Between two reads of a request body. Beyond: 408.",
        ),
        send_timeout: section.or(
            "send_timeout",
            &time(),
            default.send_timeout,
            "For a client that does not read to take more of its answer; over HTTP/2, to make room for 4 KiB more of it. \
             Beyond: the connection is closed, or the request reset. An app that stalls in the middle of its answer is \
             bounded by `limits.request_timeout` alone.",
        ),
        connect_timeout: section.or(
            "connect_timeout",
            &time(),
            default.connect_timeout,
            "To open a connection to the app. Beyond: 504.",
        ),
        response_timeout: section.or(
            "response_timeout",
            &time().or_none(),
            default.response_timeout,
            "From the end of the request to the head of the app's answer. Beyond: 504. Not for upgrades.",
        ),
        connections: count(section.or(
            "connections",
            &integer(1..=1_000_000),
            number(default.connections),
            "Client connections, all listeners together. Beyond: left in the kernel's queue.",
        )),
        requests: count(section.or(
            "requests",
            &integer(1..=1_000_000),
            number(default.requests),
            "Requests in flight, all listeners together. Beyond, they wait.",
        )),
        queue: count(section.or(
            "queue",
            &integer(0..=1_000_000),
            number(default.queue),
            "Requests that wait for a place among those in flight. Beyond: 503 with `Retry-After`.",
        )),
        queue_timeout: section.or(
            "queue_timeout",
            &time(),
            default.queue_timeout,
            "How long they wait. Beyond: 503 with `Retry-After`.",
        ),
        request_timeout: section.or(
            "request_timeout",
            &time().or_none(),
            default.request_timeout,
            "From a request's head to the last byte of its answer. Beyond: 504, or cut once the answer has begun. Not for \
             upgrades.",
        ),
        http2_streams: section.or(
            "http2_streams",
            &integer(1..=65_536),
            default.http2_streams,
            "Requests in flight on one HTTP/2 connection. Beyond: refused, so that its client may send them again.",
        ),
        body_bytes: section.or(
            "body_bytes",
            &size(0..=1 << 50).or_none(),
            default.body_bytes,
            "Bytes of a request body. Beyond: 413.",
        ),
        pool_idle: section.or(
            "pool_idle",
            &time(),
            default.pool_idle,
            "How long an unused connection to the app is kept. Shorter than the app's keep-alive, so that a request \
             seldom meets a connection that is being closed.",
        ),
        pool_size: count(section.or(
            "pool_size",
            &integer(0..=65_536),
            number(default.pool_size),
            "Unused connections to the app kept per worker and listener.",
        )),
        tunnel_idle: section.or(
            "tunnel_idle",
            &time().or_none(),
            default.tunnel_idle,
            "How long a WebSocket or another tunnel may last without a byte either way. Beyond: Close 1001, or closed.",
        ),
    }
}

pub(super) fn forwarded(root: &mut Section<'_>) -> Forwarded {
    root.or(
        "forwarded",
        &choice(&[("append", Forwarded::Append), ("replace", Forwarded::Replace)]),
        Forwarded::default(),
        "`X-Forwarded-*` and `Forwarded` of a request: `append` trusts those that came, `replace` drops them first.",
    )
}
