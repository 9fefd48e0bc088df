//! A request's head through the whole path: read from a client, made ready, written for the app, and read as the app
//! reads it. What the app sees is exactly one request, framed as the client's was.

#![no_main]

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use tidegate::net::edge::Peer;
use tidegate::net::tls::settings::ClientAuth;
use tidegate::proxy::downstream::head::{Bounds, Decoder};
use tidegate::proxy::headers::{Hop, prepare_request};
use tidegate::proxy::settings::Forwarded;
use tidegate::proxy::upstream::decode::Framing;
use tidegate::proxy::upstream::encode;

const BOUNDS: Bounds = Bounds { bytes: 4096, fields: 32, target: 1024 };
/// What this hop adds takes room of its own.
const WRITTEN: Bounds = Bounds { bytes: 16 * 4096, fields: 64, target: 2048 };

fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = input.split_first() else { return };
    let mut decoder = Decoder::new(BOUNDS);
    let cut = usize::from(*cut).min(bytes.len());
    let found = match decoder.head(&bytes[..cut]) {
        Ok(None) => decoder.head(bytes),
        early => early,
    };
    let Ok(Some((head, length))) = found else { return };
    assert!(length <= bytes.len());
    let (mut parts, framing) = (head.parts, head.framing);
    let hop = Hop::new(&Peer::plain(([127, 0, 0, 1], 50_000).into()), ClientAuth::None, Forwarded::Append);
    let authority = HeaderValue::from_static("app:3000");
    if prepare_request(&mut parts, &hop, &authority).is_err() {
        return;
    }
    let mut written = Vec::new();
    if encode::head(&parts, &mut written).is_err() {
        return;
    }
    let (app, read) = Decoder::new(WRITTEN).head(&written).expect("well-formed").expect("whole");
    assert_eq!(read, written.len(), "nothing follows the head");
    assert_eq!(app.parts.method, parts.method);
    assert_eq!(app.parts.headers.get_all("host").iter().count(), 1);
    match (framing, app.framing) {
        (Framing::Length(one), Framing::Length(other)) => assert_eq!(one, other),
        (one, other) => assert_eq!(one, other),
    }
});
