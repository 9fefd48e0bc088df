//! How HTTP/2 connections end: asked to leave in two steps, cut at the deadline, or left by their clients.

use std::time::Duration;

use futures_util::future::join_all;

use crate::support::app::App;
use crate::support::balancer::Balancer;
use crate::support::eventually;
use crate::support::h2::{
    ACK, CANCEL, Client, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, NO_ERROR, PING, RST_STREAM, SETTINGS, Wire,
    get,
};
use crate::support::raw;
use crate::support::sidecar::Sidecar;

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_drain_asks_to_leave_in_two_steps_and_serves_what_comes_between() {
    let app = App::start().await;
    let mut sidecar = Sidecar::start(app.address, "drain: { delay: 0s, quiet: 200ms, deadline: 30s }");
    sidecar.ready().await;
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    wire.send(HEADERS, END_HEADERS | END_STREAM, 1, get("/slow?ms=4000")).await;
    eventually(LONG, "in flight", async || sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 1.0).await;
    sidecar.signal("TERM");
    let first = wire.until(GOAWAY).await;
    assert_eq!((first.last_stream(), first.code()), (0x7fff_ffff, NO_ERROR), "RFC 9113 section 6.8");
    let ping = wire.until(PING).await;
    assert_eq!(ping.flags, 0);
    // On its way before the client knew.
    wire.send(HEADERS, END_HEADERS | END_STREAM, 3, get("/")).await;
    let between = wire.stream(3).await;
    assert_eq!(between[0].status(), Some(200));
    wire.send(PING, ACK, 0, ping.payload).await;
    let second = wire.until(GOAWAY).await;
    assert_eq!((second.last_stream(), second.code()), (3, NO_ERROR));
    let frames = wire.rest().await;
    assert_eq!(frames[0].status(), Some(200), "{frames:?}");
    let end = frames.iter().rposition(|frame| frame.stream == 1 && frame.ends_stream());
    assert!(end.is_some(), "the request under way is served to its end: {frames:?}");
    assert!(sidecar.ended(LONG).await.success());
}

#[tokio::test]
async fn an_idle_connection_is_asked_to_leave_and_cut_when_it_does_not_answer() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "drain: { delay: 0s, quiet: 200ms, deadline: 60s, restart_after: none }");
    sidecar.ready().await;
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    let mut polite = Client::connect(sidecar.proxy()).await;
    assert_eq!(polite.get("/").await.unwrap().status(), 200);
    let drained = raw::post(sidecar.ops, "/drain", "");
    let left = async {
        polite.ended().await.expect("an orderly end");
        assert_eq!(wire.until(GOAWAY).await.code(), NO_ERROR);
        // No answer to its PING, and no close.
        wire.rest().await;
    };
    let (drained, ()) = tokio::join!(drained, left);
    assert_eq!(drained.unwrap().json()["outcome"], "clean");
}

/// It never answers the PING, and asks again and again.
#[tokio::test]
async fn a_client_that_does_not_answer_the_ping_does_not_hold_a_drain() {
    let app = App::start().await;
    let mut sidecar = Sidecar::start(app.address, "drain: { delay: 0s, quiet: 200ms, deadline: 120s }");
    sidecar.ready().await;
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    wire.send(HEADERS, END_HEADERS | END_STREAM, 1, get("/slow?ms=1000")).await;
    assert_eq!(wire.stream(1).await[0].status(), Some(200));
    sidecar.signal("TERM");
    let (mut asked, mut answered, mut first) = (3, 1, None);
    wire.send(HEADERS, END_HEADERS | END_STREAM, asked, get("/slow?ms=100")).await;
    let last = loop {
        let frame = wire.next().await.expect("told before the end");
        match frame.kind {
            GOAWAY if first.is_none() => first = Some(frame.last_stream()),
            GOAWAY => break frame,
            DATA if frame.ends_stream() => {
                answered = frame.stream;
                asked += 2;
                wire.send(HEADERS, END_HEADERS | END_STREAM, asked, get("/slow?ms=100")).await;
            }
            _ => {}
        }
    };
    assert_eq!((first, last.code()), (Some(0x7fff_ffff), NO_ERROR));
    assert!(answered > 1 && [answered, asked].contains(&last.last_stream()), "{answered}, {asked}: {last:?}");
    let rest = wire.rest().await;
    let served = rest.iter().any(|frame| frame.stream == asked && frame.ends_stream());
    assert_eq!(served, last.last_stream() == asked, "what it was told will be served is: {rest:?}");
    assert!(sidecar.ended(LONG).await.success());
}

