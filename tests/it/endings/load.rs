//! Clients of every protocol, at once, until they are stopped.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::tally::{Cell, Tally};
use super::{http1, http2, websocket};
use crate::support::eventually;

/// Nothing takes longer.
const LONG: Duration = Duration::from_secs(60);

/// A column of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Http1Fresh,
    Http1Kept,
    Http2,
    GrpcUnary,
    GrpcStream,
    WebSocket,
    WebSocketHttp2,
    Events,
}

/// How long a stream lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// A while, after which its client ends it and begins another.
    Short,
    /// Until somebody else ends it, and then there is no other.
    Endless,
}

impl Habit {
    pub(crate) fn messages(self) -> u64 {
        match self {
            Self::Short => 15,
            Self::Endless => u64::MAX,
        }
    }
}

impl Protocol {
    pub(crate) const ALL: [Self; 8] = [
        Self::Http1Fresh,
        Self::Http1Kept,
        Self::Http2,
        Self::GrpcUnary,
        Self::GrpcStream,
        Self::WebSocket,
        Self::WebSocketHttp2,
        Self::Events,
    ];

    /// The name in the matrix.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1Fresh => "HTTP/1.1, fresh",
            Self::Http1Kept => "HTTP/1.1, keep-alive",
            Self::Http2 => "HTTP/2",
            Self::GrpcUnary => "gRPC unary",
            Self::GrpcStream => "gRPC stream",
            Self::WebSocket => "WebSocket",
            Self::WebSocketHttp2 => "WebSocket, HTTP/2",
            Self::Events => "SSE",
        }
    }

    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Self::GrpcStream | Self::WebSocket | Self::WebSocketHttp2 | Self::Events)
    }

    /// Whether a client's app speaks HTTP/2.
    fn asks_http2(self, number: u64) -> bool {
        match self {
            Self::GrpcUnary | Self::GrpcStream => true,
            Self::WebSocketHttp2 => number % 2 == 1,
            _ => false,
        }
    }

    /// How many clients it has.
    pub(crate) fn clients(self) -> u64 {
        match self {
            Self::Http1Kept => 6,
            _ => 4,
        }
    }
}

/// Where clients connect: listeners of the app's two protocols.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
}

/// Load that runs until [`Load::stop`].
pub(crate) struct Load {
    tallies: BTreeMap<Protocol, Arc<Tally>>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts the clients of every protocol.
    pub(crate) fn on(target: Target, habit: Habit) -> Self {
        Self::of(&Protocol::ALL, target, habit)
    }

    /// Starts the clients of these protocols.
    pub(crate) fn of(protocols: &[Protocol], target: Target, habit: Habit) -> Self {
        let mut clients = JoinSet::new();
        let mut tallies = BTreeMap::new();
        for protocol in protocols.iter().copied() {
            let tally = Arc::new(Tally::default());
            for number in 0..protocol.clients() {
                let to = if protocol.asks_http2(number) { target.grpc } else { target.http };
                clients.spawn(client(protocol, to, habit, number, tally.clone()));
            }
            tallies.insert(protocol, tally);
        }
        Self { tallies, clients }
    }

    /// Waits until every protocol has moved on: all of its clients, a few times.
    pub(crate) async fn flows(&self) {
        let before: Vec<u64> = self.tallies.values().map(|tally| tally.messages()).collect();
        for ((protocol, tally), before) in self.tallies.iter().zip(before) {
            let wanted = before + 25 * protocol.clients();
            eventually(LONG, protocol.name(), async || tally.messages() >= wanted).await;
        }
    }

    /// Waits until every stream that would go on for ever has ended.
    pub(crate) async fn settled(&self) {
        for (protocol, tally) in self.tallies.iter().filter(|(protocol, _)| protocol.is_stream()) {
            eventually(LONG, protocol.name(), async || tally.cell().over() >= protocol.clients()).await;
        }
    }

    /// Stops after what is under way: what each protocol's clients saw.
    pub(crate) async fn stop(mut self) -> BTreeMap<Protocol, Cell> {
        self.tallies.values().for_each(|tally| tally.stop());
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        self.tallies.iter().map(|(protocol, tally)| (*protocol, tally.cell())).collect()
    }
}

async fn client(protocol: Protocol, to: SocketAddr, habit: Habit, number: u64, tally: Arc<Tally>) {
    let (mut plain, mut multiplexed) = (None, None);
    while !tally.is_stopped() {
        match protocol {
            Protocol::Http1Fresh => http1::fresh(to, &tally).await,
            Protocol::Http1Kept => http1::kept(to, &tally, &mut plain).await,
            Protocol::Http2 => http2::request(to, &tally, &mut multiplexed).await,
            Protocol::GrpcUnary => http2::call(to, &tally, &mut multiplexed).await,
            Protocol::GrpcStream => http2::talk(to, &tally, habit).await,
            Protocol::WebSocket => http1::chat(to, &tally, habit).await,
            Protocol::WebSocketHttp2 => websocket::chat(to, &tally, habit).await,
            Protocol::Events => http1::events(to, &tally, habit).await,
        }
        if protocol.is_stream() && habit == Habit::Endless {
            return;
        }
        // Different paces, so that they do not walk in step.
        tokio::time::sleep(Duration::from_millis(8 + number)).await;
    }
}
