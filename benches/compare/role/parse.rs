//! The bare "hello" that first reads and parses a JSON body: what any evaluation over HTTP must pay.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use super::serve::{self, ServeArgs};

/// As long as an OFREP answer of a boolean flag.
const ANSWER: &[u8] =
    b"{\"key\":\"flag-7\",\"value\":true,\"reason\":\"TARGETING_MATCH\",\"variant\":\"on\",\"metadata\":{}}";

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    serve::run(args, |request| async {
        let parsed = match request.into_body().collect().await {
            Ok(body) => serde_json::from_slice::<serde_json::Value>(&body.to_bytes()).is_ok(),
            Err(_) => false,
        };
        let mut response = Response::new(Full::new(Bytes::from_static(ANSWER)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if !parsed {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        Ok(response)
    })
}
