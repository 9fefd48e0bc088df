//! Asks an HTTP/1.1 server with a GET over one kept-alive connection.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, HOST, HeaderValue, USER_AGENT};
use hyper::http::Uri;
use hyper_util::rt::TokioIo;

use super::driver::Driver;
use super::tcp::{connect, without_brackets};
use super::{Cause, Failure};

/// The most that is read of an answer's body so that the connection can be used again. Beyond, it is closed.
const BODY_LIMIT: usize = 64 * 1024;

/// The most that hyper buffers of an answer's head.
const HEAD_LIMIT: usize = 64 * 1024;

/// An HTTP server.
#[derive(Debug)]
pub struct Http {
    host: String,
    port: u16,
    target: Uri,
    host_field: HeaderValue,
    status: (u16, u16),
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    sender: SendRequest<Empty<Bytes>>,
    driver: Driver<hyper::Error>,
}

/// How an exchange ended that was not lost on the way.
struct Answer {
    status: u16,
    body_read: bool,
}

impl Http {
    pub(super) fn new(url: &str, host_field: Option<&str>, status: (u16, u16)) -> Result<Self, Failure> {
        let unusable = |why: &str| Failure::new(Cause::Configuration, &format!("\"{url}\" {why}"));
        let uri: Uri = url.parse().map_err(|_| unusable("is not a URL"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| unusable("has no host"))?;
        if uri.scheme_str() != Some("http") {
            return Err(unusable("is not http://"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(Failure::new(Cause::Configuration, "a URL with credentials is not supported"));
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let target = target.parse().map_err(|_| unusable("has no usable path"))?;
        let authority = uri.authority().map_or(host, |authority| authority.as_str());
        let host_field = HeaderValue::from_str(host_field.unwrap_or(authority))
            .map_err(|_| Failure::new(Cause::Configuration, "the Host field has characters that are not allowed"))?;
        let port = uri.port_u16().unwrap_or(80);
        Ok(Self { host: without_brackets(host).to_owned(), port, target, host_field, status, session: None })
    }

    pub(super) async fn attempt(&mut self) -> Result<(), Failure> {
        let request = self.request();
        // A kept-alive connection may have been closed by the server since; a GET may be sent again (RFC 9110 §9.2.2).
        if let Some(session) = &mut self.session {
            match session.exchange(request.clone()).await {
                Ok(answer) => return self.judge(&answer),
                Err(_) => self.session = None,
            }
        }
        let stream = connect(&self.host, self.port).await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_LIMIT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| failure(&e))?;
        let session = self.session.insert(Session { sender, driver: Driver::new(connection) });
        match session.exchange(request).await {
            Ok(answer) => self.judge(&answer),
            Err(e) => {
                self.session = None;
                Err(failure(&e))
            }
        }
    }

    pub(super) fn abandon(&mut self) {
        self.session = None;
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.target.clone();
        let fields = request.headers_mut();
        fields.insert(HOST, self.host_field.clone());
        fields.insert(USER_AGENT, HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION"))));
        fields.insert(ACCEPT, HeaderValue::from_static("*/*"));
        request
    }

    fn judge(&mut self, answer: &Answer) -> Result<(), Failure> {
        if !answer.body_read {
            self.session = None;
        }
        let (lowest, highest) = self.status;
        if (lowest..=highest).contains(&answer.status) {
            return Ok(());
        }
        let expected = if lowest == highest { lowest.to_string() } else { format!("{lowest} to {highest}") };
        Err(Failure::new(Cause::Answer, &format!("status {}, expected {expected}", answer.status)))
    }
}

impl Session {
    async fn exchange(&mut self, request: Request<Empty<Bytes>>) -> Result<Answer, hyper::Error> {
        let Self { sender, driver } = self;
        let exchange = async {
            sender.ready().await?;
            let answer = sender.send_request(request).await?;
            let status = answer.status().as_u16();
            Ok(Answer { status, body_read: read(answer.into_body()).await? })
        };
        driver.during(exchange).await
    }
}

/// Reads a body to its end and throws it away; stops with false beyond the limit.
async fn read(mut body: Incoming) -> Result<bool, hyper::Error> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
        if length > BODY_LIMIT {
            return Ok(false);
        }
    }
    Ok(true)
}

fn failure(error: &hyper::Error) -> Failure {
    if let Some(failure) = Failure::from_sources(error) {
        return failure;
    }
    if error.is_parse() {
        return Failure::new(Cause::Answer, "the answer is not HTTP");
    }
    Failure::new(Cause::Lost, "connection closed by the other side")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_urls_without_credentials_are_taken() {
        let http = Http::new("http://app:3000/healthz?full", None, (200, 399)).expect("legal");
        assert_eq!((http.host.as_str(), http.port, http.target.to_string()), ("app", 3000, "/healthz?full".into()));
        assert_eq!(http.host_field, "app:3000");
        let http = Http::new("http://[::1]", Some("example.org"), (200, 399)).expect("legal");
        assert_eq!((http.host.as_str(), http.port, http.target.to_string()), ("::1", 80, "/".into()));
        assert_eq!(http.host_field, "example.org");
        for (url, host) in [
            ("https://app/", None),
            ("app:3000", None),
            ("/healthz", None),
            ("http://", None),
            ("http://u:s3cret@app/", None),
            ("http://app/", Some("a\nb")),
        ] {
            let Err(failure) = Http::new(url, host, (200, 399)) else { panic!("{url} was accepted") };
            assert_eq!(failure.cause, Cause::Configuration);
            assert!(!failure.to_string().contains("s3cret"), "{failure}");
        }
    }
}
