//! The health service of gRPC, as the official library in Python serves it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use socket2::SockRef;
use tidegate::cli::Output;
use tidegate::cli::check as command;
use tidegate::local::settings::Socket;
use tidegate::net::tls::client::Trust;
use tidegate::readiness::settings::{Check, Grpc as Settings, Kind};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{fails, impatient, passes, says};
use crate::readiness::{PATIENCE, check, watch};
use crate::support::authority::Authority;
use crate::support::chaos::{Chaos, Upstream};
use crate::support::eventually;
use crate::support::health::Health;

fn of(url: impl Into<String>, service: &str) -> Check {
    let settings = Settings { url: url.into(), service: service.to_owned(), trust: Trust::default() };
    check("app", Kind::Grpc(settings))
}

#[tokio::test]
async fn a_service_is_as_its_server_says_over_one_connection() {
    let mut server = Health::start(&json!({}));
    let chaos = Chaos::to(Upstream::Tcp(server.address()));
    let url = format!("http://{}", chaos.address());
    let mut watched = watch([impatient(of(url.clone(), "orders.v1.Orders"))]);
    fails(&watched, "app", "service orders.v1.Orders is unknown to the health service").await;
    server.set("orders.v1.Orders", "SERVING");
    passes(&watched, "app").await;
    server.set("orders.v1.Orders", "NOT_SERVING");
    fails(&watched, "app", "service orders.v1.Orders is not serving").await;
    server.set("orders.v1.Orders", "UNKNOWN");
    fails(&watched, "app", "the health of service orders.v1.Orders is unknown").await;
    server.set("orders.v1.Orders", "SERVING");
    passes(&watched, "app").await;
    assert_eq!((chaos.accepted(), chaos.open()), (1, 1));

    chaos.stall();
    fails(&watched, "app", "timeout after 300ms").await;
    chaos.restore();
    passes(&watched, "app").await;
    server.signal("STOP");
    fails(&watched, "app", "timeout after 300ms").await;
    server.signal("CONT");
    passes(&watched, "app").await;
    chaos.refuse();
    fails(&watched, "app", "connection refused").await;
    chaos.restore();
    passes(&watched, "app").await;
    eventually(PATIENCE, "one connection is open", async || chaos.open() == 1).await;
    watched.probers.shutdown().await;
    eventually(PATIENCE, "a stopped check closes its connection", async || chaos.open() == 0).await;

    let whole = watch([of(url, "")]);
    passes(&whole, "app").await;
    server.set("", "NOT_SERVING");
    fails(&whole, "app", "the server is not serving").await;
}

#[tokio::test]
async fn tls_is_checked_and_our_certificate_shown() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (issued, ours) = (authority.issue("server", 2), authority.issue("ours", 2));
    let server = Health::start(&json!({
        "certificate": issued.certificate, "key": issued.key, "authority": authority.certificate(),
    }));
    let at = |host: &str, ca: &Authority, shown: bool| {
        let identity = shown.then(|| (ours.certificate.clone().into(), ours.key.clone().into()));
        let trust = Trust { ca_file: Some(ca.certificate().into()), identity, ..Trust::default() };
        let url = format!("https://{host}:{}", server.address().port());
        check("app", Kind::Grpc(Settings { url, service: String::new(), trust }))
    };
    passes(&watch([at("localhost", &authority, true)]), "app").await;
    says(&watch([at("localhost", &authority, false)]), "app: ").await;
    let name = watch([at("127.0.0.1", &authority, true)]);
    fails(&name, "app", "TLS: invalid peer certificate: not for the name of this server: for localhost…").await;
    let unknown = "TLS: invalid peer certificate: no authority that we trust vouches for it";
    fails(&watch([at("localhost", &stranger, true)]), "app", unknown).await;
    let expired = authority.issue("expired", -1);
    let server = Health::start(&json!({ "certificate": expired.certificate, "key": expired.key }));
    let url = format!("https://localhost:{}", server.address().port());
    let trust = Trust { ca_file: Some(authority.certificate().into()), ..Trust::default() };
    let watched = watch([check("app", Kind::Grpc(Settings { url, service: String::new(), trust }))]);
    fails(&watched, "app", "TLS: invalid peer certificate: expired at 20…").await;
}

#[tokio::test]
async fn what_has_no_health_service_is_said_to_have_none() {
    let server = Health::start(&json!({ "health": false }));
    let watched = watch([of(format!("http://{}", server.address()), "")]);
    fails(&watched, "app", "the server has no health service (grpc.health.v1)").await;
}

/// A server that says `answer` and then closes: with a FIN, or with an RST as one does that has not read everything.
fn speaking(answer: &'static [u8], end: Option<Duration>) -> (SocketAddr, JoinSet<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 24];
            stream.read_exact(&mut some).await.map(drop).unwrap_or_default();
            stream.write_all(answer).await.unwrap_or_default();
            SockRef::from(&stream).set_linger(end).unwrap();
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn what_speaks_another_protocol_is_said_to_by_the_command_and_by_the_sidecar() {
    let answers: [&[u8]; 3] = [
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x16",
        b"-ERR unknown\r\n",
    ];
    for answer in answers {
        for end in [None, Some(Duration::ZERO)] {
            let (address, _tasks) = speaking(answer, end);
            let check = of(format!("http://{address}"), "");
            let watched = watch([check.clone()]);
            fails(&watched, "app", "the answer is not HTTP/2").await;
            for _ in 0..20 {
                let report =
                    command::run(&tidegate::readiness::Settings { checks: vec![check.clone()] }, &Socket::None).await;
                let table = report.render(Output::Table).unwrap();
                assert!(table.contains("the answer is not HTTP/2  see that the port is that of gRPC"), "{table}");
            }
        }
    }
}
