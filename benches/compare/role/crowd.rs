//! Clients at rest: connections that had a request each, and leave when the server closes. What is measured is the
//! server's way of ending them; meanwhile nobody asks anything.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::wire;

/// Connects so many at a time: a listener's queue is finite.
const AT_ONCE: usize = 100;
/// For a connection's one request, and for the end of all of them.
const LIMIT: Duration = Duration::from_secs(60);

/// How many, and where.
#[derive(clap::Args, Clone)]
pub(super) struct CrowdArgs {
    /// Where to connect.
    #[arg(long)]
    address: SocketAddr,
    /// Connections.
    #[arg(long)]
    connections: usize,
}

/// How the crowd left.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct CrowdReport {
    /// Connections that ended otherwise than by an orderly close.
    pub(crate) broken: u64,
    /// From the first close to the last, in seconds.
    pub(crate) seconds: f64,
}

/// Says `ready` on a line of its own once all are at rest, and how they ended on another.
pub(super) fn run(args: &CrowdArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(rest(args))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn rest(args: &CrowdArgs) -> anyhow::Result<CrowdReport> {
    let request: &'static [u8] = wire::request(args.address, "/", None, None).leak();
    let mut open = Vec::with_capacity(args.connections);
    while open.len() < args.connections {
        let some = AT_ONCE.min(args.connections - open.len());
        let opening = (0..some).map(|_| timeout(LIMIT, begin(args.address, request)));
        for stream in futures_util::future::join_all(opening).await {
            open.push(stream.context("no answer")??);
        }
    }
    println!("ready");
    let mut leaving = JoinSet::new();
    for mut stream in open {
        leaving.spawn(async move {
            let ended = timeout(LIMIT, stream.read(&mut [0; 64])).await;
            (matches!(ended, Ok(Ok(0))), Instant::now())
        });
    }
    let (mut broken, mut first, mut last) = (0, None::<Instant>, None::<Instant>);
    while let Some(left) = leaving.join_next().await {
        let (orderly, at) = left?;
        broken += u64::from(!orderly);
        first = Some(first.map_or(at, |earlier| earlier.min(at)));
        last = Some(last.map_or(at, |later| later.max(at)));
    }
    let seconds = first.zip(last).map_or(0.0, |(first, last)| (last - first).as_secs_f64());
    Ok(CrowdReport { broken, seconds })
}

async fn begin(address: SocketAddr, request: &[u8]) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let mut answer = Vec::with_capacity(2048);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            bail!("closed before the answer was complete");
        }
        if wire::parse(&answer)?.is_some() {
            return Ok(stream);
        }
    }
}
