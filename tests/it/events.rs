//! Event streams of the running binary: OFREP's and the native ones.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use crate::support::events::Events;
use crate::support::eventually;
use crate::support::flags::{PATIENCE, number};
use crate::support::raw;
use crate::support::sidecar::Sidecar;

/// Replaces the flags of a sidecar made by [`sidecar`], as an editor or a mounted ConfigMap does.
fn write(directory: &Path, flags: &[(&str, u64)]) {
    let flags: Vec<String> = flags.iter().map(|(key, value)| format!("\"{key}\":{}", number(*value))).collect();
    let draft = directory.join("draft.json");
    std::fs::write(&draft, format!("{{\"flags\":{{{}}}}}", flags.join(","))).unwrap();
    std::fs::rename(draft, directory.join("flags.json")).unwrap();
}

async fn sidecar(flags: &[(&str, u64)]) -> Sidecar {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), flags);
    let file = directory.path().join("flags.json").display().to_string();
    let sidecar = Sidecar::start_in(
        directory,
        // Nothing is proxied here.
        &format!(
            "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }}]\n\
             drain: {{ delay: 0s, quiet: 100ms, deadline: 20s }}\nflags: {{ files: ['{file}'] }}"
        ),
    );
    sidecar.ready().await;
    sidecar
}

