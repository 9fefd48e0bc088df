//! The way to a server: TCP or a unix socket, and TLS over it.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;

use super::tcp::connect;
use super::{Cause, Failure};
use crate::net::tls::client::Trust;

/// What a connection runs over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Host, without brackets, and port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
}

/// Connects, and shakes hands when there is a `trust`, offering `protocols`.
pub(super) async fn open(
    place: &Place,
    trust: Option<&Trust>,
    protocols: &[&[u8]],
) -> Result<Box<dyn Stream>, Failure> {
    let (host, port) = match place {
        Place::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(|error| Failure::io(&error))?;
            return Ok(Box::new(stream));
        }
        Place::Tcp(host, port) => (host, *port),
    };
    let stream = connect(host, port).await?;
    stream.set_nodelay(true).map_err(|error| Failure::io(&error))?;
    let Some(trust) = trust else { return Ok(Box::new(stream)) };
    let unusable = |why: String| Failure::new(Cause::Configuration, &format!("TLS: {why}"));
    let mut config = trust.config().await.map_err(unusable)?;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let name = trust.name(host).map_err(unusable)?;
    match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(Failure::tls(&error).unwrap_or_else(|| Failure::io(&error))),
    }
}
