//! Heads for an app that speaks HTTP/2, from what the rest of the proxy works with (RFC 9113 section 8.3). Pure.

use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Uri, request};

use crate::proxy::websocket;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Target {
    /// What its path names.
    Resource,
    /// A tunnel of WebSocket (RFC 8441).
    WebSocket,
}

/// A request's head, as HTTP/2 has it. `stand_in` is the authority where the client named none.
pub(super) fn request(head: &request::Parts, target: Target, stand_in: &HeaderValue) -> Option<Request<()>> {
    let mut fields = head.headers.clone();
    let host = fields.remove(HOST).filter(|host| !host.is_empty());
    let authority = Authority::try_from(host.as_ref().unwrap_or(stand_in).as_bytes()).ok()?;
    let trailers = fields.contains_key(TE);
    strip(&mut fields);
    if trailers {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
    if target == Target::WebSocket {
        // RFC 8441 section 5: the stream's own handshake stands for it.
        fields.remove(SEC_WEBSOCKET_KEY);
    }
    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path).build().ok()?;
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *request.method_mut() = head.method.clone();
    if target == Target::WebSocket {
        *request.method_mut() = http::Method::CONNECT;
        request.extensions_mut().insert(h2::ext::Protocol::from_static(websocket::NAME));
    }
    *request.headers_mut() = fields;
    Some(request)
}

/// Removes what is of one connection (RFC 9113 section 8.2.2).
pub(super) fn strip(fields: &mut HeaderMap) {
    const OTHERS: [HeaderName; 2] =
        [HeaderName::from_static("keep-alive"), HeaderName::from_static("proxy-connection")];
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, TE].iter().chain(&OTHERS) {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_becomes_the_authority_and_nothing_of_a_connection_is_left() {
        let (head, ()) = Request::post("/a?b")
            .header("host", "shop.example:81")
            .header("te", "trailers")
            .header("connection", "te")
            .header("transfer-encoding", "chunked")
            .header("x", "1")
            .body(())
            .expect("a request")
            .into_parts();
        let stand_in = HeaderValue::from_static("app:3000");
        let made = request(&head, Target::Resource, &stand_in).expect("an authority");
        assert_eq!(made.uri(), "http://shop.example:81/a?b");
        let fields: Vec<_> = made.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("x", &b"1"[..]), ("te", b"trailers")]);
    }

    #[test]
    fn an_empty_host_is_stood_in_for_and_a_star_stays_one() {
        let (head, ()) = Request::options("*").header("host", "").body(()).expect("a request").into_parts();
        let made = request(&head, Target::Resource, &HeaderValue::from_static("app:3000")).expect("an authority");
        assert_eq!((made.uri().authority().map(Authority::as_str), made.uri().path()), (Some("app:3000"), "*"));
    }
}
