//! WebSockets and other upgraded connections through the running binary: what passes, and how each of them ends.

use std::time::Duration;

use serde_json::{Value, json};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::app::App;
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::raw::Client;
use crate::support::sdk::{Language, Script};
use crate::support::sidecar::Sidecar;

const LONG: Duration = Duration::from_secs(30);
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
/// Unmasked, as a server's.
const AWAY: &[u8] = b"\x88\x0c\x03\xe9going away";
const SHORT: &str = "drain: { delay: 100ms, quiet: 100ms, deadline: 2s }";

/// The library `websockets`, as app.
async fn python_app(port: &Port) -> Script {
    let mut app = Script::start(Language::Python, "websocket_app", &json!({"port": port.address().port()}));
    app.reaches("listening").await;
    app
}

/// The library `websockets`, as so many clients, which have seen all their messages echoed.
async fn python_clients(sidecar: &Sidecar, clients: u32, habit: &str) -> Script {
    let settings = json!({"url": format!("ws://{}/chat", sidecar.proxy()), "clients": clients, "habit": habit});
    let mut clients = Script::start(Language::Python, "websocket_client", &settings);
    clients.reaches("echoed").await;
    clients
}

fn codes(told: &Value) -> Vec<(u64, String)> {
    let one = |ended: &Value| (ended["code"].as_u64().unwrap_or(0), ended["reason"].as_str().unwrap_or("").to_owned());
    told.as_array().unwrap().iter().map(one).collect()
}

/// An app whose connections the test plays after the upgrade, with a sidecar before it and a tunnel through both.
async fn played(settings: &str) -> (App, Sidecar, Client, TcpStream) {
    let (sender, mut streams) = mpsc::channel(1);
    let app = App::serve(move |mut stream| {
        let sender = sender.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(SWITCHED.as_bytes()).await.unwrap();
            sender.send(stream).await.unwrap();
        }
    })
    .await;
    let sidecar = Sidecar::start(app.address, settings);
    sidecar.ready().await;
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send(UPGRADE).await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 101);
    let stream = streams.recv().await.unwrap();
    (app, sidecar, client, stream)
}

/// Reads a masked Close and returns its payload.
async fn masked_close(app: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 6];
    app.read_exact(&mut head).await.unwrap();
    assert!(head[0] == 0x88 && head[1] & 0x80 != 0, "{head:02x?}");
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    app.read_exact(&mut payload).await.unwrap();
    payload.iter_mut().zip(head[2..].iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    payload
}

async fn ended_by(sidecar: &Sidecar, by: &str) -> f64 {
    sidecar.metric("tidegate_proxy_tunnels_ended_total", &format!("by=\"{by}\"")).await
}

#[tokio::test]
async fn a_websocket_gets_a_close_shortly_before_the_deadline_and_the_drain_is_clean() {
    let port = Port::reserve();
    let mut app = python_app(&port).await;
    let mut sidecar = Sidecar::start(port.address(), "drain: { delay: 100ms, quiet: 100ms, deadline: 4s }");
    sidecar.ready().await;
    let idle = python_clients(&sidecar, 2, "idle").await;
    let busy = python_clients(&sidecar, 3, "busy").await;
    assert_eq!(sidecar.metric("tidegate_in_flight", "kind=\"tunnel\"").await, 5.0);
    assert!(sidecar.metric("tidegate_proxy_tunnel_bytes_total", "direction=\"in\"").await > 5.0 * 300_000.0);
    sidecar.signal("TERM");
    for clients in [idle, busy] {
        for ended in codes(&clients.passes().await) {
            assert_eq!(ended, (1001, "going away".to_owned()));
        }
    }
    let status = sidecar.ended(LONG).await;
    assert!(status.success(), "{:#?}", sidecar.log());
    app.go().await;
    assert_eq!(app.passes().await, json!([1001, 1001, 1001, 1001, 1001]));
}

#[tokio::test]
async fn clients_of_an_app_that_is_killed_are_told_to_come_back() {
    let port = Port::reserve();
    let app = python_app(&port).await;
    let sidecar = Sidecar::start(port.address(), "");
    sidecar.ready().await;
    let clients = python_clients(&sidecar, 3, "idle").await;
    // `kill -9`.
    drop(app);
    for ended in codes(&clients.passes().await) {
        assert_eq!(ended, (1012, "service restart".to_owned()));
    }
    eventually(LONG, "counted", async || ended_by(&sidecar, "broken").await == 3.0).await;
    assert_eq!(sidecar.metric("tidegate_in_flight", "kind=\"tunnel\"").await, 0.0);
}

