//! Serves one connection: HTTP/1.1 with keep-alive and upgrades, until its client leaves, an order of the sweeper
//! ends it, or it breaks.

use std::error::Error as StdError;
use std::future::{Future as _, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::activity::{Activity, Order};
use super::socket::Socket;

/// hyper's own bound on header fields, parsed on the stack; any other costs two allocations a request.
const HYPER_FIELDS: usize = 100;

/// Bounds on a request's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes, request line included. At least 8 KiB.
    pub bytes: usize,
    /// Header fields.
    pub fields: usize,
}

/// Speaks HTTP over `io` until the end of the connection.
///
/// # Cancellation
/// Dropping the future closes the connection at once.
pub async fn serve<I, S, B>(io: I, activity: Arc<Activity>, head: Head, service: S) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let io = TokioIo::new(Socket::new(io, activity.clone()));
    let mut builder = http1::Builder::new();
    // Heads, idle time and stalls are the sweeper's: no timer per request.
    builder.header_read_timeout(None).max_header_size(head.bytes).max_buf_size(head.bytes.max(64 * 1024));
    // Not `pipeline_flush`: an answer would wait for those of the requests behind it, however slow (a test holds this).
    // Not `writev(false)`: it copies large bodies once more.
    if head.fields != HYPER_FIELDS {
        builder.max_headers(head.fields);
    }
    let connection = builder.serve_connection(io, service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
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
                    connection.as_mut().graceful_shutdown();
                }
                Order::Cut => return Poll::Ready(Ok(())),
                Order::None | Order::Close => return Poll::Pending,
            }
        }
    })
    .await
}
