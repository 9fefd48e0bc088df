//! Accepting, serving and draining connections; TLS; reaching Redis.

pub mod redis;
pub mod tls;
