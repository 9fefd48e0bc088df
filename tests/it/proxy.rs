//! The proxied request, over real sockets: what passes, what is refused, and what happens when either side fails.

mod downstream;
mod faults;
mod framing;
mod grpc;
mod h2c;
mod http2;
mod limits;
mod passing;
