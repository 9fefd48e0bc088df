//! Opens a TCP connection and closes it.

use tokio::net::TcpStream;

use super::{Cause, Failure};
use crate::net::resolve::{self, Purpose};

/// A TCP port.
#[derive(Debug)]
pub struct Tcp {
    host: String,
    port: u16,
}

impl Tcp {
    pub(super) fn new(address: &str) -> Result<Self, Failure> {
        let parsed = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let Some((host, port)) = parsed.filter(|(host, _)| !host.is_empty()) else {
            return Err(Failure::new(Cause::Configuration, &format!("\"{address}\" is not HOST:PORT")));
        };
        Ok(Self { host: without_brackets(host).to_owned(), port })
    }

    pub(super) async fn attempt(&mut self) -> Result<(), Failure> {
        connect(&self.host, self.port).await.map(drop)
    }
}

/// Connects to the first of the host's addresses that accepts. A name is looked up each time: after a failover it
/// leads elsewhere.
pub(super) async fn connect(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let addresses = resolve::addresses(Purpose::Background, host, port).await.map_err(|e| Failure::io(&e))?;
    TcpStream::connect(addresses.as_slice()).await.map_err(|e| Failure::io(&e))
}

/// `[::1]` is how an IPv6 address stands in a URL; the resolver wants `::1`.
pub(super) fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (address, expected) in
            [("db:5432", ("db", 5432)), ("[::1]:80", ("::1", 80)), ("127.0.0.1:1", ("127.0.0.1", 1))]
        {
            let tcp = Tcp::new(address).expect("legal");
            assert_eq!((tcp.host.as_str(), tcp.port), expected);
        }
        for address in ["", "db", ":80", "db:", "db:x", "db:70000"] {
            assert!(matches!(Tcp::new(address), Err(failure) if failure.cause == Cause::Configuration), "{address}");
        }
    }
}
