//! The proxied request, over real sockets: what passes, what is refused, and what happens when either side fails.

mod access_log;
mod crowds;
mod cut;
mod downstream;
mod faults;
mod flag_headers;
mod framing;
mod grpc;
mod h2c;
mod http2;
mod limits;
mod metrics;
mod passing;
mod tracing;
