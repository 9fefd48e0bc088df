//! Accepting, serving and draining connections; TLS; reaching Redis, MySQL and collectors of spans.
//!
//! One implementation serves every listener: [`listen`] accepts, [`connection`] speaks HTTP over a [`socket`] whose
//! [`activity`] it records, [`plain`] answers what needs no more, and [`sweep`] ends, once or twice a second, what has been idle or stuck for too long. So
//! no request arms or cancels a timer of its own.

pub mod activity;
pub mod connection;
pub mod date;
pub mod directory;
pub mod edge;
pub mod inbound;
pub mod listen;
pub mod mysql;
pub mod networks;
pub mod otlp;
pub mod outbound;
pub mod percent;
pub mod plain;
pub mod proxy_protocol;
pub mod redis;
pub mod resolve;
pub mod rpc;
pub mod server;
pub mod socket;
pub mod sweep;
pub mod tls;
mod uptake;
