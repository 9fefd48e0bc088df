//! A TCP forwarder between a client and a real server that a test can break, stall, slow and restore.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::port::Port;

/// The forwarder. It runs on a thread of its own, so that a test that blocks does not stop it; dropping it closes
/// what is open and frees the port.
pub(crate) struct Chaos {
    port: Port,
    orders: Option<mpsc::Sender<Order>>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

/// Where whole connections are forwarded to.
#[derive(Debug, Clone)]
pub(crate) enum Upstream {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forward,
    Slow(Duration),
    Stall,
    Break,
    Refuse,
}

struct Order {
    mode: Mode,
    done: std::sync::mpsc::SyncSender<()>,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    open: AtomicUsize,
}

impl Chaos {
    /// Begins to forward to `upstream`.
    pub(crate) fn to(upstream: Upstream) -> Self {
        let port = Port::reserve();
        let address = port.address();
        let counts = Arc::new(Counts::default());
        let (orders, inbox) = mpsc::channel(1);
        let forwarder = Forwarder { address, upstream, counts: counts.clone(), inbox };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(forwarder.run());
        });
        let chaos = Self { port, orders: Some(orders), counts, thread: Some(thread) };
        chaos.restore();
        chaos
    }

    /// Where clients connect; the same through every mode.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Forwards faithfully, as at the start. Connections that were stalled go on where they were.
    pub(crate) fn restore(&self) {
        self.order(Mode::Forward);
    }

    /// Resets every open connection, and every new one as soon as it is accepted.
    pub(crate) fn reset(&self) {
        self.order(Mode::Break);
    }

    /// Accepts connections and keeps the open ones, and forwards not a byte in either direction.
    pub(crate) fn stall(&self) {
        self.order(Mode::Stall);
    }

    /// Holds every piece back for `delay`, in both directions.
    pub(crate) fn slow(&self, delay: Duration) {
        self.order(Mode::Slow(delay));
    }

    /// Resets every open connection and listens no more: connecting is refused.
    pub(crate) fn refuse(&self) {
        self.order(Mode::Refuse);
    }

    /// Connections accepted since the start.
    pub(crate) fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// Returns when the mode holds: what a client does next meets it.
    fn order(&self, mode: Mode) {
        let (done, obeyed) = std::sync::mpsc::sync_channel(1);
        let orders = self.orders.as_ref().expect("taken only on drop");
        orders.try_send(Order { mode, done }).expect("each order is waited for");
        obeyed.recv_timeout(Duration::from_secs(10)).expect("the forwarder obeys");
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the chaos proxy panicked");
        }
    }
}

struct Forwarder {
    address: SocketAddr,
    upstream: Upstream,
    counts: Arc<Counts>,
    inbox: mpsc::Receiver<Order>,
}

