//! A call's messages as they come in, within bounds of size. The bound of time is the listener's, beside the caller's
//! own: a body that stalls ends in [`Interrupted::Stalled`].

use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt as _;

use super::format::{Format, Protocol, Shape};
use super::status::{Code, Status};
use crate::net::inbound::InboundError;

/// The largest message, in bytes.
pub const LIMIT: usize = 1024 * 1024;

/// What stands before each message: a byte of flags, four of length.
pub(super) const ENVELOPE: usize = 5;

/// Why a body ends early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interrupted {
    /// It stopped coming.
    Stalled,
    /// It broke off or is badly framed.
    Broken(String),
}

impl From<Infallible> for Interrupted {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<InboundError> for Interrupted {
    fn from(error: InboundError) -> Self {
        match error {
            InboundError::Stalled => Self::Stalled,
            InboundError::Broken(error) => Self::Broken(error.to_string()),
        }
    }
}

impl From<Interrupted> for Status {
    fn from(why: Interrupted) -> Self {
        match why {
            Interrupted::Stalled => Status::new(Code::DeadlineExceeded, "the request stopped coming"),
            Interrupted::Broken(why) => Status::new(Code::Unavailable, format!("the request broke off: {why}")),
        }
    }
}

/// The messages of one request, in order.
#[derive(Debug)]
pub struct Messages<B> {
    body: B,
    format: Format,
    /// Bytes that no message was made of yet.
    held: Bytes,
    /// Of base64, what does not make a whole group yet.
    text: Bytes,
}

impl<B> Messages<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Interrupted>,
{
    /// The messages of `body`.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` when they are compressed; `INVALID_ARGUMENT` for a version of Connect that is not.
    pub fn new(format: Format, headers: &HeaderMap, body: B) -> Result<Self, Status> {
        if let Some(encoding) = headers.get(format.encoding_header())
            && encoding != "identity"
        {
            let text = format!("compression {encoding:?} is not supported, send identity");
            return Err(Status::new(Code::Unimplemented, text));
        }
        let connect = matches!(format.protocol, Protocol::ConnectUnary | Protocol::ConnectStream);
        if connect
            && let Some(version) = headers.get("connect-protocol-version")
            && version != "1"
        {
            let text = format!("connect-protocol-version must be \"1\", and is {version:?}");
            return Err(Status::new(Code::InvalidArgument, text));
        }
        Ok(Self { body, format, held: Bytes::new(), text: Bytes::new() })
    }

    /// The only message of a call that takes one.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` for none or more than one (as gRPC's status codes have it), and those of [`Self::next`].
    pub async fn single(mut self) -> Result<Bytes, Status> {
        if !self.format.enveloped() {
            return self.whole().await;
        }
        let message = self.next().await?;
        let message =
            message.ok_or_else(|| Status::new(Code::Unimplemented, "the call takes one message, and none came"))?;
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(Status::new(Code::Unimplemented, "the call takes one message, and more came")),
        }
    }

    /// The next message of an enveloped format; none when the client is done.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` beyond [`LIMIT`], told from the envelope alone; `INVALID_ARGUMENT` for what is no
    /// envelope or ends within one; `INTERNAL` for a compressed message (nothing was agreed on).
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some((&[flags, a, b, c, d], rest)) = self.held.split_first_chunk::<ENVELOPE>() {
                match flags {
                    0 => {}
                    1 => return Err(Status::new(Code::Internal, "a message is compressed, and no encoding was named")),
                    _ => return Err(Status::new(Code::InvalidArgument, "an envelope has unknown flags")),
                }
                let len = u32::from_be_bytes([a, b, c, d]) as usize;
                if len > LIMIT {
                    return Err(too_large());
                }
                if rest.len() >= len {
                    self.held.advance(ENVELOPE);
                    return Ok(Some(self.held.split_to(len)));
                }
            }
            match self.data().await? {
                Some(data) => self.held = joined(std::mem::take(&mut self.held), data),
                None if self.held.is_empty() && self.text.is_empty() => return Ok(None),
                None => return Err(Status::new(Code::InvalidArgument, "the request ends within a message")),
            }
        }
    }

    async fn whole(mut self) -> Result<Bytes, Status> {
        if self.body.size_hint().lower() > LIMIT as u64 {
            return Err(too_large());
        }
        while let Some(data) = self.data().await? {
            if self.held.len() + data.len() > LIMIT {
                return Err(too_large());
            }
            self.held = joined(self.held, data);
        }
        Ok(self.held)
    }

    /// Some more bytes; none at the end.
    async fn data(&mut self) -> Result<Option<Bytes>, Status> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| Status::from(error.into()))?;
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            if self.format.protocol != Protocol::GrpcWeb(Shape::Text) {
                return Ok(Some(data));
            }
            let mut text = joined(std::mem::take(&mut self.text), data);
            let groups = text.split_to(text.len() / 4 * 4);
            self.text = text;
            let decoded = decode(&groups)
                .ok_or_else(|| Status::new(Code::InvalidArgument, "the request is not base64, as its type says"))?;
            if !decoded.is_empty() {
                return Ok(Some(decoded.into()));
            }
        }
        Ok(None)
    }
}

