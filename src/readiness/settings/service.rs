//! What checks of services are told: Redis, HTTP, gRPC.

use std::time::Duration;

use serde_json::Value;

use crate::net::tls::client::Trust;
use crate::secret::Secret;

/// Redis.
#[derive(Debug, Clone)]
pub struct Redis {
    /// `redis://…`, `rediss://…`, `redis+sentinel://…`, `redis+cluster://…` or `unix:…`.
    pub url: Secret,
    /// Which end of a replication the server has to be.
    pub role: RedisRole,
    /// For how long a replica may have heard nothing from its master, or a master from a replica that counts.
    pub max_lag: Option<Duration>,
    /// Replicas that a master must have online. 0.
    pub min_replicas: u32,
}

impl Redis {
    /// `PING`, to any server.
    pub fn new(url: Secret) -> Self {
        Self { url, role: RedisRole::Any, max_lag: None, min_replicas: 0 }
    }
}

/// Which end of Redis's replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RedisRole {
    /// Either.
    #[default]
    Any,
    /// One that takes writes.
    Master,
    /// One that follows another.
    Replica,
}

/// Statuses of HTTP, inclusive.
pub type Statuses = Vec<(u16, u16)>;

/// An HTTP server.
#[derive(Debug, Clone)]
pub struct Http {
    /// `http://HOST[:PORT]/PATH` or `https://…`.
    pub url: String,
    /// `Host` field to send in place of the URL's authority.
    pub host: Option<String>,
    /// The statuses that pass. 200–399, as the kubelet's `httpGet`.
    pub status: Statuses,
    /// Fields that the answer must have, with their values.
    pub headers: Vec<(String, String)>,
    /// What the body must contain.
    pub contains: Option<String>,
    /// What must stand in the body, which is JSON then, at each pointer (RFC 6901).
    pub json: Vec<(String, Value)>,
    /// For `https`.
    pub trust: Trust,
}

impl Http {
    /// Any status that the kubelet's `httpGet` takes.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            host: None,
            status: vec![(200, 399)],
            headers: Vec::new(),
            contains: None,
            json: Vec::new(),
            trust: Trust::default(),
        }
    }
}

/// A gRPC server that speaks `grpc.health.v1`.
#[derive(Debug, Clone)]
pub struct Grpc {
    /// `http://HOST:PORT`, or `https://HOST:PORT` for TLS.
    pub url: String,
    /// The service that is asked for; empty for the server as a whole.
    pub service: String,
    /// For `https`.
    pub trust: Trust,
}