#[tokio::test]
async fn told_so_websockets_end_when_shedding_begins() {
    let port = Port::reserve();
    let mut app = python_app(&port).await;
    let mut sidecar =
        Sidecar::start(port.address(), "drain: { delay: 100ms, quiet: 100ms, deadline: 600s, tunnels: close }");
    sidecar.ready().await;
    let clients = python_clients(&sidecar, 4, "busy").await;
    sidecar.signal("TERM");
    for ended in codes(&clients.passes().await) {
        assert_eq!(ended, (1001, "going away".to_owned()));
    }
    assert!(sidecar.ended(LONG).await.success());
    app.go().await;
    assert_eq!(app.passes().await, json!([1001, 1001, 1001, 1001]));
}

#[tokio::test]
async fn a_frame_under_way_is_finished_before_the_close() {
    let (_app, mut sidecar, mut client, mut app) = played(SHORT).await;
    app.write_all(b"\x82\x7f\0\0\0\0\0\0\0\x05He").await.unwrap();
    assert_eq!(client.take(12).await.unwrap(), b"\x82\x7f\0\0\0\0\0\0\0\x05He");
    client.send(b"\x01\x83\0\0\0\0Hel").await.unwrap();
    sidecar.signal("TERM");
    let mut fragment = [0; 9];
    app.read_exact(&mut fragment).await.unwrap();
    // Between two fragments of the client's message; and the app's frame goes on only now.
    assert_eq!(masked_close(&mut app).await, b"\x03\xe9going away");
    app.write_all(b"llo\x81\x04late\x88\x02\x03\xe9").await.unwrap();
    assert_eq!(client.take(3 + AWAY.len()).await.unwrap(), [b"llo", AWAY].concat());
    client.send(b"\x80\x82\0\0\0\0lo\x88\x82\0\0\0\0\x03\xe9").await.unwrap();
    assert_eq!(client.rest().await.unwrap(), b"", "closed in order");
    assert_eq!(app.read(&mut [0; 8]).await.unwrap(), 0, "closed in order");
    drop((client, app));
    assert!(sidecar.ended(LONG).await.success());
}

#[tokio::test]
async fn a_client_that_answers_no_close_is_cut_at_the_deadline_and_the_exit_code_says_so() {
    let (_app, mut sidecar, mut client, mut app) = played(SHORT).await;
    sidecar.signal("TERM");
    assert_eq!(masked_close(&mut app).await, b"\x03\xe9going away");
    app.write_all(b"\x88\x02\x03\xe9").await.unwrap();
    assert_eq!(client.take(AWAY.len()).await.unwrap(), AWAY);
    // It sends on, and is closed in order all the same.
    client.send(b"\x81\x80\0\0\0\0").await.unwrap();
    assert_eq!(client.rest().await.unwrap(), b"");
    assert_eq!(sidecar.ended(LONG).await.code(), Some(1));
}

#[tokio::test]
async fn a_close_of_the_clients_own_is_answered_by_the_app_alone() {
    let (_app, mut sidecar, mut client, mut app) = played(SHORT).await;
    client.send(b"\x88\x82\0\0\0\0\x03\xe8").await.unwrap();
    let mut close = [0; 8];
    app.read_exact(&mut close).await.unwrap();
    sidecar.signal("TERM");
    sidecar.logs("phase changed").await;
    eventually(LONG, "shedding", async || sidecar.log().iter().any(|line| line["to"] == "shedding")).await;
    app.write_all(b"\x88\x02\x03\xe8").await.unwrap();
    assert_eq!(client.take(4).await.unwrap(), b"\x88\x02\x03\xe8");
    drop(app);
    assert_eq!(client.rest().await.unwrap(), b"");
    drop(client);
    assert!(sidecar.ended(LONG).await.success());
}

