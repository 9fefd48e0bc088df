//! What ends a whole connection of HTTP/2 and not one request alone: what nobody sends but who looks for a gap.

use crate::support::app::App;
use crate::support::eventually;
use crate::support::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PROTOCOL_ERROR, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, Wire, get, literals,
};
use crate::support::sidecar::Sidecar;

const HEAD: u8 = END_HEADERS | END_STREAM;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;

/// How the connection of a client that sends this ends; it has a request under way.
async fn goaway(sidecar: &Sidecar, what: &str, sent: &[Frame]) -> u32 {
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    wire.send(HEADERS, HEAD, 1, get("/slow?ms=60000")).await;
    let sent: Vec<u8> = sent.iter().flat_map(Frame::bytes).collect();
    // It may be cut off before it has sent all.
    drop(wire.bytes(&sent).await);
    let frames = wire.rest().await;
    let last = frames.last().unwrap_or_else(|| panic!("{what}: not told why"));
    assert!(frames.iter().all(|frame| frame.kind != HEADERS), "{what}: {frames:?}");
    assert_eq!(last.kind, GOAWAY, "{what}: {frames:?}");
    assert!(last.last_stream() >= 1, "{what}: the request under way was looked at");
    last.code()
}

/// Its block is decoded no further, so that the table that all later heads refer to is lost (RFC 7541 section 2.2).
/// RFC 9113 section 5.4.1 lets any stream error be one of the connection.
#[tokio::test]
async fn heads_that_cannot_be_decoded_end_the_connection() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let names = ["X-Upper", "x\r\ny", "x y", "x:y", "", ":unknown"].map(|name| (name, "1"));
    let values = ["a\r\nHost: evil", "a\0b", "a\nb", "a\u{7f}b"].map(|value| ("x", value));
    let pseudo = [(":method", "G ET"), (":method", ""), (":status", "abc")];
    let mut ended = 0.0;
    for field in names.into_iter().chain(values).chain(pseudo) {
        let head = Frame::new(HEADERS, HEAD, 3, [get("/"), literals(&[field])].concat());
        assert_eq!(goaway(&sidecar, &format!("{field:?}"), &[head]).await, PROTOCOL_ERROR, "{field:?}");
        ended += 1.0;
    }
    // No UTF-8.
    for at in [b"/", b"t"] {
        let mut block = literals(&[(":method", "GET"), (":scheme", "http"), (":authority", "t"), (":path", "/")]);
        let byte = block.iter().rposition(|byte| *byte == at[0]).unwrap();
        block[byte] = 0xff;
        assert_eq!(goaway(&sidecar, "no UTF-8", &[Frame::new(HEADERS, HEAD, 3, block)]).await, PROTOCOL_ERROR);
        ended += 1.0;
    }
    for block in [&[0xff; 6][..], &[0xfe], &[0x80]] {
        let head = Frame::new(HEADERS, HEAD, 3, block);
        assert_eq!(goaway(&sidecar, "no such field", &[head]).await, PROTOCOL_ERROR, "{block:?}");
        ended += 1.0;
    }
    eventually(std::time::Duration::from_secs(10), "they are counted", async || {
        sidecar.metric("tidegate_proxy_malformed_total", "").await == ended
    })
    .await;
}

#[tokio::test]
async fn frames_that_make_no_sense_end_the_connection() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let zero = 0_u32.to_be_bytes();
    let setting =
        |id: u16, value: u32| Frame::new(SETTINGS, 0, 0, [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat());
    for (what, sent, code) in [
        ("a stream of the server's", Frame::new(HEADERS, HEAD, 2, get("/")), PROTOCOL_ERROR),
        ("a head on no stream", Frame::new(HEADERS, HEAD, 0, get("/")), PROTOCOL_ERROR),
        ("a second head behind the end", Frame::new(HEADERS, HEAD, 1, get("/")), PROTOCOL_ERROR),
        ("a body behind the end", Frame::new(DATA, 0, 1, "x"), PROTOCOL_ERROR),
        ("a body of no request", Frame::new(DATA, 0, 99, "x"), PROTOCOL_ERROR),
        ("a body on no stream", Frame::new(DATA, 0, 0, "x"), PROTOCOL_ERROR),
        ("more padding than frame", Frame::new(DATA, 8, 1, [0xff, 1, 2]), PROTOCOL_ERROR),
        ("a reset of no request", Frame::new(RST_STREAM, 0, 99, zero), PROTOCOL_ERROR),
        ("a window of no request", Frame::new(WINDOW_UPDATE, 0, 99, 1_u32.to_be_bytes()), PROTOCOL_ERROR),
        ("no more window", Frame::new(WINDOW_UPDATE, 0, 1, zero), PROTOCOL_ERROR),
        ("no more window at all", Frame::new(WINDOW_UPDATE, 0, 0, zero), PROTOCOL_ERROR),
        ("too much window", Frame::new(WINDOW_UPDATE, 0, 0, 0x7fff_ffff_u32.to_be_bytes()), FLOW_CONTROL_ERROR),
        ("the rest of no head", Frame::new(CONTINUATION, END_HEADERS, 1, get("/")), PROTOCOL_ERROR),
        ("a short ping", Frame::new(PING, 0, 0, [0; 7]), PROTOCOL_ERROR),
        ("half a setting", Frame::new(SETTINGS, 0, 0, [0; 5]), PROTOCOL_ERROR),
        ("a window of 2 GiB", setting(4, 1 << 31), PROTOCOL_ERROR),
        ("frames of 100 bytes", setting(5, 100), PROTOCOL_ERROR),
        ("pushing twice over", setting(2, 2), PROTOCOL_ERROR),
        (
            "a client's push",
            Frame::new(5, END_HEADERS, 1, [&2_u32.to_be_bytes()[..], &get("/")].concat()),
            PROTOCOL_ERROR,
        ),
        ("a frame beyond our size", Frame::new(DATA, 0, 1, vec![0; 16_385]), FRAME_SIZE_ERROR),
    ] {
        assert_eq!(goaway(&sidecar, what, &[sent]).await, code, "{what}");
    }
    let within = [Frame::new(HEADERS, END_STREAM, 3, get("/")), Frame::new(PING, 0, 0, [0; 8])];
    assert_eq!(goaway(&sidecar, "a ping within a head", &within).await, PROTOCOL_ERROR);
    let lower = [Frame::new(HEADERS, HEAD, 5, get("/slow?ms=60000")), Frame::new(HEADERS, HEAD, 3, get("/"))];
    assert_eq!(goaway(&sidecar, "a lower stream", &lower).await, PROTOCOL_ERROR);
}
