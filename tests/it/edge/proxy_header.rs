//! PROXY headers: from load balancers that others wrote, and from whoever makes mistakes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::{start, tls, told};
use crate::support::app::App;
use crate::support::authority::Authority;
use crate::support::eventually;
use crate::support::front::Front;
use crate::support::raw::Client;
use crate::support::sidecar::Sidecar;
use crate::support::tls::Tls;

const LINE: &str = "PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n";
const ECHO: &str = "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n";

/// A header of version 2 with this command, family and rest.
fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, rest].concat()
}

/// Connects from another address of this machine.
async fn connect_from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    socket.connect(address).await.unwrap()
}

async fn headers(sidecar: &Sidecar, result: &str) -> f64 {
    sidecar.metric("tidegate_proxy_protocol_headers_total", &format!("\"{result}\"")).await
}

#[tokio::test]
async fn real_load_balancers_tell_whose_connection_it_is() {
    let app = App::start().await;
    let sidecar = start(app.address, "proxy_protocol: required, proxy_protocol_trusted: [127.0.0.1/32]", "");
    for (name, front) in [
        ("nginx", Front::nginx(sidecar.proxy())),
        ("haproxy, version 1", Front::haproxy(sidecar.proxy(), "send-proxy")),
        ("haproxy, version 2", Front::haproxy(sidecar.proxy(), "send-proxy-v2")),
        ("haproxy, checksum", Front::haproxy(sidecar.proxy(), "send-proxy-v2 proxy-v2-options crc32c,authority")),
    ] {
        let mut client = Client::over(connect_from([127, 0, 0, 9], front.address()).await);
        for _ in 0..2 {
            client.send(ECHO).await.unwrap();
            let answer = client.answer().await.unwrap();
            assert_eq!(told(&answer, "x-forwarded-for"), ["127.0.0.9"], "{name}");
        }
    }
    let checked = Front::haproxy(sidecar.proxy(), "send-proxy-v2 check inter 100ms");
    eventually(Duration::from_secs(20), "its health checks speak for themselves", async || {
        headers(&sidecar, "local").await >= 1.0
    })
    .await;
    drop(checked);
    for wrong in ["malformed", "absent", "wrong_checksum"] {
        assert_eq!(headers(&sidecar, wrong).await, 0.0, "{wrong}");
    }
}

