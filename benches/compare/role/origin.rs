//! The app behind every proxy: it answers at once, so that what is measured is the hop before it; 1 KB, or 1 MB to
//! `/large`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};

use super::serve::{self, ServeArgs};

static BODY: [u8; 1024] = [b'x'; 1024];
static LARGE_BODY: [u8; 1024 * 1024] = [b'x'; 1024 * 1024];

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    serve::run(args, |request| async move {
        let body: &[u8] = if request.uri().path() == "/large" { &LARGE_BODY } else { &BODY };
        let mut response = Response::new(Full::new(Bytes::from_static(body)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    })
}
