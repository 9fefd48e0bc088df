//! Many clients at once: what they cost, and that they leave room for others.

use std::process::Command;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::app::App;
use crate::support::eventually;
use crate::support::raw::{self, Client};
use crate::support::sidecar::Sidecar;

const LIMIT: Duration = Duration::from_secs(60);

/// Memory of the sidecar in KiB, now.
fn resident(sidecar: &Sidecar) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_cost_little() {
    const MANY: usize = 3_000;
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    assert_eq!(raw::get(sidecar.proxy(), "/").await.unwrap().status, 200);
    let before = resident(&sidecar);
    let mut idle = Vec::new();
    for _ in 0..MANY {
        let mut client = Client::connect(sidecar.proxy()).await.unwrap();
        assert_eq!(client.get("/").await.unwrap().status, 200);
        idle.push(client);
    }
    let each = resident(&sidecar).saturating_sub(before) * 1024 / MANY as u64;
    assert!(each <= 16 * 1024, "{each} bytes for each idle connection");
    for client in &mut idle {
        assert_eq!(client.get("/").await.unwrap().status, 200, "each of them is served on");
    }
}

/// A client that takes little, as over a slow line.
async fn slow(sidecar: &Sidecar, path: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&sidecar.proxy().into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut stream = TcpStream::from_std(socket.into()).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_of_large_bodies_hold_little_memory() {
    // Of more the kernel, which takes up to 4 MB for each before it stops us, would hold more than it grants.
    const MANY: usize = 300;
    const LENGTH: usize = 8_000_000;
    // Writes the same block again and again: the app's own memory is not what is measured.
    let app = App::serve(|mut stream| async move {
        socket2::SockRef::from(&stream).set_send_buffer_size(16 * 1024).unwrap();
        let mut request = [0; 4096];
        while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            for _ in 0..LENGTH / 8_000 {
                if stream.write_all(&[b'x'; 8_000]).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    // Nobody is to be cut for being as slow as this test wants them.
    let sidecar = Sidecar::start(app.address, "limits: { send_timeout: 10m }");
    let before = resident(&sidecar);
    let mut slow_ones = Vec::new();
    for _ in 0..MANY {
        slow_ones.push(slow(&sidecar, "/").await);
    }
    eventually(LIMIT, "all are under way", async || {
        sidecar.metric("tidegate_in_flight", "kind=\"request\"").await == MANY as f64
    })
    .await;
    let mut fast = Client::connect(sidecar.proxy()).await.unwrap();
    let answer = fast.get("/").await.unwrap();
    assert_eq!(answer.body.len(), LENGTH, "others are served meanwhile: {:.200}", answer.text());
    let each = resident(&sidecar).saturating_sub(before) / MANY as u64;
    // What one may hold, twice over: freed memory goes back to the system a while later.
    assert!(each <= 128, "{each} KiB for each slow reader");
    let mut rest = Vec::new();
    let mut one = slow_ones.swap_remove(MANY / 2);
    while rest.len() < LENGTH {
        assert_ne!(one.read_buf(&mut rest).await.unwrap(), 0, "slow ones get all of it");
    }
}

/// Sets how many file descriptors the sidecar may have.
fn allow(sidecar: &Sidecar, descriptors: u64) {
    let pid = sidecar.pid().to_string();
    let nofile = format!("--nofile={descriptors}:");
    let set = Command::new("prlimit").args(["--pid", &pid, &nofile]).status().expect("prlimit, of util-linux");
    assert!(set.success());
}

#[tokio::test]
async fn want_of_file_descriptors_is_waited_for() {
    let app = App::start().await;
    let sidecar = Sidecar::start(app.address, "");
    let mut before = Client::connect(sidecar.proxy()).await.unwrap();
    assert_eq!(before.get("/").await.unwrap().status, 200);
    let open = std::fs::read_dir(format!("/proc/{}/fd", sidecar.pid())).unwrap().count() as u64;
    allow(&sidecar, open);
    let mut waiting = Client::connect(sidecar.proxy()).await.unwrap();
    waiting.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
    eventually(LIMIT, "it is said once", async || sidecar.logs("cannot accept connections; trying again").await > 0)
        .await;
    assert_eq!(before.get("/").await.unwrap().status, 200, "who is there is served on");
    allow(&sidecar, open + 64);
    // 502 when the one that became free first was its own, and none was left to reach the app.
    let waited = waiting.answer().await.unwrap().status;
    assert!(matches!(waited, 200 | 502), "{waited} for who waited");
    assert_eq!(raw::get(sidecar.proxy(), "/").await.unwrap().status, 200, "and others as soon as there is room");
}
