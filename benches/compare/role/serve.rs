//! Accepting and serving HTTP/1.1 with nothing around it; every baseline answers through this loop.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Tasks between two looks for IO: tokio's default.
pub(super) const EVENT_INTERVAL: u32 = 61;

/// What every serving role is told.
#[derive(clap::Args, Clone)]
pub(crate) struct ServeArgs {
    /// Where to listen.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// Threads, each with a runtime and a listening socket of its own.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
}

/// Runs `work` on `threads` runtimes of one thread each, which look for IO after every `event_interval` tasks, and returns the first failure.
pub(super) fn on_threads<F, W>(threads: usize, event_interval: u32, work: W) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
    W: Fn() -> F + Send + Sync + Clone + 'static,
{
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let work = work.clone();
            std::thread::spawn(move || on_this_thread(event_interval, work()))
        })
        .collect();
    on_this_thread(event_interval, work())?;
    for other in others {
        other.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    }
    Ok(())
}

fn on_this_thread(event_interval: u32, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().event_interval(event_interval);
    builder.build().context("cannot build a runtime")?.block_on(work)
}

/// A listening socket that several threads may open for the same address.
pub(super) fn listener(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into()).with_context(|| format!("cannot listen on {address}"))?;
    socket.listen(1024)?;
    Ok(TcpListener::from_std(socket.into())?)
}

/// Answers every request with `respond`.
pub(super) fn run<F, B, R>(args: &ServeArgs, respond: R) -> anyhow::Result<()>
where
    R: Fn(Request<Incoming>) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body<Error = Infallible> + Send + 'static,
    B::Data: Send,
{
    let address = args.listen;
    on_threads(args.threads, EVENT_INTERVAL, move || async move {
        let listener = listener(address)?;
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            stream.set_nodelay(true)?;
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(respond));
            connections.spawn(connection);
        }
    })
}
