//! The bare proxy's connections to the app: a stack of idle ones, and the body that gives one back when it ends.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::tuning::{Tune, Tuning};

/// Idle connections of one thread, the one used last on top.
#[derive(Clone)]
pub(super) struct Pool {
    address: SocketAddr,
    tuning: Tuning,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    idle: Vec<Upstream>,
    drivers: JoinSet<()>,
}

type Driver = Connection<TokioIo<TcpStream>, Incoming>;

/// One connection to the app.
struct Upstream {
    sender: SendRequest<Incoming>,
    /// The connection itself, when no task of its own drives it.
    driver: Option<Pin<Box<Driver>>>,
}

impl Pool {
    pub(super) fn new(address: SocketAddr, tuning: Tuning) -> Self {
        Pool { address, tuning, shared: Arc::default() }
    }

    /// Sends `request` over an idle connection or a new one.
    pub(super) async fn send(&self, request: Request<Incoming>) -> anyhow::Result<Response<PooledBody>> {
        let mut upstream = self.ready().await?;
        let answer = upstream.sender.send_request(request);
        let response = upstream.drive_until(answer).await?;
        Ok(response.map(|incoming| PooledBody {
            incoming: Some(incoming),
            upstream: Some(upstream),
            pool: self.clone(),
        }))
    }

    async fn ready(&self) -> anyhow::Result<Upstream> {
        loop {
            let idle = self.lock().idle.pop();
            let Some(mut upstream) = idle else { return self.connect().await };
            if upstream.ready().await {
                return Ok(upstream);
            }
        }
    }

    async fn connect(&self) -> anyhow::Result<Upstream> {
        let stream = TcpStream::connect(self.address).await?;
        if !self.tuning.has(Tune::Nagle) {
            stream.set_nodelay(true)?;
        }
        let (sender, connection) = self.tuning.client().handshake(TokioIo::new(stream)).await?;
        if self.tuning.has(Tune::Inline) {
            return Ok(Upstream { sender, driver: Some(Box::pin(connection)) });
        }
        let drivers = &mut self.lock().drivers;
        while drivers.try_join_next().is_some() {}
        // What went wrong on it reaches the request that waits for its answer.
        let drive = async { drop(connection.await) };
        if self.tuning.has(Tune::SpawnLocal) {
            drivers.spawn_local(drive);
        } else {
            drivers.spawn(drive);
        }
        Ok(Upstream { sender, driver: None })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    async fn ready(&mut self) -> bool {
        // A connection driven here waits for its next request with the waker it was last driven with: with this task's
        // own, sending the request would make the task run once more for nothing.
        self.drive(&mut Context::from_waker(Waker::noop()));
        poll_fn(|cx| {
            if !self.sender.is_ready() {
                self.drive(cx);
            }
            self.sender.poll_ready(cx)
        })
        .await
        .is_ok()
    }

    /// Waits for `answer`; when the connection is driven here, only its socket may wake this task: the answer arrives
    /// within the very poll that drives, and a waker of its own would make the task run once more for nothing.
    async fn drive_until<T>(&mut self, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        poll_fn(|cx| {
            if self.drive(cx) {
                answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            } else {
                answer.as_mut().poll(cx)
            }
        })
        .await
    }

    /// Whether the connection is driven here and goes on.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(driver) = &mut self.driver else { return false };
        if driver.as_mut().poll(cx).is_ready() {
            self.driver = None;
        }
        self.driver.is_some()
    }
}

/// The app's answer; its end puts the connection back on the stack.
pub(super) struct PooledBody {
    incoming: Option<Incoming>,
    upstream: Option<Upstream>,
    pool: Pool,
}

impl PooledBody {
    /// The body of an answer that the app did not give.
    pub(super) fn empty(pool: Pool) -> Self {
        PooledBody { incoming: None, upstream: None, pool }
    }
}

impl Body for PooledBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let Some(upstream) = this.upstream.as_mut().filter(|upstream| upstream.driver.is_some()) else {
            return Pin::new(incoming).poll_frame(cx);
        };
        // What was read with the head is there already: look before driving.
        let mut unwoken = Context::from_waker(Waker::noop());
        if let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(&mut unwoken) {
            return Poll::Ready(frame);
        }
        if upstream.drive(cx) { Pin::new(incoming).poll_frame(&mut unwoken) } else { Pin::new(incoming).poll_frame(cx) }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for PooledBody {
    fn drop(&mut self) {
        let ended = self.is_end_stream();
        if let Some(upstream) = self.upstream.take().filter(|upstream| ended && !upstream.sender.is_closed()) {
            self.pool.lock().idle.push(upstream);
        }
    }
}