#[tokio::test]
async fn a_client_of_ofrep_is_told_to_evaluate_again() {
    let sidecar = sidecar(&[("a", 1)]).await;
    let bulk = raw::post(sidecar.local, "/ofrep/v1/evaluate/flags", "{}").await.unwrap();
    let advertised = &bulk.json()["eventStreams"][0];
    assert_eq!((&advertised["type"], &advertised["inactivityDelaySec"]), (&json!("sse"), &json!(120)));
    // Without an origin of its own, so that the client takes the one it asks already.
    let path = advertised["endpoint"]["requestUri"].as_str().unwrap().to_owned();

    let mut events = Events::open(sidecar.local, &path, None).await;
    assert_eq!((events.head.status, events.head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(events.head.header("cache-control"), Some("no-store"));
    assert_eq!(events.head.header("tidegate-revision"), Some("1"));
    let retry: u32 = events.next().await.unwrap().retry.parse().unwrap();
    assert!((1_000..4_000).contains(&retry), "{retry} ms");
    let first = events.expect("message").await;
    assert_eq!(first.json(), json!({"type": "refetchEvaluation", "etag": first.id}));

    write(sidecar.directory(), &[("a", 2)]);
    let second = events.expect("message").await;
    assert_ne!(second.id, first.id);
    // What the client does then: the change is in the answer, and is not told twice.
    let again = raw::post(sidecar.local, &format!("/ofrep/v1/evaluate/flags?flagConfigEtag={}", second.id), "{}").await;
    assert_eq!(again.unwrap().json()["flags"][0]["value"], 2);

    // Who comes back and knows all waits; who missed something is told at once.
    let mut knows = Events::open(sidecar.local, &path, Some(&second.id)).await;
    let mut missed = Events::open(sidecar.local, &path, Some(&first.id)).await;
    assert_eq!(missed.expect("message").await.id, second.id);
    write(sidecar.directory(), &[("a", 3)]);
    let third = knows.expect("message").await;
    assert!(third.id != second.id && third.id != first.id);
    assert_eq!(events.expect("message").await.id, third.id);
    assert_eq!(sidecar.metric("tidegate_flag_streams", "ofrep").await, 3.0);
    drop((events, knows, missed));
    eventually(PATIENCE, "the places are free again", async || {
        sidecar.metric("tidegate_flag_streams", "ofrep").await == 0.0
    })
    .await;
    assert_eq!(sidecar.metric("tidegate_flag_streams_cut_total", "ofrep").await, 0.0, "who leaves is not cut");
}

#[tokio::test]
async fn the_native_stream_names_the_flags_that_changed() {
    let sidecar = sidecar(&[("a", 1), ("b", 1)]).await;
    let mut events = Events::open(sidecar.local, "/v1/flags/events", None).await;
    let ready = events.expect("ready").await;
    assert_eq!(ready.json(), json!({"revision": 1, "stale": false, "missed": true}));
    write(sidecar.directory(), &[("b", 2), ("c", 1)]);
    let change = events.expect("change").await;
    assert_eq!(
        change.json(),
        json!({
            "revision": 2, "stale": false,
            "flags": {"a": {"type": "delete"}, "b": {"type": "update"}, "c": {"type": "write"}},
        })
    );
    let mut knows = Events::open(sidecar.local, "/v1/flags/events", Some(&change.id)).await;
    assert_eq!(knows.expect("ready").await.json()["missed"], false);
    // A file that goes is no change of a flag: its last flags stay, and are stale.
    std::fs::remove_file(sidecar.directory().join("flags.json")).unwrap();
    assert_eq!(events.expect("change").await.json(), json!({"revision": 3, "stale": true, "flags": {}}));
}

#[tokio::test]
async fn hundreds_of_readers_hear_of_a_change_while_the_app_asks() {
    let sidecar = sidecar(&[("a", 1)]).await;
    let mut readers = Vec::new();
    for number in 0..600 {
        let path = if number % 2 == 0 { "/ofrep/v1/events" } else { "/v1/flags/events" };
        readers.push(Events::open(sidecar.local, path, None).await);
    }
    for (number, reader) in readers.iter_mut().enumerate() {
        reader.expect(if number % 2 == 0 { "message" } else { "ready" }).await;
    }
    write(sidecar.directory(), &[("a", 2)]);
    for (number, reader) in readers.iter_mut().enumerate() {
        reader.expect(if number % 2 == 0 { "message" } else { "change" }).await;
        if number % 50 == 0 {
            let answer = raw::post(sidecar.local, "/ofrep/v1/evaluate/flags/a", "{}").await.unwrap();
            assert_eq!(answer.json()["value"], 2);
        }
    }
    assert_eq!(sidecar.metric("tidegate_flag_streams", "").await, 600.0);
}

#[tokio::test]
async fn streams_end_with_the_sidecar_and_do_not_hold_it_up() {
    let mut sidecar = sidecar(&[("a", 1)]).await;
    let mut native = Events::open(sidecar.local, "/v1/flags/events", None).await;
    let mut ofrep = Events::open(sidecar.local, "/ofrep/v1/events", None).await;
    native.expect("ready").await;
    ofrep.expect("message").await;
    sidecar.signal("TERM");
    native.expect("shutdown").await;
    assert!(native.next().await.is_none(), "the answer ends as an answer should");
    assert_eq!(ofrep.next().await.unwrap().comment, "shutdown");
    assert!(ofrep.next().await.is_none());
    assert!(sidecar.ended(Duration::from_secs(20)).await.success(), "clean, and well before the deadline");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_and_counted_and_the_others_go_on() {
    // Each change names a megabyte of flags, so that a few fill whatever the kernel keeps for a reader.
    let keys: Vec<String> = (0..2_500).map(|number| format!("{number:0>500}")).collect();
    let flags = |value| keys.iter().map(|key| (key.as_str(), value)).collect::<Vec<_>>();
    let sidecar = sidecar(&flags(0)).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stuck = socket.connect(sidecar.local).await.unwrap();
    stuck.write_all(b"GET /v1/flags/events HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    let mut reader = Events::open(sidecar.local, "/v1/flags/events", None).await;
    reader.expect("ready").await;
    for value in 1..=8 {
        write(sidecar.directory(), &flags(value));
        assert_eq!(reader.expect("change").await.json()["flags"].as_object().unwrap().len(), keys.len());
    }
    eventually(PATIENCE, "it is cut", async || {
        sidecar.metric("tidegate_flag_streams_cut_total", "native").await == 1.0
    })
    .await;
    assert_eq!(sidecar.metric("tidegate_flag_streams", "native").await, 1.0, "the other is still there");
    write(sidecar.directory(), &flags(9));
    reader.expect("change").await;
}
