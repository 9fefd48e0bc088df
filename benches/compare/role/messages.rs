//! The load of tunnels: a closed loop of WebSocket messages on a fixed number of connections.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::echo::{ANSWERED, ASKED, KEY, SIZE};
use super::load::{LoadReport, latencies};

/// For all of them.
const LIMIT: Duration = Duration::from_secs(20);

/// What to send where.
#[derive(clap::Args, Clone)]
pub(super) struct MessagesArgs {
    /// Where to connect.
    #[arg(long)]
    address: SocketAddr,
    /// Connections, each with one message under way at a time.
    #[arg(long)]
    connections: usize,
    /// Messages over all connections.
    #[arg(long)]
    requests: u64,
}

pub(super) fn run(args: &MessagesArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(send(args))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn send(args: &MessagesArgs) -> anyhow::Result<LoadReport> {
    let mut tunnels = Vec::with_capacity(args.connections);
    for _ in 0..args.connections {
        tunnels.push(timeout(LIMIT, open(args.address)).await??);
    }
    let budget = &Cell::new(args.requests);
    let begun = Instant::now();
    let loops = tunnels.into_iter().map(|stream| async move {
        let mut seen = latencies();
        let ended = timeout(LIMIT, one_loop(stream, budget, &mut seen)).await;
        (seen, u64::from(!matches!(ended, Ok(Ok(())))))
    });
    let (mut all, mut failed) = (latencies(), 0);
    for (seen, failures) in futures_util::future::join_all(loops).await {
        all.add(seen)?;
        failed += failures;
    }
    Ok(LoadReport::new(args.requests, failed + budget.get(), begun.elapsed(), &all))
}

async fn one_loop(mut stream: TcpStream, budget: &Cell<u64>, seen: &mut Histogram<u64>) -> anyhow::Result<()> {
    let message = [&ASKED[..], &[b'x'; SIZE]].concat();
    let mut answer = [0; ANSWERED.len() + SIZE];
    while budget.get() > 0 {
        budget.set(budget.get() - 1);
        let begun = Instant::now();
        stream.write_all(&message).await?;
        stream.read_exact(&mut answer).await?;
        ensure!(answer.starts_with(&ANSWERED) && answer.ends_with(b"x"), "another message came back");
        seen.saturating_record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(())
}

async fn open(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(stream.read_buf(&mut head).await? > 0, "closed before it switched");
    }
    ensure!(head.starts_with(b"HTTP/1.1 101 "), "not switched: {}", head.escape_ascii());
    Ok(stream)
}