#[tokio::test]
async fn a_header_may_come_in_pieces_and_with_what_follows() {
    let app = App::start().await;
    let sidecar = start(app.address, "proxy_protocol: required", "");
    let address = [203, 0, 113, 9, 192, 0, 2, 1, 0xdc, 0x04, 0x01, 0xbb];
    let long = [&address[..], b"\x04\x0b\xb8", &[0; 3000]].concat();
    for (header, expected) in [
        (LINE.as_bytes().to_vec(), "203.0.113.9"),
        (b"PROXY TCP6 2001:db8::9 ::1 1 2\r\n".to_vec(), "2001:db8::9"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (version_2(0x21, 0x11, &address), "203.0.113.9"),
        (version_2(0x21, 0x11, &long), "203.0.113.9"),
        (version_2(0x20, 0x00, b""), "127.0.0.1"),
        (version_2(0x21, 0x31, &[0; 216]), "127.0.0.1"),
    ] {
        let mut at_once = Client::connect(sidecar.proxy()).await.unwrap();
        at_once.send([&header, ECHO.as_bytes()].concat()).await.unwrap();
        assert_eq!(told(&at_once.answer().await.unwrap(), "x-forwarded-for"), [expected]);
        let mut in_pieces = Client::connect(sidecar.proxy()).await.unwrap();
        for byte in header.iter().take(60) {
            in_pieces.send([*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        in_pieces.send(&header[header.len().min(60)..]).await.unwrap();
        in_pieces.send(ECHO).await.unwrap();
        assert_eq!(told(&in_pieces.answer().await.unwrap(), "x-forwarded-for"), [expected]);
    }
}

#[tokio::test]
async fn connections_without_a_right_header_are_closed_and_counted() {
    let app = App::start().await;
    let sidecar = start(app.address, "proxy_protocol: required", "limits: { header_timeout: 500ms }");
    let address = [203, 0, 113, 9, 192, 0, 2, 1, 0xdc, 0x04, 0x01, 0xbb];
    let checksum = [&address[..], b"\x03\0\x04\0\0\0\0"].concat();
    for (bytes, result) in [
        (ECHO.as_bytes().to_vec(), "absent"),
        (b"\x16\x03\x01\x02\0".to_vec(), "absent"),
        (b"PROXY TCP4 203.0.113.9\r\n".to_vec(), "malformed"),
        ([&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(), "malformed"),
        (version_2(0x31, 0x11, &address), "malformed"),
        (version_2(0x21, 0x11, &[0; 5000]), "malformed"),
        (version_2(0x21, 0x11, &checksum), "wrong_checksum"),
    ] {
        let before = headers(&sidecar, result).await;
        let mut client = Client::connect(sidecar.proxy()).await.unwrap();
        let _ = client.send([&bytes, ECHO.as_bytes()].concat()).await;
        // What was sent behind it may make the kernel reset the connection.
        let rest = client.rest().await.unwrap_or_default();
        assert_eq!(rest, b"", "no answer, which would be one to the load balancer");
        eventually(Duration::from_secs(5), result, async || headers(&sidecar, result).await == before + 1.0).await;
    }
    let (mut silent, mut partial) =
        (Client::connect(sidecar.proxy()).await.unwrap(), Client::connect(sidecar.proxy()).await.unwrap());
    partial.send("PROXY TCP4 203.0").await.unwrap();
    assert_eq!(silent.rest().await.unwrap(), b"");
    assert_eq!(partial.rest().await.unwrap_or_default(), b"");
    eventually(Duration::from_secs(5), "timeout", async || headers(&sidecar, "timeout").await == 2.0).await;
    let mut leaving = Client::connect(sidecar.proxy()).await.unwrap();
    leaving.send("PROXY").await.unwrap();
    drop(leaving);
    eventually(Duration::from_secs(5), "closed", async || headers(&sidecar, "closed").await == 1.0).await;
    assert_eq!(app.accepted(), 0, "nothing of them reaches the app");
    eventually(Duration::from_secs(5), "nothing is held", async || {
        sidecar.metric("tidegate_in_flight", "connection").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn only_the_trusted_may_speak_for_others() {
    let app = App::start().await;
    let sidecar = start(app.address, "proxy_protocol: required, proxy_protocol_trusted: [127.0.0.2, '10.0.0.0/8']", "");
    let mut untrusted = Client::connect(sidecar.proxy()).await.unwrap();
    let _ = untrusted.send([LINE, ECHO].concat()).await;
    assert_eq!(untrusted.rest().await.unwrap_or_default(), b"");
    eventually(Duration::from_secs(5), "untrusted", async || headers(&sidecar, "untrusted").await == 1.0).await;
    let mut trusted = Client::over(connect_from([127, 0, 0, 2], sidecar.proxy()).await);
    trusted.send([LINE, ECHO].concat()).await.unwrap();
    assert_eq!(told(&trusted.answer().await.unwrap(), "x-forwarded-for"), ["203.0.113.9"]);
}

#[tokio::test]
async fn where_it_is_not_required_a_header_is_no_http() {
    let app = App::start().await;
    let sidecar = start(app.address, "proxy_protocol: off", "");
    let mut client = Client::connect(sidecar.proxy()).await.unwrap();
    client.send([LINE, ECHO].concat()).await.unwrap();
    assert!(client.answer().await.unwrap().status >= 400);
    assert_eq!(app.accepted(), 0);
}

#[tokio::test]
async fn tls_begins_behind_the_header() {
    let (app, authority) = (App::start().await, Authority::new());
    let listener = format!("proxy_protocol: required, {}", tls(&authority.issue("server", 2), ""));
    let sidecar = start(app.address, &listener, "");
    let client = Tls::new(&authority, None, &["http/1.1"]);
    let front = Front::haproxy(sidecar.proxy(), "send-proxy-v2");
    let mut through =
        Client::over(client.over(connect_from([127, 0, 0, 9], front.address()).await, "localhost").await.unwrap());
    through.send(ECHO.replace("Host: a", "Host: a\r\nForwarded: for=_x")).await.unwrap();
    let answer = through.answer().await.unwrap();
    assert_eq!(told(&answer, "x-forwarded-for"), ["127.0.0.9"]);
    assert_eq!(told(&answer, "x-forwarded-proto"), ["https"]);
    assert_eq!(told(&answer, "forwarded"), ["for=_x, for=127.0.0.9;proto=https"]);
    let mut stream = TcpStream::connect(sidecar.proxy()).await.unwrap();
    stream.write_all(LINE.as_bytes()).await.unwrap();
    let mut direct = Client::over(client.over(stream, "localhost").await.unwrap());
    assert_eq!(told(&direct.get("/echo").await.unwrap(), "x-forwarded-for"), ["203.0.113.9"]);
    assert!(client.stream(sidecar.proxy(), "localhost").await.is_err(), "TLS without a header is refused");
    eventually(Duration::from_secs(5), "absent", async || headers(&sidecar, "absent").await == 1.0).await;
}
