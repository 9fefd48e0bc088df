//! A relay that understands nothing: read, write, read, write; the floor of tokio and the kernel under any proxy.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::serve::{self, ServeArgs};

/// What the relay is told.
#[derive(clap::Args, Clone)]
pub(super) struct RelayArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// The app.
    #[arg(long)]
    upstream: SocketAddr,
}

/// Every read is taken for one whole message, which holds for the bench's small requests and answers alone.
pub(super) fn run(args: &RelayArgs) -> anyhow::Result<()> {
    let (address, upstream) = (args.serve.listen, args.upstream);
    serve::on_threads(args.serve.threads, serve::EVENT_INTERVAL, move || async move {
        let listener = serve::listener(address)?;
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok((mut client, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            client.set_nodelay(true)?;
            connections.spawn(async move {
                let mut app = TcpStream::connect(upstream).await?;
                app.set_nodelay(true)?;
                let mut buffer = vec![0; 16 * 1024];
                loop {
                    let read = client.read(&mut buffer).await?;
                    if read == 0 {
                        return Ok::<_, std::io::Error>(());
                    }
                    app.write_all(&buffer[..read]).await?;
                    let read = app.read(&mut buffer).await?;
                    client.write_all(&buffer[..read]).await?;
                }
            });
        }
    })
}
