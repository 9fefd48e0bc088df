//! Answers of calls: one message or a stream of them, and how the call ended, as each protocol has it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Frame, SizeHint};

use super::format::{ACCEPT_POST, Format, Protocol, Shape};
use super::request::ENVELOPE;
use super::status::{Code, Status};

/// Messages of a streaming call, each encoded; a failure is the last item.
pub type Stream = BoxStream<'static, Result<Bytes, Status>>;

/// Larger messages are not copied behind their envelope.
const COPIED: usize = 16 * 1024;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// `grpc-retry-pushback-ms: -1` tells clients not to try again (gRFC A6). flagd's providers retry UNKNOWN by their service
/// configuration, with seconds in between and until their deadline; an evaluation that failed fails again.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Envelopes that are no messages: of trailers in gRPC-Web, of the end in Connect.
const TRAILERS: u8 = 0x80;
const END: u8 = 0x02;

impl Format {
    /// An empty buffer for the one message of an answer, with room for what stands before it.
    pub fn buffer(self) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(256);
        if self.enveloped() {
            buffer.resize(ENVELOPE, 0);
        }
        buffer
    }

    /// The answer to a call that gave one message: a [`Format::buffer`] with the message appended.
    pub fn answer(self, mut buffer: Vec<u8>) -> Response<Body> {
        if self.enveloped() {
            let len = (buffer.len() - ENVELOPE) as u32;
            buffer[1..ENVELOPE].copy_from_slice(&len.to_be_bytes());
        }
        let body = match self.protocol {
            Protocol::ConnectUnary => Body::whole(buffer.into(), None),
            Protocol::Grpc => Body::whole(buffer.into(), Some(trailers(None))),
            Protocol::GrpcWeb(shape) => {
                append_end(self, &mut buffer, None);
                Body::whole(shaped(shape, buffer.into()), None)
            }
            Protocol::ConnectStream => {
                append_end(self, &mut buffer, None);
                Body::whole(buffer.into(), None)
            }
        };
        self.response(StatusCode::OK, self.content_type(), body)
    }

    /// The answer to a call that failed before it gave anything.
    pub fn failure(self, status: &Status) -> Response<Body> {
        match self.protocol {
            Protocol::ConnectUnary => {
                let body = Body::whole(status.json().into(), None);
                self.response(status.code.http(), HeaderValue::from_static("application/json"), body)
            }
            // A single block of headers that also are the trailers ("Trailers-Only").
            Protocol::Grpc => {
                let mut response = self.response(StatusCode::OK, self.content_type(), Body::whole(Bytes::new(), None));
                response.headers_mut().extend(trailers(Some(status)));
                if status.code == Code::Unknown {
                    response.headers_mut().insert(PUSHBACK, HeaderValue::from_static("-1"));
                }
                response
            }
            Protocol::GrpcWeb(_) | Protocol::ConnectStream => {
                let mut end = Vec::new();
                append_end(self, &mut end, Some(status));
                let body = Body::whole(self.shaped(end.into()), None);
                self.response(StatusCode::OK, self.content_type(), body)
            }
        }
    }

    /// The answer to a call that gives a stream. Its end without a failure is success.
    pub fn stream(self, messages: Stream) -> Response<Body> {
        let body = Body(State::Streaming(Box::new(Streaming { format: self, messages, second: None })));
        self.response(StatusCode::OK, self.content_type(), body)
    }

    fn response(self, status: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().reserve(6);
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    }

    fn shaped(self, bytes: Bytes) -> Bytes {
        if let Protocol::GrpcWeb(shape) = self.protocol { shaped(shape, bytes) } else { bytes }
    }
}

/// The answer to a request that is no call: this status alone.
pub fn refusal(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::new(), None));
    *response.status_mut() = status;
    response
}

/// The answer to a request whose content type is of no protocol here.
pub fn unsupported() -> Response<Body> {
    let mut response = refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    response.headers_mut().insert("accept-post", ACCEPT_POST);
    response
}

