//! Whatever a server sends is an answer or an error, in bounded memory.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::packet::{LONGEST, Packets};
use super::rows::{self, SIZE};
use super::{Connection, Endpoint, Error, Keep, Rows};
use crate::secret::Secret;

/// Sends its packets, each with the number that its client waits for, then ends.
struct Server {
    packets: std::vec::IntoIter<Vec<u8>>,
    unsent: Vec<u8>,
    sequence: u8,
}

impl Server {
    fn new(packets: Vec<Vec<u8>>) -> Self {
        Self { packets: packets.into_iter(), unsent: Vec::new(), sequence: 0 }
    }
}

impl AsyncRead for Server {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let server = self.get_mut();
        if server.unsent.is_empty()
            && let Some(packet) = server.packets.next()
        {
            let length = u32::try_from(packet.len()).expect("short").to_le_bytes();
            server.unsent.extend_from_slice(&[length[0], length[1], length[2], server.sequence]);
            server.unsent.extend_from_slice(&packet);
            server.sequence = server.sequence.wrapping_add(1);
        }
        let length = into.remaining().min(server.unsent.len());
        into.put_slice(&server.unsent[..length]);
        server.unsent.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Server {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.get_mut().sequence = bytes[3].wrapping_add(1);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A login and a query, to their end: in memory nothing is waited for.
fn talk(server: impl AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static) -> Result<Rows, Error> {
    let endpoint = Endpoint::new(&Secret::new("mysql://u:p@h/d?ssl-mode=DISABLED"))?;
    let talk = async {
        let mut connection: Connection = endpoint.connect_over(server, Duration::from_secs(1)).await?;
        connection.query("SELECT 1", Keep::Rows).await
    };
    talk.now_or_never().expect("its end is read")
}

fn size(rows: &Rows) -> usize {
    let value = |value: &Option<String>| size_of::<Option<String>>() + value.as_ref().map_or(0, String::len);
    rows.rows.iter().flatten().map(value).sum()
}

/// A greeting of MySQL 8 without TLS.
fn greeting() -> Vec<u8> {
    let mut packet = b"\x0a8.0.36\0\x07\0\0\0abcdefgh\0".to_vec();
    packet.extend_from_slice(&[0xff, 0xf7, 0xff, 2, 0, 0xff, 0xdf, 21]);
    packet.extend_from_slice(&[0; 10]);
    packet.extend_from_slice(b"ijklmnopqrst\0caching_sha2_password\0");
    packet
}

/// Packets that begin as those that mean something do, and others.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![0, 1, 2, 3, 4, 0xfb, 0xfc, 0xfd, 0xfe, 0xff]);
    let some = (first, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(first, mut rest)| {
        rest.insert(0, first);
        rest
    });
    let known = prop::sample::select(vec![
        greeting(),
        b"\0\0\0\x02\0\0\0".to_vec(),
        b"\x01\x03".to_vec(),
        b"\xfemysql_native_password\0abcdefghijklmnopqrst\0".to_vec(),
        b"\x02".to_vec(),
        b"\x03def\x00\x00\x00\x01n\x00\x0c\x2d\x00\x04\x00\x00\x00\x03\x00\x00\x00\x00\x00".to_vec(),
        b"\xfe\0\0\x02\0".to_vec(),
        b"\xfe\0\0\x0a\0".to_vec(),
        b"\xff\x7a\x04#42S02no".to_vec(),
    ]);
    prop_oneof![known, some, prop::collection::vec(any::<u8>(), 0..40)]
}

proptest! {
    #[test]
    fn a_server_may_say_anything(logs_in: bool, packets in prop::collection::vec(packet(), 0..16)) {
        let login = [greeting(), b"\0\0\0\x02\0\0\0".to_vec(), b"\0\0\0\x02\0\0\0".to_vec()];
        let login = login.into_iter().filter(|_| logs_in);
        if let Ok(rows) = talk(Server::new(login.chain(packets).collect())) {
            prop_assert!(size(&rows) <= SIZE);
        }
    }

    #[test]
    fn bytes_need_not_be_packets(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let silent = tokio::io::join(std::io::Cursor::new(bytes), tokio::io::sink());
        prop_assert!(talk(silent).is_err(), "nobody is let in by chance");
    }
}

#[test]
fn an_answer_is_kept_up_to_its_bound_and_refused_beyond() {
    let column = b"\x03def\x00\x00\x00\x01n\x00\x0c\x2d\x00\x04\x00\x00\x00\x03\x00\x00\x00\x00\x00".to_vec();
    let end = b"\xfe\0\0\x02\0".to_vec();
    let answer = |columns: u8, row: Vec<u8>, rows: usize| {
        let login = [greeting(), b"\0\0\0\x02\0\0\0".to_vec(), b"\0\0\0\x02\0\0\0".to_vec()];
        let head = [vec![columns]].into_iter().chain(vec![column.clone(); columns.into()]).chain([end.clone()]);
        let all = login.into_iter().chain(head).chain(vec![row; rows]).chain([end.clone()]);
        talk(Server::new(all.collect()))
    };
    let long = [&[0xfd, 0, 0, 0x0f][..], &[b'x'; 0x0f_0000]].concat();
    assert_eq!(answer(1, long.clone(), 4).expect("almost 4 MiB").rows.len(), 4);
    let refused = "an answer of more than 4 MiB";
    assert_eq!(answer(1, long, 5).expect_err("more").to_string(), refused);
    // Short rows of many NULLs take more memory than bytes.
    assert_eq!(answer(250, vec![0xfb; 250], 900).expect_err("more").to_string(), refused);
    // Rows beyond those that are kept cost nothing.
    assert_eq!(answer(1, b"\x011".to_vec(), 5000).expect("short").rows.len(), 1000);
}

#[test]
fn what_is_announced_takes_no_memory_before_it_comes() {
    let length = u32::try_from(LONGEST).expect("short").to_le_bytes();
    let heads = [&[length[0], length[1], length[2], 0][..], b"few"].concat();
    let mut packets = Packets::over(Box::new(tokio::io::join(std::io::Cursor::new(heads), tokio::io::sink())));
    let cut = rows::read(&mut packets, Keep::Rows).now_or_never().expect("its end is read");
    assert_eq!(cut.expect_err("cut short").to_string(), "unexpected end of file");
    let longer = [0xff, 0xff, 0xff, 0];
    let mut packets = Packets::over(Box::new(tokio::io::join(std::io::Cursor::new(longer), tokio::io::sink())));
    let refused = rows::read(&mut packets, Keep::Rows).now_or_never().expect("at once");
    assert_eq!(refused.expect_err("too long").to_string(), "an answer of more than 1 MiB in one piece");
}
