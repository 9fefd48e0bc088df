//! Clients of HTTP/2: one that writes the frames it is told (RFC 9113) and reads them as they come, and one that
//! behaves.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// No answer of a test takes longer.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// As bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], self.kind, self.flags];
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The code of a RST_STREAM or GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The last stream that a GOAWAY says will be served.
    pub(crate) fn last_stream(&self) -> u32 {
        assert_eq!(self.kind, GOAWAY);
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }

    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The status of an answer, where it is one of those that HPACK has a number for (RFC 7541 appendix A).
    pub(crate) fn status(&self) -> Option<u16> {
        assert_eq!(self.kind, HEADERS);
        // An update of the table's size may come first.
        let field = self.payload.iter().find(|byte| **byte & 0xe0 != 0x20)?;
        Some(match field {
            0x88 => 200,
            0x89 => 204,
            0x8a => 206,
            0x8b => 304,
            0x8c => 400,
            0x8d => 404,
            0x8e => 500,
            _ => return None,
        })
    }
}

/// A head as HPACK literals that are in no table: any bytes, also those that no client would send.
pub(crate) fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    fn text(text: &str, block: &mut Vec<u8>) {
        // RFC 7541 section 5.1: a prefix of seven bits.
        match text.len() {
            length @ ..127 => block.push(length as u8),
            length => {
                block.push(127);
                let mut rest = length - 127;
                while rest >= 128 {
                    block.push((rest % 128 + 128) as u8);
                    rest /= 128;
                }
                block.push(rest as u8);
            }
        }
        block.extend_from_slice(text.as_bytes());
    }
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(name, &mut block);
        text(value, &mut block);
    }
    block
}

/// The head of a GET.
pub(crate) fn get(path: &str) -> Vec<u8> {
    literals(&[(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", path)])
}

/// The head of a POST.
pub(crate) fn post(path: &str) -> Vec<u8> {
    literals(&[(":method", "POST"), (":scheme", "http"), (":authority", "test"), (":path", path)])
}

/// A connection that sends the frames it is told.
pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// Connects, and sends preface and settings.
    pub(crate) async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut wire = Self { stream: TcpStream::connect(address).await.unwrap() };
        wire.stream.set_nodelay(true).unwrap();
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        wire.bytes(&[PREFACE, &Frame::new(SETTINGS, 0, 0, payload).bytes()].concat()).await.unwrap();
        wire
    }

    /// The other end of a connection that was accepted; its preface is read.
    pub(crate) async fn accepted(mut stream: TcpStream) -> Self {
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        let mut wire = Self { stream };
        wire.send(SETTINGS, 0, 0, []).await;
        wire
    }

    /// The head of the next request to this end; settings and pings before it are answered. None when nobody asks any
    /// more.
    pub(crate) async fn request(&mut self) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            match (frame.kind, frame.flags) {
                (HEADERS, _) => return Some(frame),
                (PING, 0) => self.send(PING, ACK, 0, frame.payload).await,
                (SETTINGS, 0) => self.send(SETTINGS, ACK, 0, []).await,
                _ => {}
            }
        }
    }

    /// Answers a request with 200 and this body.
    pub(crate) async fn answer(&mut self, stream: u32, body: &str) {
        self.send(HEADERS, END_HEADERS, stream, [0x88]).await;
        self.send(DATA, END_STREAM, stream, body).await;
    }

    /// Sends bytes as they are.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends a frame.
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) {
        self.bytes(&Frame::new(kind, flags, stream, payload).bytes()).await.unwrap();
    }

    /// The next frame; none at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        timeout(LIMIT, self.read()).await.expect("a frame in time")
    }

    async fn read(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).await.ok()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(header[5..].try_into().unwrap());
        Some(Frame { kind: header[3], flags: header[4], stream, payload })
    }

    /// The next frame of this kind; what comes before it is passed over.
    pub(crate) async fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame =
                self.next().await.unwrap_or_else(|| panic!("the connection ended before a frame of kind {kind}"));
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// All frames until the end of the connection, settings and windows left out.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            if !matches!(frame.kind, SETTINGS | WINDOW_UPDATE) {
                frames.push(frame);
            }
        }
        frames
    }

    /// Frames of one stream until it ends.
    pub(crate) async fn stream(&mut self, stream: u32) -> Vec<Frame> {
        let mut frames: Vec<Frame> = Vec::new();
        while !frames.last().is_some_and(|last| last.ends_stream() || last.kind == RST_STREAM) {
            let frame = self.next().await.unwrap_or_else(|| panic!("ended within stream {stream}: {frames:?}"));
            if frame.stream == stream && frame.kind != WINDOW_UPDATE {
                frames.push(frame);
            }
        }
        frames
    }
}

/// A client that behaves; its connection ends with it.
pub(crate) struct Client {
    pub(crate) sender: SendRequest<Bytes>,
    connection: JoinSet<Result<(), h2::Error>>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Response<()>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers().get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Reads an answer to its end.
    pub(crate) async fn read(response: Response<h2::RecvStream>) -> Result<Self, h2::Error> {
        let (head, mut stream) = response.into_parts();
        let mut body = Vec::new();
        while let Some(part) = stream.data().await {
            let part = part?;
            stream.flow_control().release_capacity(part.len())?;
            body.extend_from_slice(&part);
        }
        let trailers = stream.trailers().await?;
        Ok(Self { head: Response::from_parts(head, ()), body, trailers })
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::with(address, |_| {}).await
    }

    /// With settings of its own.
    pub(crate) async fn with(address: SocketAddr, set: impl FnOnce(&mut h2::client::Builder)) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 22);
        set(&mut builder);
        let (sender, driver) = builder.handshake(stream).await.unwrap();
        let mut connection = JoinSet::new();
        connection.spawn(driver);
        Self { sender, connection }
    }

    /// A request with this method and path.
    pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("http://test{path}"))
    }

    /// Asks, with a body if there is one.
    pub(crate) async fn ask(&self, request: Request<&[u8]>) -> Result<Answer, h2::Error> {
        let (head, body) = request.into_parts();
        let mut sender = self.sender.clone().ready().await?;
        let (answer, mut stream) = sender.send_request(Request::from_parts(head, ()), body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body), true)?;
        }
        timeout(LIMIT, async { Answer::read(answer.await?).await }).await.expect("an answer in time")
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer, h2::Error> {
        self.ask(Self::request("GET", path).body(&b""[..]).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &[u8]) -> Result<Answer, h2::Error> {
        self.ask(Self::request("POST", path).body(body).unwrap()).await
    }

    /// How its connection ends.
    pub(crate) async fn ended(&mut self) -> Result<(), h2::Error> {
        timeout(LIMIT, self.connection.join_next()).await.expect("an end in time").unwrap().unwrap()
    }
}
