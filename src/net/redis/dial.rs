//! Opening a link to one server: the socket, TLS, who we are.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, ProtocolVersion, RedisConnectionInfo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::connection::Link;
use super::login::log_in;
use super::url::Trust;
use super::{Endpoint, Error, Node};
use crate::net::resolve::{self, Purpose};
use crate::net::tls;

/// A peer that vanished without a word (a node that lost power) is noticed after about this long.
const VANISHED_AFTER: Duration = Duration::from_secs(30);

/// What a connection runs over: TCP, TLS or a unix socket.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Opens a link to `node`.
pub(super) async fn open(
    endpoint: &Endpoint,
    node: &Node,
    login: &RedisConnectionInfo,
    protocol: ProtocolVersion,
    config: AsyncConnectionConfig,
) -> Result<Link, Error> {
    let mut stream = stream(node, endpoint.0.target.trust.as_ref()).await?;
    log_in(&mut stream, login).await.map_err(|text| Error::Refused(endpoint.clean(&text)))?;
    // Who the client is by its library would need a permission more, and says nothing here.
    let settings = RedisConnectionInfo::default().set_protocol(protocol).set_skip_set_lib_name();
    let opened = MultiplexedConnection::new_with_config(&settings, stream, config).await;
    let (commands, driver) = opened.map_err(|error| match error.kind() {
        ErrorKind::RESP3NotSupported => Error::Refused(format!(
            "{node} does not speak RESP3, which subscriptions need: Redis 6 or later, and no proxy in between that \
             hides it"
        )),
        _ => Error::Refused(endpoint.scrub(&error)),
    })?;
    let mut set = JoinSet::new();
    set.spawn(driver);
    Ok(Link::new(commands, node.clone(), set))
}

/// The library's own connecting is not used: it knows only the system's authorities (none in a scratch image)
/// and fails altogether when one of those does not parse.
async fn stream(node: &Node, trust: Option<&Trust>) -> Result<Box<dyn Stream>, Error> {
    match (node, trust) {
        (Node::Unix(path), _) => {
            let stream = UnixStream::connect(path).await;
            Ok(Box::new(stream.map_err(|e| Error::Refused(format!("{}: {e}", path.display())))?))
        }
        (Node::Tcp(host, port), None) => Ok(Box::new(tcp(host, *port).await?)),
        (Node::Tcp(host, port), Some(trust)) => {
            let config = config(trust).await?;
            let name = trust.server_name.as_deref().unwrap_or(host);
            let name = ServerName::try_from(name.to_owned()).map_err(|e| Error::Url(format!("{name}: {e}")))?;
            let stream = tcp(host, *port).await?;
            let stream = TlsConnector::from(config).connect(name, stream).await;
            let why = |e: std::io::Error| tls::client::reason(&e).unwrap_or_else(|| e.to_string());
            Ok(Box::new(stream.map_err(|e| Error::Refused(format!("TLS: {}", why(e))))?))
        }
    }
}

/// Whom to trust. The system's authorities are read once, files of our own each time: they may have been replaced.
async fn config(trust: &Trust) -> Result<Arc<ClientConfig>, Error> {
    static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if trust.ca_file.is_none() && trust.identity.is_none() {
        return Ok(SYSTEM.get_or_init(tls::client_config).clone());
    }
    let read = async |path: &std::path::Path| {
        let read = tokio::fs::read(path).await;
        read.map_err(|e| Error::Refused(format!("TLS: {}: {e}", path.display())))
    };
    let roots = match &trust.ca_file {
        Some(path) => Some(read(path).await?),
        None => None,
    };
    let identity = match &trust.identity {
        Some((chain, key)) => Some((read(chain).await?, read(key).await?)),
        None => None,
    };
    let identity = identity.as_ref().map(|(chain, key)| (chain.as_slice(), key.as_slice()));
    tls::client_config_from(roots.as_deref(), identity).map_err(|e| Error::Refused(format!("TLS: {e}")))
}

/// Connects to the first of the host's addresses that answers.
async fn tcp(host: &str, port: u16) -> Result<TcpStream, Error> {
    let refused = |e: std::io::Error| Error::Refused(format!("{host}:{port}: {e}"));
    let addresses = resolve::addresses(Purpose::Background, host, port).await.map_err(refused)?;
    let stream = TcpStream::connect(addresses.as_slice()).await.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;
    let keepalive = TcpKeepalive::new().with_time(VANISHED_AFTER / 2).with_interval(VANISHED_AFTER / 6).with_retries(3);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(refused)?;
    // Keep-alive probes are not sent while written bytes are unacknowledged; this bounds that case.
    SockRef::from(&stream).set_tcp_user_timeout(Some(VANISHED_AFTER)).map_err(refused)?;
    Ok(stream)
}