#[tokio::test]
async fn what_is_no_websocket_is_half_closed_at_the_deadline() {
    let app = App::start().await;
    let mut sidecar = Sidecar::start(app.address, SHORT);
    sidecar.ready().await;
    let mut tunnel = Client::connect(sidecar.proxy()).await.unwrap();
    tunnel.send("GET /upgrade HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await.unwrap();
    assert_eq!(tunnel.head().await.unwrap().status, 101);
    sidecar.signal("TERM");
    assert_eq!(tunnel.rest().await.unwrap(), b"", "closed in order");
    drop(tunnel);
    assert!(sidecar.ended(LONG).await.success());
}

#[tokio::test]
async fn a_second_signal_cuts_tunnels() {
    let (_app, mut sidecar, mut client, _stream) = played("drain: { delay: 60s, quiet: 1s, deadline: 120s }").await;
    sidecar.signal("TERM");
    eventually(LONG, "draining", async || sidecar.log().iter().any(|line| line["to"] == "lame_duck")).await;
    sidecar.signal("TERM");
    assert_eq!(sidecar.ended(LONG).await.code(), Some(1));
    assert!(client.take(1).await.is_err());
}

#[tokio::test]
async fn an_app_that_closes_its_side_hears_its_client_to_the_end() {
    let (sender, mut streams) = mpsc::channel(1);
    let app = App::serve(move |mut stream| {
        let sender = sender.clone();
        async move {
            let mut head = [0; 16];
            let _ = stream.read(&mut head).await.unwrap();
            let switched = SWITCHED.replace("websocket", "other");
            // Its first bytes come with the answer itself.
            stream.write_all(format!("{switched}first").as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            sender.send(stream).await.unwrap();
        }
    })
    .await;
    let sidecar = Sidecar::start(app.address, "");
    sidecar.ready().await;
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    // So do the client's.
    client.send(format!("{}early ", UPGRADE.replace("websocket", "other"))).await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 101);
    assert_eq!(client.rest().await.unwrap(), b"first");
    let mut stream = streams.recv().await.unwrap();
    let mut read = String::new();
    for part in ["and ", "long ", "after "] {
        client.send(part).await.unwrap();
        eventually(LONG, "on its way", async || {
            let mut chunk = [0; 512];
            let length = stream.read(&mut chunk).await.unwrap();
            read.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
            read.ends_with(part)
        })
        .await;
    }
    client.finish().await.unwrap();
    stream.read_to_string(&mut read).await.unwrap();
    assert!(read.ends_with("early and long after "), "{read}");
    eventually(LONG, "counted", async || ended_by(&sidecar, "app").await == 1.0).await;
}

#[tokio::test]
async fn an_end_that_vanishes_takes_the_other_with_it() {
    for vanishes in ["client", "app"] {
        let (sender, mut streams) = mpsc::channel(1);
        let app = App::serve(move |mut stream| {
            let sender = sender.clone();
            async move {
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                stream.write_all(SWITCHED.replace("websocket", "other").as_bytes()).await.unwrap();
                sender.send(stream).await.unwrap();
            }
        })
        .await;
        let sidecar = Sidecar::start(app.address, "");
        sidecar.ready().await;
        let mut client = TcpStream::connect(sidecar.proxy()).await.unwrap();
        client.write_all(UPGRADE.replace("websocket", "other").as_bytes()).await.unwrap();
        let mut stream = streams.recv().await.unwrap();
        assert!(client.read(&mut [0; 4096]).await.unwrap() > 0, "the 101");
        let (gone, left) = if vanishes == "client" { (client, &mut stream) } else { (stream, &mut client) };
        SockRef::from(&gone).set_linger(Some(Duration::ZERO)).unwrap();
        drop(gone);
        let read = tokio::time::timeout(LONG, left.read(&mut [0; 8])).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "{vanishes}: {read:?}");
        eventually(LONG, "counted", async || ended_by(&sidecar, "broken").await == 1.0).await;
    }
}

#[tokio::test]
async fn an_idle_tunnel_ends_when_its_time_is_limited() {
    let (_app, sidecar, mut client, mut app) = played("limits: { tunnel_idle: 300ms }").await;
    assert_eq!(client.take(AWAY.len()).await.unwrap(), AWAY);
    assert_eq!(masked_close(&mut app).await, b"\x03\xe9going away");
    client.send(b"\x88\x82\0\0\0\0\x03\xe9").await.unwrap();
    app.write_all(b"\x88\x02\x03\xe9").await.unwrap();
    assert_eq!(client.rest().await.unwrap(), b"");
    drop((client, app));
    eventually(LONG, "counted", async || ended_by(&sidecar, "idle").await == 1.0).await;
}

/// Kilobytes that a process has in memory.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn an_idle_tunnel_that_was_busy_holds_no_buffer() {
    const TUNNELS: usize = 300;
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    sidecar.ready().await;
    let open = async || {
        let mut tunnel = Client::connect(sidecar.proxy()).await.unwrap();
        tunnel.send("GET /upgrade HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await.unwrap();
        assert_eq!(tunnel.head().await.unwrap().status, 101);
        let message = vec![b'x'; 100_000];
        tunnel.send(&message).await.unwrap();
        assert_eq!(tunnel.take(message.len()).await.unwrap(), message);
        tunnel
    };
    let mut tunnels = Vec::new();
    for _ in 0..20 {
        tunnels.push(open().await);
    }
    let before = resident(sidecar.pid());
    for _ in 0..TUNNELS {
        tunnels.push(open().await);
    }
    eventually(LONG, "no more than 10 KB a tunnel", async || {
        resident(sidecar.pid()).saturating_sub(before) < TUNNELS * 10
    })
    .await;
}
