//! A client of MySQL and MariaDB, as small as a check needs it: a handshake with TLS, text queries and their rows, over one
//! connection (<https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html>). No pool, no prepared statements.

mod connection;
mod handshake;
#[cfg(test)]
mod laws;
mod packet;
mod rows;
mod url;

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

pub use connection::Connection;
pub use rows::{Keep, Rows};
use url::Target;

use crate::secret::Secret;

/// A server, not yet connected to.
#[derive(Clone)]
pub struct Endpoint {
    url: Secret,
    target: Target,
}

/// Why a server could not be used. No text carries the URL's password.
#[derive(Debug, Error)]
pub enum Error {
    /// The URL is not one of MySQL.
    #[error("mysql URL: {0}")]
    Url(&'static str),
    /// The socket.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Files of ours, or the server's certificate.
    #[error("TLS: {0}")]
    Tls(String),
    /// The server refused; its error number and its words.
    #[error("{text}")]
    Server {
        /// As in its manual.
        code: u16,
        /// In its words.
        text: String,
    },
    /// The server answered what is no answer.
    #[error("{0}")]
    Protocol(&'static str),
    /// The server wants us to prove who we are in a way that we do not know, or will not use here.
    #[error("{0}")]
    Authentication(String),
}

impl Endpoint {
    /// Parses a URL. Nothing is connected, and no file is read.
    ///
    /// # Errors
    /// [`Error::Url`]
    pub fn new(url: &Secret) -> Result<Self, Error> {
        let target = url::parse(url.expose()).map_err(Error::Url)?;
        Ok(Self { url: url.clone(), target })
    }

    /// The host of the URL, without brackets; `None` where it leads to a socket.
    pub fn host(&self) -> Option<&str> {
        match &self.target.address {
            url::Address::Tcp(host, _) => Some(host),
            url::Address::Unix(_) => None,
        }
    }

    /// A connection over which no statement runs for longer than `limit` where the server can see to that (MariaDB, and
    /// MySQL for `SELECT`): one whose client has gone would go on otherwise.
    ///
    /// # Cancellation
    /// Dropping the future closes what was opened.
    pub async fn connect(&self, limit: Duration) -> Result<Connection, Error> {
        self.bounded(Connection::open(&self.target).await, limit).await
    }

    /// The same over a stream that leads to the URL's address already.
    ///
    /// # Cancellation
    /// Dropping the future drops the stream.
    pub async fn connect_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
        limit: Duration,
    ) -> Result<Connection, Error> {
        self.bounded(Connection::over(Box::new(stream), &self.target).await, limit).await
    }

    async fn bounded(&self, opened: Result<Connection, Error>, limit: Duration) -> Result<Connection, Error> {
        let mut connection = opened.map_err(|error| self.scrubbed(error))?;
        connection.bound(limit).await.map_err(|error| self.scrubbed(error))?;
        Ok(connection)
    }

    /// The error without our password, should a server quote it.
    pub fn scrubbed(&self, error: Error) -> Error {
        let clean = |text: String| self.target.password.scrub(&self.url.scrub(&text));
        match error {
            Error::Server { code, text } => Error::Server { code, text: clean(text) },
            Error::Authentication(text) => Error::Authentication(clean(text)),
            error => error,
        }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.target.address).finish_non_exhaustive()
    }
}
