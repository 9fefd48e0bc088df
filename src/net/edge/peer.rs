//! Who is at the other end of a connection, as far as its edge has found out.

use std::net::SocketAddr;

use crate::net::socket::Protocol;
use crate::net::tls::certificate::Client;

/// See the module's text.
#[derive(Debug)]
pub struct Peer {
    /// The client's address: that of the PROXY header where one is required, else the connection's.
    pub address: SocketAddr,
    /// What the client wrote before `://`.
    pub scheme: Scheme,
    /// What was agreed on by ALPN; `None`: the first bytes tell.
    pub protocol: Option<Protocol>,
    /// The client's certificate, verified.
    pub certificate: Option<Box<Client>>,
}

/// How a client reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Peer {
    /// Of a connection without TLS and PROXY header.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, scheme: Scheme::Http, protocol: None, certificate: None }
    }
}

impl Scheme {
    /// As in a URI (RFC 9110 section 4.2).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}
