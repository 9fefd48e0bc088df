//! Clients that ask for work and not for answers: each is sent away, and another's requests go on meanwhile.

use std::time::Duration;

use crate::support::app::App;
use crate::support::eventually;
use crate::support::h2::{
    ACK, CANCEL, CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame, GOAWAY, HEADERS, PING,
    PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire, get, literals, post,
};
use crate::support::sidecar::Sidecar;

/// Sends `bytes` again and again until the connection ends, and returns the code of the GOAWAY it ends with. Another
/// client is served all the while.
async fn flood(sidecar: &Sidecar, mut wire: Wire, mut bytes: impl FnMut(u32) -> Vec<u8>) -> Option<u32> {
    let other = Client::connect(sidecar.proxy()).await;
    let flooded = async {
        for round in 0..200_000 {
            // A client that is sent away may not be able to write any more.
            if wire.bytes(&bytes(round)).await.is_err() {
                break;
            }
            if round % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
    };
    let served = async {
        for _ in 0..20 {
            assert_eq!(other.get("/").await.unwrap().text(), "hello\n", "another client is served");
        }
    };
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(flooded, served) }).await.expect("it ends");
    assert_eq!(other.get("/").await.unwrap().status(), 200);
    let mut code = None;
    while let Some(frame) = wire.next().await {
        if frame.kind == GOAWAY {
            code = Some(frame.code());
        }
    }
    code
}

async fn calmed(sidecar: &Sidecar, of: &str) {
    eventually(Duration::from_secs(10), "counted", async || {
        sidecar.metric("tidegate_proxy_http2_floods_total", of).await == 1.0
    })
    .await;
}

#[tokio::test]
async fn frames_that_move_nothing_are_counted_and_too_many_end_the_connection() {
    let cases: [(&str, Frame); 6] = [
        ("ping", Frame::new(PING, 0, 0, [7; 8])),
        ("settings", Frame::new(SETTINGS, 0, 0, [])),
        ("priority", Frame::new(PRIORITY, 0, 1, [0, 0, 0, 3, 16])),
        ("window", Frame::new(WINDOW_UPDATE, 0, 0, 1_u32.to_be_bytes())),
        ("unknown", Frame::new(0xfa, 0, 0, [])),
        ("reset of streams that ended", Frame::new(RST_STREAM, 0, 1, CANCEL.to_be_bytes())),
    ];
    for (what, frame) in cases {
        let app = App::start().await;
        let sidecar = Sidecar::start(app.address, "workers: 1");
        let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
        wire.send(HEADERS, END_HEADERS | END_STREAM, 1, get("/")).await;
        wire.stream(1).await;
        let hundred = frame.bytes().repeat(100);
        let code = flood(&sidecar, wire, |_| hundred.clone()).await;
        assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{what}: {code:?}");
        calmed(&sidecar, "").await;
    }
}

#[tokio::test]
async fn empty_parts_of_a_body_end_the_connection() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    wire.send(HEADERS, END_HEADERS, 1, post("/echo")).await;
    let hundred = Frame::new(DATA, 0, 1, []).bytes().repeat(100);
    let code = flood(&sidecar, wire, |_| hundred.clone()).await;
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    calmed(&sidecar, "").await;
}

#[tokio::test]
async fn a_hundred_empty_parts_pass_and_one_more_does_not() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    wire.send(HEADERS, END_HEADERS, 1, post("/echo")).await;
    wire.bytes(&Frame::new(DATA, 0, 1, []).bytes().repeat(100)).await.unwrap();
    wire.send(DATA, END_STREAM, 1, "end").await;
    assert_eq!(wire.stream(1).await[0].status(), Some(200));
    // They are of the connection, whatever request has them.
    wire.send(HEADERS, END_HEADERS, 3, post("/echo")).await;
    wire.send(DATA, 0, 3, []).await;
    let goaway = wire.rest().await.pop().expect("told why");
    assert_eq!((goaway.kind, goaway.code()), (GOAWAY, ENHANCE_YOUR_CALM));
    assert_eq!(&goaway.payload[8..], b"too_many_data_frames");
    calmed(&sidecar, "protocol").await;
}

#[tokio::test]
async fn small_parts_that_are_taken_pass_however_many() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    wire.send(HEADERS, END_HEADERS, 1, post("/echo")).await;
    let hundred = Frame::new(DATA, 0, 1, "x").bytes().repeat(100);
    for _ in 0..80 {
        wire.bytes(&hundred).await.unwrap();
        wire.send(PING, 0, 0, [0; 8]).await;
        wire.until(PING).await;
    }
    wire.send(DATA, END_STREAM, 1, "end").await;
    let frames = wire.stream(1).await;
    let body: Vec<u8> =
        frames.iter().filter(|frame| frame.kind == DATA).flat_map(|data| data.payload.clone()).collect();
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(told["length"], 8_003);
}

