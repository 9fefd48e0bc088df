//! The load over gRPC: a closed loop of calls, several under way on each connection.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use super::load::{self, LoadReport};
use crate::messages;

/// What to ask where.
#[derive(clap::Args, Clone)]
pub(super) struct CallsArgs {
    /// Where to connect.
    #[arg(long)]
    address: SocketAddr,
    /// Connections.
    #[arg(long)]
    connections: usize,
    /// Calls under way on each connection.
    #[arg(long)]
    streams: usize,
    /// Calls over all connections.
    #[arg(long)]
    requests: u64,
    /// The method, as a path.
    #[arg(long)]
    method: String,
    /// The flag asked for.
    #[arg(long)]
    key: String,
    /// The body of an OFREP request, whose context is asked with.
    #[arg(long)]
    body: String,
    /// Gives up after this many seconds; calls that were not made by then count as failed.
    #[arg(long, default_value_t = 20)]
    limit_secs: u64,
}

pub(super) fn run(args: &CallsArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = LocalSet::new().block_on(&runtime, calls(args))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn calls(args: &CallsArgs) -> anyhow::Result<LoadReport> {
    let question = Bytes::from(messages::question(&args.key, &args.body)?);
    let uri: http::Uri = format!("http://{}{}", args.address, args.method).parse()?;
    let mut drivers = JoinSet::new();
    let mut senders = Vec::with_capacity(args.connections);
    for _ in 0..args.connections {
        let stream = TcpStream::connect(args.address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await?;
        // What goes wrong on it reaches the calls.
        drivers.spawn(async { drop(connection.await) });
        senders.push(sender);
    }
    let budget = Cell::new(args.requests);
    let begun = Instant::now();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(args.limit_secs);
    let loops = senders.iter().flat_map(|sender| (0..args.streams).map(|_| sender.clone())).map(|sender| {
        let (question, uri, budget) = (&question, &uri, &budget);
        async move {
            let mut seen = load::latencies();
            let mut failed = 0;
            let all = one_loop(sender, uri, question, budget, &mut seen, &mut failed);
            let cut = tokio::time::timeout_at(deadline, all).await.is_err();
            (seen, failed + u64::from(cut))
        }
    });
    let mut latencies = load::latencies();
    let mut failed = 0;
    for (seen, failures) in futures_util::future::join_all(loops).await {
        latencies.add(seen)?;
        failed += failures;
    }
    Ok(LoadReport::new(args.requests, failed + budget.get(), begun.elapsed(), &latencies))
}

async fn one_loop(
    mut sender: SendRequest<Full<Bytes>>,
    uri: &http::Uri,
    question: &Bytes,
    budget: &Cell<u64>,
    seen: &mut Histogram<u64>,
    failed: &mut u64,
) {
    while budget.get() > 0 {
        budget.set(budget.get() - 1);
        let begun = Instant::now();
        if call(&mut sender, uri, question).await.is_ok() {
            seen.saturating_record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        } else {
            *failed += 1;
            // A connection that broke fails every call at once.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn call(sender: &mut SendRequest<Full<Bytes>>, uri: &http::Uri, question: &Bytes) -> anyhow::Result<()> {
    let request = http::Request::post(uri.clone())
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(question.clone()))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    ensure!(response.status() == 200, "{}", response.status());
    let whole = response.into_body().collect().await?;
    let status = whole.trailers().and_then(|trailers| trailers.get("grpc-status"));
    ensure!(status.is_some_and(|status| status == "0"), "the call failed");
    ensure!(!whole.to_bytes().is_empty(), "an answer without a message");
    Ok(())
}
