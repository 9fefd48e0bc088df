//! Many readers of one event stream at once, over HTTP/1.1 or gRPC.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// For whatever the readers wait for.
const LIMIT: Duration = Duration::from_secs(10);

/// Connects so many at a time: a listener's queue is finite.
const AT_ONCE: usize = 50;

/// Where the stream is, and in what it speaks.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    /// An HTTP/1.1 GET of this path.
    Http(&'static str),
    /// A gRPC call of this method with an empty message, each on a connection of its own.
    Grpc(&'static str),
}

/// Readers that have the beginning of their streams.
pub(crate) struct Readers {
    runtime: Runtime,
    readers: Vec<Reader>,
    /// What drives the connections of gRPC.
    _drivers: JoinSet<()>,
}

struct Reader {
    source: Source,
    /// What was read since something was waited for last.
    seen: Vec<u8>,
}

enum Source {
    Http(TcpStream),
    Grpc {
        body: Incoming,
        /// The connection ends with the last one.
        _sender: http2::SendRequest<Full<Bytes>>,
    },
}

impl Readers {
    /// Connects `count` of them.
    ///
    /// # Errors
    /// When the server does not begin all of the streams.
    pub(crate) fn connect(count: usize, address: SocketAddr, stream: Stream) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut drivers = JoinSet::new();
        let readers = runtime.block_on(async {
            let mut readers = Vec::with_capacity(count);
            while readers.len() < count {
                let some = AT_ONCE.min(count - readers.len());
                let opening = (0..some).map(|_| open(address, stream));
                for (reader, driver) in timeout(LIMIT, try_join_all(opening)).await.context("no stream began")?? {
                    readers.push(reader);
                    if let Some(driver) = driver {
                        drivers.spawn(driver);
                    }
                }
            }
            anyhow::Ok(readers)
        })?;
        Ok(Readers { runtime, readers, _drivers: drivers })
    }

    /// Waits until every one has read `mark`.
    ///
    /// # Errors
    /// When one of them has not after ten seconds, or its stream ended.
    pub(crate) fn wait_for(&mut self, mark: &str) -> anyhow::Result<()> {
        let waiting = try_join_all(self.readers.iter_mut().map(|reader| reader.until(mark.as_bytes())));
        self.runtime.block_on(async { timeout(LIMIT, waiting).await }).context("not all readers have the event")??;
        Ok(())
    }
}

impl Reader {
    async fn until(&mut self, mark: &[u8]) -> anyhow::Result<()> {
        loop {
            if let Some(at) = self.seen.windows(mark.len()).position(|bytes| bytes == mark) {
                self.seen.drain(..at + mark.len());
                return Ok(());
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        match &mut self.source {
            Source::Http(stream) => ensure!(stream.read_buf(&mut self.seen).await? > 0, "the stream has ended"),
            Source::Grpc { body, .. } => match body.frame().await {
                Some(frame) => self.seen.extend_from_slice(frame?.data_ref().context("the call has ended")?),
                None => bail!("the stream has ended"),
            },
        }
        Ok(())
    }
}

type Driver = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Begins one stream and reads its head and what comes with it.
async fn open(address: SocketAddr, stream: Stream) -> anyhow::Result<(Reader, Option<Driver>)> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (source, driver) = match stream {
        Stream::Http(path) => {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n");
            socket.write_all(request.as_bytes()).await?;
            (Source::Http(socket), None)
        }
        Stream::Grpc(method) => {
            let (mut sender, connection) =
                http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(socket)).await?;
            // An error of the connection reaches whoever reads from it.
            let mut driver: Driver = Box::pin(async { drop(connection.await) });
            let request = http::Request::post(format!("http://{address}{method}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::new(Bytes::from_static(&[0; 5])))?;
            let answered = sender.send_request(request);
            let response = tokio::select! {
                response = answered => response?,
                () = &mut driver => bail!("the connection ended before the call was answered"),
            };
            ensure!(response.status() == 200, "the call is answered with {}", response.status());
            (Source::Grpc { body: response.into_body(), _sender: sender }, Some(driver))
        }
    };
    let mut reader = Reader { source, seen: Vec::with_capacity(1024) };
    if let Stream::Http(path) = stream {
        while reader.seen.len() < 12 {
            reader.read().await?;
        }
        ensure!(reader.seen.starts_with(b"HTTP/1.1 200"), "no 200 for {path}");
        reader.until(b"\r\n\r\n").await?;
    }
    Ok((reader, driver))
}
