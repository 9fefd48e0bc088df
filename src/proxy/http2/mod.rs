//! HTTP/2 from clients (RFC 9113): one task for each connection, which accepts requests and does what the sweeper
//! orders, and one for each request.

mod body;
mod duplex;
mod farewell;
mod frames;
mod head;
mod interim;
mod meter;
mod stream;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection};
use http::Request;

pub(super) use self::body::Body;
pub(super) use self::duplex::{Duplex, Side};
use self::farewell::Farewell;
pub(super) use self::interim::Interims;
pub(super) use self::meter::Flood;
use self::meter::{Meter, Metered};
use self::stream::{Stream, UnderWay};
use super::downstream::Begun;
use super::downstream::head::Bounds;
use super::metrics::Counters;
use super::service::{Client, Early, Service};
use crate::lifecycle::tasks::Tasks;
use crate::net::activity::{Activity, Order};
use crate::net::edge::Io;
use crate::net::socket::Socket;
use crate::net::sweep::Sweeper;

/// What one request's body may have on its way to us, in bytes: enough for a gigabit to a client a millisecond away.
const STREAM_WINDOW: u32 = 128 * 1024;
/// What all bodies of a connection may: the memory that a client can take while the app reads nothing. Sixteen bodies
/// that stall leave no room for a seventeenth.
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// What one answer may have waiting in the connection, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// Requests that were taken back before we looked at them, in one turn. More is the attack of CVE-2023-44487.
const RESET_UNSEEN: usize = 100;
/// Malformed requests, or such beyond the number allowed at once, of one connection.
const RESET_BY_US: usize = 1024;

/// What all connections of one worker share.
pub(super) struct Common {
    pub(super) head: Bounds,
    /// Requests at once.
    pub(super) streams: u32,
    pub(super) sweeper: Sweeper,
    pub(super) counters: Arc<Counters>,
    pub(super) tasks: Tasks,
}

/// What the requests of one connection share.
struct Shared {
    common: Arc<Common>,
    service: Arc<Service>,
    /// Its place is held until the last request has ended.
    client: Arc<Client>,
    meter: Arc<Meter>,
}

/// Speaks HTTP/2 until the end of the connection.
///
/// # Cancellation
/// Dropping the future closes the connection at once; its requests see that and end.
pub(super) async fn serve(begun: Begun, common: Arc<Common>) -> Result<(), h2::Error> {
    let Begun { socket, read, client, service } = begun;
    let meter = Arc::new(Meter::new(common.streams));
    let shared = Shared { common, service, client, meter };
    let (activity, meter, counters) = (&shared.client.activity, &shared.meter, &shared.common.counters);
    activity.multiplexed();
    counters.http2_connection();
    let mut farewell = Farewell::default();
    let metered = Metered::new(socket, read, meter.clone(), activity.clone(), farewell.overdue());
    // Boxed: what only the beginning needs is not kept for as long as the connection.
    let Some(mut connection) = Box::pin(greet(metered, &shared.common, activity)).await? else { return Ok(()) };
    let mut is_flooded = false;
    let ended = poll_fn(|cx| {
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    shared.begin(request, respond);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => {}
            }
            if let Some(flood) = meter.flood().filter(|_| !is_flooded) {
                is_flooded = true;
                counters.flood(flood);
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                continue;
            }
            activity.attend(cx.waker());
            match activity.order() {
                Order::Close if !farewell.has_begun() => {
                    farewell.begin();
                    connection.graceful_shutdown();
                }
                Order::Close if farewell.poll_overdue(cx).is_ready() => {}
                Order::Cut => return Poll::Ready(Ok(())),
                Order::None | Order::Close => return Poll::Pending,
            }
        }
    })
    .await;
    // What the h2 crate has ended a connection for.
    let reason = ended.as_ref().err().filter(|error| error.is_go_away() && error.is_library());
    match reason.and_then(h2::Error::reason) {
        // Its client asked too much.
        Some(Reason::ENHANCE_YOUR_CALM) => counters.flood(Flood::Protocol),
        // A head that cannot be decoded, or frames that make no sense.
        Some(Reason::PROTOCOL_ERROR | Reason::COMPRESSION_ERROR | Reason::FRAME_SIZE_ERROR) => counters.malformed(),
        _ => {}
    }
    ended
}

/// Exchanges prefaces; nothing if the sweeper wants the connection's place before that.
async fn greet(
    socket: Metered<Socket<Io>>,
    common: &Common,
    activity: &Activity,
) -> Result<Option<Connection<Metered<Socket<Io>>, Bytes>>, h2::Error> {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(common.streams)
        .max_header_list_size(u32::try_from(common.head.bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_UNSEEN)
        .max_local_error_reset_streams(Some(RESET_BY_US))
        .enable_connect_protocol();
    let mut handshake = pin!(builder.handshake(socket));
    poll_fn(|cx| {
        activity.attend(cx.waker());
        match activity.order() {
            Order::None => handshake.as_mut().poll(cx).map_ok(Some),
            Order::Close | Order::Cut => Poll::Ready(Ok(None)),
        }
    })
    .await
}

impl Shared {
    fn begin(&self, request: Request<h2::RecvStream>, respond: h2::server::SendResponse<Bytes>) {
        let swept = self.common.sweeper.open_stream(self.client.activity.clone());
        let interims = Interims::new(request.headers());
        let client = Client {
            hop: self.client.hop.clone(),
            activity: swept.activity().clone(),
            early: Early::Http2(interims.clone()),
            _place: self.client._place.clone(),
        };
        let stream = Stream {
            service: self.service.clone(),
            client: Arc::new(client),
            swept,
            meter: self.meter.clone(),
            counters: self.common.counters.clone(),
            bounds: self.common.head,
            interims,
            respond,
            _under_way: UnderWay::begin(self.client.activity.clone()),
        };
        self.common.counters.stream();
        // Boxed: a task's own place is written and moved as a whole three times, and this future is large.
        self.common.tasks.spawn_connection(Box::pin(stream.run(request)));
    }
}
