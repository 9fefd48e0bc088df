//! What a client is told when the app's answer cannot be had: a status, a sentence, and `Proxy-Status` (RFC 9209)
//! for whoever debugs it.

use std::io;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use thiserror::Error;

use super::body::{AnswerBody, BodyError};
use super::headers::Refusal;
use super::upstream::Broken;
use super::upstream::decode::Malformed;

pub(super) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Why there is no answer of the app.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// The request must not be passed on.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// Nobody listens where the app should be.
    #[error("the app refuses connections")]
    AppRefuses(#[source] io::Error),
    /// The app took no connection in time.
    #[error("the app did not accept a connection in time")]
    ConnectTimeout,
    /// The app's host name has no address.
    #[error("the app's host name cannot be resolved")]
    Resolve(#[source] io::Error),
    /// Another failure to connect.
    #[error("the app cannot be reached")]
    Connect(#[source] io::Error),
    /// The app closed the connection without an answer.
    #[error("the app closed the connection before it answered")]
    Closed(#[source] Broken),
    /// What the app sent is no HTTP/1.1.
    #[error("the app's answer is not valid HTTP")]
    BadAnswer(#[from] Malformed),
    /// What the app sent is no HTTP/2, or breaks its rules.
    #[error("the app's answer is not valid HTTP/2")]
    NotHttp2(#[source] h2::Error),
    /// The app switched protocols and nobody had asked it to.
    #[error("the app switched protocols unasked")]
    Unasked,
    /// The app began no answer in time.
    #[error("the app did not answer in time")]
    AnswerTimeout,
    /// The client stopped sending its request's body.
    #[error("the request's body did not arrive in time")]
    BodyTimeout,
    /// The request's body is longer than allowed.
    #[error("the request's body is too large")]
    BodyTooLarge,
    /// The request's body broke off or is badly framed.
    #[error("the request's body is malformed or broke off")]
    BadBody,
    /// Too many requests are in flight.
    #[error("too many requests are in flight")]
    Full,
    /// None of those in flight ended in time.
    #[error("too many requests were in flight for too long")]
    QueueTimeout,
    /// Too many requests are held.
    #[error("the app is away, and too many requests wait for it")]
    HoldFull,
    /// The request was held for too long.
    #[error("the app was away for too long")]
    HoldTimeout,
    /// The app has been away for longer than a request is held.
    #[error("the app is away")]
    Away,
    /// The request as a whole took too long.
    #[error("the request took too long")]
    RequestTimeout,
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Malformed(malformed) => Self::BadAnswer(malformed),
            Broken::Http2(error) if error.is_library() => Self::NotHttp2(error),
            Broken::Closed | Broken::Io(_) | Broken::Http2(_) => Self::Closed(broken),
        }
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::BodyTooLarge,
            BodyError::Http1(_) | BodyError::Http2(_) | BodyError::Length(_) => Self::BadBody,
        }
    }
}

impl Failure {
    /// Every kind, for metrics.
    pub(super) const KINDS: [&'static str; 18] = [
        "refused_request",
        "app_refuses",
        "connect_timeout",
        "resolve",
        "connect",
        "closed",
        "bad_answer",
        "unasked_upgrade",
        "answer_timeout",
        "body_timeout",
        "body_too_large",
        "bad_body",
        "full",
        "queue_timeout",
        "hold_full",
        "hold_timeout",
        "away",
        "request_timeout",
    ];

    /// The place in [`Failure::KINDS`].
    pub(super) fn kind(&self) -> usize {
        match self {
            Self::Refused(_) => 0,
            Self::AppRefuses(_) => 1,
            Self::ConnectTimeout => 2,
            Self::Resolve(_) => 3,
            Self::Connect(_) => 4,
            Self::Closed(_) => 5,
            Self::BadAnswer(_) | Self::NotHttp2(_) => 6,
            Self::Unasked => 7,
            Self::AnswerTimeout => 8,
            Self::BodyTimeout => 9,
            Self::BodyTooLarge => 10,
            Self::BadBody => 11,
            Self::Full => 12,
            Self::QueueTimeout => 13,
            Self::HoldFull => 14,
            Self::HoldTimeout => 15,
            Self::Away => 16,
            Self::RequestTimeout => 17,
        }
    }

    /// Whether the app is at fault, so that somebody should look.
    pub(super) fn is_the_apps(&self) -> bool {
        (1..=8).contains(&self.kind()) || matches!(self, Self::HoldTimeout | Self::Away)
    }

    /// The error type of RFC 9209 §2.3.
    pub(super) fn error_type(&self) -> &'static str {
        self.status().1
    }

    /// The status, and the error type of RFC 9209 §2.3.
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Refused(Refusal::Host) | Self::BadBody => (StatusCode::BAD_REQUEST, "http_request_error"),
            Self::Refused(Refusal::Coding) => (StatusCode::NOT_IMPLEMENTED, "http_request_error"),
            Self::Refused(Refusal::Connect) => (StatusCode::METHOD_NOT_ALLOWED, "http_request_denied"),
            Self::AppRefuses(_) => (StatusCode::BAD_GATEWAY, "connection_refused"),
            Self::ConnectTimeout => (StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
            Self::Resolve(_) => (StatusCode::BAD_GATEWAY, "dns_error"),
            Self::Connect(_) => (StatusCode::BAD_GATEWAY, "destination_unavailable"),
            Self::Closed(_) => (StatusCode::BAD_GATEWAY, "connection_terminated"),
            Self::BadAnswer(_) | Self::NotHttp2(_) => (StatusCode::BAD_GATEWAY, "http_protocol_error"),
            Self::Unasked => (StatusCode::BAD_GATEWAY, "http_upgrade_failed"),
            Self::AnswerTimeout => (StatusCode::GATEWAY_TIMEOUT, "http_response_timeout"),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "http_request_error"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "http_request_error"),
            Self::Full | Self::QueueTimeout | Self::HoldFull => {
                (StatusCode::SERVICE_UNAVAILABLE, "connection_limit_reached")
            }
            Self::HoldTimeout | Self::Away => (StatusCode::SERVICE_UNAVAILABLE, "destination_unavailable"),
            Self::RequestTimeout => (StatusCode::GATEWAY_TIMEOUT, "http_response_timeout"),
        }
    }

    /// `Proxy-Status` (RFC 9209).
    pub(super) fn proxy_status(&self) -> HeaderValue {
        let (_, error) = self.status();
        HeaderValue::try_from(format!("tidegate; error={error}")).expect("error types are visible ASCII")
    }

    /// The status of HTTP. While the instance is `leaving`, an app that is gone is no fault but the order of things: 503,
    /// and the client is sent elsewhere.
    pub(super) fn http_status(&self, leaving: bool) -> StatusCode {
        match self.status().0 {
            StatusCode::BAD_GATEWAY if leaving && self.is_the_apps() => StatusCode::SERVICE_UNAVAILABLE,
            status => status,
        }
    }

    /// The answer.
    pub(super) fn answer(&self, leaving: bool) -> Response<AnswerBody> {
        let status = self.http_status(leaving);
        let mut response = Response::new(AnswerBody::Text(Some(Bytes::from(format!("tidegate: {self}\n")))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(PROXY_STATUS, self.proxy_status());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        // After these the rest of the connection cannot be told apart from the rest of the request.
        if leaving || matches!(self, Self::Refused(_) | Self::BodyTimeout | Self::BodyTooLarge | Self::BadBody) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
