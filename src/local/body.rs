//! Reads a request's body within a bound of size. The bound of time is the listener's: a body that stalls ends in
//! [`InboundError::Stalled`].

use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;

use crate::net::inbound::InboundError;

/// The largest body, in bytes.
pub(super) const LIMIT: usize = 1024 * 1024;

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Beyond the limit.
    #[error("the body is larger than 1 MiB")]
    TooLarge,
    /// It stalled.
    #[error("the body stopped coming")]
    TooSlow,
    /// It broke off or is badly framed.
    #[error("the body could not be read: {0}")]
    Broken(String),
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<InboundError> for Error {
    fn from(error: InboundError) -> Self {
        match error {
            InboundError::Stalled => Self::TooSlow,
            InboundError::Broken(error) => Self::Broken(error.to_string()),
        }
    }
}

/// The whole body. A body of one frame, which nearly every one is, is not copied.
pub(super) async fn read<B>(mut body: B) -> Result<Bytes, Error>
where
    B: Body + Unpin,
    B::Error: Into<Error>,
{
    if body.size_hint().lower() > LIMIT as u64 {
        return Err(Error::TooLarge);
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Into::into)?;
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
