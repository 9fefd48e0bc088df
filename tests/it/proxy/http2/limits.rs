//! Limits of one request among others on a connection: the one ends, the others do not notice.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Response;

use crate::support::app::App;
use crate::support::eventually;
use crate::support::h2::{
    Answer, CANCEL, Client, DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, WINDOW_UPDATE, Wire, get,
};
use crate::support::sidecar::Sidecar;

const LONG: Duration = Duration::from_secs(20);

/// Asks again and again, and fails with the first answer that is not whole.
async fn busy(client: &Client) {
    loop {
        assert_eq!(client.post("/echo", b"busy").await.unwrap().json()["length"], 4);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs `stalled` beside requests on the same connection.
async fn among_others<T>(client: &Client, stalled: impl Future<Output = T>) -> T {
    tokio::select! {
        ended = tokio::time::timeout(LONG, stalled) => ended.expect("ended in time"),
        () = busy(client) => unreachable!("it never ends by itself"),
    }
}

#[tokio::test]
async fn a_body_that_stalls_is_408_and_the_others_go_on() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { body_timeout: 500ms }");
    let client = Client::connect(sidecar.proxy()).await;
    let request = Client::request("POST", "/echo").body(()).unwrap();
    let (answer, mut stream) = client.sender.clone().ready().await.unwrap().send_request(request, false).unwrap();
    stream.send_data(Bytes::from_static(b"only this"), false).unwrap();
    let answer: Response<_> = among_others(&client, answer).await.unwrap();
    assert_eq!(answer.status(), 408);
    assert_eq!(Answer::read(answer).await.unwrap().text(), "tidegate: the request's body did not arrive in time\n");
    assert_eq!(client.get("/").await.unwrap().text(), "hello\n");
}

#[tokio::test]
async fn an_app_that_does_not_answer_one_request_is_504_for_that_one() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { response_timeout: 1s }");
    let client = Client::connect(sidecar.proxy()).await;
    let answer = among_others(&client, client.get("/slow?ms=60000")).await.unwrap();
    assert_eq!((answer.status(), answer.header("proxy-status")), (504, Some("tidegate; error=http_response_timeout")));
}

#[tokio::test]
async fn an_answer_whose_client_makes_no_room_is_reset_and_the_others_go_on() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { send_timeout: 500ms }");
    let client = Client::connect(sidecar.proxy()).await;
    let request = Client::request("GET", "/size?n=50000000").body(()).unwrap();
    let (answer, _) = client.sender.clone().ready().await.unwrap().send_request(request, true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    // Taken from the stream's memory, and no room made for more.
    let error = among_others(&client, async {
        loop {
            match body.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error,
                None => panic!("an answer cut short ended cleanly"),
            }
        }
    })
    .await;
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    assert_eq!(sidecar.metric("tidegate_proxy_http2_resets_total", "limit").await, 1.0);
    eventually(LONG, "nothing in flight", async || {
        sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 0.0
    })
    .await;
}