#[tokio::test]
async fn a_few_pings_are_answered() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    for at in 0..1_000_u64 {
        wire.send(PING, 0, 0, at.to_be_bytes()).await;
        let pong = wire.until(PING).await;
        assert_eq!((pong.flags, pong.payload.as_slice()), (1, &at.to_be_bytes()[..]));
    }
}

/// CVE-2023-44487, in one breath: resets that come with their requests.
#[tokio::test]
async fn requests_taken_back_before_they_are_seen_end_the_connection() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let wire = Wire::connect(sidecar.proxy(), &[]).await;
    let code = flood(&sidecar, wire, |round| {
        let of = |at: u32| {
            let stream = 2 * (round * 50 + at) + 1;
            let head = Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, get("/slow?ms=1000")).bytes();
            [head, Frame::new(RST_STREAM, 0, stream, CANCEL.to_be_bytes()).bytes()].concat()
        };
        (0..50).flat_map(of).collect()
    })
    .await;
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    calmed(&sidecar, "").await;
    eventually(Duration::from_secs(10), "nothing of it is left", async || {
        sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 0.0
    })
    .await;
}

/// Documented: the h2 crate is the first to see it, and tells the client alone what it was.
#[tokio::test]
async fn requests_taken_back_in_one_write_end_the_connection() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    let of = |at: u32| {
        let head = Frame::new(HEADERS, END_HEADERS | END_STREAM, 2 * at + 1, get("/slow?ms=1000")).bytes();
        [head, Frame::new(RST_STREAM, 0, 2 * at + 1, CANCEL.to_be_bytes()).bytes()].concat()
    };
    drop(wire.bytes(&(0..450).flat_map(of).collect::<Vec<u8>>()).await);
    let goaway = wire.rest().await.pop().expect("told why");
    assert_eq!((goaway.kind, goaway.code()), (GOAWAY, ENHANCE_YOUR_CALM));
    assert_eq!(&goaway.payload[8..], b"too_many_resets");
    calmed(&sidecar, "protocol").await;
}

/// The h2 crate has something to say of each.
#[tokio::test]
async fn answers_to_pings_that_nobody_sent_do_not_fill_the_log() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    for _ in 0..500 {
        wire.send(PING, ACK, 0, [9; 8]).await;
    }
    wire.send(HEADERS, END_HEADERS | END_STREAM, 1, get("/")).await;
    assert_eq!(wire.stream(1).await[0].status(), Some(200));
    let said: Vec<_> = sidecar.log().into_iter().filter(|line| line.to_string().contains("PING")).collect();
    assert!(said.is_empty(), "{said:?}");
}

/// The same, slowly: each request is seen, passed on, and taken back then.
#[tokio::test]
async fn requests_taken_back_after_they_are_seen_end_the_connection_too() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    let mut ended = None;
    for round in 0..5_000 {
        let stream = 2 * round + 1;
        let head = Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, get("/slow?ms=60000")).bytes();
        let ping = Frame::new(PING, 0, 0, [0; 8]).bytes();
        if wire.bytes(&[head, ping].concat()).await.is_err() {
            break;
        }
        // Its answer says that what came before was seen.
        let seen = loop {
            match wire.next().await {
                Some(frame) if frame.kind == PING => break true,
                Some(frame) if frame.kind == GOAWAY => ended = Some(frame.code()),
                Some(_) => {}
                None => break false,
            }
        };
        let reset = Frame::new(RST_STREAM, 0, stream, CANCEL.to_be_bytes()).bytes();
        if !seen || wire.bytes(&reset).await.is_err() {
            break;
        }
    }
    assert_eq!(ended, Some(ENHANCE_YOUR_CALM));
    assert_eq!(sidecar.metric("tidegate_proxy_http2_floods_total", "resets").await, 1.0);
    assert!(app.accepted() < 1_000, "{} connections to the app", app.accepted());
}

/// CVE-2024-27316.
#[tokio::test]
async fn a_head_without_end_ends_the_connection() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    wire.send(HEADERS, END_STREAM, 1, get("/")).await;
    let field = literals(&[("x-more", "0123456789")]);
    let more = Frame::new(CONTINUATION, 0, 1, field).bytes();
    let code = flood(&sidecar, wire, |_| more.clone()).await;
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    calmed(&sidecar, "protocol").await;
}

/// A small block that says a large field again and again by its number in the table (RFC 7541 section 7.3).
#[tokio::test]
async fn a_head_that_unfolds_to_megabytes_ends_the_connection() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "workers: 1");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    let mut block = get("/");
    // Literal with indexing: it is number 62 of the table from then on.
    block.extend(&literals(&[("x-bomb", &"b".repeat(3_900))])[1..]);
    let at = get("/").len();
    block.insert(at, 0x40);
    block.extend(vec![0x80 | 62; 8_000]);
    wire.send(HEADERS, END_STREAM | END_HEADERS, 1, block).await;
    let frames = wire.rest().await;
    let goaway = frames.last().expect("told why");
    assert_eq!((goaway.kind, goaway.code()), (GOAWAY, ENHANCE_YOUR_CALM), "{frames:?}");
    calmed(&sidecar, "protocol").await;
}
