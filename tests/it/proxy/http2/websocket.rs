//! WebSocket over HTTP/2 (RFC 8441), at either end or at both.

use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::app::App;
use crate::support::eventually;
use crate::support::h2::{
    Client, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire, literals,
};
use crate::support::port::Port;
use crate::support::raw;
use crate::support::sdk::{Language, Script};
use crate::support::sidecar::Sidecar;

const LONG: Duration = Duration::from_secs(20);

/// A text of five letters, unmasked and masked with zeros.
const FROM_APP: &[u8] = b"\x81\x05hello";
const FROM_CLIENT: &[u8] = b"\x81\x85\0\0\0\0hello";

fn open(path: &str, protocol: &'static str) -> Request<()> {
    let request = Request::builder()
        .method("CONNECT")
        .uri(format!("http://shop.example{path}"))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat");
    let mut request = request.body(()).unwrap();
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request
}

/// Asks for a tunnel, on a connection that knows the sidecar's settings by then.
async fn ask(client: &Client, request: Request<()>) -> (Response<RecvStream>, SendStream<Bytes>) {
    let _ = client.get("/").await;
    let (answer, stream) = client.sender.clone().ready().await.unwrap().send_request(request, false).unwrap();
    (tokio::time::timeout(LONG, answer).await.unwrap().unwrap(), stream)
}

async fn read(stream: &mut RecvStream, length: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < length {
        let part = tokio::time::timeout(LONG, stream.data()).await.unwrap().expect("not ended").unwrap();
        stream.flow_control().release_capacity(part.len()).unwrap();
        all.extend_from_slice(&part);
    }
    all
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap_or(b'\n'));
        if head.ends_with(b"\n\n\n\n") {
            return String::new();
        }
    }
    String::from_utf8(head).unwrap()
}

/// An app of HTTP/1.1 that answers requests for `/` with 200 and all others with `answer`, in which KEY stands for what
/// belongs to the key of the request, and echoes frames then.
async fn app(answer: &'static str) -> App {
    App::serve(move |mut stream| async move {
        loop {
            let asked = head(&mut stream).await;
            if asked.is_empty() {
                return;
            }
            if asked.starts_with("GET / ") {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                continue;
            }
            let field =
                |name: &str| asked.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
            assert!(asked.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{asked}");
            assert_eq!((field("host: ").as_str(), field("upgrade: ").as_str()), ("shop.example", "websocket"));
            assert_eq!(
                (field("connection: ").as_str(), field("sec-websocket-protocol: ").as_str()),
                ("upgrade", "chat")
            );
            let accept = accept(&field("sec-websocket-key: "));
            stream.write_all(answer.replace("KEY", &accept).as_bytes()).await.unwrap();
            let mut frame = [0; FROM_CLIENT.len()];
            while stream.read_exact(&mut frame).await.is_ok() {
                assert_eq!(frame, FROM_CLIENT);
                stream.write_all(FROM_APP).await.unwrap();
            }
            return;
        }
    })
    .await
}

fn accept(key: &str) -> String {
    use base64::Engine as _;
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::engine::general_purpose::STANDARD.encode(hash.digest().bytes())
}

#[tokio::test]
async fn a_client_of_http2_has_its_websocket_from_an_app_of_http1() {
    let app = app(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: KEY\r\n\
         Sec-WebSocket-Protocol: chat\r\n\r\n\u{1}\u{0}",
    )
    .await;
    let sidecar = Sidecar::start(app.address, "limits: { send_timeout: 500ms, body_timeout: 500ms }");
    let client = Client::connect(sidecar.proxy()).await;
    let (answer, mut output) = ask(&client, open("/chat?room=1", "websocket")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    for name in ["connection", "upgrade", "sec-websocket-accept"] {
        assert!(!answer.headers().contains_key(name), "{name}");
    }
    let mut input = answer.into_body();
    assert_eq!(read(&mut input, 2).await, b"\x01\x00", "what came with the answer is not lost");
    assert_eq!(sidecar.metric("tidegate_in_flight", "kind=\"tunnel\"").await, 1.0);
    for round in 0..3 {
        output.send_data(Bytes::from_static(FROM_CLIENT), false).unwrap();
        assert_eq!(read(&mut input, FROM_APP.len()).await, FROM_APP);
        assert_eq!(client.get("/").await.unwrap().status(), 200, "other requests of the connection go on");
        if round == 0 {
            // Longer than every limit on requests: none applies to a tunnel.
            tokio::time::sleep(Duration::from_millis(1_700)).await;
        }
    }
    output.send_data(Bytes::new(), true).unwrap();
    eventually(LONG, "it leaves the ledger", async || {
        sidecar.metric("tidegate_in_flight", "kind=\"tunnel\"").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn what_the_app_refuses_is_refused_and_what_it_does_not_agree_to_is_no_tunnel() {
    for (answer, expected) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 502),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 502),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            502,
        ),
    ] {
        let app = app(answer).await;
        let sidecar = Sidecar::start(app.address, "");
        let client = Client::connect(sidecar.proxy()).await;
        let (told, _output) = ask(&client, open("/chat?room=1", "websocket")).await;
        assert_eq!(told.status(), expected, "{answer}");
        assert_eq!(client.get("/").await.unwrap().status(), 200);
        assert_eq!(sidecar.metric("tidegate_in_flight", "kind=\"tunnel\"").await, 0.0);
    }
}

#[tokio::test]
async fn tunnels_of_other_protocols_are_not_served() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let client = Client::connect(sidecar.proxy()).await;
    let (told, _output) = ask(&client, open("/", "connect-udp")).await;
    assert_eq!(told.status(), 501);
    assert_eq!(client.get("/").await.unwrap().status(), 200);
}

