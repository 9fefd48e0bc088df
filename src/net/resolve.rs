//! Host names to addresses, a few at a time.
//!
//! The system's resolver blocks a thread for as long as it likes and cannot be cancelled: during an outage of DNS each
//! caller that gives up leaves a thread behind. So lookups are bounded, and whoever finds no place waits within its own
//! time limit.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Lookups under way at one time, for each purpose.
const LOOKUPS: usize = 2;

/// For whom a name is looked up: an outage that holds up one must not hold up the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The way of a request.
    Upstream,
    /// Checks, and the sources of flags.
    Background,
}

static UPSTREAM: Semaphore = Semaphore::const_new(LOOKUPS);
static BACKGROUND: Semaphore = Semaphore::const_new(LOOKUPS);

/// The addresses of `host`, which may be one itself (without brackets), with `port`.
///
/// # Cancellation
/// A lookup that is given up keeps its place until the resolver answers.
pub async fn addresses(purpose: Purpose, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let places = match purpose {
        Purpose::Upstream => &UPSTREAM,
        Purpose::Background => &BACKGROUND,
    };
    let place = places.acquire().await.map_err(io::Error::other)?;
    let host = host.to_owned();
    spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        drop(place);
        found
    })
    .await
    .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_and_addresses_are_both_taken() {
        for (host, expected) in [("127.0.0.1", "127.0.0.1:80"), ("::1", "[::1]:80")] {
            let expected: Vec<SocketAddr> = vec![expected.parse().expect("an address")];
            assert_eq!(addresses(Purpose::Background, host, 80).await.expect("no lookup"), expected);
        }
        let local = addresses(Purpose::Upstream, "localhost", 80).await.expect("in /etc/hosts");
        assert!(local.iter().all(|address| address.ip().is_loopback()) && !local.is_empty());
        assert!(addresses(Purpose::Background, "no-such-host.invalid", 80).await.is_err());
        assert_eq!((UPSTREAM.available_permits(), BACKGROUND.available_permits()), (LOOKUPS, LOOKUPS));
    }
}