impl Forwarder {
    async fn run(mut self) {
        let (mode, _) = watch::channel(Mode::Refuse);
        let mut listener: Option<TcpListener> = None;
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                order = self.inbox.recv() => {
                    let Some(order) = order else { return };
                    mode.send_replace(order.mode);
                    if order.mode == Mode::Refuse {
                        listener = None;
                    } else if listener.is_none() {
                        listener = Some(TcpListener::bind(self.address).await.unwrap());
                    }
                    if matches!(order.mode, Mode::Refuse | Mode::Break) {
                        while connections.join_next().await.is_some() {}
                    }
                    order.done.send(()).unwrap_or_default();
                }
                accepted = accept(listener.as_ref()) => {
                    let Ok((stream, _)) = accepted else { continue };
                    self.counts.accepted.fetch_add(1, Ordering::SeqCst);
                    let open = Open::count(&self.counts);
                    let (upstream, mode) = (self.upstream.clone(), mode.subscribe());
                    connections.spawn(async move { connection(stream, upstream, mode, open).await });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Counts a connection as open for as long as it lives.
struct Open(Arc<Counts>);

impl Open {
    fn count(counts: &Arc<Counts>) -> Self {
        counts.open.fetch_add(1, Ordering::SeqCst);
        Self(counts.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn connection(mut client: TcpStream, upstream: Upstream, mut mode: watch::Receiver<Mode>, _open: Open) {
    let mut broken = mode.clone();
    let ended = tokio::select! {
        _ = broken.wait_for(|mode| matches!(mode, Mode::Break | Mode::Refuse)) => Err(io::ErrorKind::ConnectionReset.into()),
        ended = forward(&mut client, &upstream, &mut mode) => ended,
    };
    if ended.is_err() {
        client.set_zero_linger().unwrap_or_default();
    }
}

async fn forward(client: &mut TcpStream, upstream: &Upstream, mode: &mut watch::Receiver<Mode>) -> io::Result<()> {
    pass(mode).await;
    match upstream {
        Upstream::Tcp(address) => {
            let mut server = TcpStream::connect(address).await?;
            server.set_nodelay(true)?;
            both(client.split(), server.split(), mode).await
        }
        Upstream::Unix(path) => both(client.split(), UnixStream::connect(path).await?.split(), mode).await,
    }
}

async fn both<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    (client_out, client_in): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    (server_out, server_in): (R, W),
    mode: &watch::Receiver<Mode>,
) -> io::Result<()> {
    let upward = pump(client_out, server_in, mode.clone());
    let downward = pump(server_out, client_in, mode.clone());
    tokio::try_join!(upward, downward)?;
    Ok(())
}

/// Copies until the end of `from`, which it passes on as a half-close.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
) -> io::Result<()> {
    let mut piece = [0; 16 * 1024];
    loop {
        let length = from.read(&mut piece).await?;
        pass(&mut mode).await;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..length]).await?;
    }
}

/// Waits as the mode says a piece has to.
async fn pass(mode: &mut watch::Receiver<Mode>) {
    let now = mode.wait_for(|mode| *mode != Mode::Stall).await.map(|mode| *mode);
    if let Ok(Mode::Slow(delay)) = now {
        sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::eventually;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A server that answers every byte with itself.
    async fn echo() -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await.unwrap_or_default();
                });
            }
        });
        (address, tasks)
    }

    async fn round_trip(stream: &mut TcpStream) -> io::Result<u8> {
        stream.write_all(b"x").await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn the_chaos_proxy_does_as_it_is_told_and_recovers() {
        let (server, _tasks) = echo().await;
        let chaos = Chaos::to(Upstream::Tcp(server));
        let mut stream = TcpStream::connect(chaos.address()).await.unwrap();
        assert_eq!(round_trip(&mut stream).await.unwrap(), b'x');

        chaos.stall();
        let mut late = TcpStream::connect(chaos.address()).await.unwrap();
        stream.write_all(b"y").await.unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
        assert!(answer.is_err(), "a stalled connection answered {answer:?}");
        chaos.restore();
        assert_eq!(stream.read_u8().await.unwrap(), b'y');
        assert_eq!(round_trip(&mut late).await.unwrap(), b'x');
        assert_eq!((chaos.accepted(), chaos.open()), (2, 2));

        chaos.reset();
        assert_eq!(chaos.open(), 0);
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        // The reset may be there before the connecting side has looked whether it is connected.
        if let Ok(mut broken) = TcpStream::connect(chaos.address()).await {
            assert!(round_trip(&mut broken).await.is_err());
        }

        chaos.refuse();
        let refused = TcpStream::connect(chaos.address()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

        chaos.slow(Duration::from_millis(5));
        let mut slow = TcpStream::connect(chaos.address()).await.unwrap();
        assert_eq!(round_trip(&mut slow).await.unwrap(), b'x');
        drop(slow);
        eventually(PATIENCE, "a closed connection is no longer counted", async || chaos.open() == 0).await;
    }
}
