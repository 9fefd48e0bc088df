//! HTTP/2 from clients (RFC 9113): one task for each connection, which accepts requests and does what the sweeper
//! orders, and one for each request.

mod body;
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
use tokio::io::{AsyncRead, AsyncWrite};

pub(super) use self::body::Body;
pub(super) use self::interim::Interims;
pub(super) use self::meter::Flood;
use self::meter::{Meter, Metered};
use self::stream::{Stream, UnderWay};
use super::downstream::head::Bounds;
use super::headers::Hop;
use super::metrics::Counters;
use super::service::{Client, Early, Place, Service};
use crate::lifecycle::tasks::Tasks;
use crate::net::activity::{Activity, Order};
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

/// What the requests of one connection share.
pub(super) struct Shared {
    pub(super) service: Arc<Service>,
    pub(super) hop: Hop,
    /// Held until the last request has ended.
    pub(super) place: Arc<Place>,
    pub(super) activity: Arc<Activity>,
    pub(super) sweeper: Sweeper,
    pub(super) head: Bounds,
    /// Requests at once.
    pub(super) streams: u32,
    pub(super) counters: Arc<Counters>,
    pub(super) tasks: Tasks,
}

/// Speaks HTTP/2 over `socket` until the end of the connection.
///
/// # Cancellation
/// Dropping the future closes the connection at once; its requests see that and end.
pub(super) async fn serve<I>(socket: Socket<I>, shared: Shared) -> Result<(), h2::Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Shared { activity, head, streams, counters, .. } = &shared;
    activity.multiplexed();
    counters.http2_connection();
    let meter = Arc::new(Meter::new(*streams));
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(*streams)
        .max_header_list_size(u32::try_from(head.bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_UNSEEN)
        .max_local_error_reset_streams(Some(RESET_BY_US))
        .enable_connect_protocol();
    let handshake = builder.handshake(Metered::new(socket, meter.clone(), activity.clone()));
    let mut connection: Connection<_, Bytes> = {
        let mut handshake = pin!(handshake);
        let greeted = poll_fn(|cx| {
            activity.attend(cx.waker());
            match activity.order() {
                Order::None => handshake.as_mut().poll(cx).map(Some),
                Order::Close | Order::Cut => Poll::Ready(None),
            }
        });
        match greeted.await {
            Some(connection) => connection?,
            None => return Ok(()),
        }
    };
    let (mut is_closing, mut is_flooded) = (false, false);
    let ended = poll_fn(|cx| {
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    shared.begin(&meter, request, respond);
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
                Order::Close if !is_closing => {
                    is_closing = true;
                    connection.graceful_shutdown();
                }
                Order::Cut => return Poll::Ready(Ok(())),
                Order::None | Order::Close => return Poll::Pending,
            }
        }
    })
    .await;
    if ended.as_ref().is_err_and(is_flood) {
        counters.flood(Flood::Protocol);
    }
    ended
}

/// Whether the h2 crate has ended a connection because its client asked too much.
fn is_flood(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM)
}

impl Shared {
    fn begin(&self, meter: &Arc<Meter>, request: Request<h2::RecvStream>, respond: h2::server::SendResponse<Bytes>) {
        let swept = self.sweeper.open_stream();
        let interims = Interims::new(request.headers());
        let client = Client {
            hop: self.hop.clone(),
            activity: swept.activity().clone(),
            early: Early::Http2(interims.clone()),
            _place: self.place.clone(),
        };
        let stream = Stream {
            service: self.service.clone(),
            client: Arc::new(client),
            swept,
            meter: meter.clone(),
            counters: self.counters.clone(),
            bounds: self.head,
            interims,
            respond,
            _under_way: UnderWay::begin(self.activity.clone()),
        };
        self.counters.stream();
        self.tasks.spawn_connection(stream.run(request));
    }
}
