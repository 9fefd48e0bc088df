//! The worker threads: each accepts from every listener, serves its connections on its own event loop, and shares
//! new ones so that no worker has many while another has few.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::downstream::head::Bounds;
use super::downstream::{Connection, LargeParts};
use super::flag_headers::FlagHeaders;
use super::gate::room::Room;
use super::gate::{self, Gates};
use super::headers::Hop;
use super::http2;
use super::metrics::listener::{Counts, Listener};
use super::metrics::{self, Counters, listener};
use super::observe::{Observer, Outlets};
use super::service::{Client, Early, Place, Service};
use super::settings::{Forwarded, Settings};
use super::upstream::App;
use crate::lifecycle::ledger::{Ledger, Writer};
use crate::lifecycle::machine::Phase;
use crate::lifecycle::tasks::{OnEnd, Tasks};
use crate::net::edge::{Edge, Io, Peer};
use crate::net::listen::{Acceptor, BindError, bind_tcp};
use crate::net::socket::{Protocol, Socket};
use crate::net::sweep::{self, Shed, Sweeper};

/// Connections on their way from the worker that accepted them to the one that will serve them.
const HANDED: usize = 64;

/// The proxy before its threads run: everything that can fail has been done.
pub struct Proxy {
    settings: Settings,
    /// Of each route.
    edges: Vec<Edge>,
    listeners: Vec<std::net::TcpListener>,
    addresses: Vec<SocketAddr>,
    permits: Arc<Semaphore>,
    gates: Gates,
    outlets: Outlets,
}

/// One thread's part of the proxy; runs on an event loop of its own.
pub struct Worker {
    index: usize,
    settings: Settings,
    edges: Vec<Edge>,
    listeners: Vec<std::net::TcpListener>,
    permits: Arc<Semaphore>,
    ledger: Writer,
    phase: watch::Receiver<Phase>,
    counters: Arc<Counters>,
    gates: Gates,
    queued: Arc<gate::metrics::Counts>,
    /// Each listener's name, and what this worker counts of it.
    observed: Vec<(Arc<str>, Arc<Counts>)>,
    outlets: Outlets,
    loads: Arc<[AtomicUsize]>,
    handed: mpsc::Receiver<Accepted>,
    hand: Vec<mpsc::Sender<Accepted>>,
}

struct Accepted {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    route: usize,
    permit: OwnedSemaphorePermit,
}

impl Proxy {
    /// Binds every listener. `edges` has one for each route.
    pub fn bind(settings: Settings, edges: Vec<Edge>) -> Result<Self, BindError> {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for route in &settings.routes {
            let listener = bind_tcp(route.listen)?;
            addresses.push(listener.local_addr().unwrap_or(route.listen));
            listeners.push(listener);
        }
        let permits = Arc::new(Semaphore::new(settings.limits.connections));
        let gates = Gates::new(&settings.routes, &addresses, &settings.hold);
        Ok(Self { settings, edges, listeners, addresses, permits, gates, outlets: Outlets::default() })
    }

    /// What holds requests before the apps.
    pub fn gates(&self) -> Gates {
        self.gates.clone()
    }

    /// The same, with where what is told of requests goes.
    #[must_use]
    pub fn telling(self, outlets: Outlets) -> Self {
        Self { outlets, ..self }
    }

    /// Where each route listens, with the ports the kernel chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The workers, whose threads the caller runs. Worker `i` writes to shard `i` of the ledger.
    pub fn workers(
        self,
        ledger: &Ledger,
        phase: &watch::Receiver<Phase>,
        registry: &mut Registry,
    ) -> std::io::Result<Vec<Worker>> {
        let count = self.settings.workers.max(1);
        let counters: Vec<Arc<Counters>> = (0..count).map(|_| Arc::default()).collect();
        metrics::register(registry, counters.clone());
        let queued = Arc::<gate::metrics::Counts>::default();
        gate::metrics::register(registry, self.gates.clone(), queued.clone());
        let listeners = self.addresses.iter().map(|address| Listener {
            name: address.to_string().into(),
            workers: (0..count).map(|_| Arc::default()).collect(),
        });
        let observed: Vec<Listener> = listeners.collect();
        let loads: Arc<[AtomicUsize]> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        let (hand, handed): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(HANDED)).unzip();
        let mut workers = Vec::new();
        for (index, handed) in handed.into_iter().enumerate() {
            let listeners = self.listeners.iter().map(std::net::TcpListener::try_clone);
            workers.push(Worker {
                index,
                settings: self.settings.clone(),
                edges: self.edges.clone(),
                listeners: listeners.collect::<Result<_, _>>()?,
                permits: self.permits.clone(),
                ledger: ledger.shard(index),
                phase: phase.clone(),
                counters: counters[index].clone(),
                gates: self.gates.clone(),
                queued: queued.clone(),
                observed: observed.iter().map(|listener| listener.worker(index)).collect(),
                outlets: self.outlets.clone(),
                loads: loads.clone(),
                handed,
                hand: hand.clone(),
            });
        }
        listener::register(registry, observed);
        Ok(workers)
    }
}

