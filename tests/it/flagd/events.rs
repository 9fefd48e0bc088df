//! `EventStream`: what clients are told and when, and how it ends.

use std::time::Duration;

use super::*;
use crate::support::raw::Client;
use crate::support::rpc::{Answers, enveloped, envelopes, send};

const READY: &str = "provider_ready";

/// What a stream begins with: that flags can be evaluated, and which there are, for whoever cached some before.
async fn greeting(events: &mut Answers) -> Value {
    assert_eq!(events.one().await, json!({"type":READY,"data":{}}));
    let all = events.one().await;
    assert_eq!(all["type"], "configuration_change");
    let flags = all["data"]["flags"].as_object().unwrap();
    assert!(!flags.is_empty() && flags.values().all(|change| change["type"] == "write"), "{all}");
    all["data"]["flags"].clone()
}

#[tokio::test]
async fn a_change_tells_the_keys_and_how_they_changed() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    let mut streams = Vec::new();
    for service in [V1, V2, SCHEMA] {
        let mut events = rpc.stream(&format!("{service}/EventStream"), json!({})).await.unwrap();
        assert_eq!(greeting(&mut events).await.as_object().unwrap().len(), 14, "{service}");
        streams.push(events);
    }
    let changed = FLAGS
        .replace(r#""defaultVariant":"half""#, r#""defaultVariant":"one""#)
        .replace(r#""no":{"state""#, r#""new":{"state""#)
        .replace("@example.com", "@example.org");
    write(&sidecar, &changed);
    let told = json!({"type":"configuration_change","data":{"flags":{
        "ratio":{"type":"update"},"new":{"type":"write"},"no":{"type":"delete"},"staff":{"type":"update"}}}});
    for events in &mut streams {
        assert_eq!(events.one().await, told);
    }
    // What says the same in other words is no change; the next event is of the next one.
    write(&sidecar, &changed.replace("\n", "\n  "));
    write(&sidecar, FLAGS);
    for events in &mut streams {
        let event = events.one().await;
        assert_eq!(event["data"]["flags"]["no"], json!({"type":"write"}));
        assert_eq!(event["data"]["flags"]["new"], json!({"type":"delete"}));
    }
    drop(streams);
    until_metric(&sidecar, "tidegate_flag_streams", "flagd_events", 0.0).await;
}

#[tokio::test]
async fn a_selected_set_has_its_own_events() {
    let (_app, sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    let mut metadata = tonic::metadata::MetadataMap::new();
    metadata.insert("flagd-selector", "flagSetId=other".parse().unwrap());
    let mut events = rpc.stream_with(&format!("{V2}/EventStream"), json!({}), metadata).await.unwrap();
    assert_eq!(events.one().await, json!({"type":READY,"data":{}}));
    write(&sidecar, &FLAGS.replace(r#""defaultVariant":"half""#, r#""defaultVariant":"one""#));
    let mut all = rpc.stream(&format!("{V2}/EventStream"), json!({})).await.unwrap();
    assert_eq!(greeting(&mut all).await.as_object().unwrap().len(), 14);
    let one =
        async || rpc.call(&format!("{V2}/ResolveFloat"), ask("ratio", json!({}))).await.unwrap()["variant"] == "one";
    eventually(Duration::from_secs(30), "the change is in force", one).await;
    let own = FLAGS.replace(r#""x":true"#, r#""flagSetId":"other""#);
    write(&sidecar, &own);
    assert_eq!(events.one().await["data"], json!({"flags":{"on":{"type":"write"}}}), "of its own set alone");
}

#[tokio::test]
async fn events_flow_over_http1_in_connect_and_grpc_web() {
    let (_app, mut sidecar) = sidecar().await;
    let path = format!("{V1}/EventStream");
    let mut clients = Vec::new();
    for (form, message) in [
        ("application/connect+json", b"{}".as_slice()),
        ("application/connect+proto", b""),
        ("application/grpc-web", b""),
    ] {
        let mut client = Client::connect(sidecar.local).await.unwrap();
        let headers = format!("Content-Type: {form}\r\nConnect-Protocol-Version: 1\r\n");
        send(&mut client, &path, &headers, &enveloped(0, message)).await;
        assert_eq!(client.head().await.unwrap().header("content-type"), Some(form));
        clients.push((form, client));
    }
    until_metric(&sidecar, "tidegate_flag_streams", "flagd_events", 3.0).await;
    sidecar.signal("TERM");
    let whole = |chunks: Vec<u8>| -> Vec<u8> {
        let (mut rest, mut body) = (&chunks[..], Vec::new());
        loop {
            let end = rest.windows(2).position(|pair| pair == b"\r\n").expect("a chunk, whole");
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            if size == 0 {
                return body;
            }
            body.extend_from_slice(&rest[end + 2..end + 2 + size]);
            rest = &rest[end + 4 + size..];
        }
    };
    for (form, mut client) in clients {
        let body = whole(client.rest().await.unwrap());
        let envelopes = envelopes(&body);
        let flags: Vec<u8> = envelopes.iter().map(|(flags, _)| *flags).collect();
        let last = if form.starts_with("application/connect") { 2 } else { 0x80 };
        assert_eq!(flags, [0, 0, 0, last], "{form}: ready, all flags, shutdown and a clean end");
        if form.ends_with("json") {
            assert_eq!(envelopes[0].1, br#"{"type":"provider_ready","data":{}}"#);
            assert_eq!(envelopes[2].1, br#"{"type":"provider_shutdown","data":{}}"#);
        }
        let end = if last == 2 {
            r#"{"error":{"code":"unavailable","message":"the sidecar ends"}}"#
        } else {
            "grpc-status:14\r\ngrpc-message:the sidecar ends\r\n"
        };
        assert_eq!(String::from_utf8_lossy(&envelopes[3].1), end, "{form}");
    }
    assert!(sidecar.ended(Duration::from_secs(20)).await.success());
}

#[tokio::test]
async fn streams_outlast_a_drain_and_end_cleanly_with_the_sidecar() {
    let (_app, mut sidecar) = sidecar().await;
    let rpc = Rpc::connect(sidecar.local).await;
    let mut events = rpc.stream(&format!("{V2}/EventStream"), json!({})).await.unwrap();
    let mut flags = rpc.stream(&format!("{SYNC}/SyncFlags"), json!({})).await.unwrap();
    let mut health = rpc.stream("grpc.health.v1.Health/Watch", json!({})).await.unwrap();
    greeting(&mut events).await;
    flags.one().await;
    assert_eq!(health.one().await, json!({"status":"SERVING"}));
    let (code, out, err) = sidecar.cli(&["drain", "--wait"]);
    assert_eq!(code, 0, "streams hold up no drain: {out}{err}");
    write(&sidecar, &FLAGS.replace(r#""defaultVariant":"half""#, r#""defaultVariant":"one""#));
    assert_eq!(events.one().await["type"], "configuration_change", "drained is not ended");
    flags.one().await;

    sidecar.signal("TERM");
    assert_eq!(events.one().await, json!({"type":"provider_shutdown","data":{}}));
    // Clients come again only after an error; one that comes in trailers is a clean end all the same.
    assert_eq!(health.one().await, json!({"status":"NOT_SERVING"}));
    for stream in [&mut events, &mut flags, &mut health] {
        let status = stream.next().await.unwrap_err();
        assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "the sidecar ends"));
    }
    assert!(sidecar.ended(Duration::from_secs(20)).await.success());
}

#[tokio::test]
async fn a_stream_says_nothing_before_there_are_flags() {
    let app = App::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flags.json").display().to_string();
    std::fs::write(&path, "{").unwrap();
    let upstream = format!("proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://{}' }}]", app.address);
    let sidecar =
        Sidecar::start_in(directory, &format!("{upstream}\nflags: {{ files: ['{path}'], on_missing: wait }}"));
    let rpc = Rpc::connect(sidecar.local).await;
    let mut health = rpc.stream("grpc.health.v1.Health/Watch", json!({})).await.unwrap();
    assert_eq!(health.one().await, json!({"status":"NOT_SERVING"}));
    let mut events = rpc.stream(&format!("{V2}/EventStream"), json!({})).await.unwrap();
    let mut flags = rpc.stream(&format!("{SYNC}/SyncFlags"), json!({})).await.unwrap();
    let fetched = rpc.call(&format!("{SYNC}/FetchAllFlags"), json!({})).await;
    assert_eq!(fetched.map_err(|status| status.code()), Err(tonic::Code::Unavailable));
    write(&sidecar, FLAGS);
    assert_eq!(health.one().await, json!({"status":"SERVING"}), "the first news is that they are there");
    greeting(&mut events).await;
    let first: Value = serde_json::from_str(flags.one().await["flagConfiguration"].as_str().unwrap()).unwrap();
    assert_eq!(first["flags"].as_object().unwrap().len(), 14, "never an empty configuration");
}
