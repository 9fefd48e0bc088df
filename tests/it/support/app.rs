//! An app to stand behind the proxy: a real HTTP server, and one that plays a script of bytes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A server on a port of its own, stopped on drop.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    /// Connections accepted so far.
    pub(crate) connections: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl App {
    /// Starts the app: `/` says hello, `/slow?ms=N` later, `/echo` tells the request, `/size?n=N` sends so many
    /// bytes, `/upgrade` switches to a protocol that echoes.
    pub(crate) async fn start() -> Self {
        Self::on(([127, 0, 0, 1], 0).into()).await
    }

    /// The same, on this address.
    pub(crate) async fn on(address: SocketAddr) -> Self {
        Self::listen(address, |stream| async move {
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            let _ = served.with_upgrades().await;
        })
        .await
    }

    /// The same, for HTTP/2 with prior knowledge, with so many requests at once on a connection.
    pub(crate) async fn start_http2(streams: u32) -> Self {
        Self::http2_on(([127, 0, 0, 1], 0).into(), streams).await
    }

    /// The same, on this address.
    pub(crate) async fn http2_on(address: SocketAddr, streams: u32) -> Self {
        Self::listen(address, move |stream| async move {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.max_concurrent_streams(streams);
            let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        })
        .await
    }

    /// Starts a server that does what `script` does with each connection.
    pub(crate) async fn serve<F>(script: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::listen(([127, 0, 0, 1], 0).into(), script).await
    }

    async fn listen<F>(address: SocketAddr, script: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let mut server = JoinSet::new();
        server.spawn({
            let connections = connections.clone();
            async move {
                let mut open = JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    connections.fetch_add(1, Ordering::SeqCst);
                    stream.set_nodelay(true).unwrap();
                    open.spawn(script(stream));
                    while open.try_join_next().is_some() {}
                }
            }
        });
        Self { address, connections, _server: server }
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let number = |name: &str| -> u64 {
        let query = request.uri().query().unwrap_or("");
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok()).unwrap_or(0)
    };
    Ok(match request.uri().path() {
        "/" => Response::new(Full::from("hello\n")),
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(number("ms"))).await;
            Response::new(Full::from("slow\n"))
        }
        "/size" => Response::new(Full::from(vec![b'x'; usize::try_from(number("n")).unwrap()])),
        "/echo" => {
            let (head, body) = request.into_parts();
            let headers: Vec<_> =
                head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(_) => return Ok(Response::builder().status(400).body(Full::default()).unwrap()),
            };
            let told = json!({
                "method": head.method.as_str(),
                "target": head.uri.to_string(),
                "headers": headers,
                "length": body.len(),
                "sum": body.iter().map(|byte| u64::from(*byte)).sum::<u64>(),
            });
            Response::new(Full::from(told.to_string()))
        }
        "/upgrade" => {
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut echo = TokioIo::new(upgraded.await.unwrap());
                let (mut reader, mut writer) = tokio::io::split(&mut echo);
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut writer).await;
            });
            Response::builder()
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header(header::CONNECTION, "upgrade")
                .header(header::UPGRADE, "echo")
                .body(Full::default())
                .unwrap()
        }
        _ => Response::builder().status(404).body(Full::from("not here\n")).unwrap(),
    })
}
