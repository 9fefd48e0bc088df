//! Asks an HTTP/1.1 server with a GET over one kept-alive connection, in the clear, over TLS or a unix socket.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, HOST, HeaderValue, USER_AGENT};
use hyper::http::Uri;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;

use super::answer::Conditions;
use super::driver::Driver;
use super::stream::{self, Place};
use super::tcp::without_brackets;
use super::{Cause, Failure};
use crate::net::tls::client::Trust;
use crate::readiness::settings;

/// The most that is read of an answer's body, so that it can be looked at and the connection used again. Beyond, it is
/// closed.
const BODY_LIMIT: usize = 64 * 1024;

/// The most that hyper buffers of an answer's head.
const HEAD_LIMIT: usize = 64 * 1024;

/// An HTTP server.
#[derive(Debug)]
pub struct Http {
    place: Place,
    trust: Option<Trust>,
    target: Uri,
    host_field: HeaderValue,
    conditions: Conditions,
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
    headers: HeaderMap,
    /// `None` when it is longer than what is read.
    body: Option<Vec<u8>>,
}

/// A URL, taken apart.
pub(super) struct Target {
    pub(super) place: Place,
    /// Whether it asks for TLS.
    pub(super) secure: bool,
    pub(super) authority: String,
    pub(super) path: String,
}

impl Target {
    /// Parses `http://HOST[:PORT]/PATH` or `https://…`.
    pub(super) fn parse(url: &str) -> Result<Self, Failure> {
        let unusable = |why: &str| Failure::new(Cause::Configuration, &format!("\"{url}\" {why}"));
        let uri: Uri = url.parse().map_err(|_| unusable("is not a URL"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| unusable("has no host"))?;
        let (secure, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(unusable("is not http:// or https://")),
        };
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(Failure::new(Cause::Configuration, "a URL with credentials is not supported"));
        }
        Ok(Self {
            place: Place::Tcp(without_brackets(host).to_owned(), uri.port_u16().unwrap_or(port)),
            secure,
            authority: uri.authority().map_or(host, |authority| authority.as_str()).to_owned(),
            path: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        })
    }
}

impl Http {
    pub(super) fn new(settings: &settings::Http) -> Result<Self, Failure> {
        let Target { place, secure, authority, path } = Target::parse(&settings.url)?;
        let trust = secure.then(|| settings.trust.clone());
        Self::at(place, trust, settings.host.as_deref().unwrap_or(&authority), &path, Conditions::of(settings))
    }

    /// The same from its parts.
    pub(super) fn at(
        place: Place,
        trust: Option<Trust>,
        host: &str,
        path: &str,
        conditions: Conditions,
    ) -> Result<Self, Failure> {
        let unusable = |what: &str| Failure::new(Cause::Configuration, what);
        let target = path.parse().map_err(|_| unusable("the path has characters that are not allowed"))?;
        let host_field =
            HeaderValue::from_str(host).map_err(|_| unusable("the Host field has characters that are not allowed"))?;
        Ok(Self { place, trust, target, host_field, conditions, session: None })
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
        let stream = stream::open(&self.place, self.trust.as_ref(), &[b"http/1.1"]).await?;
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
        if answer.body.is_none() {
            self.session = None;
        }
        self.conditions.judge(answer.status, &answer.headers, answer.body.as_deref())
    }
}

impl Session {
    async fn exchange(&mut self, request: Request<Empty<Bytes>>) -> Result<Answer, hyper::Error> {
        let Self { sender, driver } = self;
        let exchange = async {
            sender.ready().await?;
            let (head, body) = sender.send_request(request).await?.into_parts();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: read(body).await? })
        };
        driver.during(exchange).await
    }
}

/// Reads a body to its end; `None` beyond the limit.
async fn read(mut body: Incoming) -> Result<Option<Vec<u8>>, hyper::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        if bytes.len() + data.len() > BODY_LIMIT {
            return Ok(None);
        }
        bytes.extend_from_slice(data);
    }
    Ok(Some(bytes))
}

fn failure(error: &hyper::Error) -> Failure {
    if let Some(failure) = Failure::tls(error).or_else(|| Failure::from_sources(error)) {
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
    fn only_http_urls_without_credentials_are_taken() {
        let check = |url: &str, host: Option<&str>, expected: (&str, u16, &str, &str)| {
            let settings = settings::Http { host: host.map(str::to_owned), ..settings::Http::new(url) };
            let http = Http::new(&settings).expect("legal");
            let (name, port, target, field) = expected;
            assert_eq!(http.place, Place::Tcp(name.to_owned(), port));
            assert_eq!((http.target.to_string().as_str(), http.host_field.as_bytes()), (target, field.as_bytes()));
        };
        check("http://app:3000/healthz?full", None, ("app", 3000, "/healthz?full", "app:3000"));
        check("http://[::1]", Some("example.org"), ("::1", 80, "/", "example.org"));
        check("https://app/x", None, ("app", 443, "/x", "app"));
        for (url, host) in [
            ("ftp://app/", None),
            ("app:3000", None),
            ("/healthz", None),
            ("http://", None),
            ("http://u:s3cret@app/", None),
            ("http://app/", Some("a\nb")),
        ] {
            let settings = settings::Http { host: host.map(str::to_owned), ..settings::Http::new(url) };
            let Err(failure) = Http::new(&settings) else { panic!("{url} was accepted") };
            assert_eq!(failure.cause, Cause::Configuration);
            assert!(!failure.to_string().contains("s3cret"), "{failure}");
        }
    }
}
