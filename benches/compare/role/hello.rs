//! The bare "hello": a constant answer, the ceiling for anything served by hyper on this machine.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};

use super::serve::{self, ServeArgs};

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    serve::run(args, |_| async {
        let mut response = Response::new(Full::new(Bytes::from_static(b"{\"status\":\"ready\"}")));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    })
}
