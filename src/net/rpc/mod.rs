//! The protocols of the gRPC family over plain requests and answers: gRPC over HTTP/2
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>), gRPC-Web
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>) and Connect (<https://connectrpc.com/docs/protocol>),
//! each with messages in protocol buffers or JSON. It knows no service.
//!
//! Written here, and not taken from a gRPC crate, because none speaks Connect, and because messages are read in place
//! and written from texts made beforehand: no generated type stands between a request's bytes and an evaluation.

mod answer;
mod call;
mod format;
pub mod health;
mod request;
mod status;
mod timeout;
pub mod wire;

pub use answer::{Body, Stream, refusal, unsupported};
pub use call::{deadline, message};
pub use format::{Codec, Format, Protocol, Shape, is_grpc};
pub use request::{Interrupted, LIMIT, Messages};
pub use status::{Code, Status};
pub use timeout::timeout;