impl Worker {
    /// Serves until the process is closing and no connection is left, or for ever.
    pub async fn run(self, tasks: Tasks) {
        let limits = &self.settings.limits;
        let sweeper = Sweeper::new(sweep::Limits {
            head: millis(limits.header_timeout),
            idle: millis(limits.idle_timeout),
            body: millis(limits.body_timeout),
            send: millis(limits.send_timeout),
            answer: limits.response_timeout.map(millis),
            request: limits.request_timeout.map(millis),
            shed: Shed::Yes,
        });
        tasks.spawn("sweeper", OnEnd::MustLive, sweeper.clone().run(self.phase.clone()));
        let large = LargeParts::default();
        let share = |of: usize| of.div_ceil(self.loads.len());
        let room = Room::new(share(limits.requests), share(limits.queue), limits.queue_timeout, self.queued);
        let room = Arc::new(room);
        let services: Vec<Arc<Service>> = self
            .settings
            .routes
            .iter()
            .zip(self.observed)
            .enumerate()
            .map(|(index, (route, (name, counts)))| {
                Arc::new(Service {
                    app: App::new(route.upstream.clone(), limits.clone()),
                    app_down: AtomicBool::new(false),
                    app_down_said: Mutex::default(),
                    limits: limits.clone(),
                    tunnels: self.settings.tunnels,
                    writer: self.ledger.clone(),
                    phase: self.phase.clone(),
                    counters: self.counters.clone(),
                    flags: FlagHeaders::new(&route.flags, self.outlets.flags.as_ref()),
                    observer: Observer::new(name, counts, self.settings.access_log, &self.outlets),
                    tasks: tasks.clone(),
                    gate: self.gates.of_route(index),
                    room: room.clone(),
                    large: large.clone(),
                })
            })
            .collect();
        for service in &services {
            let service = service.clone();
            tasks.spawn("pruning of unused connections", OnEnd::MustLive, async move {
                loop {
                    tokio::time::sleep(service.app.prune_period()).await;
                    service.app.prune(Instant::now());
                }
            });
        }
        let head = Bounds { bytes: limits.header_bytes, fields: limits.header_count, target: limits.target_bytes };
        let multiplexed = Arc::new(http2::Common {
            head,
            streams: limits.http2_streams,
            sweeper: sweeper.clone(),
            counters: self.counters.clone(),
            tasks: tasks.clone(),
        });
        let here = Here {
            multiplexed,
            index: self.index,
            head,
            forwarded: self.settings.forwarded,
            edges: self.edges,
            services,
            sweeper,
            ledger: self.ledger,
            counters: self.counters,
            loads: self.loads,
            hand: self.hand,
            tasks: tasks.clone(),
        };
        for (route, listener) in self.listeners.into_iter().enumerate() {
            let name = format!("proxy {}", self.settings.routes[route].listen);
            match Acceptor::tcp(listener, name) {
                Ok(acceptor) => {
                    let (here, phase, permits) = (here.clone(), self.phase.clone(), self.permits.clone());
                    tasks.spawn("accept loop", OnEnd::MustLive, async move {
                        accept(acceptor, route, here, phase, permits).await;
                        // The process is closing.
                        std::future::pending::<()>().await;
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "a listener cannot be registered with the event loop");
                    return;
                }
            }
        }
        let mut handed = self.handed;
        while let Some(accepted) = handed.recv().await {
            here.serve_handed(accepted);
        }
    }
}

/// What an accept loop and the connections of one worker share.
#[derive(Clone)]
struct Here {
    /// What connections of HTTP/2 share.
    multiplexed: Arc<http2::Common>,
    index: usize,
    head: Bounds,
    forwarded: Forwarded,
    edges: Vec<Edge>,
    services: Vec<Arc<Service>>,
    sweeper: Sweeper,
    ledger: Writer,
    counters: Arc<Counters>,
    loads: Arc<[AtomicUsize]>,
    hand: Vec<mpsc::Sender<Accepted>>,
    tasks: Tasks,
}

/// Accepts until the process is closing; then takes what the kernel has accepted already, whose clients believe
/// themselves connected, and stops listening.
async fn accept(
    mut acceptor: Acceptor<tokio::net::TcpListener>,
    route: usize,
    here: Here,
    mut phase: watch::Receiver<Phase>,
    permits: Arc<Semaphore>,
) {
    let mut closing = std::pin::pin!(async move {
        // The sender is gone only when the process ends.
        phase.wait_for(|phase| phase.is_closing()).await.is_ok()
    });
    loop {
        let permit = tokio::select! {
            biased;
            _ = &mut closing => break,
            Ok(permit) = permits.clone().acquire_owned() => permit,
        };
        tokio::select! {
            biased;
            (stream, peer) = acceptor.accept() => here.place(stream, peer, route, permit),
            _ = &mut closing => break,
        }
    }
    while let Ok(permit) = permits.clone().try_acquire_owned() {
        tokio::select! {
            biased;
            (stream, peer) = acceptor.accept() => here.serve(stream, peer, route, permit),
            () = std::future::ready(()) => break,
        }
    }
}

impl Here {
    /// Gives a connection to the worker that has the fewest, if that is not this one.
    fn place(&self, stream: TcpStream, peer: SocketAddr, route: usize, permit: OwnedSemaphorePermit) {
        let load = |index: usize| self.loads[index].load(Relaxed);
        let least = (0..self.loads.len()).min_by_key(|index| load(*index)).unwrap_or(self.index);
        if load(least) >= load(self.index) {
            return self.serve(stream, peer, route, permit);
        }
        let accepted = match stream.into_std() {
            Ok(stream) => Accepted { stream, peer, route, permit },
            Err(error) => return tracing::warn!(%error, "a connection was lost between threads"),
        };
        if let Err(back) = self.hand[least].try_send(accepted) {
            self.serve_handed(back.into_inner());
        }
    }

