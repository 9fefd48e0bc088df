//! The app behind tunnels: answers the handshake of RFC 6455 and sends each message back. Every message is of one size,
//! because what is measured is the hop before it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::serve::{self, EVENT_INTERVAL, ServeArgs};

/// Bytes of a message.
pub(super) const SIZE: usize = 1024;
/// How a client's frame begins: binary and whole, its length, a mask of zeros.
pub(super) const ASKED: [u8; 8] = [0x82, 0xfe, 0x04, 0x00, 0, 0, 0, 0];
/// How a server's frame begins.
pub(super) const ANSWERED: [u8; 4] = [0x82, 0x7e, 0x04, 0x00];
/// The key of RFC 6455 section 1.3, and what must be answered to it.
pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let address = args.listen;
    serve::on_threads(args.threads, EVENT_INTERVAL, move || async move {
        let listener = serve::listener(address)?;
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            connections.spawn(echo(stream));
        }
    })
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let switch = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    stream.write_all(switch.as_bytes()).await?;
    let mut frame = [0; ASKED.len() + SIZE];
    let begin = ASKED.len() - ANSWERED.len();
    loop {
        stream.read_exact(&mut frame).await?;
        frame[begin..ASKED.len()].copy_from_slice(&ANSWERED);
        stream.write_all(&frame[begin..]).await?;
    }
}
