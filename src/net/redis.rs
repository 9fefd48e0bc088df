//! How Redis is reached: one place that parses its URL, connects and answers within a time limit, and keeps the
//! password out of every error text.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Cmd, ConnectionAddr, Pipeline, ProtocolVersion, PushInfo, RedisFuture, Value};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::resolve::{self, Purpose};
use crate::net::tls;
use crate::secret::Secret;

/// A peer that vanished without a word (a node that lost power) is noticed after about this long.
const VANISHED_AFTER: Duration = Duration::from_secs(30);

/// A Redis server, not yet connected to.
#[derive(Clone)]
pub struct Endpoint {
    url: Secret,
    client: redis::Client,
    tls: Option<TlsConnector>,
}

/// Why Redis could not be used. No text carries the URL's password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The URL is not one of `redis://`, `rediss://`, `redis+unix://`, `unix://`.
    #[error("redis URL: {0}")]
    Url(String),
    /// No connection, or the server refused us.
    #[error("{0}")]
    Refused(String),
    /// Nothing within the limit.
    #[error("no answer from redis within {0:?}")]
    Timeout(Duration),
}

/// A connection that pipelines the commands of whoever holds it. Closed, with the task that drives it, on drop.
pub struct Connection {
    commands: MultiplexedConnection,
    /// Reads and writes the socket; aborted on drop.
    _driver: JoinSet<()>,
}

/// What a connection runs over: TCP, TLS or a unix socket.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Endpoint {
    /// Parses a URL. Nothing is connected. With `rediss://` the trusted authorities are read here, once.
    pub fn new(url: &Secret) -> Result<Self, Error> {
        let client = redis::Client::open(url.expose()).map_err(|e| Error::Url(url.scrub(&e.to_string())))?;
        let tls = match client.get_connection_info().addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(Error::Url("#insecure is not supported; trust the server's authority instead".to_owned()));
            }
            ConnectionAddr::TcpTls { .. } => Some(TlsConnector::from(tls::client_config())),
            _ => None,
        };
        Ok(Self { url: url.clone(), client, tls })
    }

    /// A new connection, within `limit`; each command sent over it has `limit` to be answered.
    ///
    /// # Cancellation
    /// Dropping the future closes what was opened.
    pub async fn connect(&self, limit: Duration) -> Result<Connection, Error> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(limit));
        self.within(limit, self.client.get_connection_info().redis_settings().protocol(), config).await
    }

    /// A connection as [`Endpoint::connect`]'s that also takes subscriptions: messages and the library's own
    /// `Disconnection` go to `push`, which must not block. Needs RESP3, that is Redis 6 or later.
    pub async fn connect_with_push(
        &self,
        limit: Duration,
        push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<Connection, Error> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(limit)).set_push_sender(move |info| {
            push(info);
            Ok::<(), redis::aio::SendError>(())
        });
        self.within(limit, ProtocolVersion::RESP3, config).await
    }

    /// The error in our words, without the URL's password.
    pub fn error(&self, error: &redis::RedisError, limit: Duration) -> Error {
        if error.is_timeout() { Error::Timeout(limit) } else { Error::Refused(self.scrub(error)) }
    }

    /// An error's text without the URL's password.
    pub fn scrub(&self, error: &redis::RedisError) -> String {
        self.url.scrub(&error.to_string())
    }

    async fn within(
        &self,
        limit: Duration,
        protocol: ProtocolVersion,
        config: AsyncConnectionConfig,
    ) -> Result<Connection, Error> {
        timeout(limit, self.open(protocol, config)).await.unwrap_or(Err(Error::Timeout(limit)))
    }

    async fn open(&self, protocol: ProtocolVersion, config: AsyncConnectionConfig) -> Result<Connection, Error> {
        let info = self.client.get_connection_info();
        let stream = self.stream(info.addr()).await?;
        let settings = info.redis_settings().clone().set_protocol(protocol);
        let (commands, driver) = MultiplexedConnection::new_with_config(&settings, stream, config)
            .await
            .map_err(|e| Error::Refused(self.scrub(&e)))?;
        let mut set = JoinSet::new();
        set.spawn(driver);
        Ok(Connection { commands, _driver: set })
    }

    /// The library's own connecting is not used: it knows only the system's authorities (none in a scratch image)
    /// and fails altogether when one of those does not parse.
    async fn stream(&self, addr: &ConnectionAddr) -> Result<Box<dyn Stream>, Error> {
        match addr {
            ConnectionAddr::Tcp(host, port) => Ok(Box::new(tcp(host, *port).await?)),
            ConnectionAddr::TcpTls { host, port, .. } => {
                let connector = self.tls.as_ref().expect("made by Endpoint::new for this kind of address");
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
                    .map_err(|e| Error::Url(format!("{host}: {e}")))?;
                let stream = tcp(host, *port).await?;
                let stream = connector.connect(name, stream).await.map_err(|e| Error::Refused(format!("TLS: {e}")))?;
                Ok(Box::new(stream))
            }
            ConnectionAddr::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                Ok(Box::new(stream.map_err(|e| Error::Refused(format!("{}: {e}", path.display())))?))
            }
            _ => Err(Error::Url("unknown kind of address".to_owned())),
        }
    }
}

/// Connects to the first of the host's addresses that answers.
async fn tcp(host: &str, port: u16) -> Result<TcpStream, Error> {
    let refused = |e: std::io::Error| Error::Refused(format!("{host}:{port}: {e}"));
    let host = host.trim_matches(['[', ']']);
    let addresses = resolve::addresses(Purpose::Background, host, port).await.map_err(refused)?;
    let stream = TcpStream::connect(addresses.as_slice()).await.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    let keepalive = TcpKeepalive::new().with_time(VANISHED_AFTER / 2).with_interval(VANISHED_AFTER / 6).with_retries(3);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(refused)?;
    // Keep-alive probes are not sent while written bytes are unacknowledged; this bounds that case.
    SockRef::from(&stream).set_tcp_user_timeout(Some(VANISHED_AFTER)).map_err(refused)?;
    Ok(stream)
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        self.commands.req_packed_command(cmd)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.commands.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.commands.get_db()
    }
}

impl Connection {
    /// Subscribes to a channel, of a connection made by [`Endpoint::connect_with_push`]. Answered once the server
    /// has confirmed: what is published from then on arrives.
    pub async fn subscribe(&mut self, channel: &str) -> redis::RedisResult<()> {
        self.commands.subscribe(channel).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_url_is_refused_without_its_password() {
        for url in
            ["http://u:s3cret@h/", "redis://u:s3cret@h:port/", "", "redis+sentinel://:s3cret@h", "rediss://h/#insecure"]
        {
            let Err(error) = Endpoint::new(&Secret::new(url)) else { panic!("{url} was accepted") };
            assert!(matches!(error, Error::Url(_)), "{error:?}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[tokio::test]
    async fn nobody_listening_is_an_answer() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("an ephemeral port");
        let address = listener.local_addr().expect("bound");
        let endpoint = Endpoint::new(&Secret::new(format!("redis://:s3cret@{address}"))).expect("a legal URL");
        // Accepted by the kernel, never answered.
        let silent = endpoint.connect(Duration::from_millis(50)).await.err();
        assert_eq!(silent, Some(Error::Timeout(Duration::from_millis(50))));
        drop(listener);
        let Some(Error::Refused(text)) = endpoint.connect(Duration::from_secs(5)).await.err() else {
            panic!("connected to nobody")
        };
        assert!(text.contains("refused") && !text.contains("s3cret"), "{text}");
    }
}
