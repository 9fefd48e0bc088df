//! What gRPC clients ask of any server, and what a server bears of any client.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use http::{Request, Version};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::support::rpc::{FORMS, call_as};

const HEALTH: &str = "grpc.health.v1.Health";
const SERVICES: [&str; 7] =
    [V1, V2, SYNC, HEALTH, "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection", SCHEMA];

#[tokio::test]
async fn health_is_of_the_server_and_of_each_service() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    let path = format!("{HEALTH}/Check");
    for service in [""].into_iter().chain(SERVICES) {
        let request = json!({ "service": service });
        assert_eq!(rpc.call(&path, request.clone()).await.unwrap(), json!({"status":"SERVING"}), "{service}");
        for form in FORMS {
            let answer = call_as(sidecar.local, form, &path, &request).await;
            assert_eq!(answer, Ok(json!({"status":"SERVING"})), "{form} {service}");
        }
    }
    let unknown = rpc.call(&path, json!({ "service": "none" })).await;
    assert_eq!(unknown.map_err(|status| status.code()), Err(tonic::Code::NotFound));
    let mut watched = rpc.stream(&format!("{HEALTH}/Watch"), json!({ "service": "none" })).await.unwrap();
    assert_eq!(watched.one().await, json!({"status":"SERVICE_UNKNOWN"}));
    let listed = rpc.call(&format!("{HEALTH}/List"), json!({})).await.unwrap();
    assert_eq!(listed["statuses"].as_object().unwrap().len(), SERVICES.len() + 1);
    assert_eq!(listed["statuses"][V2], json!({"status":"SERVING"}));
    assert_eq!(call_as(sidecar.local, "application/json", &format!("{HEALTH}/List"), &json!({})).await, Ok(listed));
}

