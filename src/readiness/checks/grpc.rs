//! Asks a gRPC server how a service of its is, by `grpc.health.v1.Health/Check`
//! (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>), over one connection.

use bytes::Bytes;
use h2::client::SendRequest;
use hyper::header::{CONTENT_TYPE, HeaderMap, TE, USER_AGENT};
use hyper::http::Uri;
use hyper::{Method, Request, Version};

use super::driver::Driver;
use super::http::Target;
use super::stream::{self, FirstBytes, Place};
use super::{Cause, Failure};
use crate::net::rpc::wire::{Fields, Wire, put_bytes};
use crate::net::tls::client::Trust;
use crate::readiness::settings;

/// The most that an answer may have.
const LIMIT: usize = 4096;

/// A gRPC server.
#[derive(Debug)]
pub struct Grpc {
    place: Place,
    trust: Option<Trust>,
    method: Uri,
    service: String,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    sender: SendRequest<Bytes>,
    driver: Driver<h2::Error>,
}

/// How a call ended.
struct Ended {
    http: u16,
    /// `grpc-status` and `grpc-message`.
    status: Option<String>,
    message: String,
    body: Vec<u8>,
}

impl Grpc {
    pub(super) fn new(settings: &settings::Grpc) -> Result<Self, Failure> {
        let Target { place, secure, authority, path } = Target::parse(&settings.url)?;
        let unusable = |why: &str| Failure::new(Cause::Configuration, &format!("\"{}\" {why}", settings.url));
        if path != "/" {
            return Err(unusable("has a path, where the health service has its own"));
        }
        let scheme = if secure { "https" } else { "http" };
        let method = format!("{scheme}://{authority}/grpc.health.v1.Health/Check");
        let method = method.parse().map_err(|_| unusable("is not a URL"))?;
        let trust = secure.then(|| settings.trust.clone());
        Ok(Self { place, trust, method, service: settings.service.clone(), session: None })
    }

    pub(super) async fn attempt(&mut self) -> Result<(), Failure> {
        // A connection that was kept may have been closed since; asking how somebody is may be done twice.
        if let Some(session) = &mut self.session {
            match session.call(&self.method, &self.service).await {
                Ok(ended) => return self.judge(&ended),
                Err(_) => self.session = None,
            }
        }
        let stream = stream::open(&self.place, self.trust.as_ref(), &[b"h2"]).await?;
        let first = FirstBytes::default();
        let opened = h2::client::handshake(first.of(stream)).await;
        let (sender, connection) = opened.map_err(|error| failure(&error))?;
        let session = self.session.insert(Session { sender, driver: Driver::new(connection) });
        match session.call(&self.method, &self.service).await {
            Ok(ended) => self.judge(&ended),
            Err(error) => {
                // A server that ends the connection says why to the connection, not to the call.
                let last = session.driver.take_error();
                self.session = None;
                // What comes of an answer in another protocol depends on who closes first.
                match first.are_not_http2() {
                    true => Err(not_http2()),
                    false => Err(failure(last.as_ref().unwrap_or(&error))),
                }
            }
        }
    }

    pub(super) fn abandon(&mut self) {
        self.session = None;
    }

    fn judge(&self, ended: &Ended) -> Result<(), Failure> {
        let of = match self.service.as_str() {
            "" => "the server".to_owned(),
            service => format!("service {service}"),
        };
        let failed = |cause, reason: &str| Err(Failure::new(cause, reason));
        let Some(status) = ended.status.as_deref() else {
            return failed(Cause::Answer, &format!("no gRPC server: status {} of HTTP", ended.http));
        };
        match status {
            "0" => {}
            "5" => return failed(Cause::Answer, &format!("{of} is unknown to the health service")),
            "12" => return failed(Cause::Configuration, "the server has no health service (grpc.health.v1)"),
            "7" | "16" => {
                return failed(Cause::Credentials, &format!("refused: gRPC status {status} {}", ended.message));
            }
            _ => return failed(Cause::Answer, &format!("gRPC status {status} {}", ended.message)),
        }
        match serving(&ended.body) {
            Some(1) => Ok(()),
            Some(2) => failed(Cause::Answer, &format!("{of} is not serving")),
            Some(3) => failed(Cause::Answer, &format!("{of} is unknown to the health service")),
            Some(_) => failed(Cause::Answer, &format!("the health of {of} is unknown")),
            None => failed(Cause::Answer, "the answer is not one of the health service"),
        }
    }
}

