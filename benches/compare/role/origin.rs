//! The app behind every proxy: it answers 1 KB at once, so that what is measured is the hop before it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};

use super::serve::{self, ServeArgs};

static BODY: [u8; 1024] = [b'x'; 1024];

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    serve::run(args, |_| async {
        let mut response = Response::new(Full::new(Bytes::from_static(&BODY)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    })
}