/// An app that speaks HTTP/2 and WebSocket over it, or does not: its settings tell.
async fn multiplexed(settings: &'static [u8]) -> App {
    App::serve(move |stream| async move {
        let mut wire = Wire::accepted(stream).await;
        wire.send(SETTINGS, 0, 0, settings).await;
        while let Some(asked) = wire.request().await {
            let stream = asked.stream;
            if asked.ends_stream() {
                wire.answer(stream, "no tunnel").await;
                continue;
            }
            let agreed = [&[0x88][..], &literals(&[("sec-websocket-protocol", "chat")])].concat();
            wire.send(HEADERS, END_HEADERS, stream, agreed).await;
            loop {
                match wire.next().await {
                    Some(Frame { kind: DATA, flags, payload, .. }) => {
                        wire.send(WINDOW_UPDATE, 0, 0, 100_u32.to_be_bytes()).await;
                        if flags & END_STREAM != 0 {
                            wire.send(DATA, END_STREAM, stream, []).await;
                            break;
                        }
                        assert_eq!(payload, FROM_CLIENT);
                        wire.send(DATA, 0, stream, FROM_APP).await;
                    }
                    Some(Frame { kind: RST_STREAM, .. }) => break,
                    Some(_) => {}
                    None => return,
                }
            }
        }
    })
    .await
}

/// SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 section 3).
const TUNNELS: &[u8] = &[0, 8, 0, 0, 0, 1];

fn multiplexing(app: &App) -> Sidecar {
    Sidecar::start_with(&format!("proxy: [{{ listen: '127.0.0.1:0', upstream: 'h2c://{}' }}]", app.address))
}

#[tokio::test]
async fn clients_of_both_protocols_have_their_websockets_from_an_app_of_http2() {
    let app = multiplexed(TUNNELS).await;
    let sidecar = multiplexing(&app);
    let client = Client::connect(sidecar.proxy()).await;
    let (answer, mut output) = ask(&client, open("/chat?room=1", "websocket")).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["sec-websocket-protocol"]),
        (200, &"chat".parse().unwrap())
    );
    let mut input = answer.into_body();
    output.send_data(Bytes::from_static(FROM_CLIENT), false).unwrap();
    assert_eq!(read(&mut input, FROM_APP.len()).await, FROM_APP);
    output.send_data(Bytes::new(), true).unwrap();
    let ended = async { while let Some(Ok(_)) = input.data().await {} };
    tokio::time::timeout(LONG, ended).await.expect("the other direction ends in turn");

    let mut client = raw::Client::connect(sidecar.proxy()).await.unwrap();
    client
        .send(
            "GET /chat HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await
        .unwrap();
    let answer = client.head().await.unwrap();
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")));
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client.send(FROM_CLIENT).await.unwrap();
    assert_eq!(client.take(FROM_APP.len()).await.unwrap(), FROM_APP);
    drop(client);
    eventually(LONG, "both leave the ledger", async || {
        sidecar.metric("tidegate_in_flight", "kind=\"tunnel\"").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn an_app_of_http2_without_tunnels_sees_an_ordinary_request() {
    let app = multiplexed(&[]).await;
    let sidecar = multiplexing(&app);
    let mut client = raw::Client::connect(sidecar.proxy()).await.unwrap();
    client
        .send(
            "GET /chat HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await
        .unwrap();
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "no tunnel"));
    let client = Client::connect(sidecar.proxy()).await;
    let (told, _output) = ask(&client, open("/chat", "websocket")).await;
    assert_eq!(told.status(), 502);
}

/// What an app sends, frame by frame.
struct Frames {
    input: RecvStream,
    unread: Vec<u8>,
}

impl Frames {
    /// The next frame that is no ping; all are short.
    async fn next(&mut self) -> Vec<u8> {
        loop {
            while self.unread.len() < 2 || self.unread.len() < 2 + usize::from(self.unread[1]) {
                let part = read(&mut self.input, 1).await;
                self.unread.extend(part);
            }
            let rest = self.unread.split_off(2 + usize::from(self.unread[1]));
            let frame = std::mem::replace(&mut self.unread, rest);
            if frame[0] != 0x89 {
                return frame;
            }
        }
    }
}

#[tokio::test]
async fn a_websocket_over_http2_gets_its_close_before_the_deadline_of_a_drain() {
    let port = Port::reserve();
    let mut app = Script::start(Language::Python, "websocket_app", &json!({ "port": port.address().port() }));
    app.reaches("listening").await;
    let mut sidecar = Sidecar::start(port.address(), "drain: { delay: 0s, quiet: 200ms, deadline: 6s }");
    let mut client = Client::connect(sidecar.proxy()).await;
    let mut request = open("/", "websocket");
    request.headers_mut().remove("sec-websocket-protocol");
    let (answer, mut output) = ask(&client, request).await;
    assert_eq!(answer.status(), 200);
    let mut frames = Frames { input: answer.into_body(), unread: Vec::new() };
    output.send_data(Bytes::from_static(FROM_CLIENT), false).unwrap();
    assert_eq!(frames.next().await, FROM_APP, "an echo of the websockets library");
    sidecar.signal("TERM");
    let close = frames.next().await;
    assert_eq!((close[0], &close[2..4]), (0x88, &1001_u16.to_be_bytes()[..]));
    output.send_data(Bytes::from_static(b"\x88\x82\0\0\0\0\x03\xe9"), true).unwrap();
    assert!(sidecar.ended(LONG).await.success(), "clean: nothing was cut");
    let _ = client.ended().await;
}
