//! Clients of HTTP/1.1: one request a connection, or as many as it takes; event streams; WebSockets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::app::work;
use super::load::Habit;
use super::tally::{End, Fault, Tally};
use crate::support::raw::Client;

/// A connection for each request.
pub(super) async fn fresh(to: SocketAddr, tally: &Tally) {
    let mut client = None;
    request(to, tally, &mut client).await;
}

/// One connection until its answers say that it closes.
pub(super) async fn kept(to: SocketAddr, tally: &Tally, client: &mut Option<Client>) {
    request(to, tally, client).await;
}

/// A request that is answered at once, late, or with its own body.
async fn request(to: SocketAddr, tally: &Tally, kept: &mut Option<Client>) {
    let name = tally.name();
    let expected = work(&name.to_string());
    let request = match name % 8 {
        3 => format!("GET /work?name={name}&ms=70 HTTP/1.1\r\nHost: t\r\n\r\n"),
        5 => format!("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{expected}", expected.len()),
        _ => format!("GET /work?name={name} HTTP/1.1\r\nHost: t\r\n\r\n"),
    };
    tally.asked();
    let asked = async {
        let mut client = match kept.take() {
            Some(client) => client,
            None => Client::connect(to).await?,
        };
        client.send(request).await?;
        let answer = client.answer().await?;
        match answer.status {
            200 if answer.text() == expected => {
                if !answer.closes() {
                    *kept = Some(client);
                }
                Ok(())
            }
            200 => Err(Fault::Wrong(format!("{} of {} bytes", answer.body.len(), expected.len()))),
            status => Err(Fault::Status(status)),
        }
    };
    match asked.await {
        Ok(()) => tally.moved(),
        Err(fault) => tally.failed(fault),
    }
}

/// One stream of server-sent events, to its end.
pub(super) async fn events(to: SocketAddr, tally: &Tally, habit: Habit) {
    tally.asked();
    let count = habit.messages();
    let mut number = 0;
    let told = async {
        let mut client = Client::connect(to).await?;
        client.send(format!("GET /events?count={count} HTTP/1.1\r\nHost: t\r\n\r\n")).await?;
        let head = client.head().await?;
        if head.status != 200 {
            return Err(Fault::Status(head.status));
        }
        let mut unread = String::new();
        loop {
            let chunk = client.chunk().await?;
            if chunk.is_empty() {
                let whole = number == count && unread.is_empty();
                return if whole { Ok(()) } else { Err(Fault::Wrong(format!("ended after {number} of {count}"))) };
            }
            unread.push_str(&String::from_utf8_lossy(&chunk));
            while let Some((event, rest)) = unread.split_once("\n\n") {
                if event != format!("data: {number}") {
                    return Err(Fault::Wrong(event.to_owned()));
                }
                tally.moved();
                number += 1;
                unread = rest.to_owned();
            }
            if habit == Habit::Endless && tally.is_stopped() {
                return Ok(());
            }
        }
    };
    match told.await {
        Ok(()) => {}
        Err(Fault::Lost) if habit == Habit::Endless && number > 0 => tally.ended(End::Cut),
        Err(fault) => tally.failed(fault),
    }
}

/// One WebSocket, to its end.
pub(super) async fn chat(to: SocketAddr, tally: &Tally, habit: Habit) {
    tally.asked();
    let told = async {
        let mut client = Client::connect(to).await?;
        let upgrade = "GET /chat HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        client.send(upgrade).await?;
        let head = client.head().await?;
        if head.status != 101 {
            return Err(Fault::Status(head.status));
        }
        for number in 0..habit.messages() {
            let message = format!("message {number}");
            client.send(masked(0x81, message.as_bytes())).await?;
            match frame(&mut client).await? {
                (0x81, payload) if payload == message.as_bytes() => tally.moved(),
                (0x88, payload) => return closed(client, &payload).await,
                (opcode, payload) => return Err(Fault::Wrong(format!("frame {opcode:#x} {payload:02x?}"))),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            if tally.is_stopped() {
                break;
            }
        }
        client.send(masked(0x88, &1000_u16.to_be_bytes())).await?;
        match frame(&mut client).await? {
            (0x88, payload) if payload == 1000_u16.to_be_bytes() => {
                client.rest().await.map(|_| None).map_err(Fault::from)
            }
            // It was on its way when ours was.
            (0x88, payload) => closed(client, &payload).await,
            (opcode, payload) => Err(Fault::Wrong(format!("frame {opcode:#x} {payload:02x?}"))),
        }
    };
    match told.await {
        Ok(None) => {}
        Ok(Some(end)) => tally.ended(end),
        Err(fault) => tally.failed(fault),
    }
}

/// Answers a Close as RFC 6455 section 5.5.1 wants it; the server closes first (section 7.1.1).
async fn closed(mut client: Client, payload: &[u8]) -> Result<Option<End>, Fault> {
    client.send(masked(0x88, &payload[..2])).await?;
    client.rest().await?;
    Ok(Some(End::Close(u16::from_be_bytes([payload[0], payload[1]]))))
}

/// A short frame of a client.
pub(super) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

/// A short frame of a server: its first byte and its payload.
async fn frame(client: &mut Client) -> io::Result<(u8, Vec<u8>)> {
    let read = async {
        let head = client.take(2).await?;
        let payload = client.take(usize::from(head[1])).await?;
        Ok((head[0], payload))
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.map_err(|_| io::ErrorKind::TimedOut)?
}
