//! The small server behind the ops and local listeners: the same connections as the proxy's, and HTTP/2 beside
//! HTTP/1.1, because gRPC needs it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::activity::Activity;
use super::connection::{self, Head};
use super::edge::Edge;
use super::inbound::Inbound;
use super::listen::Acceptor;
use super::outbound::Broken;
use super::plain::{Plain, Then};
use super::socket::{Protocol, Socket};
use super::sweep::{Limits, Shed, Sweeper, Swept};
use super::uptake::Offered;
use crate::lifecycle::machine::Phase;
use crate::lifecycle::tasks::{OnEnd, Tasks};

/// Connections of one server. Beyond, the one that has been idle for longest makes room: idle connections must not keep
/// a probe waiting. Twice as many as there may be event streams, which are never idle.
const CONNECTIONS: usize = 2048;
/// Bounds on a request's head.
const HEAD: Head = Head { bytes: 16 * 1024, fields: 100 };
/// Heads, bodies and answers may stall this long.
const STALL: Duration = Duration::from_secs(10);
/// Idle connections live this long: longer than the intervals of probes and scrapes, and than the idle time of SDKs'
/// own pools.
const IDLE: Duration = Duration::from_secs(120);

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP, from this address.
    Tcp(SocketAddr),
    /// Over the unix socket, which only its owner can open.
    Unix,
}

impl Peer {
    /// Whether the caller is on this machine (in this pod).
    pub fn is_local(self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix => true,
        }
    }
}

/// Serves any number of listeners on the calling thread's event loop. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    sweeper: Sweeper,
    permits: Arc<Semaphore>,
    tasks: Tasks,
    plain: Option<Plain>,
}

impl Server {
    /// A server whose connections are swept by a task of its own.
    pub fn new(tasks: &Tasks, phase: watch::Receiver<Phase>) -> Self {
        let stall = STALL.as_millis() as u64;
        let limits = Limits {
            head: stall,
            idle: IDLE.as_millis() as u64,
            body: stall,
            send: stall,
            answer: None,
            request: None,
            shed: Shed::No,
        };
        let sweeper = Sweeper::new(limits);
        tasks.spawn("sweeper", OnEnd::MustLive, sweeper.clone().run(phase));
        Self { sweeper, permits: Arc::new(Semaphore::new(CONNECTIONS)), tasks: tasks.clone(), plain: None }
    }

    /// The same, whose plain requests are answered by `plain`, as long as a connection has no others.
    #[must_use]
    pub fn with_plain(self, plain: Plain) -> Self {
        Self { plain: Some(plain), ..self }
    }

    /// Answers what comes to a TCP listener, for as long as the tasks live.
    pub fn tcp<H, F, B>(&self, acceptor: Acceptor<TcpListener>, answer: H)
    where
        H: Fn(Peer, Request<Inbound>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes, Error: Into<Broken>> + Send + Unpin + 'static,
    {
        self.behind(Edge::default(), acceptor, answer);
    }

    /// The same, for what the listener's edge lets in.
    pub fn behind<H, F, B>(&self, edge: Edge, mut acceptor: Acceptor<TcpListener>, answer: H)
    where
        H: Fn(Peer, Request<Inbound>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes, Error: Into<Broken>> + Send + Unpin + 'static,
    {
        let server = self.clone();
        self.tasks.spawn("accept loop", OnEnd::MustLive, async move {
            while let Some(permit) = server.place().await {
                let (stream, address) = acceptor.accept().await;
                let swept = server.sweeper.open();
                let (edge, activity) = (edge.clone(), swept.activity().clone());
                let entry = async move {
                    let (io, peer) = edge.admit(stream, address, &activity).await?;
                    Some((io, peer.protocol, Peer::Tcp(peer.address)))
                };
                server.serve(entry, swept, permit, answer.clone());
            }
        });
    }

    /// Answers what comes to a unix listener, for as long as the tasks live.
    pub fn unix<H, F, B>(&self, mut acceptor: Acceptor<UnixListener>, answer: H)
    where
        H: Fn(Peer, Request<Inbound>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes, Error: Into<Broken>> + Send + Unpin + 'static,
    {
        let server = self.clone();
        self.tasks.spawn("accept loop", OnEnd::MustLive, async move {
            while let Some(permit) = server.place().await {
                let entry = std::future::ready(Some((acceptor.accept().await, None, Peer::Unix)));
                server.serve(entry, server.sweeper.open(), permit, answer.clone());
            }
        });
    }

    /// A place for one more connection. None only when the semaphore is closed, which it never is.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Some(permit);
        }
        self.sweeper.close_longest_idle();
        self.permits.clone().acquire_owned().await.ok()
    }

    /// Serves a connection once it is let in, which `entry` tells with what it speaks and who asks.
    fn serve<E, I, H, F, B>(&self, entry: E, swept: Swept, permit: OwnedSemaphorePermit, answer: H)
    where
        E: Future<Output = Option<(I, Option<Protocol>, Peer)>> + Send + 'static,
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        H: Fn(Peer, Request<Inbound>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes, Error: Into<Broken>> + Send + Unpin + 'static,
    {
        let (streams, plain) = (self.tasks.clone(), self.plain.clone());
        self.tasks.spawn_connection(async move {
            let activity = swept.activity().clone();
            let Some((io, agreed, peer)) = entry.await else { return };
            let mut socket = Socket::new(io, activity.clone());
            if let Some(plain) = plain.filter(|_| agreed != Some(Protocol::Http2)) {
                match plain.serve(&mut socket, &activity).await {
                    Ok(Then::Other) => {}
                    Ok(Then::Ended) => return,
                    Err(error) => return tracing::debug!(?peer, %error, "connection ended"),
                }
            }
            let service = service_fn(|request: Request<Incoming>| {
                let under_way = UnderWay::begin(activity.clone());
                let has_body = !request.body().is_end_stream();
                let answer = answer(peer, request.map(|body| Inbound::new(body, activity.clone())));
                async move {
                    let response = answer.await;
                    // What was read since the head was the body, not the start of another head.
                    if has_body {
                        under_way.0.body_moved();
                    }
                    under_way.0.answer();
                    Ok::<_, Infallible>(
                        response.map(|body| Delivery { body: Offered::new(body), _under_way: under_way }),
                    )
                }
            });
            if let Err(error) = connection::serve_any(socket, agreed, activity.clone(), HEAD, streams, service).await {
                tracing::debug!(?peer, %error, "connection ended");
            }
            drop((swept, permit));
        });
    }
}

/// A request under way on a connection, until its answer has ended.
struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn begin(activity: Arc<Activity>) -> Self {
        activity.begin();
        Self(activity)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// An answer's body, with the request that it ends.
struct Delivery<B> {
    body: Offered<B>,
    _under_way: UnderWay,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Delivery<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