fn shaped(shape: Shape, bytes: Bytes) -> Bytes {
    match shape {
        Shape::Binary => bytes,
        Shape::Text => STANDARD.encode(bytes).into(),
    }
}

fn trailers(failure: Option<&Status>) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    match failure {
        None => {
            trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
        }
        Some(status) => {
            trailers.insert(GRPC_STATUS, HeaderValue::from(status.code.number()));
            let message = HeaderValue::try_from(status.encoded_message());
            trailers.insert(GRPC_MESSAGE, message.expect("percent-encoded text is header text"));
        }
    }
    trailers
}

/// Appends the envelope that ends an answer of gRPC-Web or of a Connect stream.
fn append_end(format: Format, buffer: &mut Vec<u8>, failure: Option<&Status>) {
    let at = buffer.len();
    if format.protocol == Protocol::ConnectStream {
        buffer.extend_from_slice(&[END, 0, 0, 0, 0]);
        buffer.push(b'{');
        if let Some(status) = failure {
            buffer.extend_from_slice(b"\"error\":");
            buffer.extend_from_slice(&status.json());
        }
        buffer.push(b'}');
    } else {
        buffer.extend_from_slice(&[TRAILERS, 0, 0, 0, 0]);
        for (name, value) in &trailers(failure) {
            buffer.extend_from_slice(name.as_str().as_bytes());
            buffer.push(b':');
            buffer.extend_from_slice(value.as_bytes());
            buffer.extend_from_slice(b"\r\n");
        }
    }
    let len = (buffer.len() - at - ENVELOPE) as u32;
    buffer[at + 1..at + ENVELOPE].copy_from_slice(&len.to_be_bytes());
}

/// An answer's body: whole, or a stream of which no more than one message is held.
pub struct Body(State);

enum State {
    Whole { data: Option<Bytes>, trailers: Option<HeaderMap> },
    Streaming(Box<Streaming>),
}

struct Streaming {
    format: Format,
    messages: Stream,
    /// A large message, behind its envelope.
    second: Option<Bytes>,
}

impl Body {
    fn whole(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self(State::Whole { data: Some(data).filter(|data| !data.is_empty()), trailers })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let streaming = match &mut self.0 {
            State::Whole { data, trailers } => {
                let frame = data.take().map(Frame::data).or_else(|| trailers.take().map(Frame::trailers));
                return Poll::Ready(frame.map(Ok));
            }
            State::Streaming(streaming) => streaming,
        };
        let format = streaming.format;
        if let Some(message) = streaming.second.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        match std::task::ready!(streaming.messages.as_mut().poll_next(cx)) {
            Some(Ok(message)) => {
                let mut envelope = Vec::with_capacity(ENVELOPE + message.len().min(COPIED));
                envelope.push(0);
                envelope.extend_from_slice(&(message.len() as u32).to_be_bytes());
                if message.len() > COPIED && format.protocol != Protocol::GrpcWeb(Shape::Text) {
                    streaming.second = Some(message);
                } else {
                    envelope.extend_from_slice(&message);
                }
                Poll::Ready(Some(Ok(Frame::data(format.shaped(envelope.into())))))
            }
            ended => {
                let failure = ended.and_then(Result::err);
                let (data, trailers) = if format.protocol == Protocol::Grpc {
                    (None, Some(trailers(failure.as_ref())))
                } else {
                    let mut end = Vec::new();
                    append_end(format, &mut end, failure.as_ref());
                    (Some(format.shaped(end.into())), None)
                };
                self.0 = State::Whole { data, trailers };
                self.poll_frame(cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, State::Whole { data: None, trailers: None })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            State::Whole { data, trailers: None } => SizeHint::with_exact(data.as_ref().map_or(0, Bytes::len) as u64),
            // Of what ends with trailers no length is told: hyper would send it as a header, which no gRPC client reads.
            State::Whole { .. } | State::Streaming(_) => SizeHint::default(),
        }
    }
}
