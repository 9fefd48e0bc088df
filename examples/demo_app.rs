//! The app behind the sidecar in `make run`: greets, answers slowly, streams, and stops cleanly on SIGTERM.
//!
//! It knows one thing of Tidegate: a URL on localhost that says whether a flag is on.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a demo talks to the terminal it was started from")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

type Body = UnsyncBoxBody<Bytes, Infallible>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A small app to put behind Tidegate.
#[derive(Parser, Clone)]
struct Args {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Where the sidecar answers about flags
    #[arg(long, default_value = "127.0.0.1:8013")]
    sidecar: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let args = Args::parse();
    let listener = TcpListener::bind(args.listen).await?;
    println!("demo app: http://{}", listener.local_addr()?);

    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopping = CancellationToken::new();
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors, most likely: without a pause this would spin.
                        eprintln!("demo app: cannot accept: {error}");
                        sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                };
                let (sidecar, stopping) = (args.sidecar, stopping.clone());
                let service = service_fn(move |request| answer(request, sidecar, stopping.clone()));
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service);
                connections.spawn(graceful.watch(connection));
            }
        }
    }
    println!("demo app: finishing what is under way");
    drop(listener);
    stopping.cancel();
    if timeout(Duration::from_secs(10), graceful.shutdown()).await.is_err() {
        println!("demo app: gave up on {} connections", connections.len());
    }
    Ok(())
}

async fn answer(
    request: Request<Incoming>,
    sidecar: SocketAddr,
    stopping: CancellationToken,
) -> Result<Response<Body>, Infallible> {
    let query = request.uri().query();
    Ok(match request.uri().path() {
        "/" => {
            let user = parameter(query, "user").unwrap_or("stranger");
            if enabled(sidecar, "new-greeting", user).await {
                text(StatusCode::OK, format!("Ahoy, {user}! This is the new greeting.\n"))
            } else {
                text(StatusCode::OK, format!("Hello, {user}.\n"))
            }
        }
        "/slow" => {
            let seconds = parameter(query, "seconds").and_then(|given| given.parse().ok()).unwrap_or(5).min(60);
            sleep(Duration::from_secs(seconds)).await;
            text(StatusCode::OK, format!("That took {seconds} s.\n"))
        }
        "/stream" => stream(stopping),
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        _ => text(StatusCode::NOT_FOUND, "Try /, /slow?seconds=5, /stream or /healthz.\n".to_owned()),
    })
}

/// Whether the sidecar says that `flag` is on for `user`. Off when it does not answer: a flag must not stop the app.
async fn enabled(sidecar: SocketAddr, flag: &str, user: &str) -> bool {
    match timeout(Duration::from_millis(200), ask(sidecar, flag, user)).await {
        Ok(Ok(answer)) => answer == "true",
        Ok(Err(error)) => {
            eprintln!("demo app: no answer about {flag}: {error}");
            false
        }
        Err(_) => {
            eprintln!("demo app: no answer about {flag} within 200 ms");
            false
        }
    }
}

/// `curl http://SIDECAR/v1/flags/FLAG/enabled?targetingKey=USER`; `user` is as it stood in a URL, so still encoded.
async fn ask(sidecar: SocketAddr, flag: &str, user: &str) -> Result<String, BoxError> {
    let request = Request::get(format!("/v1/flags/{flag}/enabled?targetingKey={user}"))
        .header(HOST, sidecar.to_string())
        .body(Empty::<Bytes>::new())?;
    let stream = TcpStream::connect(sidecar).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let asked = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    };
    let ((status, body), ()) = tokio::try_join!(asked, connection)?;
    let body = String::from_utf8(body.to_vec())?;
    if status.is_success() { Ok(body.trim().to_owned()) } else { Err(format!("{status}: {body}").into()) }
}

/// Server-sent events, one a second, until the client or the app goes.
fn stream(stopping: CancellationToken) -> Response<Body> {
    let ticks = futures_util::stream::unfold((1_u64, stopping), |(tick, stopping)| async move {
        tokio::select! {
            () = sleep(Duration::from_secs(1)) => {
                let event = Bytes::from(format!("data: tick {tick}\n\n"));
                Some((Ok::<_, Infallible>(Frame::data(event)), (tick + 1, stopping)))
            }
            () = stopping.cancelled() => None,
        }
    });
    let mut response = Response::new(StreamBody::new(ticks).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/event-stream"));
    response
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *response.status_mut() = status;
    response
}

fn parameter<'q>(query: Option<&'q str>, name: &str) -> Option<&'q str> {
    query?.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}
