//! The bare "hello" that first reads and parses a JSON body: what any evaluation over HTTP must pay.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use hyper::{Response, StatusCode};

use super::serve::{self, ServeArgs};

/// As long as an OFREP answer of a boolean flag.
const ANSWER: &[u8] =
    b"{\"key\":\"flag-7\",\"value\":true,\"reason\":\"TARGETING_MATCH\",\"variant\":\"on\",\"metadata\":{}}";

/// What `parse` is told.
#[derive(clap::Args, Clone)]
pub(super) struct ParseArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// The length of the answer, if it is not to be that of one flag's.
    #[arg(long)]
    answer_bytes: Option<usize>,
}

pub(super) fn run(args: &ParseArgs) -> anyhow::Result<()> {
    // Once per process, so that an answer of any length is as cheap to give as a constant.
    let answer: &'static [u8] = args.answer_bytes.map_or(ANSWER, |bytes| vec![b'x'; bytes].leak());
    serve::run(&args.serve, move |request| async move {
        let unchanged = request.headers().contains_key(IF_NONE_MATCH);
        let parsed = match request.into_body().collect().await {
            Ok(body) => serde_json::from_slice::<serde_json::Value>(&body.to_bytes()).is_ok(),
            Err(_) => false,
        };
        if unchanged && parsed {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().insert(ETAG, HeaderValue::from_static("\"2c7b6f9d1f0e4b6c8a3d5e7f90123456\""));
            return Ok(response);
        }
        let mut response = Response::new(Full::new(Bytes::from_static(answer)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if !parsed {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        Ok(response)
    })
}
