//! Plain requests, as probes make them: a GET over HTTP/1.1 that comes in one piece, brings nothing and asks for nothing
//! but an answer that is at hand. They are answered where they are read, without a map of fields and without a buffer for
//! the connection; whatever else comes is left, with all that was read, to who speaks all of HTTP.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use httparse::{Request, Status};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::activity::{Activity, Order};
use super::date;
use super::socket::Socket;

/// A longer head is not plain.
const HEAD: usize = 2048;
/// Nor is one with more fields.
const FIELDS: usize = 16;

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The fields after it. Length, date and `Connection` are added.
    pub fields: &'static [(HeaderName, HeaderValue)],
    /// The body.
    pub body: Bytes,
}

/// Who answers plain requests: it is asked for a target as it stands in the request line, and says `None` to what is none of
/// its. Cheap to clone.
#[derive(Clone)]
pub struct Plain(Arc<Answers>);

type Answers = dyn Fn(&str) -> Option<Answer> + Send + Sync;

/// How a connection of plain requests goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It is closed, or nobody wants it any more.
    Ended,
    /// With something else, which is still to be read.
    Other,
}

/// What came.
enum Came {
    /// Nothing more.
    End,
    Other,
    Plain {
        answer: Vec<u8>,
        closes: bool,
    },
}

impl Plain {
    /// Asks `answer`.
    pub fn new(answer: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static) -> Self {
        Self(Arc::new(answer))
    }

    /// The answer to a plain request for `target`, if it has one.
    pub fn answer(&self, target: &str) -> Option<Answer> {
        (self.0)(target)
    }

    /// Answers plain requests on a connection, for as long as nothing else comes.
    ///
    /// # Errors
    /// The connection broke.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection at once.
    pub(super) async fn serve<I>(&self, socket: &mut Socket<I>, activity: &Activity) -> io::Result<Then>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            let (answer, closes) = match poll_fn(|cx| self.poll_request(cx, socket, activity)).await? {
                Came::Plain { answer, closes } => (answer, closes),
                Came::Other => return Ok(Then::Other),
                Came::End => break,
            };
            let mut left = answer.as_slice();
            let sent = poll_fn(|cx| poll_send(cx, socket, activity, &mut left)).await;
            activity.end();
            if sent?.is_none() {
                return Ok(Then::Ended);
            }
            if closes {
                break;
            }
        }
        if activity.order() != Order::Cut {
            socket.shutdown().await?;
        }
        Ok(Then::Ended)
    }

    fn poll_request<I>(
        &self,
        cx: &mut Context<'_>,
        socket: &mut Socket<I>,
        activity: &Activity,
    ) -> Poll<io::Result<Came>>
    where
        I: AsyncRead + Unpin,
    {
        let mut head = [MaybeUninit::uninit(); HEAD];
        let mut head = ReadBuf::uninit(&mut head);
        let Poll::Ready(read) = Pin::new(&mut *socket).poll_read(cx, &mut head) else {
            activity.attend(cx.waker());
            let is_over = activity.order() != Order::None;
            return if is_over { Poll::Ready(Ok(Came::End)) } else { Poll::Pending };
        };
        read?;
        if head.filled().is_empty() {
            return Poll::Ready(Ok(Came::End));
        }
        let asked = asked(head.filled()).and_then(|(target, closes)| Some((self.answer(target)?, closes)));
        let Some((answer, closes)) = asked else {
            socket.unread(head.filled());
            return Poll::Ready(Ok(Came::Other));
        };
        activity.begin();
        activity.answer();
        let closes = closes || activity.order() != Order::None;
        Poll::Ready(Ok(Came::Plain { answer: written(&answer, closes), closes }))
    }
}

/// Sends what is `left`; `None` when the sweeper wants the connection gone.
fn poll_send<I>(
    cx: &mut Context<'_>,
    socket: &mut Socket<I>,
    activity: &Activity,
    left: &mut &[u8],
) -> Poll<io::Result<Option<()>>>
where
    I: AsyncWrite + AsyncRead + Unpin,
{
    let sent = poll_write_all(cx, socket, left);
    if sent.is_pending() {
        activity.attend(cx.waker());
        if activity.order() == Order::Cut {
            return Poll::Ready(Ok(None));
        }
    }
    sent.map_ok(Some)
}

fn poll_write_all<I>(cx: &mut Context<'_>, socket: &mut Socket<I>, left: &mut &[u8]) -> Poll<io::Result<()>>
where
    I: AsyncWrite + AsyncRead + Unpin,
{
    while !left.is_empty() {
        let written = ready!(Pin::new(&mut *socket).poll_write(cx, left))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        *left = &left[written..];
    }
    // TLS may have kept some of it.
    Pin::new(socket).poll_flush(cx)
}

/// The target of a plain request, and whether its client leaves after the answer; `None` of anything else.
fn asked(head: &[u8]) -> Option<(&str, bool)> {
    let mut fields = [MaybeUninit::uninit(); FIELDS];
    let mut request = Request::new(&mut []);
    // The parser that hyper has: what is malformed is refused there.
    let parsed = request.parse_with_uninit_headers(head, &mut fields);
    // Something behind the head is another request, and a part of one is no head.
    if parsed != Ok(Status::Complete(head.len())) || request.method != Some("GET") || request.version != Some(1) {
        return None;
    }
    let mut closes = false;
    for field in &*request.headers {
        match field.name.len() {
            10 if field.name.eq_ignore_ascii_case("connection") => match field.value {
                value if value.eq_ignore_ascii_case(b"close") => closes = true,
                value if value.eq_ignore_ascii_case(b"keep-alive") => {}
                _ => return None,
            },
            // Of a body, a condition or another protocol.
            6 | 7 | 14 | 17
                if ["expect", "upgrade", "content-length", "transfer-encoding"]
                    .iter()
                    .any(|name| field.name.eq_ignore_ascii_case(name)) =>
            {
                return None;
            }
            _ => {}
        }
    }
    request.path.map(|target| (target, closes))
}

/// The bytes that hyper would make of it.
fn written(answer: &Answer, closes: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(320 + answer.body.len());
    let mut add = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    add(&[b"HTTP/1.1 ", answer.status.as_str().as_bytes(), b" "]);
    add(&[answer.status.canonical_reason().unwrap_or("<none>").as_bytes(), b"\r\n"]);
    add(&[b"content-type: ", answer.content_type.as_bytes(), b"\r\n"]);
    for (name, value) in answer.fields {
        add(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    if closes {
        add(&[b"connection: close\r\n"]);
    }
    add(&[b"content-length: ", itoa::Buffer::new().format(answer.body.len()).as_bytes(), b"\r\n"]);
    date::line(&mut out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&answer.body);
    out
}

#[cfg(test)]
mod tests;
