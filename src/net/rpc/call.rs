//! What every method of a service begins with: its caller's deadline and its one message.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use tokio::time::{Instant, timeout_at};

use super::format::Format;
use super::request::{Interrupted, Messages};
use super::status::{Code, Status};

/// When the client's own time is over.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is no time.
pub fn deadline(format: Format, headers: &HeaderMap) -> Result<Option<Instant>, Status> {
    // So long a time that no clock can tell its end is none.
    Ok(super::timeout(format, headers)?.and_then(|timeout| Instant::now().checked_add(timeout)))
}

/// The one message of a request.
///
/// # Errors
/// Those of [`Messages`], and `DEADLINE_EXCEEDED`.
pub async fn message<B>(
    format: Format,
    headers: &HeaderMap,
    body: B,
    deadline: Option<Instant>,
) -> Result<Bytes, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Interrupted>,
{
    let message = Messages::new(format, headers, body)?.single();
    match deadline {
        None => message.await,
        Some(deadline) if deadline <= Instant::now() => Err(late()),
        Some(deadline) => timeout_at(deadline, message).await.unwrap_or_else(|_| Err(late())),
    }
}

fn late() -> Status {
    Status::new(Code::DeadlineExceeded, "the time of the call is over")
}
