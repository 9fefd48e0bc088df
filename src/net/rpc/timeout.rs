//! The time that a client gives a call: `grpc-timeout` and `connect-timeout-ms`. Pure.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::format::{Format, Protocol};
use super::status::{Code, Status};

// Names made once: looked up by text, each is parsed for every call.
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static CONNECT_TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");

/// How long the caller waits; none when it does not say.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is no time.
pub fn timeout(format: Format, headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let (name, read): (&HeaderName, fn(&str) -> Option<Duration>) = match format.protocol {
        Protocol::Grpc | Protocol::GrpcWeb(_) => (&GRPC_TIMEOUT, grpc),
        Protocol::ConnectUnary | Protocol::ConnectStream => (&CONNECT_TIMEOUT, connect),
    };
    let Some(value) = headers.get(name) else { return Ok(None) };
    match value.to_str().ok().and_then(read) {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(Status::new(Code::InvalidArgument, format!("{name} is {value:?}, which is no time"))),
    }
}

/// At most eight digits and a unit (gRPC over HTTP2, Requests, Timeout).
fn grpc(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count = digits_of(digits, 8)?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// At most ten digits of milliseconds (Connect, Unary-Request, Timeout).
fn connect(text: &str) -> Option<Duration> {
    digits_of(text, 10).map(Duration::from_millis)
}

fn digits_of(text: &str, most: usize) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_each_protocol_writes_them() {
        for (text, expected) in [
            ("1S", Some(Duration::from_secs(1))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("250m", Some(Duration::from_millis(250))),
            ("0n", Some(Duration::ZERO)),
            ("7u", Some(Duration::from_micros(7))),
            ("2M", Some(Duration::from_secs(120))),
            ("", None),
            ("S", None),
            ("1", None),
            ("+1S", None),
            ("123456789S", None),
            ("1ü", None),
        ] {
            assert_eq!(grpc(text), expected, "{text}");
        }
        assert_eq!(connect("5000"), Some(Duration::from_secs(5)));
        assert_eq!(connect("10000000000"), None, "eleven digits");
        assert_eq!(connect("5S"), None);
    }
}
