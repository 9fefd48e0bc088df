//! The bare proxy: accept, one task per connection, one pooled connection per request; the floor under any proxy on hyper.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::{JoinSet, LocalSet};

use super::serve::{self, ServeArgs};
use super::tuning::{Tune, Tuning};
use super::upstream::{Pool, PooledBody};

/// What the bare proxy is told.
#[derive(clap::Args, Clone)]
pub(super) struct ProxyArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// The app.
    #[arg(long)]
    upstream: SocketAddr,
    /// Deviations from the defaults, to measure what each is worth.
    #[arg(long, value_delimiter = ',')]
    tune: Vec<Tune>,
}

pub(super) fn run(args: &ProxyArgs) -> anyhow::Result<()> {
    let (address, upstream, tuning) = (args.serve.listen, args.upstream, Tuning(args.tune.as_slice().into()));
    let event_interval = if tuning.has(Tune::EagerEvents) { 16 } else { serve::EVENT_INTERVAL };
    serve::on_threads(args.serve.threads, event_interval, move || {
        let tuning = tuning.clone();
        async move {
            if tuning.has(Tune::SpawnLocal) {
                LocalSet::new().run_until(serve(address, upstream, tuning)).await
            } else {
                serve(address, upstream, tuning).await
            }
        }
    })
}

async fn serve(address: SocketAddr, upstream: SocketAddr, tuning: Tuning) -> anyhow::Result<()> {
    let listener = serve::listener(address)?;
    let pool = Pool::new(upstream, tuning.clone());
    let builder = tuning.server();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if !tuning.has(Tune::Nagle) {
            stream.set_nodelay(true)?;
        }
        let hop = Hop { pool: pool.clone(), tuning: tuning.clone(), client: peer };
        let service = service_fn(move |request| {
            let hop = hop.clone();
            async move { Ok::<_, Infallible>(hop.forward(request).await) }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        if tuning.has(Tune::SpawnLocal) {
            connections.spawn_local(connection);
        } else {
            connections.spawn(connection);
        }
    }
}

/// What one connection's requests need.
#[derive(Clone)]
struct Hop {
    pool: Pool,
    tuning: Tuning,
    client: SocketAddr,
}

impl Hop {
    async fn forward(self, mut request: Request<Incoming>) -> Response<PooledBody> {
        request.headers_mut().remove(CONNECTION);
        if self.tuning.has(Tune::ForwardHeaders) {
            self.introduce(&mut request);
        }
        let answer = self.pool.send(request);
        let answer = if self.tuning.has(Tune::AnswerTimeout) {
            tokio::time::timeout(Duration::from_secs(30), answer).await.unwrap_or_else(|late| Err(late.into()))
        } else {
            answer.await
        };
        match answer {
            Ok(mut response) => {
                response.headers_mut().remove(CONNECTION);
                response
            }
            Err(_) => {
                let mut response = Response::new(PooledBody::empty(self.pool));
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            }
        }
    }

    /// Adds what a proxy with manners tells the app about the client.
    fn introduce(&self, request: &mut Request<Incoming>) {
        let client = self.client.ip();
        let id = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let host = request.headers().get(HOST).cloned();
        let headers = request.headers_mut();
        for (name, value) in [
            ("x-forwarded-for", client.to_string()),
            ("x-forwarded-proto", "http".to_owned()),
            ("forwarded", format!("for={client};proto=http")),
            ("x-request-id", id.clone()),
            ("traceparent", format!("00-{id}-{}-01", &id[..16])),
        ] {
            let value = HeaderValue::try_from(value).expect("addresses and hex digits are legal in a header");
            headers.insert(HeaderName::from_static(name), value);
        }
        if let Some(host) = host {
            headers.insert(HeaderName::from_static("x-forwarded-host"), host);
        }
    }
}
