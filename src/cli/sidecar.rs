//! Asks the running sidecar over its local socket.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::config::Settings;
use crate::lifecycle::tasks::{OnEnd, Tasks};
use crate::local::settings::Socket;

use super::{EXIT_UNAVAILABLE, complain};

/// A sidecar that does not accept within this is no sidecar.
const CONNECT: Duration = Duration::from_secs(2);
/// More than any answer.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Sends a request and returns the JSON of its answer, waiting for it at most `limit`. What goes wrong has been
/// printed; the error is the exit code.
pub(super) async fn ask(settings: &Settings, method: Method, path: &str, limit: Duration) -> Result<Value, ExitCode> {
    let socket = match &settings.local.socket {
        Socket::Required(socket) | Socket::IfPossible(socket) => socket,
        Socket::None => {
            complain("the configuration has no local.socket; set one to reach the sidecar");
            return Err(ExitCode::from(EXIT_UNAVAILABLE));
        }
    };
    match timeout(limit, exchange(socket, method, path)).await.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
        Ok(answer) => Ok(answer),
        Err(error) => {
            complain(&format!(
                "no sidecar answers on {}: {error}; is one running with the same --config?",
                socket.display()
            ));
            Err(ExitCode::from(EXIT_UNAVAILABLE))
        }
    }
}

async fn exchange(socket: &Path, method: Method, path: &str) -> Result<Value, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let stream = timeout(CONNECT, UnixStream::connect(socket)).await.map_err(|e| text(&e))?.map_err(|e| text(&e))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| text(&e))?;
    let tasks = Tasks::new();
    tasks.spawn("connection to the sidecar", OnEnd::MayEnd, async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to the sidecar ended");
        }
    });
    let request = Request::builder().method(method).uri(path).header(header::HOST, "tidegate");
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| text(&e))?;
    let response = sender.send_request(request).await.map_err(|e| text(&e))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|e| text(&e))?.to_bytes();
    let answer: Value = serde_json::from_slice(&body).map_err(|e| text(&e))?;
    if !status.is_success() {
        return Err(answer["error"].as_str().map_or_else(|| status.to_string(), str::to_owned));
    }
    Ok(answer)
}
