//! Probes of the running binary, byte for byte, on connections that are kept, shared and broken.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::PATIENCE;
use crate::support::eventually;
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;

/// Nothing is proxied here.
const PROXY: &str = "proxy: [{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }]";

/// All that is answered to these bytes until the connection is closed, without the date.
async fn told(sidecar: &Sidecar, sent: &str) -> String {
    let mut client = Client::connect(sidecar.ops).await.unwrap();
    client.send(sent).await.unwrap();
    let answers = String::from_utf8(client.rest().await.unwrap()).unwrap();
    answers.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

#[tokio::test]
async fn a_probe_is_answered_with_these_bytes() {
    let sidecar = Sidecar::start_with(PROXY);
    sidecar.ready().await;
    for (path, content_type, body) in [
        ("/readyz", "application/json", "{\"status\":\"ready\",\"checks\":{}}"),
        ("/lb-healthz", "application/json", "{\"status\":\"ready\",\"checks\":{}}"),
        ("/healthz", "text/plain; charset=utf-8", "ok\n"),
        ("/startupz", "text/plain; charset=utf-8", "ok\n"),
    ] {
        let length = body.len();
        let expected = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncache-control: no-store\r\n\
             x-content-type-options: nosniff\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let rest = "Host: 10.0.0.1:8014\r\nUser-Agent: kube-probe/1.33\r\nAccept: */*\r\nConnection: close\r\n\r\n";
        assert_eq!(told(&sidecar, &format!("GET {path} HTTP/1.1\r\n{rest}")).await, expected, "{path}");
        // The same without the shorter way, which a body bars.
        let with_body = format!("GET {path} HTTP/1.1\r\nContent-Length: 1\r\n{rest}x");
        assert_eq!(told(&sidecar, &with_body).await, expected, "{path}");
    }
}

#[tokio::test]
async fn probes_and_other_requests_share_a_connection() {
    let sidecar = Sidecar::start_with(PROXY);
    sidecar.ready().await;
    let mut client = Client::connect(sidecar.ops).await.unwrap();
    for path in ["/readyz", "/healthz", "/readyz", "/metrics", "/readyz?verbose", "/readyz", "/healthz"] {
        let answer = client.get(path).await.unwrap();
        assert_eq!((answer.status, answer.closes()), (200, false), "{path}");
        let date = answer.header("date").unwrap();
        let told = std::time::SystemTime::now().duration_since(httpdate::parse_http_date(date).unwrap());
        assert!(told.unwrap_or_default() < Duration::from_secs(30), "{date}");
    }
    // A head in two pieces, then the rest of the next one.
    client.send("GET /readyz HT").await.unwrap();
    client.send("TP/1.1\r\n\r\nGET /healthz").await.unwrap();
    assert_eq!(client.answer().await.unwrap().status, 200);
    client.send(" HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(client.answer().await.unwrap().text(), "ok\n");
}

#[tokio::test]
async fn clients_that_vanish_or_send_garbage_leave_nothing_behind() {
    let sidecar = Sidecar::start_with(PROXY);
    sidecar.ready().await;
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", sidecar.pid())).unwrap().count();
    let before = descriptors();
    for round in 0..40 {
        let mut stream = TcpStream::connect(sidecar.ops).await.unwrap();
        let sent: &[u8] = match round % 4 {
            0 => b"GET /readyz HTTP/1.1\r\n\r\n",
            1 => b"GET /rea",
            2 => b"\x16\x03\x01\0\xff\xfe\r\n\r\n",
            _ => b"",
        };
        stream.write_all(sent).await.unwrap();
        if round % 8 < 4 {
            // Gone with a reset, and what was sent to it lost.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    eventually(PATIENCE, "every connection is closed", async || descriptors() <= before).await;
    assert_eq!(raw::get(sidecar.ops, "/readyz").await.unwrap().status, 200);
}
