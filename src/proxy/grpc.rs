//! How a call of gRPC is told that the app's answer cannot be had: not by a status of HTTP, from which its client would
//! have to guess, but by one of its own in an answer without a body ("Trailers-Only" of its protocol over HTTP/2). Pure.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::body::AnswerBody;
use super::error::Failure;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The content type of a request, if it is a call of gRPC. (gRPC-Web and Connect have HTTP's own statuses.)
pub(super) fn content_type(fields: &HeaderMap) -> Option<HeaderValue> {
    let told = fields.get(CONTENT_TYPE)?;
    let rest = told.as_bytes().strip_prefix(b"application/grpc")?;
    matches!(rest.first(), None | Some(b'+' | b';' | b' ')).then(|| told.clone())
}

/// The answer. The status is 200, because HTTP has done its part.
pub(super) fn answer(failure: &Failure, content_type: HeaderValue) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Text(None::<Bytes>));
    *response.status_mut() = StatusCode::OK;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, content_type);
    fields.insert(GRPC_STATUS, HeaderValue::from(status(failure)));
    // All ASCII, without the characters that would have to be escaped.
    if let Ok(message) = HeaderValue::try_from(format!("tidegate: {failure}")) {
        fields.insert(GRPC_MESSAGE, message);
    }
    fields.insert(super::error::PROXY_STATUS, failure.proxy_status());
    response
}

/// The end of an answer whose app is gone before it ended. Its client would make INTERNAL of a stream that is reset, which
/// means a bug and is not tried again.
pub(super) fn gone() -> HeaderMap {
    HeaderMap::from_iter([
        (GRPC_STATUS, HeaderValue::from(UNAVAILABLE)),
        (GRPC_MESSAGE, HeaderValue::from_static("tidegate: the app is gone")),
    ])
}

const UNAVAILABLE: u16 = 14;

/// A number of <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>. Its clients may send a call again after
/// UNAVAILABLE, and only then.
fn status(failure: &Failure) -> u16 {
    const DEADLINE_EXCEEDED: u16 = 4;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const INTERNAL: u16 = 13;
    match failure {
        Failure::AnswerTimeout | Failure::BodyTimeout | Failure::RequestTimeout => DEADLINE_EXCEEDED,
        Failure::BodyTooLarge => RESOURCE_EXHAUSTED,
        Failure::Refused(_) | Failure::BadAnswer(_) | Failure::NotHttp2(_) | Failure::Unasked | Failure::BadBody => {
            INTERNAL
        }
        Failure::AppRefuses(_)
        | Failure::ConnectTimeout
        | Failure::Resolve(_)
        | Failure::Connect(_)
        | Failure::Closed(_)
        | Failure::Full
        | Failure::QueueTimeout
        | Failure::HoldFull
        | Failure::HoldTimeout
        | Failure::Away => UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_grpc_are_told_from_others() {
        for (told, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
            ("", false),
        ] {
            let fields = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(told))]);
            assert_eq!(content_type(&fields).is_some(), expected, "{told}");
        }
    }

    #[test]
    fn a_failure_is_a_status_of_grpc_in_an_answer_of_200() {
        for (failure, expected) in [
            (Failure::Full, "14"),
            (Failure::AppRefuses(std::io::ErrorKind::ConnectionRefused.into()), "14"),
            (Failure::AnswerTimeout, "4"),
            (Failure::BodyTooLarge, "8"),
            (Failure::Unasked, "13"),
        ] {
            let answer = answer(&failure, HeaderValue::from_static("application/grpc+proto"));
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()["content-type"], "application/grpc+proto");
            assert_eq!(answer.headers()["grpc-status"], expected, "{failure}");
            assert_eq!(answer.headers()["grpc-message"], format!("tidegate: {failure}"));
        }
    }
}
