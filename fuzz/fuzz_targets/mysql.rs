//! What a server of MySQL may say, or whatever else listens on its port: any bytes are a login and an answer, or an error,
//! and never wait for more than there is. The input's first byte says whether the rest is packets,
//! each behind a byte of its length, which get the head that is waited for, or is sent as it is.
#![no_main]

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tidegate::net::mysql::{Endpoint, Keep};
use tidegate::secret::Secret;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Frames what it is given, so that what reads packets gets to see them.
struct Framed {
    input: Vec<u8>,
    at: usize,
    unsent: Vec<u8>,
    sequence: u8,
}

impl AsyncRead for Framed {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let server = self.get_mut();
        // The length of each packet is in front of it, a byte.
        if server.unsent.is_empty()
            && let Some((length, rest)) = server.input[server.at..].split_first()
        {
            let packet = &rest[..rest.len().min(usize::from(*length))];
            server.unsent = [&[packet.len() as u8, 0, 0, server.sequence][..], packet].concat();
            server.at += 1 + packet.len();
            server.sequence = server.sequence.wrapping_add(1);
        }
        let length = into.remaining().min(server.unsent.len());
        into.put_slice(&server.unsent[..length]);
        server.unsent.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Framed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().sequence = bytes[3].wrapping_add(1);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn talk(server: impl AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static) {
    let endpoint = Endpoint::new(&Secret::new("mysql://u:p@h/d?ssl-mode=DISABLED")).expect("a URL");
    let talk = pin!(async {
        let mut connection = endpoint.connect_over(server, Duration::from_secs(1)).await.ok()?;
        let answer = connection.query("SELECT 1", Keep::Rows).await.ok()?;
        Some(answer.rows.iter().map(Vec::len).sum::<usize>())
    });
    let Poll::Ready(_) = talk.poll(&mut Context::from_waker(Waker::noop())) else { panic!("it waits for more") };
}

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let bytes = bytes.to_vec();
    match first & 1 {
        0 => talk(Framed { input: bytes, at: 0, unsent: Vec::new(), sequence: 0 }),
        _ => talk(tokio::io::join(io::Cursor::new(bytes), tokio::io::sink())),
    }
});
