//! Connections to an app that speaks HTTP/2: a few for each worker, each carrying many requests.

mod exchange;
mod head;
mod socket;
mod upload;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

pub(in crate::proxy) use self::exchange::{Call, Download, Heard};
pub(in crate::proxy) use self::head::Target;
use self::socket::Socket;
pub(super) use self::socket::Stream;
pub(in crate::proxy) use self::upload::Upload;
use crate::lifecycle::tasks::Tasks;
use crate::proxy::error::Failure;

/// What one answer may have on its way to us while its client is slow, in bytes. Over loopback that is no brake.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Requests at once on one connection, if the app takes as many. More go over another.
const STREAMS: usize = 256;
/// What all answers of a connection may: enough for each, so that slow clients stop nobody else's.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS as u32;
/// What one request's body may have waiting in the connection, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// Connections of one worker to one app. When all are full, requests wait in the last until the app has room.
const CONNECTIONS: usize = 16;
/// How long a connection is kept that carries nothing.
const IDLE: Duration = Duration::from_secs(60);

/// An app that owes an answer and has said nothing for so many looks is asked for a sign of life: after 30 s.
const QUIET: u32 = 3;
/// Between two looks.
const LOOK: Duration = Duration::from_secs(10);
/// And then has this long.
const SIGN: Duration = Duration::from_secs(20);
/// Not again before this: servers of gRPC take more than one ping in five minutes for an attack.
const AGAIN: Duration = Duration::from_secs(310);

/// See the module's text.
pub(in crate::proxy) struct Pool {
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Held while a connection is opened: who else wants one waits for that one.
    opening: tokio::sync::Mutex<()>,
}

struct Connection {
    sender: SendRequest<Bytes>,
    socket: Socket,
    /// Requests under way.
    used: Arc<AtomicUsize>,
    /// It takes no more requests.
    gone: AtomicBool,
    /// Since when it has carried nothing.
    idle: Mutex<Instant>,
}

/// The right to one request on a connection; given back when dropped.
pub(in crate::proxy) struct Leased(Arc<Connection>);

impl Pool {
    pub(super) fn new() -> Self {
        Self { connections: Mutex::default(), opening: tokio::sync::Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place on a connection that is open.
    pub(super) fn lease(&self) -> Option<Leased> {
        let mut connections = self.lock();
        connections.retain(|connection| !connection.is_gone());
        let open = connections.iter().find(|connection| connection.has_room());
        let full = || (connections.len() >= CONNECTIONS).then(|| connections.last()).flatten();
        open.or_else(full).map(|connection| Leased::new(connection.clone()))
    }

    /// A place on a connection that `open` opens, or that was opened meanwhile.
    pub(super) async fn lease_new(
        &self,
        limit: Duration,
        tasks: &Tasks,
        header_bytes: usize,
        open: impl AsyncFnOnce() -> Result<Stream, Failure>,
    ) -> Result<Leased, Failure> {
        let opening = async {
            let _turn = self.opening.lock().await;
            if let Some(leased) = self.lease() {
                return Ok(leased);
            }
            let connection = Arc::new(Connection::open(open().await?, tasks, header_bytes).await?);
            self.lock().push(connection.clone());
            Ok(Leased::new(connection))
        };
        timeout(limit, opening).await.unwrap_or(Err(Failure::ConnectTimeout))
    }

    /// Closes what has carried nothing for long.
    pub(super) fn prune(&self, now: Instant) {
        self.lock().retain(|connection| {
            let idle = || now.saturating_duration_since(*connection.idle());
            !connection.is_gone() && (connection.used.load(Relaxed) > 0 || idle() <= IDLE)
        });
    }
}

impl Connection {
    /// Speaks HTTP/2 over `stream`. Open once the app has answered a PING: then it does speak it, and its settings,
    /// which come before anything else (RFC 9113 section 3.4), are known.
    async fn open(stream: Stream, tasks: &Tasks, header_bytes: usize) -> Result<Self, Failure> {
        let socket = Socket::new(stream);
        let mut builder = Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
            .enable_push(false);
        let (sender, mut connection) = builder.handshake(socket.clone()).await.map_err(not_opened)?;
        let mut pings = connection.ping_pong().ok_or_else(|| Failure::Connect(io::ErrorKind::Other.into()))?;
        {
            let mut connection = pin!(&mut connection);
            let mut pong = pin!(pings.ping(Ping::opaque()));
            poll_fn(|cx| match connection.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(Err(closed())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(not_opened(error))),
                Poll::Pending => pong.as_mut().poll(cx).map(|pong| pong.map(drop).map_err(not_opened)),
            })
            .await?;
        }
        let this = Self {
            sender,
            socket: socket.clone(),
            used: Arc::default(),
            gone: AtomicBool::new(false),
            idle: Mutex::new(Instant::now()),
        };
        let used = this.used.clone();
        tasks.spawn_connection(async move {
            let watched = watch(&socket, pings, &used);
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection to the app ended");
                },
                () = watched => tracing::warn!("an app that owes answers gives no sign of life; its connection is closed"),
            }
            socket.end();
        });
        Ok(this)
    }

    /// Whether it takes no more requests.
    fn is_gone(&self) -> bool {
        if !self.gone.load(Relaxed) && self.socket.is_closed() {
            self.gone.store(true, Relaxed);
        }
        self.gone.load(Relaxed)
    }

    fn has_room(&self) -> bool {
        self.used.load(Relaxed) < self.sender.current_max_send_streams().min(STREAMS)
    }

    fn idle(&self) -> MutexGuard<'_, Instant> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when the app has not given the sign of life it was asked for.
async fn watch(socket: &Socket, mut pings: PingPong, used: &AtomicUsize) {
    let mut quiet = 0;
    loop {
        sleep(LOOK).await;
        quiet = if socket.has_heard() || used.load(Relaxed) == 0 { 0 } else { quiet + 1 };
        if quiet < QUIET {
            continue;
        }
        match timeout(SIGN, pings.ping(Ping::opaque())).await {
            // The connection tells of its own errors.
            Ok(_) => sleep(AGAIN).await,
            Err(_) => return,
        }
    }
}

fn closed() -> Failure {
    Failure::Closed(super::Broken::Closed)
}

/// A connection that never was one: nobody there speaks HTTP/2.
fn not_opened(error: h2::Error) -> Failure {
    match error.is_io() {
        true => Failure::Closed(super::Broken::Http2(error)),
        false => Failure::NotHttp2(error),
    }
}

impl Leased {
    fn new(connection: Arc<Connection>) -> Self {
        connection.used.fetch_add(1, Relaxed);
        Self(connection)
    }

    /// It has refused a request that it should have taken.
    fn is_gone(&self) {
        self.0.gone.store(true, Relaxed);
    }

    /// Whether the app serves extended CONNECT (RFC 8441 section 3).
    pub(in crate::proxy) fn serves_connect(&self) -> bool {
        self.0.sender.is_extended_connect_protocol_enabled()
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if self.0.used.fetch_sub(1, Relaxed) == 1 {
            *self.0.idle() = Instant::now();
        }
    }
}
