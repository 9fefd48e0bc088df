//! Serves one connection until its client leaves, an order of the sweeper ends it, or it breaks: HTTP/1.1 with
//! keep-alive and upgrades, or HTTP/2 for a client that begins with its preface ("prior knowledge", RFC 9113 section 3.3).

use std::error::Error as StdError;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::activity::{Activity, Order};
use super::socket::{Protocol, Socket};
use super::uptake;
use crate::lifecycle::tasks::Tasks;

/// hyper's own bound on header fields, parsed on the stack; any other costs two allocations a request.
const HYPER_FIELDS: usize = 100;

/// Requests under way on one HTTP/2 connection: more than an SDK has, few enough for their buffers to be bounded.
const STREAMS: u32 = 256;
/// What one HTTP/2 answer may have waiting for its client to take it, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// Bounds on a request's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes, request line included. At least 8 KiB.
    pub bytes: usize,
    /// Header fields. HTTP/2 bounds only their bytes.
    pub fields: usize,
}

/// Speaks HTTP/1.1 over `io` until the end of the connection.
///
/// # Cancellation
/// Dropping the future closes the connection at once.
pub async fn serve<I, S, B>(io: I, activity: Arc<Activity>, head: Head, service: S) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = B, Error: Into<Box<dyn StdError + Send + Sync>>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    serve_http1(Socket::new(io, activity.clone()), &activity, head, service).await
}

/// Speaks what the client speaks, HTTP/1.1 or HTTP/2, over `socket` until the end of the connection: what was `agreed` on, or
/// what the first bytes tell. `streams` owns the tasks of HTTP/2 requests, which end with the connection.
///
/// # Cancellation
/// As of [`serve`].
pub async fn serve_any<I, S, B>(
    mut socket: Socket<I>,
    agreed: Option<Protocol>,
    activity: Arc<Activity>,
    head: Head,
    streams: Tasks,
    service: S,
) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = B, Error: Into<Box<dyn StdError + Send + Sync>>, Future: Send + 'static>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let spoken = if agreed.is_some() {
        agreed
    } else {
        let mut spoken = pin!(socket.protocol());
        poll_fn(|cx| {
            if let Poll::Ready(spoken) = spoken.as_mut().poll(cx) {
                return Poll::Ready(spoken.ok());
            }
            activity.attend(cx.waker());
            if activity.order() == Order::None { Poll::Pending } else { Poll::Ready(None) }
        })
        .await
    };
    match spoken {
        Some(Protocol::Http1) => serve_http1(socket, &activity, head, service).await,
        Some(Protocol::Http2) => {
            activity.multiplexed();
            let mut builder = http2::Builder::new(Streams(streams));
            builder
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(u32::try_from(head.bytes).unwrap_or(u32::MAX))
                .max_send_buf_size(SEND_BUFFER);
            let connection = builder.serve_connection(TokioIo::new(socket), service);
            obey(pin!(connection), &activity, http2::Connection::graceful_shutdown).await
        }
        // It broke, or the sweeper wants its place. Nothing was asked, so what the client is told does not matter.
        None => {
            drop(socket.shutdown().await);
            Ok(())
        }
    }
}

pub(super) async fn serve_http1<I, S, B>(
    socket: Socket<I>,
    activity: &Activity,
    head: Head,
    service: S,
) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = B, Error: Into<Box<dyn StdError + Send + Sync>>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let mut builder = http1::Builder::new();
    // Heads, idle time and stalls are the sweeper's: no timer per request.
    builder.header_read_timeout(None).max_header_size(head.bytes).max_buf_size(head.bytes.max(64 * 1024));
    // Not `pipeline_flush`: an answer would wait for those of the requests behind it, however slow (a test holds this).
    // Not `writev(false)`: it copies large bodies once more.
    if head.fields != HYPER_FIELDS {
        builder.max_headers(head.fields);
    }
    let connection = builder.serve_connection(TokioIo::new(socket), service).with_upgrades();
    obey(pin!(connection), activity, http1::UpgradeableConnection::graceful_shutdown).await
}

/// Runs a connection, and does what the sweeper orders.
async fn obey<C>(mut connection: Pin<&mut C>, activity: &Activity, close: fn(Pin<&mut C>)) -> C::Output
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    let mut told_to_close = false;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            activity.attend(cx.waker());
            match activity.order() {
                Order::Close if !told_to_close => {
                    told_to_close = true;
                    close(connection.as_mut());
                }
                Order::Cut => return Poll::Ready(Ok(())),
                Order::None | Order::Close => return Poll::Pending,
            }
        }
    })
    .await
}

/// Runs the requests of HTTP/2 connections. hyper ends each when its connection is gone.
#[derive(Clone)]
struct Streams(Tasks);

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn_connection(uptake::watch(stream));
    }
}
