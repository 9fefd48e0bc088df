//! The least that an event stream can be: hyper passing on what Redis publishes to everybody who listens.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::broadcast::{self, Receiver, Sender};

use super::serve::{self, ServeArgs};

/// What `broadcast` is told.
#[derive(clap::Args, Clone)]
pub(super) struct BroadcastArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// Where Redis is.
    #[arg(long)]
    redis: SocketAddr,
    /// What to subscribe to.
    #[arg(long)]
    channel: String,
}

pub(super) fn run(args: &BroadcastArgs) -> anyhow::Result<()> {
    // Once per process, so that every connection may have it.
    let events: &'static Sender<Bytes> = Box::leak(Box::new(Sender::new(16)));
    let client = redis::Client::open(format!("redis://{}", args.redis))?;
    let mut connection = client.get_connection()?;
    let channel = args.channel.clone();
    let follower = std::thread::spawn(move || -> anyhow::Result<()> {
        let mut subscribed = connection.as_pubsub();
        subscribed.subscribe(channel)?;
        loop {
            let text: String = subscribed.get_message()?.get_payload()?;
            // Nobody listening is no failure.
            drop(events.send(Bytes::from(format!("data: {text}\n\n"))));
        }
    });
    serve::run(&args.serve, |_| async {
        let first = Bytes::from_static(b": here they come\n\n");
        let body = StreamBody::new(stream::unfold((Some(first), events.subscribe()), next));
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        Ok(response)
    })?;
    follower.join().ok().context("the follower panicked")?
}

type State = (Option<Bytes>, Receiver<Bytes>);

/// The first bytes, then every event; those that were missed are not missed.
async fn next((first, mut events): State) -> Option<(Result<Frame<Bytes>, Infallible>, State)> {
    if let Some(first) = first {
        return Some((Ok(Frame::data(first)), (None, events)));
    }
    loop {
        match events.recv().await {
            Ok(event) => return Some((Ok(Frame::data(event)), (None, events))),
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}
