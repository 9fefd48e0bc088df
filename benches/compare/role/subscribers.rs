//! The rest of a fleet: connections that subscribe to the events and parse each, and do nothing else.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::serve;

/// What `subscribers` is told.
#[derive(clap::Args, Clone)]
pub(super) struct SubscribersArgs {
    /// Where Redis is.
    #[arg(long)]
    redis: SocketAddr,
    /// What to subscribe to.
    #[arg(long)]
    channel: String,
    /// Connections.
    #[arg(long)]
    count: usize,
}

pub(super) fn run(args: &SubscribersArgs) -> anyhow::Result<()> {
    let args = args.clone();
    serve::on_threads(1, serve::EVENT_INTERVAL, move || {
        let args = args.clone();
        async move {
            let mut connections = JoinSet::new();
            for _ in 0..args.count {
                connections.spawn(follow(args.redis, args.channel.clone()));
            }
            match connections.join_next().await {
                Some(ended) => ended?,
                None => Ok(()),
            }
        }
    })
}

async fn follow(redis: SocketAddr, channel: String) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(redis).await?;
    let length = channel.len();
    stream.write_all(format!("*2\r\n$9\r\nSUBSCRIBE\r\n${length}\r\n{channel}\r\n").as_bytes()).await?;
    let confirmation = format!("*3\r\n$9\r\nsubscribe\r\n${length}\r\n{channel}\r\n:1\r\n").into_bytes();
    let head = format!("*3\r\n$7\r\nmessage\r\n${length}\r\n{channel}\r\n$").into_bytes();
    let mut buffer = Vec::with_capacity(4096);
    let mut confirmed = false;
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            bail!("redis closed the connection");
        }
        if !confirmed && buffer.starts_with(&confirmation) {
            buffer.drain(..confirmation.len());
            confirmed = true;
        }
        while confirmed && let Some((event, end)) = message(&buffer, &head)? {
            serde_json::from_slice::<serde_json::Value>(event).context("the event is JSON")?;
            buffer.drain(..end);
        }
    }
}

/// The first message's payload, and where the message ends, once all of it is there.
fn message<'b>(bytes: &'b [u8], head: &[u8]) -> anyhow::Result<Option<(&'b [u8], usize)>> {
    let Some(rest) = bytes.strip_prefix(head) else {
        ensure!(head.starts_with(&bytes[..bytes.len().min(head.len())]), "redis sent something else than a message");
        return Ok(None);
    };
    let Some(digits) = rest.iter().position(|byte| *byte == b'\r') else { return Ok(None) };
    let length: usize = std::str::from_utf8(&rest[..digits])?.parse()?;
    let start = head.len() + digits + 2;
    Ok(bytes.get(start..start + length + 2).map(|event| (&event[..length], start + length + 2)))
}
