//! How a call failed: a code with its number in gRPC, its name and HTTP status in Connect, and a sentence.

use std::fmt::Write as _;

use http::StatusCode;

/// What kind of failure, of those in use here
/// (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No more is known.
    Unknown,
    /// The request makes no sense, now or later.
    InvalidArgument,
    /// The client's own time was over.
    DeadlineExceeded,
    /// What was asked for is not there.
    NotFound,
    /// A limit of size or number is reached.
    ResourceExhausted,
    /// Nothing like it is served.
    Unimplemented,
    /// The two sides do not follow the same protocol.
    Internal,
    /// Not now; worth another try.
    Unavailable,
    /// What is stored cannot be read.
    DataLoss,
}

impl Code {
    /// The value of `grpc-status`.
    pub fn number(self) -> u16 {
        match self {
            Code::Unknown => 2,
            Code::InvalidArgument => 3,
            Code::DeadlineExceeded => 4,
            Code::NotFound => 5,
            Code::ResourceExhausted => 8,
            Code::Unimplemented => 12,
            Code::Internal => 13,
            Code::Unavailable => 14,
            Code::DataLoss => 15,
        }
    }

    /// The name in Connect's error JSON (<https://connectrpc.com/docs/protocol#error-codes>).
    pub fn name(self) -> &'static str {
        match self {
            Code::Unknown => "unknown",
            Code::InvalidArgument => "invalid_argument",
            Code::DeadlineExceeded => "deadline_exceeded",
            Code::NotFound => "not_found",
            Code::ResourceExhausted => "resource_exhausted",
            Code::Unimplemented => "unimplemented",
            Code::Internal => "internal",
            Code::Unavailable => "unavailable",
            Code::DataLoss => "data_loss",
        }
    }

    /// The HTTP status of a unary Connect answer, from the same table.
    pub fn http(self) -> StatusCode {
        match self {
            Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct Status {
    /// The kind of failure.
    pub code: Code,
    /// What is wrong, for people.
    pub message: String,
}

impl Status {
    /// A failure of this kind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// `grpc-message`: the text, percent-encoded outside of printable ASCII
    /// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses>).
    pub(super) fn encoded_message(&self) -> String {
        let mut encoded = String::with_capacity(self.message.len());
        for byte in self.message.bytes() {
            match byte {
                b' '..=b'$' | b'&'..=b'~' => encoded.push(char::from(byte)),
                _ => write!(encoded, "%{byte:02X}").expect("a String takes everything"),
            }
        }
        encoded
    }

    /// Connect's error object.
    pub(super) fn json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(64 + self.message.len());
        json.extend_from_slice(b"{\"code\":\"");
        json.extend_from_slice(self.code.name().as_bytes());
        json.extend_from_slice(b"\",\"message\":");
        serde_json::to_writer(&mut json, &self.message).expect("a string always serialises");
        json.push(b'}');
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_header_text_in_grpc_and_json_in_connect() {
        let status = Status::new(Code::NotFound, "flag \"ü\" 100%\n");
        assert_eq!(status.encoded_message(), "flag \"%C3%BC\" 100%25%0A");
        assert_eq!(status.json(), r#"{"code":"not_found","message":"flag \"ü\" 100%\n"}"#.as_bytes());
    }
}