/// Takes an answer of so many bytes, of which its client makes room for `step` at a time: how its stream ends.
async fn taken(sidecar: &Sidecar, bytes: usize, step: u32, pause: Duration) -> (usize, Option<u32>) {
    let mut wire = Wire::connect(sidecar.proxy(), &[(4, step)]).await;
    wire.send(HEADERS, END_HEADERS | END_STREAM, 1, get(&format!("/size?n={bytes}"))).await;
    let (mut all, mut room) = (0, step as usize);
    loop {
        let frame = wire.next().await.expect("the connection goes on");
        match frame.kind {
            DATA => {
                all += frame.payload.len();
                room -= frame.payload.len();
                if frame.ends_stream() {
                    return (all, None);
                }
                if room == 0 {
                    tokio::time::sleep(pause).await;
                    room = step as usize;
                    for stream in [0, 1] {
                        wire.send(WINDOW_UPDATE, 0, stream, step.to_be_bytes()).await;
                    }
                }
            }
            RST_STREAM => return (all, Some(frame.code())),
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_taken_byte_by_byte_is_reset_and_one_that_is_taken_slowly_is_not() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { send_timeout: 500ms }");
    let pause = Duration::from_millis(10);
    let dripped = tokio::time::timeout(LONG, taken(&sidecar, 1_000_000, 1, pause)).await.expect("ended in time");
    assert_eq!(dripped.1, Some(CANCEL));
    assert!(dripped.0 < 4096, "{} bytes", dripped.0);
    assert_eq!(sidecar.metric("tidegate_proxy_http2_resets_total", "limit").await, 1.0);
    // Longer than the limit as a whole.
    let slow = taken(&sidecar, 100_000, 5_000, Duration::from_millis(100)).await;
    assert_eq!(slow, (100_000, None));
}

#[tokio::test]
async fn a_client_that_opens_streams_and_never_makes_room_is_cut_from_each() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { send_timeout: 500ms }");
    // SETTINGS_INITIAL_WINDOW_SIZE 0: nothing of a body may be sent.
    let mut wire = Wire::connect(sidecar.proxy(), &[(4, 0)]).await;
    for stream in 0..100 {
        wire.send(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, get("/size?n=1000000")).await;
    }
    let other = Client::connect(sidecar.proxy()).await;
    let cut = async {
        for _ in 0..100 {
            wire.until(RST_STREAM).await;
        }
    };
    among_others(&other, cut).await;
    eventually(LONG, "nothing is held for it", async || {
        sidecar.metric("tidegate_in_flight", "kind=\"request\"").await <= 1.0
    })
    .await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_at_all_is_cut() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { send_timeout: 500ms }");
    let mut wire = Wire::connect(sidecar.proxy(), &[(4, 0x7fff_ffff)]).await;
    wire.send(8, 0, 0, 0x7000_0000_u32.to_be_bytes()).await;
    for stream in 0..10 {
        wire.send(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, get("/size?n=10000000")).await;
    }
    eventually(LONG, "in flight", async || sidecar.metric("tidegate_in_flight", "kind=\"request\"").await > 0.0).await;
    eventually(LONG, "cut", async || sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 0.0).await;
}

#[tokio::test]
async fn a_body_beyond_its_limit_is_413() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { body_bytes: 1KiB }");
    let client = Client::connect(sidecar.proxy()).await;
    assert_eq!(client.post("/echo", &[b'x'; 1024]).await.unwrap().status(), 200);
    assert_eq!(client.post("/echo", &[b'x'; 1025]).await.unwrap().status(), 413);
    let told = Client::request("POST", "/echo").header("content-length", "2000");
    assert_eq!(client.ask(told.body(&[b'x'; 2000][..]).unwrap()).await.unwrap().status(), 413);
    assert_eq!(client.get("/").await.unwrap().status(), 200, "the connection is not at fault");
}

#[tokio::test]
async fn heads_beyond_their_limits_are_431() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { header_bytes: 16KiB, header_count: 20 }");
    let client = Client::connect(sidecar.proxy()).await;
    let long = Client::request("GET", "/").header("x-long", "x".repeat(20_000));
    assert_eq!(client.ask(long.body(&b""[..]).unwrap()).await.unwrap().status(), 431);
    // Documented: the h2 crate answers this by itself.
    assert_eq!(sidecar.metric("tidegate_proxy_malformed_total", "").await, 0.0);
    let many = (0..30).fold(Client::request("GET", "/"), |request, at| request.header(format!("x-{at}"), "1"));
    assert_eq!(client.ask(many.body(&b""[..]).unwrap()).await.unwrap().status(), 431);
    assert_eq!(sidecar.metric("tidegate_proxy_malformed_total", "").await, 1.0);
    let fits = Client::request("GET", "/").header("x-long", "x".repeat(10_000));
    assert_eq!(client.ask(fits.body(&b""[..]).unwrap()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn requests_beyond_the_streams_of_a_connection_are_refused_and_wait_with_a_client_that_knows() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { http2_streams: 2 }");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    for stream in [1, 3, 5] {
        wire.send(HEADERS, END_HEADERS | END_STREAM, stream, get("/slow?ms=300")).await;
    }
    let refused = wire.until(RST_STREAM).await;
    assert_eq!((refused.stream, refused.code()), (5, crate::support::h2::REFUSED_STREAM));
    assert_eq!(wire.stream(1).await[0].status(), Some(200));
    let client = Client::connect(sidecar.proxy()).await;
    assert_eq!(client.get("/").await.unwrap().status(), 200, "it knows the settings by then");
    let asked = (0..6).map(|_| client.get("/slow?ms=20"));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { header_timeout: 500ms }");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    wire.send(HEADERS, END_STREAM, 1, get("/")).await;
    wire.rest().await;
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    wire.send(HEADERS, END_HEADERS | END_STREAM, 1, get("/slow?ms=60000")).await;
    let half = crate::support::h2::Frame::new(HEADERS, END_HEADERS, 3, get("/")).bytes();
    wire.bytes(&half[..20]).await.unwrap();
    wire.rest().await;
}