#[tokio::test]
async fn an_idle_connection_is_asked_to_leave_in_its_time_and_pings_keep_it_no_longer() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "limits: { idle_timeout: 1s }");
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    wire.send(HEADERS, END_HEADERS | END_STREAM, 1, get("/slow?ms=2500")).await;
    assert_eq!(wire.stream(1).await[0].status(), Some(200), "no request is idle");
    let left = async {
        loop {
            let frame = wire.next().await.expect("told before the end");
            match (frame.kind, frame.flags) {
                (GOAWAY, _) if frame.last_stream() == 1 => return frame.code(),
                (PING, 0) => wire.send(PING, ACK, 0, frame.payload).await,
                (PING, _) => wire.send(PING, 0, 0, [1; 8]).await,
                (SETTINGS, 0) => wire.send(PING, 0, 0, [1; 8]).await,
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert_eq!(tokio::time::timeout(LONG, left).await.expect("in time"), NO_ERROR);
    assert!(wire.rest().await.iter().all(|frame| frame.kind == PING), "and closed");
}

#[tokio::test]
async fn streams_still_open_at_the_deadline_are_reset() {
    let app = App::serve(|mut stream| async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n").await;
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let mut sidecar = Sidecar::start(app.address, "drain: { delay: 0s, quiet: 200ms, deadline: 2s }");
    sidecar.ready().await;
    let mut wire = Wire::connect(sidecar.proxy(), &[]).await;
    wire.send(HEADERS, END_HEADERS | END_STREAM, 1, get("/")).await;
    assert_eq!(wire.until(HEADERS).await.status(), Some(200));
    assert_eq!(wire.until(DATA).await.payload, b"part");
    assert_eq!(sidecar.metric("tidegate_in_flight", "kind=\"request\"").await, 1.0, "a stream is a request");
    sidecar.signal("TERM");
    let reset = wire.until(RST_STREAM).await;
    assert_eq!((reset.stream, reset.code()), (1, CANCEL));
    sidecar.ended(LONG).await;
}

#[tokio::test]
async fn a_client_that_vanishes_takes_all_its_requests_with_it() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let client = Client::connect(sidecar.proxy()).await;
    let asked = join_all((0..20).map(|_| client.get("/slow?ms=60000")));
    let vanished = async {
        eventually(LONG, "in flight", async || sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 20.0)
            .await;
    };
    tokio::select! {
        _ = asked => unreachable!("nothing answers"),
        () = vanished => {}
    }
    drop(client);
    eventually(LONG, "nothing in flight", async || {
        sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == 0.0
    })
    .await;
    assert_eq!(sidecar.metric("tidegate_in_flight", "kind=\"connection\"").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_loses_no_request() {
    let app = App::start().await;
    let mut sidecar = Sidecar::start(app.address, "drain: { delay: 400ms, quiet: 300ms, deadline: 30s }");
    let next = Sidecar::start(app.address, "");
    sidecar.ready().await;
    next.ready().await;
    let balancer = Balancer::to(sidecar.proxy()).await;
    let address = balancer.address;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let load = (0..8).map(|_| {
        let stopped = stopped.clone();
        tokio::spawn(async move {
            let (mut answered, mut connections) = (0, 0);
            // One connection after another, as they are asked to leave.
            while !*stopped.borrow() {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                let (mut sender, driver) = h2::client::handshake(stream).await.unwrap();
                connections += 1;
                let driver = tokio::spawn(driver);
                while !*stopped.borrow() {
                    // Not ready: it was asked to leave, and nothing was sent.
                    let Ok(ready) = sender.ready().await else { break };
                    sender = ready;
                    let request = Client::request("GET", "/").body(()).unwrap();
                    let Ok((answer, _)) = sender.send_request(request, true) else { break };
                    match answer.await {
                        Ok(answer) => assert_eq!(answer.status(), 200),
                        // RFC 9113 section 6.8: not processed, and for another connection.
                        Err(error) if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) => break,
                        Err(error) => panic!("lost after {answered}: {error}"),
                    }
                    answered += 1;
                }
                driver.abort();
            }
            (answered, connections)
        })
    });
    let load: Vec<_> = load.collect();
    let flows = async |sidecar: &Sidecar| {
        eventually(LONG, "load flows", async || sidecar.metric("tidegate_proxy_requests_total", "2xx").await > 500.0)
            .await;
    };
    flows(&sidecar).await;
    sidecar.signal("TERM");
    sidecar.logs("phase changed").await;
    balancer.switch(next.proxy());
    assert!(sidecar.ended(LONG).await.success());
    flows(&next).await;
    stop.send_replace(true);
    for client in load {
        let (answered, connections) = client.await.expect("no request is lost");
        assert!(answered > 100 && connections > 1, "{answered} requests on {connections} connections");
    }
}
