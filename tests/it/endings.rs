//! Every ending under load, for every protocol: how many requests fail, and how streams end.

pub(crate) mod app;
mod frozen;
mod http1;
mod http2;
pub(crate) mod load;
mod promise;
mod stage;
pub(crate) mod tally;
mod websocket;

use std::fmt::Write as _;
use std::time::Duration;

use futures_util::future::join_all;

use self::load::Protocol;
use self::promise::Ending;
use self::stage::{Row, play};
use serde_json::json;

use crate::support::port::Port;
use crate::support::sdk::{Language, Script, root};
use crate::support::sidecar::Sidecar;

/// The matrix, a line a cell, for whoever reads the test's output.
fn filled(name: &str, row: &Row) -> String {
    row.iter().fold(String::new(), |mut text, (protocol, cell)| {
        let _ = writeln!(text, "{name:26} {:22} {cell}", protocol.name());
        text
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_ending_is_as_promised_for_each_protocol() {
    let only = std::env::var("ENDING").unwrap_or_default();
    let endings = Ending::ALL.into_iter().filter(|ending| ending.name().contains(&only));
    let rows = join_all(endings.map(|ending| async move { (ending, play(ending).await) })).await;
    let mut broken = Vec::new();
    for (ending, row) in &rows {
        eprint!("{}", filled(ending.name(), row));
        for (protocol, cell) in row {
            if let Some(how) = ending.promise(*protocol).broken_by(*protocol, cell) {
                broken.push(format!("{}, {}: {how}: {cell}", ending.name(), protocol.name()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The same load sees what happens when nobody drains and nobody holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_sidecar_and_without_a_drain_requests_fail() {
    let (alone, killed) = tokio::join!(stage::without_a_sidecar(), stage::without_a_drain());
    for (name, row) in [("an app alone restarts", &alone), ("a sidecar is killed", &killed)] {
        eprint!("{}", filled(name, row));
        for (protocol, cell) in row {
            assert!(cell.failures() > 0, "{name}, {}: {cell}", protocol.name());
        }
    }
}

#[test]
fn a_cell_that_is_not_as_promised_is_found() {
    use self::promise::Promise;
    use self::tally::{Cell, End, Fault};
    let check = |promise: &Promise, failed: &[Fault], ended: &[End], is_kept: bool| {
        let cell = Cell {
            asked: 1000,
            messages: 1000,
            failed: failed.iter().map(|fault| (fault.clone(), 1)).collect(),
            ended: ended.iter().map(|end| (end.clone(), Protocol::WebSocket.clients())).collect(),
        };
        let broken = promise.broken_by(Protocol::WebSocket, &cell);
        assert_eq!(broken.is_none(), is_kept, "{promise:?}: {cell}: {broken:?}");
    };
    check(&Promise::Nothing, &[], &[], true);
    check(&Promise::Nothing, &[Fault::Lost], &[], false);
    check(&Promise::Nothing, &[], &[End::Cut], false);
    let away = Promise::Ends(&[End::Close(1001)]);
    check(&away, &[], &[End::Close(1001)], true);
    check(&away, &[], &[End::Close(1001), End::Cut], false);
    check(&away, &[], &[], false);
    check(&away, &[Fault::Hung], &[End::Close(1001)], false);
    assert!(Promise::Nothing.broken_by(Protocol::Events, &Cell::default()).is_some(), "nothing was asked");
}

/// The table of the documentation.
fn promised() -> String {
    let mut table = String::from("| |");
    Protocol::ALL.iter().for_each(|protocol| table.push_str(&format!(" {} |", protocol.name())));
    table.push_str("\n|---|");
    Protocol::ALL.iter().for_each(|_| table.push_str("---|"));
    for ending in Ending::ALL {
        table.push_str(&format!("\n| {} |", ending.name()));
        for protocol in Protocol::ALL {
            table.push_str(&format!(" {} |", ending.promise(protocol).words()));
        }
    }
    table
}

#[test]
fn the_documentation_promises_what_is_tested() {
    let text = std::fs::read_to_string(root().join("docs/PROXY.md")).unwrap();
    let table = promised();
    assert!(text.contains(&table), "docs/PROXY.md lacks this table:\n{table}");
}

/// The library that most clients of gRPC use makes of a stream's end what its users handle anyway.
#[tokio::test]
async fn streams_of_grpcio_end_with_a_status_at_the_deadline_and_in_a_crash() {
    for ending in ["deadline", "crash"] {
        let port = Port::reserve();
        let address = port.address().to_string();
        let mut app = Script::start(Language::Python, "grpc_app", &json!({"address": address}));
        app.reaches("serving").await;
        let mut sidecar = Sidecar::start_with(&format!(
            "proxy: [{{ listen: '127.0.0.1:0', upstream: 'h2c://{address}' }}]\n\
             drain: {{ delay: 100ms, quiet: 100ms, deadline: 2s }}"
        ));
        sidecar.ready().await;
        let settings = json!({"address": sidecar.proxy().to_string(), "streams": 3});
        let mut streams = Script::start(Language::Python, "grpc_streams", &settings);
        streams.reaches("begun").await;
        match ending {
            "crash" => drop(app),
            _ => {
                sidecar.signal("TERM");
                assert_eq!(sidecar.ended(Duration::from_secs(30)).await.code(), Some(1));
            }
        }
        let ended = streams.passes().await;
        for status in ended.as_array().unwrap() {
            assert!(["UNAVAILABLE", "CANCELLED"].contains(&status.as_str().unwrap()), "{ending}: {ended}");
        }
    }
}
