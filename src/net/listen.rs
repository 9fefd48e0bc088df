//! Binding and accepting, with answers to what goes wrong: an address in use, a stale socket file, no more file
//! descriptors.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// Connections the kernel keeps for us to accept (it caps this at `net.core.somaxconn`).
const BACKLOG: i32 = 4096;
/// First and longest pause of an accept loop that cannot accept.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Between two log lines of one listener that cannot accept.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// Where somebody listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address could not be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct BindError {
    /// Where.
    pub address: Address,
    /// Why, and what to do.
    pub reason: String,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl BindError {
    fn new(address: Address, source: io::Error) -> Self {
        let reason = match source.kind() {
            io::ErrorKind::AddrInUse => "the address is in use by another process; stop it or choose another".into(),
            io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address".into(),
            io::ErrorKind::PermissionDenied => {
                "permission denied; use a port above 1023 or a writable directory".into()
            }
            io::ErrorKind::NotFound => "the directory does not exist; create it".into(),
            _ => source.to_string(),
        };
        Self { address, reason, source }
    }
}

/// Finds within two minutes a peer that is gone without a word, of which an idle tunnel would never hear. Rare enough to
/// cost nothing, often enough to keep the entry that a NAT or a firewall has for the connection (many forget after 350 s).
pub fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4)
}

/// Listens on a TCP address. Not shared with other processes (no `SO_REUSEPORT`), so that a second sidecar on the
/// same port is an error and not a silent half of the traffic; threads of ours share by [`std::net::TcpListener::try_clone`].
pub fn bind_tcp(address: SocketAddr) -> Result<std::net::TcpListener, BindError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        // Accepted connections have it from their listener, at no cost of their own.
        socket.set_tcp_keepalive(&keepalive())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().map_err(|e| BindError::new(Address::Tcp(address), e))
}

/// Listens on a unix socket, made for its owner alone. A file left behind by a process that died is replaced; one
/// that somebody still answers on is not.
pub fn bind_unix(path: &Path) -> Result<std::os::unix::net::UnixListener, BindError> {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    let bind = || {
        if let Some(directory) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => match try_connect(path) {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
                // Somebody listens, even if their queue is full.
                Ok(()) => return Err(io::ErrorKind::AddrInUse.into()),
                Err(full) if full.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::AddrInUse.into()),
                Err(other) => return Err(other),
            },
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket")),
            Err(_) => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bind().map_err(|e| BindError::new(Address::Unix(path.to_owned()), e))
}

/// Connects without waiting: whoever listens may be stuck.
fn try_connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// A listener that goes on whatever happens to single connections.
pub struct Acceptor<L> {
    listener: L,
    name: String,
    pause: Duration,
    said: Option<Instant>,
}

impl Acceptor<TcpListener> {
    /// Accepts from a listener made by [`bind_tcp`]. Must be called within a runtime.
    pub fn tcp(listener: std::net::TcpListener, name: impl Into<String>) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::from_std(listener)?, name: name.into(), pause: Duration::ZERO, said: None })
    }

    /// The next connection, with `TCP_NODELAY` set.
    ///
    /// # Cancellation
    /// Safe: no connection is lost.
    pub async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    self.pause = Duration::ZERO;
                    // Fails only for a connection that is gone already, which its first read will tell.
                    if stream.set_nodelay(true).is_ok() {
                        return (stream, peer);
                    }
                }
                Err(error) => self.failed(&error).await,
            }
        }
    }

    /// The address, with the port that the kernel chose if it was 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Acceptor<UnixListener> {
    /// Accepts from a listener made by [`bind_unix`]. Must be called within a runtime.
    pub fn unix(listener: std::os::unix::net::UnixListener, name: impl Into<String>) -> io::Result<Self> {
        Ok(Self { listener: UnixListener::from_std(listener)?, name: name.into(), pause: Duration::ZERO, said: None })
    }

    /// The next connection.
    ///
    /// # Cancellation
    /// Safe: no connection is lost.
    pub async fn accept(&mut self) -> tokio::net::UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    self.pause = Duration::ZERO;
                    return stream;
                }
                Err(error) => self.failed(&error).await,
            }
        }
    }
}

impl<L> Acceptor<L> {
    /// A connection that died before it was accepted concerns nobody. Anything else (no file descriptors, no memory)
    /// would fail again at once: pause, longer each time, while other connections end and free some.
    async fn failed(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
            return;
        }
        let now = Instant::now();
        if self.said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_AGAIN) {
            self.said = Some(now);
            tracing::error!(listener = self.name, %error, "cannot accept connections; trying again");
        }
        self.pause = (self.pause * 2).clamp(BACK_OFF.0, BACK_OFF.1);
        tokio::time::sleep(self.pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_said_so() {
        let first = bind_tcp(([127, 0, 0, 1], 0).into()).expect("a free port");
        let address = first.local_addr().expect("bound");
        let error = bind_tcp(address).expect_err("taken");
        assert_eq!(
            error.to_string(),
            format!("cannot listen on {address}: the address is in use by another process; stop it or choose another")
        );
    }

    #[tokio::test]
    async fn an_accepted_connection_is_kept_alive_as_its_listener_says() {
        let mut acceptor =
            Acceptor::tcp(bind_tcp(([127, 0, 0, 1], 0).into()).expect("a free port"), "test").expect("ours");
        let client = TcpStream::connect(acceptor.address().expect("bound")).await.expect("accepted");
        let (accepted, _) = acceptor.accept().await;
        let told = socket2::SockRef::from(&accepted);
        assert!(told.keepalive().expect("told"));
        assert_eq!(told.tcp_keepalive_time().expect("told"), Duration::from_secs(60));
        assert_eq!(told.tcp_keepalive_retries().expect("told"), 4);
        drop(client);
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("deeper/tidegate.sock");
        drop(bind_unix(&path).expect("the directory is made"));
        assert!(path.exists(), "closing leaves the file behind");
        let live = bind_unix(&path).expect("stale");
        assert!(bind_unix(&path).expect_err("live").to_string().contains("in use"));
        drop(live);
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, "not a socket").expect("written");
        assert!(bind_unix(&path).expect_err("a file").to_string().contains("no socket"));
        assert_eq!(std::fs::read_to_string(&path).expect("kept"), "not a socket");
    }
}