fn too_large() -> Status {
    Status::new(Code::ResourceExhausted, "the message is larger than 1 MiB")
}

/// Nearly every request comes in one piece, which is not copied.
fn joined(held: Bytes, data: Bytes) -> Bytes {
    if held.is_empty() {
        return data;
    }
    let mut all = held.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    all.extend_from_slice(&data);
    all.freeze()
}

/// Whole groups of base64, padded anywhere: clients encode message after message.
fn decode(groups: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(groups.len() / 4 * 3);
    let mut rest = groups;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'=').map_or(rest.len(), |at| at / 4 * 4 + 4);
        let (padded, after) = rest.split_at_checked(end)?;
        STANDARD.decode_vec(padded, &mut decoded).ok()?;
        rest = after;
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http::header::CONTENT_TYPE;
    use http_body::Frame;

    use super::*;

    /// A body that comes in these pieces.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn messages(content_type: &'static str, size: usize, bytes: &[u8]) -> Messages<Pieces> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
        let format = Format::of(&headers).expect("a content type of ours");
        let pieces = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
        Messages::new(format, &headers, Pieces(pieces)).expect("plain")
    }

    #[tokio::test]
    async fn messages_are_the_same_however_they_are_cut() {
        let bytes = b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x01d";
        // Each message encoded by itself, as clients do.
        let text = [&bytes[..8], &bytes[8..13], &bytes[13..]].map(|part| STANDARD.encode(part)).concat();
        for size in 1..=text.len() {
            for (content_type, bytes) in
                [("application/grpc", &bytes[..]), ("application/grpc-web-text", text.as_bytes())]
            {
                let mut messages = messages(content_type, size, bytes);
                for expected in [&b"abc"[..], b"", b"d"] {
                    assert_eq!(messages.next().await.expect("sound").as_deref(), Some(expected), "{size}");
                }
                assert_eq!(messages.next().await, Ok(None));
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused_by_its_kind() {
        let grpc = "application/grpc";
        for (content_type, bytes, code) in [
            (grpc, &b""[..], Code::Unimplemented),
            (grpc, b"\0\0\0\0\x01a\0\0\0\0\0", Code::Unimplemented),
            (grpc, b"\0\0\0\0", Code::InvalidArgument),
            (grpc, b"\0\0\0\0\x02a", Code::InvalidArgument),
            (grpc, b"\x01\0\0\0\x01a", Code::Internal),
            (grpc, b"\x80\0\0\0\x01a", Code::InvalidArgument),
            (grpc, b"\0\x00\x10\x00\x01", Code::ResourceExhausted),
            ("application/grpc-web-text", b"AAAA", Code::InvalidArgument),
            ("application/grpc-web-text", b"AAAAAAA", Code::InvalidArgument),
            ("application/grpc-web-text", b"A=AA", Code::InvalidArgument),
            ("application/grpc-web-text", b"????", Code::InvalidArgument),
            ("application/json", &vec![b' '; LIMIT + 1], Code::ResourceExhausted),
        ] {
            let read = messages(content_type, 16 * 1024, bytes).single().await;
            assert_eq!(
                read.map_err(|status| status.code),
                Err(code),
                "{content_type} {:?}",
                &bytes[..bytes.len().min(8)]
            );
        }
    }
}