/// The status in a `HealthCheckResponse` behind its five bytes of gRPC; left out, it is 0.
fn serving(body: &[u8]) -> Option<u64> {
    let (head, message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if head[0] != 0 || usize::try_from(length) != Ok(message.len()) {
        return None;
    }
    let mut status = 0;
    for field in Fields::of(message) {
        match field.ok()? {
            (1, Wire::Varint(number)) => status = number,
            (1, _) => return None,
            _ => {}
        }
    }
    Some(status)
}

impl Session {
    async fn call(&mut self, method: &Uri, service: &str) -> Result<Ended, h2::Error> {
        let Self { sender, driver } = self;
        let call = async {
            let mut sender = sender.clone().ready().await?;
            let (answer, mut body) = sender.send_request(request(method), false)?;
            body.send_data(message(service), true)?;
            let (head, mut body) = answer.await?.into_parts();
            let mut bytes = Vec::new();
            while let Some(data) = body.data().await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                // What is longer is no answer, and is judged as one that was cut.
                let room = LIMIT.saturating_sub(bytes.len()).min(data.len());
                bytes.extend_from_slice(&data[..room]);
                if bytes.len() == LIMIT {
                    break;
                }
            }
            // An answer without a body has its status in the head.
            let trailers = if head.headers.contains_key("grpc-status") { None } else { body.trailers().await? };
            let last = trailers.as_ref().unwrap_or(&head.headers);
            let text = |name: &str| text(last, name);
            let (status, message) = (text("grpc-status"), text("grpc-message").unwrap_or_default());
            Ok(Ended { http: head.status.as_u16(), status, message, body: bytes })
        };
        driver.during(call).await
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn request(method: &Uri) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = method.clone();
    *request.version_mut() = Version::HTTP_2;
    let fields = request.headers_mut();
    let put = |fields: &mut HeaderMap, name, value| {
        fields.insert(name, hyper::header::HeaderValue::from_static(value));
    };
    put(fields, CONTENT_TYPE, "application/grpc");
    put(fields, TE, "trailers");
    put(fields, USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")));
    request
}

/// A `HealthCheckRequest` behind its five bytes of gRPC.
fn message(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        put_bytes(&mut message, 1, service);
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

fn failure(error: &h2::Error) -> Failure {
    if let Some(error) = error.get_io() {
        return Failure::tls(error).unwrap_or_else(|| Failure::io(error));
    }
    match error.reason() {
        Some(h2::Reason::FRAME_SIZE_ERROR | h2::Reason::PROTOCOL_ERROR) if !error.is_remote() => not_http2(),
        Some(reason) => Failure::new(Cause::Lost, &format!("the server ended the call: {reason:?}")),
        None => Failure::new(Cause::Lost, "connection closed by the other side"),
    }
}

fn not_http2() -> Failure {
    let remedy = "see that the port is that of gRPC, and not of a server of HTTP/1.1 or of TLS (https:// then)";
    Failure::new(Cause::Answer, "the answer is not HTTP/2").advising(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_service_and_an_answer_its_status() {
        assert_eq!(message(""), &b"\0\0\0\0\0"[..]);
        assert_eq!(message("a.B"), &b"\0\0\0\0\x05\x0a\x03a.B"[..]);
        for (body, expected) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], Some(1)),
            (b"\0\0\0\0\0", Some(0)),
            (b"\0\0\0\0\x04\x10\x07\x08\x02", Some(2)),
            (b"\x01\0\0\0\x02\x08\x01", None),
            (b"\0\0\0\0\x03\x08\x01", None),
            (b"\0\0\0\0\x02\x0a\0", None),
            (b"\0\0", None),
        ] {
            assert_eq!(serving(body), expected, "{body:?}");
        }
    }

    #[test]
    fn a_url_has_no_path() {
        let new =
            |url: &str| Grpc::new(&settings::Grpc { url: url.into(), service: String::new(), trust: Trust::default() });
        let grpc = new("https://app:50051").expect("legal");
        assert_eq!(grpc.method, "https://app:50051/grpc.health.v1.Health/Check");
        for url in ["grpc://app:1", "http://app:1/x", "app:1"] {
            assert_eq!(new(url).expect_err(url).cause, Cause::Configuration);
        }
    }
}
