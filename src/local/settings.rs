//! Where the app and the CLI reach the sidecar.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The local listeners' settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `local.listen`. 127.0.0.1 ports 8013, 8015 and 8016: the defaults of the flagd SDKs' RPC, sync and OFREP
    /// clients, so that they find the sidecar unconfigured.
    pub listen: Vec<SocketAddr>,
    /// `local.socket`: the unix socket of the CLI.
    pub socket: Socket,
    /// `local.cors_origins`: the pages that may read flags in a browser, or `*`.
    pub cors_origins: Vec<String>,
    /// `local.public_url`, without a slash at its end: where clients find this API when a proxy changes its paths.
    pub public_url: Option<String>,
}

/// The unix socket, and whether its absence matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Socket {
    /// The default path: when it cannot be made (an unprivileged user has no `/run/tidegate`) that is a warning.
    IfPossible(PathBuf),
    /// A path somebody asked for: when it cannot be made the start fails.
    Required(PathBuf),
    /// `local.socket: ""`: none.
    None,
}

/// Removes the socket's file, so that nobody takes the next connection's refusal for a sidecar that hangs.
pub fn remove(socket: &Socket) {
    if let Socket::IfPossible(path) | Socket::Required(path) = socket
        && let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(%error, path = %path.display(), "the local socket's file stays behind");
    }
}
