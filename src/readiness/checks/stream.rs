//! The way to a server: TCP or a unix socket, and TLS over it.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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

/// The first bytes that came over a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct FirstBytes(Arc<Mutex<Vec<u8>>>);

impl FirstBytes {
    /// As many as tell protocols apart: the head of a frame of HTTP/2.
    const MOST: usize = 9;

    /// A stream whose first bytes are noted here.
    pub(super) fn of(&self, stream: Box<dyn Stream>) -> Noted {
        Noted { stream, first: self.clone() }
    }

    /// Whether they are none that a server of HTTP/2 begins with: a frame of `SETTINGS` (RFC 9113 section 3.4).
    pub(super) fn are_not_http2(&self) -> bool {
        self.0.lock().is_ok_and(|bytes| bytes.get(3).is_some_and(|kind| *kind != 4))
    }

    fn note(&self, bytes: &[u8]) {
        if let Ok(mut first) = self.0.lock() {
            let room = Self::MOST.saturating_sub(first.len()).min(bytes.len());
            first.extend_from_slice(&bytes[..room]);
        }
    }
}

/// A stream that notes what comes first.
pub(super) struct Noted {
    stream: Box<dyn Stream>,
    first: FirstBytes,
}

impl AsyncRead for Noted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.first.note(&buf.filled()[before..]);
        read
    }
}

impl AsyncWrite for Noted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
