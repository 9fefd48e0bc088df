//! The keys by which a client and a server of WebSocket over HTTP/1.1 assure each other that they mean it (RFC 6455
//! section 4). Over HTTP/2 there are none (RFC 8441 section 5): where the two meet, they are ours. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use sha1_smol::Sha1;

/// The protocol's name, in `Upgrade` and in `:protocol`.
pub(super) const NAME: &str = "websocket";

/// Of RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A new `Sec-WebSocket-Key`.
pub(super) fn key() -> HeaderValue {
    let key = STANDARD.encode(fastrand::u128(..).to_be_bytes());
    HeaderValue::try_from(key).expect("base64 is visible ASCII")
}

/// The `Sec-WebSocket-Accept` that belongs to a key.
pub(super) fn accept(key: &HeaderValue) -> HeaderValue {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID);
    HeaderValue::try_from(STANDARD.encode(hash.digest().bytes())).expect("base64 is visible ASCII")
}

/// Whether a request, with an upgrade that is asked for, asks for a WebSocket; then its key.
pub(super) fn asked(fields: &HeaderMap) -> Option<&HeaderValue> {
    fields.get(UPGRADE).filter(|to| to.as_bytes().eq_ignore_ascii_case(NAME.as_bytes()))?;
    fields.get(SEC_WEBSOCKET_KEY)
}

/// Whether an answer's accept is the one that belongs to `key`.
pub(super) fn is_accepted(answer: &HeaderMap, key: &HeaderValue) -> bool {
    let mut told = answer.get_all(SEC_WEBSOCKET_ACCEPT).iter();
    told.next() == Some(&accept(key)) && told.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let accept = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(super::accept(&key), accept);
        let fields = |values: &[HeaderValue]| -> HeaderMap {
            values.iter().map(|value| (SEC_WEBSOCKET_ACCEPT, value.clone())).collect()
        };
        assert!(is_accepted(&fields(std::slice::from_ref(&accept)), &key));
        assert!(!is_accepted(&fields(std::slice::from_ref(&key)), &key));
        assert!(!is_accepted(&fields(&[]), &key));
        assert_eq!(STANDARD.decode(super::key()).expect("base64").len(), 16);
    }
}
