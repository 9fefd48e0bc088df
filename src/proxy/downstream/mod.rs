//! HTTP/1.1 towards a client: reads its requests one after the other, hands each to the service, and writes the
//! answers. No task, no timer and no buffer of its own for a connection between two requests; limits of time are the
//! sweeper's.

mod answer;
mod body;
mod delivery;
pub mod head;
mod large;
mod switched;
mod wire;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::BytesMut;
use http::{Method, StatusCode, request};

use self::answer::{Asked, Next};
use self::head::{Bad, Bounds, Decoder, Head};
use self::wire::NoHead;
use super::body::Inbound;
use super::lines;
use super::metrics::Counters;
use super::service::{Answer, Client, Service};
use super::tunnel;
use crate::net::activity::{Activity, Order};
use crate::net::edge::Io;
use crate::net::socket::Socket;

pub(super) use self::body::Body;
pub(super) use self::large::LargeParts;
pub(super) use self::wire::{Lost, Wire};

/// One client's connection.
pub(super) struct Connection {
    wire: Wire,
    bounds: Bounds,
    client: Arc<Client>,
    service: Arc<Service>,
    counters: Arc<Counters>,
}

/// A connection that has turned out to be one of HTTP/2.
pub(super) struct Begun {
    pub(super) socket: Socket<Io>,
    /// What was read of it, which begins with the preface; nothing if that was not waited for.
    pub(super) read: BytesMut,
    pub(super) client: Arc<Client>,
    pub(super) service: Arc<Service>,
}

/// What comes next on a connection without a request under way.
enum Coming {
    Request(Head),
    /// What came is refused.
    Bad(Bad),
    /// Something else: the client speaks HTTP/2.
    Http2,
    /// The head took too long.
    Late,
    /// Nothing: the client has closed, or nobody wants the connection any more.
    End,
}

impl Connection {
    /// A connection, with the client that `client` makes of its wire.
    pub(super) fn new(
        socket: Socket<Io>,
        bounds: Bounds,
        client: impl FnOnce(Wire) -> Client,
        service: Arc<Service>,
        counters: Arc<Counters>,
    ) -> Self {
        let wire = Wire::new(socket, bounds);
        let client = Arc::new(client(wire.clone()));
        Self { wire, bounds, client, service, counters }
    }

    fn activity(&self) -> &Activity {
        &self.client.activity
    }

    /// Serves until the client leaves, an order of the sweeper ends the connection, or it breaks.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection at once.
    pub(super) async fn run(self) -> Result<Option<Begun>, Lost> {
        loop {
            self.wire.rest();
            let head = match self.next().await? {
                Coming::Request(head) => head,
                Coming::Bad(bad) => {
                    self.counters.malformed();
                    self.refuse(bad.status(), &bad.to_string()).await?;
                    return self.close().await.map(|()| None);
                }
                Coming::Late => {
                    self.refuse(StatusCode::REQUEST_TIMEOUT, "the request's head did not arrive in time").await?;
                    return self.close().await.map(|()| None);
                }
                Coming::End => return self.close().await.map(|()| None),
                Coming::Http2 => return Ok(self.into_http2()),
            };
            let asked = asked(&head);
            let Some(answer) = self.answer(head.parts, head.lines).await? else { return Ok(None) };
            match answer {
                Answer::Plain(head, body) => {
                    let next = self.deliver(head, body, asked).await?;
                    if next == Next::Close || !self.wire.is_body_read() || self.activity().order() != Order::None {
                        return self.close().await.map(|()| None);
                    }
                }
                Answer::Tunnel(response, app, flight) => {
                    let speaks = tunnel::Speaks::of(response.headers());
                    self.switch(response, asked).await?;
                    if let Some((io, unread)) = self.wire.take() {
                        // In a task of its own: it is no connection any more that may carry a request.
                        let client = switched::Switched::new(io, unread);
                        flight.tasks().spawn_connection(tunnel::join(client, app, speaks, flight));
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// The connection, to be spoken HTTP/2 over.
    pub(super) fn into_http2(self) -> Option<Begun> {
        let (socket, read) = self.wire.take_socket()?;
        Some(Begun { socket, read, client: self.client, service: self.service })
    }

    async fn next(&self) -> Result<Coming, Lost> {
        let mut decoder = Decoder::in_form(self.bounds, self.service.form());
        poll_fn(|cx| {
            let head = self.wire.poll_head(cx, &mut decoder);
            self.activity().attend(cx.waker());
            Poll::Ready(match head {
                Poll::Ready(Ok(Some(head))) => Ok(Coming::Request(head)),
                Poll::Ready(Ok(None)) => Ok(Coming::End),
                Poll::Ready(Err(NoHead::Bad(bad))) => Ok(Coming::Bad(bad)),
                Poll::Ready(Err(NoHead::Lost(lost))) => Err(lost),
                Poll::Ready(Err(NoHead::Http2)) => Ok(Coming::Http2),
                Poll::Pending => match self.activity().order() {
                    Order::Cut if !self.wire.is_silent() => Ok(Coming::Late),
                    Order::Cut => Ok(Coming::End),
                    // A head that has begun to come is waited for.
                    Order::Close if self.wire.is_silent() => Ok(Coming::End),
                    Order::None | Order::Close => return Poll::Pending,
                },
            })
        })
        .await
    }

    /// The service's answer; `None` when the client is not there to have it.
    async fn answer(&self, head: Box<request::Parts>, lines: Option<lines::Request>) -> Result<Option<Answer>, Lost> {
        let body = Inbound::Http1(Body::new(self.wire.clone()));
        // Boxed: a connection between two requests is many times smaller than a request.
        let mut answer = Box::pin(self.service.clone().handle(self.client.clone(), head, lines, body));
        poll_fn(|cx| {
            self.activity().attend(cx.waker());
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(Some(answer)));
            }
            let gone = match self.activity().is_held() {
                true => self.wire.poll_gone_held(cx),
                false => self.wire.poll_gone(cx),
            };
            if self.activity().order() == Order::Cut || gone.is_ready() {
                return Poll::Ready(Ok(None));
            }
            match self.wire.poll_interim(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                _ => Poll::Pending,
            }
        })
        .await
    }

    async fn close(&self) -> Result<(), Lost> {
        poll_fn(|cx| {
            self.activity().attend(cx.waker());
            self.wire.poll_close(cx)
        })
        .await?;
        Ok(())
    }
}

fn asked(head: &Head) -> Asked {
    Asked {
        version: head.parts.version,
        head: head.parts.method == Method::HEAD,
        trailers: head.trailers,
        keeps: head.keeps,
    }
}
