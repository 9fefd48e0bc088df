//! What stands before HTTP on a TCP listener: the PROXY header, then TLS. Turns an accepted connection into one that
//! HTTP can be spoken over, and tells who is at the other end.

mod io;
mod metrics;
mod peer;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

pub use self::io::Io;
pub use self::metrics::Metrics;
pub use self::peer::{Peer, Scheme};
use super::activity::{Activity, Order};
use super::networks::Network;
use super::proxy_protocol::{self, Header, LONGEST};
use super::socket::{Protocol, Socket};
use super::tls;
use super::tls::certificate::Client;
use super::tls::material::Fault;
use super::tls::server::Server;
use super::tls::settings::ClientAuth;

/// `h2` of RFC 9113 section 3.2 and `http/1.1` of RFC 7301 section 6, the preferred first.
pub const HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];

/// What every TLS connection begins with: a record of a handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// What a client that speaks HTTP to a TLS port is told, in its own words.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 48\r\n\
    Connection: close\r\n\r\ntidegate: this port speaks TLS; ask by https://\n";

/// What a listener is told to expect before HTTP; by default nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// `proxy_protocol`.
    pub proxy_protocol: ProxyProtocol,
    /// `tls`.
    pub tls: Option<tls::settings::Settings>,
}

/// Whether connections begin with a PROXY header. The protocol forbids to guess: clients could write one themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ProxyProtocol {
    /// They do not.
    #[default]
    Off,
    /// Each must.
    Required {
        /// `proxy_protocol_trusted`: who may connect, and be believed; when empty, everybody.
        trusted: Vec<Network>,
    },
}

/// A listener's edge. Cheap to clone, and nothing at all where neither TLS nor a PROXY header is expected.
#[derive(Debug, Clone, Default)]
pub struct Edge(Option<Arc<Rules>>);

#[derive(Debug)]
struct Rules {
    proxy_protocol: ProxyProtocol,
    tls: Option<Arc<Server>>,
    metrics: Metrics,
}

/// Why a connection was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// A connection of somebody who may not speak for others.
    Untrusted,
    /// No PROXY header, or a malformed one.
    Header(proxy_protocol::Malformed),
    /// The sweeper wants it gone: too slow, or its place is needed.
    Ordered(Stage),
    /// It was closed or broke.
    Closed(Stage),
    /// HTTP where TLS should be.
    PlainHttp,
    /// A failed handshake, by the name it is counted by.
    Handshake(&'static str),
}

/// How far a connection had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Handshake,
}

impl Edge {
    /// The edge of the listener called `listener`; ALPN offers `protocols`. Reads certificates; to follow them is the
    /// caller's ([`Edge::tls`]).
    ///
    /// # Errors
    /// Everything that is wrong with the files of TLS.
    pub fn open(
        listener: &str,
        settings: &Settings,
        protocols: &[&[u8]],
        metrics: &Metrics,
    ) -> Result<Self, Vec<Fault>> {
        if *settings == Settings::default() {
            return Ok(Self::default());
        }
        let open = |tls: &tls::settings::Settings| Server::open(listener, tls.clone(), protocols, &metrics.reloads);
        let tls = settings.tls.as_ref().map(open).transpose()?;
        Ok(Self(Some(Arc::new(Rules {
            proxy_protocol: settings.proxy_protocol.clone(),
            tls,
            metrics: metrics.clone(),
        }))))
    }

    /// The listener's TLS, if it has any.
    pub fn tls(&self) -> Option<&Arc<Server>> {
        self.0.as_ref()?.tls.as_ref()
    }

    /// Whether it lets everything in as it is.
    pub fn is_plain(&self) -> bool {
        self.0.is_none()
    }

    /// Whether clients are asked for certificates.
    pub fn client_auth(&self) -> ClientAuth {
        self.tls().map_or(ClientAuth::None, |tls| tls.client_auth())
    }

    /// Lets a connection in; `None` when it is not let in, which was counted, and the connection is closed then. The
    /// time it may take is that of a request's head, which the sweeper of `activity` watches.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection.
    pub async fn admit(&self, stream: TcpStream, address: SocketAddr, activity: &Arc<Activity>) -> Option<(Io, Peer)> {
        match &self.0 {
            None => Some((Io::Plain(stream), Peer::plain(address))),
            // In a box, which is gone before HTTP begins: a connection's task stays as small as without all this.
            Some(rules) => Box::pin(rules.admit(stream, address, activity)).await,
        }
    }
}

impl Rules {
    async fn admit(&self, stream: TcpStream, address: SocketAddr, activity: &Arc<Activity>) -> Option<(Io, Peer)> {
        activity.read();
        let admitted = self.enter(stream, address, activity).await;
        activity.admitted();
        match admitted {
            Ok(admitted) => Some(admitted),
            Err(refused) => {
                self.metrics.refused(refused);
                tracing::debug!(peer = %address, ?refused, "a connection was not let in");
                None
            }
        }
    }

