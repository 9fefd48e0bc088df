//! Clients of HTTP/2 with prior knowledge: plain requests, gRPC calls and streams.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::app::work;
use super::load::Habit;
use super::tally::{End, Fault, Tally};

/// Nothing takes longer.
const LIMIT: Duration = Duration::from_secs(30);

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;
/// A connection, until it goes away.
pub(super) type Connection = SendRequest<Body>;

/// What became of a request that was to be sent.
enum Sent {
    Answered(Response<Incoming>),
    /// The connection was going away and says that it did not look at the request (RFC 9113 section 6.8): any client
    /// sends it again on another.
    Untouched,
    Failed(Fault),
}

async fn connect(to: SocketAddr) -> Result<Connection, Fault> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let made = timeout(LIMIT, handshake(TokioExecutor::new(), TokioIo::new(stream))).await.map_err(|_| Fault::Hung)?;
    let (sender, connection) = made.map_err(|_| Fault::Lost)?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn send(connection: &mut Connection, request: Request<Body>) -> Sent {
    if connection.ready().await.is_err() {
        return Sent::Untouched;
    }
    match timeout(LIMIT, connection.send_request(request)).await {
        Err(_) => Sent::Failed(Fault::Hung),
        Ok(Ok(answer)) => Sent::Answered(answer),
        Ok(Err(error)) => {
            let mut told = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                told = format!("{told}: {cause}");
                source = cause.source();
            }
            // GOAWAY without an error and below this stream, REFUSED_STREAM, or never sent.
            let untouched = error.is_canceled()
                || told.contains("not a result of an error")
                || told.contains("refused stream before processing");
            if untouched { Sent::Untouched } else { Sent::Failed(Fault::Lost) }
        }
    }
}

/// One request over the connection there is or a new one; a second time when the first was not looked at.
async fn ask(
    to: SocketAddr,
    kept: &mut Option<Connection>,
    request: impl Fn() -> Request<Body>,
) -> Result<Response<Incoming>, Fault> {
    for _ in 0..5 {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => connect(to).await?,
        };
        match send(&mut connection, request()).await {
            Sent::Answered(answer) => {
                *kept = Some(connection);
                return Ok(answer);
            }
            Sent::Untouched => {}
            Sent::Failed(fault) => return Err(fault),
        }
    }
    Err(Fault::Refused)
}

async fn collect(answer: Response<Incoming>) -> Result<(Bytes, HeaderMap), Fault> {
    match timeout(LIMIT, answer.into_body().collect()).await {
        Err(_) => Err(Fault::Hung),
        Ok(Err(_)) => Err(Fault::Lost),
        Ok(Ok(body)) => {
            let trailers = body.trailers().cloned().unwrap_or_default();
            Ok((body.to_bytes(), trailers))
        }
    }
}

/// A request that is answered at once, late, or with its own body.
pub(super) async fn request(to: SocketAddr, tally: &Tally, kept: &mut Option<Connection>) {
    let name = tally.name();
    let expected = work(&name.to_string());
    let make = || {
        let (path, body) = match name % 8 {
            3 => (format!("/work?name={name}&ms=70"), String::new()),
            5 => ("/echo".to_owned(), expected.clone()),
            _ => (format!("/work?name={name}"), String::new()),
        };
        let method = if body.is_empty() { "GET" } else { "POST" };
        Request::builder().method(method).uri(format!("http://t{path}")).body(Full::from(body).boxed_unsync()).unwrap()
    };
    tally.asked();
    let asked = async {
        let answer = ask(to, kept, make).await?;
        let status = answer.status().as_u16();
        let (body, _) = collect(answer).await?;
        match status {
            200 if body == expected => Ok(()),
            200 => Err(Fault::Wrong(format!("{} of {} bytes", body.len(), expected.len()))),
            status => Err(Fault::Status(status)),
        }
    };
    match asked.await {
        Ok(()) => tally.moved(),
        Err(fault) => tally.failed(fault),
    }
}

