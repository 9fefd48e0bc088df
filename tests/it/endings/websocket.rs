//! Clients of WebSockets over HTTP/2 (RFC 8441), each with a connection of its own.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::http1::masked;
use super::load::Habit;
use super::tally::{End, Fault, Tally};

/// Nothing takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// One WebSocket, to its end.
pub(super) async fn chat(to: SocketAddr, tally: &Tally, habit: Habit) {
    tally.asked();
    match timeout(LIMIT * 4, talk(to, tally, habit)).await.unwrap_or(Err(Fault::Hung)) {
        Ok(None) => {}
        Ok(Some(end)) => tally.ended(end),
        Err(fault) => tally.failed(fault),
    }
}

async fn talk(to: SocketAddr, tally: &Tally, habit: Habit) -> Result<Option<End>, Fault> {
    let mut socket = Socket::open(to).await?;
    for number in 0..habit.messages() {
        let message = format!("message {number}");
        // Where nobody takes it any more, a Close may have come before: reading tells.
        drop(socket.send(masked(0x81, message.as_bytes())));
        match socket.frame().await? {
            (0x81, payload) if payload == message.as_bytes() => tally.moved(),
            (0x88, payload) => return socket.closed(&payload).await,
            (opcode, payload) => return Err(Fault::Wrong(format!("frame {opcode:#x} {payload:02x?}"))),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        if tally.is_stopped() {
            break;
        }
    }
    drop(socket.send(masked(0x88, &1000_u16.to_be_bytes())));
    match socket.frame().await? {
        (0x88, payload) if payload == 1000_u16.to_be_bytes() => socket.rest().await.map(|()| None),
        // It was on its way when ours was.
        (0x88, payload) => socket.closed(&payload).await,
        (opcode, payload) => Err(Fault::Wrong(format!("frame {opcode:#x} {payload:02x?}"))),
    }
}

/// A stream that was opened by extended CONNECT, and its connection.
struct Socket {
    input: RecvStream,
    output: SendStream<Bytes>,
    unread: Vec<u8>,
    _connection: JoinSet<()>,
}

impl Socket {
    /// Opens one; again, over another connection, when the first says that it did not look at the request (RFC 9113
    /// section 6.8).
    async fn open(to: SocketAddr) -> Result<Self, Fault> {
        for _ in 0..5 {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            let made = timeout(LIMIT, h2::client::handshake(stream)).await.map_err(|_| Fault::Hung)?;
            let (sender, driver) = made.map_err(|_| Fault::Lost)?;
            let mut connection = JoinSet::new();
            connection.spawn(async move { drop(driver.await) });
            // RFC 8441 section 3: not before the settings say that it is served.
            while !sender.is_extended_connect_protocol_enabled() {
                if connection.try_join_next().is_some() {
                    return Err(Fault::Lost);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let mut request = Request::builder().method(Method::CONNECT).uri("http://t/chat").body(()).unwrap();
            request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
            request.extensions_mut().insert(Protocol::from_static("websocket"));
            let Ok(mut sender) = sender.ready().await else { continue };
            let Ok((answer, output)) = sender.send_request(request, false) else { continue };
            match timeout(LIMIT, answer).await.map_err(|_| Fault::Hung)? {
                Ok(answer) if answer.status() == 200 => {
                    let input = answer.into_body();
                    return Ok(Self { input, output, unread: Vec::new(), _connection: connection });
                }
                Ok(answer) => return Err(Fault::Status(answer.status().as_u16())),
                Err(error) if error.is_go_away() && error.reason() == Some(Reason::NO_ERROR) => {}
                Err(error) if error.reason() == Some(Reason::REFUSED_STREAM) => {}
                Err(_) => return Err(Fault::Lost),
            }
        }
        Err(Fault::Refused)
    }

    fn send(&mut self, frame: Vec<u8>) -> Result<(), Fault> {
        self.output.send_data(frame.into(), false).map_err(|_| Fault::Lost)
    }

    /// Takes what has come; false at the stream's end.
    async fn fill(&mut self) -> Result<bool, Fault> {
        match timeout(LIMIT, self.input.data()).await.map_err(|_| Fault::Hung)? {
            Some(Ok(part)) => {
                self.unread.extend_from_slice(&part);
                self.input.flow_control().release_capacity(part.len()).map_err(|_| Fault::Lost)?;
                Ok(true)
            }
            // The answer was whole; no more is wanted of us (RFC 9113 section 8.1).
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => Ok(false),
            Some(Err(_)) => Err(Fault::Lost),
            None => Ok(false),
        }
    }

    /// A short frame of a server: its first byte and its payload.
    async fn frame(&mut self) -> Result<(u8, Vec<u8>), Fault> {
        while self.unread.len() < 2 || self.unread.len() < 2 + usize::from(self.unread[1]) {
            if !self.fill().await? {
                return Err(Fault::Lost);
            }
        }
        let rest = self.unread.split_off(2 + usize::from(self.unread[1]));
        let frame = std::mem::replace(&mut self.unread, rest);
        Ok((frame[0], frame[2..].to_vec()))
    }

    /// Nothing more comes; the server ends first (RFC 6455 section 7.1.1).
    async fn rest(&mut self) -> Result<(), Fault> {
        while self.fill().await? {}
        drop(self.output.send_data(Bytes::new(), true));
        if self.unread.is_empty() { Ok(()) } else { Err(Fault::Wrong(format!("behind a Close {:02x?}", self.unread))) }
    }

    /// Answers a Close as RFC 6455 section 5.5.1 wants it.
    async fn closed(&mut self, payload: &[u8]) -> Result<Option<End>, Fault> {
        // Nobody may be left to take it.
        drop(self.send(masked(0x88, &payload[..2])));
        self.rest().await?;
        Ok(Some(End::Close(u16::from_be_bytes([payload[0], payload[1]]))))
    }
}
