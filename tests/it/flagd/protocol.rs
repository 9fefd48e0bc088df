//! The protocols' own rules: bytes, limits, times, and what is refused.

use bytes::Bytes;
use http::{HeaderMap, Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::metadata::MetadataMap;

use super::*;
use crate::support::rpc::{call_as, encoded, enveloped, envelopes, post};

const MIB: usize = 1024 * 1024;

/// An answer over HTTP/2: its head, its body, its trailers.
struct Raw {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

async fn http2(sidecar: &Sidecar, path: &str, content_type: &str, more: &[(&str, &str)], body: Vec<u8>) -> Raw {
    let stream = TcpStream::connect(sidecar.local).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://{}/{path}", sidecar.local)).version(Version::HTTP_2);
    for (name, value) in [("content-type", content_type), ("te", "trailers")].iter().chain(more) {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    Raw { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes().to_vec(), trailers }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn grpc_has_its_status_in_trailers_or_in_the_head_alone() {
    let (_app, sidecar) = sidecar().await;
    let path = format!("{V2}/ResolveBoolean");
    let request = enveloped(0, &encoded(&path, &ask("on", json!({}))));
    for content_type in ["application/grpc", "application/grpc+proto"] {
        let answer = http2(&sidecar, &path, content_type, &[], request.clone()).await;
        assert_eq!((answer.status, header(&answer.headers, "content-type")), (200, Some(content_type)));
        assert_eq!(header(&answer.headers, "tidegate-revision"), Some("1"));
        let trailers = answer.trailers.unwrap();
        assert_eq!(
            trailers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect::<Vec<_>>(),
            [("grpc-status", b"0".as_slice())]
        );
        assert!(envelopes(&answer.body)[0].1.starts_with(b"\x08\x01\x12\x06STATIC\x1a\x03yes\x22"));
    }
    let in_json = http2(&sidecar, &path, "application/grpc+json", &[], enveloped(0, br#"{"flagKey":"on"}"#)).await;
    assert!(envelopes(&in_json.body)[0].1.starts_with(br#"{"value":true,"reason":"STATIC","variant":"yes","#));

    let request = enveloped(0, &encoded(&path, &ask("ü", json!({}))));
    let answer = http2(&sidecar, &path, "application/grpc", &[], request).await;
    assert_eq!((answer.status, answer.body.len(), answer.trailers), (200, 0, None));
    assert_eq!(header(&answer.headers, "grpc-status"), Some("5"));
    assert_eq!(header(&answer.headers, "grpc-message"), Some("flag \"%C3%BC\" does not exist"));
    assert_eq!(header(&answer.headers, "grpc-retry-pushback-ms"), None);

    let request = enveloped(0, &encoded(&path, &ask("odd", json!({}))));
    let answer = http2(&sidecar, &path, "application/grpc", &[], request).await;
    assert_eq!(header(&answer.headers, "grpc-status"), Some("2"));
    assert_eq!(
        header(&answer.headers, "grpc-retry-pushback-ms"),
        Some("-1"),
        "providers try UNKNOWN again for seconds"
    );
}

#[tokio::test]
async fn what_is_no_call_is_refused_in_the_words_of_its_protocol() {
    let (_app, sidecar) = sidecar().await;
    let path = format!("{V2}/ResolveBoolean");
    let grpc = async |path: &str, more: &[(&str, &str)], body: Vec<u8>| {
        let answer = http2(&sidecar, path, "application/grpc", more, body).await;
        assert_eq!(answer.status, 200);
        header(&answer.headers, "grpc-status").unwrap().to_owned()
    };
    let sound = enveloped(0, &encoded(&path, &ask("on", json!({}))));
    assert_eq!(grpc("flagd.evaluation.v2.Service/ResolveAll", &[], sound.clone()).await, "12", "v2 has none");
    assert_eq!(grpc("other.Service/Method", &[], sound.clone()).await, "12");
    assert_eq!(grpc("v1/status", &[], sound.clone()).await, "12");
    assert_eq!(grpc(&path, &[("grpc-encoding", "gzip")], sound.clone()).await, "12");
    assert_eq!(grpc(&path, &[], Vec::new()).await, "12", "no message");
    assert_eq!(grpc(&path, &[], [sound.clone(), sound.clone()].concat()).await, "12", "two messages");
    assert_eq!(grpc(&path, &[], enveloped(0, b"\xff\xff")).await, "3");
    assert_eq!(grpc(&path, &[], enveloped(1, b"")).await, "13", "compressed by nothing");
    assert_eq!(grpc(&path, &[], sound[..7].to_vec()).await, "3");
    assert_eq!(grpc(&path, &[("grpc-timeout", "1x")], sound.clone()).await, "3");
    assert_eq!(grpc(&path, &[("grpc-timeout", "0n")], sound.clone()).await, "4");
    let in_time = http2(&sidecar, &path, "application/grpc", &[("grpc-timeout", "99999999H")], sound.clone()).await;
    assert_eq!(header(&in_time.trailers.unwrap(), "grpc-status"), Some("0"));

    let connect = async |headers: &str, body: &str| {
        let answer = post(sidecar.local, &path, headers, body.as_bytes()).await;
        (answer.status, answer.header("content-type").map(str::to_owned), answer.text())
    };
    let json = Some("application/json".to_owned());
    let refused = |code: &str, message: &str| format!(r#"{{"code":"{code}","message":"{message}"}}"#);
    let head = "Content-Type: application/json\r\n";
    for (more, body, status, code, message) in [
        ("", r#"{"flagKey":"none"}"#, 404, "not_found", r#"flag \"none\" does not exist"#),
        ("", r#"{"flagKey":"text"}"#, 400, "invalid_argument", r#"flag \"text\" is of type string, not boolean"#),
        ("Connect-Timeout-Ms: 0\r\n", "{}", 504, "deadline_exceeded", "the time of the call is over"),
        (
            "Connect-Protocol-Version: 2\r\n",
            "{}",
            400,
            "invalid_argument",
            r#"connect-protocol-version must be \"1\", and is \"2\""#,
        ),
        (
            "Content-Encoding: gzip\r\n",
            "{}",
            501,
            "unimplemented",
            r#"compression \"gzip\" is not supported, send identity"#,
        ),
    ] {
        let answer = connect(&format!("{head}{more}"), body).await;
        assert_eq!(answer, (status, json.clone(), refused(code, message)), "{more}{body}");
    }
    for body in ["", "[]", "{", r#"{"flagKey":1}"#, r#"{"flagKey":"on","context":[]}"#] {
        let (status, _, text) = connect(head, body).await;
        assert_eq!((status, text.contains("invalid_argument")), (400, true), "{body}: {text}");
    }
    let answer = post(sidecar.local, &path, "Content-Type: text/plain\r\n", b"{}").await;
    assert_eq!((answer.status, answer.text().as_str()), (415, ""));
    assert!(answer.header("accept-post").unwrap().contains("application/connect+json"));
    for (path, content_type) in [
        (format!("{V2}/ResolveBoolean"), "application/connect+json"),
        (format!("{V2}/EventStream"), "application/json"),
    ] {
        let answer = post(sidecar.local, &path, &format!("Content-Type: {content_type}\r\n"), b"{}").await;
        assert_eq!(answer.status, 415, "a stream is no unary call, nor the reverse: {path}");
    }
    let answer = post(sidecar.local, &path, "Content-Type: application/grpc\r\n", &sound).await;
    assert_eq!(answer.status, 505, "gRPC needs HTTP/2");
    let answer = crate::support::raw::get(sidecar.local, &format!("/{path}")).await.unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
}

#[tokio::test]
async fn contexts_are_bounded_in_size_and_depth() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    let path = format!("{V2}/ResolveBoolean");
    let of_size = |size: usize| ask("on", json!({ "x": "x".repeat(size) }));
    for (size, code) in [(MIB - 200, None), (MIB, Some(8)), (4 * MIB, Some(8))] {
        let answer = rpc.call(&path, of_size(size)).await;
        assert_eq!(answer.as_ref().err().map(|status| status.code() as u32), code, "{size}: {answer:?}");
        for form in ["application/json", "application/proto", "application/grpc-web+proto", "application/grpc-web-text"]
        {
            let answer = call_as(sidecar.local, form, &path, &of_size(size)).await;
            assert_eq!(answer.err(), code, "{form} {size}");
        }
    }
    let field = |number: u8, bytes: &[u8]| {
        let mut len = Vec::new();
        prost_reflect::prost::encoding::encode_varint(bytes.len() as u64, &mut len);
        [&[number << 3 | 2], &len[..], bytes].concat()
    };
    for (depth, status) in [(40, "0"), (90, "3"), (40_000, "3")] {
        // A Struct whose one entry is a Struct, and so on.
        let context =
            (0..depth).fold(Vec::new(), |inner, _| field(1, &[field(1, b"a"), field(2, &field(5, &inner))].concat()));
        let request = [field(1, b"on"), field(2, &context)].concat();
        let answer = http2(&sidecar, &path, "application/grpc", &[], enveloped(0, &request)).await;
        let told = answer.trailers.as_ref().unwrap_or(&answer.headers);
        assert_eq!(header(told, "grpc-status"), Some(status), "{depth}");
    }
    for (depth, sound) in [(90, true), (200, false), (100_000, false)] {
        let context = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        let request = format!(r#"{{"flagKey":"on","context":{context}}}"#);
        let answer = post(sidecar.local, &path, "Content-Type: application/json\r\n", request.as_bytes()).await;
        assert_eq!(answer.status, if sound { 200 } else { 400 }, "{depth}");
    }
    assert!(rpc.call(&path, ask("on", json!({}))).await.is_ok(), "and it is served on");
}

#[tokio::test]
async fn a_context_may_hold_a_name_twice_and_the_last_counts() {
    let (_app, sidecar) = sidecar().await;
    let path = format!("{V2}/ResolveString");
    let one = |environment: &str| encoded(&path, &ask("env", json!({ "environment": environment })));
    // Fields of a message given twice are merged: the second message appended to the first.
    let twice = [one("production"), one("test")].concat();
    let answer = http2(&sidecar, &path, "application/grpc", &[], enveloped(0, &twice)).await;
    let answer = crate::support::rpc::decoded(&path, &envelopes(&answer.body)[0].1);
    assert_eq!(answer["variant"], "d", "{answer}");
}

#[tokio::test]
async fn a_stream_ends_when_its_clients_time_is_over() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    let mut metadata = MetadataMap::new();
    metadata.insert("grpc-timeout", "300m".parse().unwrap());
    let mut events = rpc.stream_with(&format!("{V2}/EventStream"), json!({}), metadata).await.unwrap();
    assert_eq!(events.one().await["type"], "provider_ready");
    assert_eq!(events.one().await["type"], "configuration_change");
    assert_eq!(events.next().await.map_err(|status| status.code()), Err(tonic::Code::DeadlineExceeded));
}
