//! The bare "hello" over h2c: a constant gRPC answer to an unread request, the ceiling for anything served by hyper's HTTP/2.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use super::serve::{self, ServeArgs};
use crate::messages;

/// What `frames` is told.
#[derive(clap::Args, Clone)]
pub(super) struct FramesArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// The length of the answer's message.
    #[arg(long)]
    answer_bytes: usize,
}

pub(super) fn run(args: &FramesArgs) -> anyhow::Result<()> {
    let answer = Bytes::from(messages::answer(args.answer_bytes));
    let address = args.serve.listen;
    serve::on_threads(args.serve.threads, serve::EVENT_INTERVAL, move || {
        let answer = answer.clone();
        async move {
            let listener = serve::listener(address)?;
            let mut connections = JoinSet::new();
            loop {
                while connections.try_join_next().is_some() {}
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                stream.set_nodelay(true)?;
                let answer = answer.clone();
                let service = service_fn(move |_: hyper::Request<Incoming>| {
                    let answer = answer.clone();
                    async move { Ok::<_, Infallible>(respond(answer)) }
                });
                let builder = http2::Builder::new(TokioExecutor::new());
                connections.spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        }
    })
}

fn respond(answer: Bytes) -> Response<impl http_body::Body<Data = Bytes, Error = Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Ok(Frame::data(answer)), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(StreamBody::new(stream::iter(frames)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
