//! Reads a request's body within bounds of size and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;

/// The largest body, in bytes.
pub(super) const LIMIT: usize = 1024 * 1024;

/// How long a body may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the body is larger than 1 MiB")]
    TooLarge,
    #[error("the body did not arrive within 10 s")]
    TooSlow,
    #[error("the body could not be read: {0}")]
    Broken(String),
}

/// The whole body. A body of one frame, which nearly every one is, is not copied.
pub(super) async fn read<B>(body: B) -> Result<Bytes, Error>
where
    B: Body + Unpin,
    B::Error: std::error::Error,
{
    if body.size_hint().lower() > LIMIT as u64 {
        return Err(Error::TooLarge);
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    tokio::time::timeout(TIMEOUT, collect(body)).await.unwrap_or(Err(Error::TooSlow))
}

async fn collect<B>(mut body: B) -> Result<Bytes, Error>
where
    B: Body + Unpin,
    B::Error: std::error::Error,
{
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::Broken(error.to_string()))?;
        let Ok(mut data) = frame.into_data() else { continue };
        let len = bytes::Buf::remaining(&data);
        if first.len() + rest.len() + len > LIMIT {
            return Err(Error::TooLarge);
        }
        // Of `Bytes`, which hyper gives, this shares and does not copy.
        let data = bytes::Buf::copy_to_bytes(&mut data, len);
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}