    fn serve_handed(&self, accepted: Accepted) {
        match TcpStream::from_std(accepted.stream) {
            Ok(stream) => self.serve(stream, accepted.peer, accepted.route, accepted.permit),
            Err(error) => tracing::warn!(%error, "a connection was lost between threads"),
        }
    }

    fn serve(&self, stream: TcpStream, address: SocketAddr, route: usize, permit: OwnedSemaphorePermit) {
        self.counters.connection();
        let load = Load::new(self.loads.clone(), self.index);
        let entry = self.ledger.connection();
        let swept = self.sweeper.open();
        let service = self.services[route].clone();
        let (edge, forwarded) = (self.edges[route].clone(), self.forwarded);
        let (activity, auth) = (swept.activity().clone(), edge.client_auth());
        let (head, counters) = (self.head, self.counters.clone());
        let common = self.multiplexed.clone();
        let place = Arc::new(Place { _permit: permit, _load: load });
        let open = move |io: Io, peer: &Peer| {
            let (hop, socket) = (Hop::new(peer, auth, forwarded), Socket::new(io, activity.clone()));
            let client = |wire| Client { hop, activity, early: Early::Http1(wire), _place: place };
            Connection::new(socket, head, client, service, counters)
        };
        if edge.is_plain() {
            // Made here, so that its task holds nothing else.
            let connection = open(Io::Plain(stream), &Peer::plain(address));
            self.tasks.spawn_connection(async move {
                run(connection, common, None, address, (entry, swept)).await;
            });
            return;
        }
        self.tasks.spawn_connection(async move {
            if let Some((io, peer)) = edge.admit(stream, address, swept.activity()).await {
                run(open(io, &peer), common, peer.protocol, peer.address, (entry, swept)).await;
            }
        });
    }
}

/// Speaks what was agreed on, or what the first bytes tell. `kept` lives as long as the connection.
async fn run<K>(connection: Connection, common: Arc<http2::Common>, agreed: Option<Protocol>, peer: SocketAddr, kept: K)
where
    K: Send + 'static,
{
    let switched = match agreed {
        Some(Protocol::Http2) => Ok(connection.into_http2()),
        Some(Protocol::Http1) | None => connection.run().await,
    };
    match switched {
        // A task of its own: neither protocol holds room for the other.
        Ok(Some(begun)) => common.tasks.clone().spawn_connection(async move {
            http2::serve(begun, common)
                .await
                .unwrap_or_else(|error| tracing::debug!(%peer, %error, "connection ended"));
            drop(kept);
        }),
        Ok(None) => {}
        Err(error) => tracing::debug!(%peer, %error, "connection ended"),
    }
}

/// Counts a connection as one of a worker's for as long as it lives.
pub(super) struct Load {
    loads: Arc<[AtomicUsize]>,
    index: usize,
}

impl Load {
    fn new(loads: Arc<[AtomicUsize]>, index: usize) -> Self {
        loads[index].fetch_add(1, Relaxed);
        Self { loads, index }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.loads[self.index].fetch_sub(1, Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
