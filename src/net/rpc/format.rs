//! Which protocol a request speaks and what its messages are written in, told by its content type. Pure.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};

/// How calls travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2: enveloped messages, the status in trailers.
    Grpc,
    /// gRPC-Web: the same with the trailers as a last envelope.
    GrpcWeb(Shape),
    /// Connect, unary: the body is the message, the status is HTTP's.
    ConnectUnary,
    /// Connect, streaming: enveloped messages, the status in a last envelope.
    ConnectStream,
}

/// The form of gRPC-Web's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As they are.
    Binary,
    /// In base64, for clients that can only read text.
    Text,
}

/// What messages are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Protocol buffers.
    Proto,
    /// proto3's JSON mapping.
    Json,
}

/// Both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// How calls travel.
    pub protocol: Protocol,
    /// What messages are written in.
    pub codec: Codec,
    content_type: &'static str,
}

/// Every content type there is; an answer has that of its request.
const FORMATS: [Format; 13] = {
    use Codec::{Json, Proto};
    use Protocol::{ConnectStream, ConnectUnary, Grpc, GrpcWeb};
    use Shape::{Binary, Text};
    const fn format(content_type: &'static str, protocol: Protocol, codec: Codec) -> Format {
        Format { protocol, codec, content_type }
    }
    [
        format("application/grpc", Grpc, Proto),
        format("application/grpc+proto", Grpc, Proto),
        format("application/json", ConnectUnary, Json),
        format("application/proto", ConnectUnary, Proto),
        format("application/connect+json", ConnectStream, Json),
        format("application/connect+proto", ConnectStream, Proto),
        format("application/grpc-web", GrpcWeb(Binary), Proto),
        format("application/grpc-web+proto", GrpcWeb(Binary), Proto),
        format("application/grpc-web-text", GrpcWeb(Text), Proto),
        format("application/grpc-web-text+proto", GrpcWeb(Text), Proto),
        format("application/grpc+json", Grpc, Json),
        format("application/grpc-web+json", GrpcWeb(Binary), Json),
        format("application/grpc-web-text+json", GrpcWeb(Text), Json),
    ]
};

/// What a refused request is told to send: `Accept-Post` (W3C Linked Data Platform 1.0, section 7.1).
pub(super) const ACCEPT_POST: HeaderValue = HeaderValue::from_static(
    "application/grpc, application/grpc+json, application/grpc-web, application/grpc-web+json, \
     application/grpc-web-text, application/proto, application/json, application/connect+proto, \
     application/connect+json",
);

impl Format {
    /// The format of a request with these headers; none when it is of none.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let given = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let name = given.split_once(';').map_or(given, |(name, _)| name).trim_ascii();
        FORMATS.into_iter().find(|format| format.content_type.eq_ignore_ascii_case(name))
    }

    /// Whether each message has five bytes of envelope before it.
    pub fn enveloped(self) -> bool {
        self.protocol != Protocol::ConnectUnary
    }

    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(self.content_type)
    }

    /// The header in which a request tells how its messages are compressed.
    pub(super) fn encoding_header(self) -> &'static HeaderName {
        static GRPC: HeaderName = HeaderName::from_static("grpc-encoding");
        static UNARY: HeaderName = CONTENT_ENCODING;
        static CONNECT: HeaderName = HeaderName::from_static("connect-content-encoding");
        match self.protocol {
            Protocol::Grpc | Protocol::GrpcWeb(_) => &GRPC,
            Protocol::ConnectUnary => &UNARY,
            Protocol::ConnectStream => &CONNECT,
        }
    }
}

/// Whether a request calls itself gRPC, of whatever form: it wants its refusal in gRPC too.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let prefix = b"application/grpc";
    let given = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).and_then(|given| given.get(..prefix.len()));
    given.is_some_and(|given| given.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_tells_protocol_and_codec() {
        let of = |given: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::try_from(given).expect("header text"));
            Format::of(&headers).map(|format| (format.protocol, format.codec))
        };
        for (given, expected) in [
            ("application/grpc", Some((Protocol::Grpc, Codec::Proto))),
            ("Application/gRPC+proto", Some((Protocol::Grpc, Codec::Proto))),
            ("application/json; charset=utf-8", Some((Protocol::ConnectUnary, Codec::Json))),
            ("application/json ;x=1", Some((Protocol::ConnectUnary, Codec::Json))),
            ("application/grpc-web-text+proto", Some((Protocol::GrpcWeb(Shape::Text), Codec::Proto))),
            ("application/connect+json", Some((Protocol::ConnectStream, Codec::Json))),
            ("application/connect", None),
            ("application/grpc+thrift", None),
            ("text/plain", None),
            ("", None),
        ] {
            assert_eq!(of(given), expected, "{given}");
        }
    }
}