    async fn enter(
        &self,
        mut stream: TcpStream,
        address: SocketAddr,
        activity: &Arc<Activity>,
    ) -> Result<(Io, Peer), Refused> {
        let mut peer = Peer::plain(address);
        if let ProxyProtocol::Required { trusted } = &self.proxy_protocol {
            if !trusted.is_empty() && !trusted.iter().any(|network| network.contains(address.ip())) {
                return Err(Refused::Untrusted);
            }
            let header = header(&mut stream);
            let source = unless_ordered(activity, header).await.ok_or(Refused::Ordered(Stage::Header))??;
            self.metrics.header(source);
            peer.address = source.unwrap_or(address);
        }
        let Some(tls) = &self.tls else { return Ok((Io::Plain(stream), peer)) };
        let shaken = unless_ordered(activity, self.handshake(tls, stream, &mut peer, activity)).await;
        Ok((shaken.ok_or(Refused::Ordered(Stage::Handshake))??, peer))
    }

    async fn handshake(
        &self,
        tls: &Server,
        stream: TcpStream,
        peer: &mut Peer,
        activity: &Arc<Activity>,
    ) -> Result<Io, Refused> {
        let closed = |_| Refused::Closed(Stage::Handshake);
        let mut first = [0];
        match stream.peek(&mut first).await.map_err(closed)? {
            0 => return Err(Refused::Closed(Stage::Handshake)),
            // No record of TLS has a type that is a letter; every request begins with one.
            _ if first[0] != HANDSHAKE && first[0].is_ascii_uppercase() => {
                let mut socket = Socket::new(stream, activity.clone());
                // A client that does not listen is told nothing.
                if socket.write_all(NOT_TLS).await.is_ok() {
                    drop(socket.shutdown().await);
                }
                return Err(Refused::PlainHttp);
            }
            _ => {}
        }
        let shaken = TlsAcceptor::from(tls.current()).accept(stream).await.map_err(|error| failed(&error))?;
        let (_, session) = shaken.get_ref();
        peer.scheme = Scheme::Https;
        peer.protocol = match session.alpn_protocol() {
            Some(b"h2") => Some(Protocol::Http2),
            Some(b"http/1.1") => Some(Protocol::Http1),
            _ => None,
        };
        if let Some(certificate) = session.peer_certificates().and_then(|chain| chain.first()) {
            let client = Client::read(certificate).map_err(|_| Refused::Handshake("bad_certificate"))?;
            // A resumed session's certificate was verified when the session began.
            if std::time::SystemTime::now() > client.validity.to {
                return Err(Refused::Handshake("expired_certificate"));
            }
            peer.certificate = Some(Box::new(client));
        }
        self.metrics.handshake(session.handshake_kind());
        Ok(Io::Tls(Box::new(shaken)))
    }
}

/// Waits for `work`, or until the sweeper wants the connection gone: `None`.
async fn unless_ordered<T>(activity: &Activity, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(done) = work.as_mut().poll(cx) {
            return std::task::Poll::Ready(Some(done));
        }
        activity.attend(cx.waker());
        if activity.order() == Order::None { std::task::Poll::Pending } else { std::task::Poll::Ready(None) }
    })
    .await
}

/// Reads a PROXY header and not a byte more: what follows is read by whoever comes next.
async fn header(stream: &mut TcpStream) -> Result<Option<SocketAddr>, Refused> {
    let closed = |_| Refused::Closed(Stage::Header);
    let mut bytes = vec![0; 256];
    let mut length = 0;
    loop {
        if length == bytes.len() {
            bytes.resize(LONGEST, 0);
        }
        let come = stream.peek(&mut bytes[length..]).await.map_err(closed)?;
        if come == 0 {
            return Err(Refused::Closed(Stage::Header));
        }
        let (end, whole) = match proxy_protocol::parse(&bytes[..length + come]).map_err(Refused::Header)? {
            Header::Partial => (length + come, None),
            Header::Whole { length, source } => (length, Some(source)),
        };
        stream.read_exact(&mut bytes[length..end]).await.map_err(closed)?;
        length = end;
        if let Some(source) = whole {
            return Ok(source);
        }
    }
}

/// The name by which a failed handshake is counted.
fn failed(error: &std::io::Error) -> Refused {
    use rustls::Error as Tls;
    let Some(why) = error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>()) else {
        return match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                Refused::Closed(Stage::Handshake)
            }
            _ => Refused::Handshake("other"),
        };
    };
    Refused::Handshake(match why {
        Tls::NoCertificatesPresented => "no_certificate",
        Tls::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "expired_certificate"
        }
        // Of an authority by the same name, the signature is wrong.
        Tls::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "unknown_authority"
        }
        Tls::InvalidCertificate(_) => "bad_certificate",
        Tls::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown,
        ) => "not_believed",
        Tls::AlertReceived(_) => "client_alert",
        Tls::NoApplicationProtocol => "no_protocol",
        Tls::PeerIncompatible(_) => "incompatible",
        Tls::InvalidMessage(_) | Tls::PeerMisbehaved(_) | Tls::InappropriateMessage { .. } => "malformed",
        _ => "other",
    })
}