fn enveloped(message: &str) -> Bytes {
    [&[0], (message.len() as u32).to_be_bytes().as_slice(), message.as_bytes()].concat().into()
}

fn grpc(body: Body) -> Request<Body> {
    Request::post("http://t/grpc")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

/// The status of an answer that ended in order.
fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// A call with one message each way.
pub(super) async fn call(to: SocketAddr, tally: &Tally, kept: &mut Option<Connection>) {
    let expected = enveloped(&work(&tally.name().to_string()));
    tally.asked();
    let asked = async {
        let answer = ask(to, kept, || grpc(Full::from(expected.clone()).boxed_unsync())).await?;
        if answer.status() != 200 {
            return Err(Fault::Status(answer.status().as_u16()));
        }
        let only = status(answer.headers());
        let (body, trailers) = collect(answer).await?;
        match only.or(status(&trailers)) {
            Some(0) if body == expected => Ok(()),
            Some(0) => Err(Fault::Wrong(format!("{} of {} bytes", body.len(), expected.len()))),
            Some(status) => Err(Fault::Grpc(status)),
            None => Err(Fault::Wrong("no grpc-status".to_owned())),
        }
    };
    match asked.await {
        Ok(()) => tally.moved(),
        Err(fault) => tally.failed(fault),
    }
}

/// A bidirectional stream, to its end.
pub(super) async fn talk(to: SocketAddr, tally: &Tally, habit: Habit) {
    tally.asked();
    let mut talked = 0;
    let told = async {
        let mut kept = None;
        // Of the attempt that is looked at: the last.
        let last = Mutex::new(None);
        let answer = ask(to, &mut kept, || {
            let (sender, receiver) = mpsc::channel::<Bytes>(1);
            *last.lock().unwrap() = Some(sender);
            let messages = stream::unfold(receiver, |mut receiver| async move {
                let message = receiver.recv().await?;
                Some((Ok(Frame::data(message)), receiver))
            });
            grpc(StreamBody::new(messages).boxed_unsync())
        })
        .await?;
        let mut sender = last.lock().unwrap().take();
        if answer.status() != 200 {
            return Err(Fault::Status(answer.status().as_u16()));
        }
        if let Some(status) = status(answer.headers()) {
            return Err(Fault::Grpc(status));
        }
        let mut body = answer.into_body();
        let mut unread = Vec::new();
        loop {
            let expected = enveloped(&format!("message {talked}"));
            if talked == habit.messages() || tally.is_stopped() {
                sender = None;
            }
            if let Some(sender) = &sender
                && sender.send(expected.clone()).await.is_err()
            {
                return Err(Fault::Lost);
            }
            while unread.len() < expected.len() {
                let Some(frame) = timeout(LIMIT, body.frame()).await.map_err(|_| Fault::Hung)? else {
                    return Err(Fault::Wrong("no grpc-status".to_owned()));
                };
                match frame.map_err(|_| Fault::Lost)?.into_data() {
                    Ok(data) => unread.extend_from_slice(&data),
                    Err(other) => {
                        let trailers = other.into_trailers().unwrap_or_default();
                        return match status(&trailers) {
                            Some(0) if sender.is_none() => Ok(()),
                            Some(0) => Err(Fault::Wrong("OK in the middle".to_owned())),
                            Some(status) => Err(Fault::Grpc(status)),
                            None => Err(Fault::Wrong("no grpc-status".to_owned())),
                        };
                    }
                }
            }
            if unread != expected {
                return Err(Fault::Wrong(format!("{unread:02x?}")));
            }
            unread.clear();
            tally.moved();
            talked += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match told.await {
        Ok(()) => {}
        Err(Fault::Lost) if habit == Habit::Endless && talked > 0 => tally.ended(End::Reset),
        Err(Fault::Grpc(status)) if habit == Habit::Endless && talked > 0 => tally.ended(End::Grpc(status)),
        Err(fault) => tally.failed(fault),
    }
}
