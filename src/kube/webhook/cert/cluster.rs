//! The few questions that are asked of an API server, each over a connection of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::net::tls;

/// For one question and its answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const LARGEST: usize = 3 * 1024 * 1024;

/// Where the API server is, and who asks.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// A file with the token of a service account, read for each question: the kubelet renews it.
    pub token: PathBuf,
    /// A file with the authorities (PEM) of the API server.
    pub authority: PathBuf,
}

/// Why a question was not answered as it should.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// Nobody answers.
    #[error("the API server at {0} is not available: {1}")]
    Unavailable(String, String),
    /// Somebody else changed the same thing.
    #[error("{0} was changed by somebody else at the same moment; try again")]
    Conflict(String),
    /// It said no.
    #[error("{what}: {status}: {message}; {remedy}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its code.
        status: u16,
        /// Its words.
        message: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A file here is not what it should be.
    #[error("{0}")]
    Local(String),
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) enum Sent<'a> {
    Nothing,
    Json(&'a Value),
    Patch(&'a Value),
}

impl Cluster {
    /// Asks; the answer, or `None` where there is no such thing.
    pub(super) async fn ask(&self, method: Method, path: &str, sent: Sent<'_>) -> Result<Option<Value>, Failure> {
        let place = self.place();
        let away = |why: String| Failure::Unavailable(place.clone(), why);
        let exchange = self.exchange(&method, path, sent);
        let (status, body) = match timeout(LIMIT, exchange).await {
            Ok(answer) => answer?,
            Err(_) => return Err(away(format!("no answer in {} s", LIMIT.as_secs()))),
        };
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let what = format!("{method} {path}");
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::CONFLICT => Err(Failure::Conflict(what)),
            status if status.is_success() => Ok(Some(answer)),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err(away(status.to_string()))
            }
            status => {
                let message: String =
                    answer["message"].as_str().unwrap_or("no reason given").chars().take(500).collect();
                let remedy = match status {
                    StatusCode::FORBIDDEN => "let its service account do that (deploy/ has the Role)",
                    StatusCode::UNAUTHORIZED => "the token is not believed: mount a service account's",
                    _ => "correct what it names",
                };
                Err(Failure::Refused { what, status: status.as_u16(), message, remedy })
            }
        }
    }

    /// `host:port`, an address of IPv6 in brackets (RFC 3986 section 3.2.2).
    fn place(&self) -> String {
        let host = &self.host;
        if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]:{}", self.port)
        } else {
            format!("{host}:{}", self.port)
        }
    }

    async fn exchange(&self, method: &Method, path: &str, sent: Sent<'_>) -> Result<(StatusCode, Bytes), Failure> {
        let place = self.place();
        let away = |why: &dyn std::fmt::Display| Failure::Unavailable(place.clone(), why.to_string());
        let file = |path: &PathBuf| {
            std::fs::read(path).map_err(|e| Failure::Local(format!("{}: {e}; mount a service account", path.display())))
        };
        let token = String::from_utf8(file(&self.token)?).unwrap_or_default();
        let authority = file(&self.authority)?;
        let config = tls::client_config_from(Some(&authority), None)
            .map_err(|e| Failure::Local(format!("{}: {e}", self.authority.display())))?;
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| Failure::Local(format!("{bare} is no host")))?;
        let stream = TcpStream::connect((bare, self.port)).await.map_err(|e| away(&e))?;
        let stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await.map_err(|e| away(&e))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| away(&e))?;

        let (kind, body) = match sent {
            Sent::Nothing => (None, Bytes::new()),
            Sent::Json(value) => (Some("application/json"), Bytes::from(value.to_string())),
            Sent::Patch(value) => (Some("application/json-patch+json"), Bytes::from(value.to_string())),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &place)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .header(AUTHORIZATION, format!("Bearer {}", token.trim()));
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|_| Failure::Local("the token's file holds what no token is".to_owned()))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| away(&e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST).collect().await.map_err(|e| away(&e))?;
            Ok((status, body.to_bytes()))
        };
        // The connection moves while its answer is waited for, and ends with it.
        tokio::select! {
            biased;
            answered = answer => answered,
            ended = connection => Err(away(&ended.err().map_or_else(|| "it hung up".to_owned(), |e| e.to_string()))),
        }
    }
}