#[tokio::test]
async fn reflection_describes_every_service() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    for version in ["v1", "v1alpha"] {
        let path = format!("grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let mut questions = vec![json!({ "listServices": "" })];
        questions.extend(SERVICES.map(|service| json!({ "fileContainingSymbol": service })));
        questions.push(json!({ "fileByFilename": "google/protobuf/struct.proto" }));
        questions.push(json!({ "fileContainingSymbol": "flagd.evaluation.v1.AnyFlag.bool_value" }));
        questions.push(json!({ "fileContainingSymbol": "no.such.Thing" }));
        let mut answers = rpc.converse(&path, &questions).await.unwrap();
        let listed = answers.one().await;
        let names: Vec<&str> = listed["listServicesResponse"]["service"]
            .as_array()
            .unwrap()
            .iter()
            .map(|service| service["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, SERVICES);
        for question in &questions[1..questions.len() - 1] {
            let answer = answers.one().await;
            let files = answer["fileDescriptorResponse"]["fileDescriptorProto"].as_array();
            assert!(files.is_some_and(|files| !files.is_empty()), "{question}: {answer}");
            assert_eq!(&answer["originalRequest"], question);
        }
        assert_eq!(answers.one().await["errorResponse"]["errorCode"], 5);
        assert_eq!(answers.next().await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_unix_socket_serves_all_of_it() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect_unix(&sidecar.directory().join("tidegate.sock")).await;
    let answer = rpc.call(&format!("{V2}/ResolveBoolean"), ask("on", json!({}))).await.unwrap();
    assert_eq!(answer["value"], true);
    let mut events = rpc.stream(&format!("{V2}/EventStream"), json!({})).await.unwrap();
    assert_eq!(events.one().await["type"], "provider_ready");
    let mut flags = rpc.stream(&format!("{SYNC}/SyncFlags"), json!({})).await.unwrap();
    assert!(flags.one().await["flagConfiguration"].is_string());
}

#[tokio::test]
async fn one_connection_carries_calls_beside_its_streams() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    let mut events = rpc.stream(&format!("{V2}/EventStream"), json!({})).await.unwrap();
    let path = format!("{V2}/ResolveBoolean");
    let calls = (0..300).map(|at| {
        let (rpc, path) = (rpc.clone(), path.clone());
        let key = if at % 2 == 0 { "on" } else { "no" };
        async move { (at, rpc.call(&path, ask(key, json!({ "at": at }))).await.unwrap()) }
    });
    for (at, answer) in join_all(calls).await {
        assert_eq!(answer["value"], at % 2 == 0, "each answer is of its own request");
    }
    assert_eq!(events.one().await["type"], "provider_ready");
}

#[tokio::test]
async fn clients_may_ping_without_a_stream() {
    let (_app, sidecar) = sidecar().await;
    // Far more often than any SDK does, so that a limit on pings would show.
    let rpc = Rpc::connect_with(sidecar.local, |endpoint| {
        endpoint
            .http2_keep_alive_interval(Duration::from_millis(20))
            .keep_alive_timeout(Duration::from_secs(20))
            .keep_alive_while_idle(true)
    })
    .await;
    let path = format!("{V2}/ResolveBoolean");
    for _ in 0..10 {
        assert!(rpc.call(&path, ask("on", json!({}))).await.is_ok());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn a_flood_of_pings_that_nobody_reads_stops_at_its_own_connection() {
    let (_app, sidecar) = sidecar().await;
    let mut flood = TcpStream::connect(sidecar.local).await.unwrap();
    flood.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    flood.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let pings = frame(6, 0, 0, &[7; 8]).repeat(10_000);
    // Answers fill what the kernel holds, and then the sidecar reads no more pings.
    let flooding = async {
        loop {
            if flood.write_all(&pings).await.is_err() {
                return;
            }
        }
    };
    let path = format!("{V2}/ResolveBoolean");
    let rpc = Rpc::connect(sidecar.local).await;
    let others = async {
        for _ in 0..50 {
            assert!(rpc.call(&path, ask("on", json!({}))).await.is_ok(), "others are served meanwhile");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = flooding => {}
        () = others => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("the flood goes on for ever"),
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_and_counted() {
    let (_app, sidecar) = sidecar().await;
    // A request for all definitions, over a connection whose window takes 10 bytes of the answer.
    let path = format!("/{SYNC}/SyncFlags");
    let mut stuck = TcpStream::connect(sidecar.local).await.unwrap();
    stuck.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stuck.write_all(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 10])).await.unwrap();
    let literal = |name: &str, value: &str| {
        let (name_len, value_len) = (u8::try_from(name.len()).unwrap(), u8::try_from(value.len()).unwrap());
        [&[0, name_len], name.as_bytes(), &[value_len], value.as_bytes()].concat()
    };
    let head = [
        literal(":method", "POST"),
        literal(":scheme", "http"),
        literal(":path", &path),
        literal(":authority", "t"),
        literal("content-type", "application/grpc"),
        literal("te", "trailers"),
    ]
    .concat();
    stuck.write_all(&frame(1, 4, 1, &head)).await.unwrap();
    stuck.write_all(&frame(0, 1, 1, &[0; 5])).await.unwrap();
    until_metric(&sidecar, "tidegate_flag_streams", "flagd_sync", 1.0).await;
    let rpc = Rpc::connect(sidecar.local).await;
    let mut other = rpc.stream(&format!("{SYNC}/SyncFlags"), json!({})).await.unwrap();
    other.one().await;
    // The first answer waits in a buffer; only with the second there is one that finds no room.
    write(&sidecar, &FLAGS.replace(r#""defaultVariant":"half""#, r#""defaultVariant":"one""#));
    other.one().await;
    until_metric(&sidecar, "tidegate_flag_streams_cut_total", "flagd_sync", 1.0).await;
    assert_eq!(sidecar.metric("tidegate_flag_streams", "flagd_sync").await, 1.0, "the other goes on");
    let mut read = Vec::new();
    let mut chunk = [0; 4096];
    while !read.windows(9).any(|head: &[u8]| head[..4] == [0, 0, 4, 3] && head[8] == 1) {
        let len = stuck.read(&mut chunk).await.unwrap();
        assert!(len > 0, "the stream is reset before the connection ends: {read:?}");
        read.extend_from_slice(&chunk[..len]);
    }
}

#[tokio::test]
async fn a_request_that_stalls_ends_alone() {
    let (_app, sidecar) = sidecar().await;
    let stream = TcpStream::connect(sidecar.local).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let path = format!("{V2}/ResolveBoolean");
    let mut ask = |body: BoxBody<Bytes, Infallible>| {
        let request = Request::post(format!("http://{}/{path}", sidecar.local))
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc");
        sender.send_request(request.body(body).unwrap())
    };
    let part = futures_util::stream::once(async { Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x09"))) });
    let stalled = ask(BoxBody::new(StreamBody::new(part.chain(futures_util::stream::pending()))));
    let whole = ask(BoxBody::new(Full::from(&b"\0\0\0\0\x04\x0a\x02on"[..])));
    let whole = whole.await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "0", "another request of the connection is answered");
    let stalled = tokio::time::timeout(Duration::from_secs(30), stalled).await.expect("a stall has an end").unwrap();
    assert_eq!(stalled.headers()["grpc-status"], "4");
    assert_eq!(stalled.headers()["grpc-message"], "the request stopped coming");
    let again = ask(BoxBody::new(Full::from(&b"\0\0\0\0\x04\x0a\x02on"[..]))).await.unwrap();
    assert_eq!(again.status(), 200, "and the connection lives");
}

#[tokio::test]
async fn beyond_the_limit_streams_are_refused_and_a_place_left_is_given_again() {
    let (_app, sidecar) = sidecar().await;
    let path = format!("{V2}/EventStream");
    let mut open = Vec::new();
    for _ in 0..8 {
        // A connection carries 256 streams at most, and the last stays below that for the next call.
        let rpc = Rpc::connect(sidecar.local).await;
        let streams = join_all((0..128).map(|_| rpc.stream(&path, json!({})))).await;
        for stream in streams {
            let mut stream = stream.unwrap();
            assert_eq!(stream.one().await["type"], "provider_ready");
            assert_eq!(stream.one().await["type"], "configuration_change");
            open.push(stream);
        }
    }
    let rpc = Rpc::connect(sidecar.local).await;
    let refused = rpc.stream(&path, json!({})).await.map(drop);
    assert_eq!(refused.map_err(|status| status.code()), Err(tonic::Code::ResourceExhausted));
    assert_eq!(sidecar.metric("tidegate_flag_streams_refused_total", "flagd_events").await, 1.0);
    open.truncate(1000);
    until_metric(&sidecar, "tidegate_flag_streams", "flagd_events", 1000.0).await;
    assert_eq!(rpc.stream(&path, json!({})).await.unwrap().one().await["type"], "provider_ready");
    // All of them are told of a change.
    write(&sidecar, &FLAGS.replace(r#""defaultVariant":"half""#, r#""defaultVariant":"one""#));
    for stream in &mut open {
        assert_eq!(stream.one().await["data"], json!({"flags":{"ratio":{"type":"update"}}}));
    }
}
