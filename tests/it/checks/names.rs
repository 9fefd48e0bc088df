//! Names that come to mean another server.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::readiness::PATIENCE;
use crate::support::deployment::Server;
use crate::support::eventually;
use crate::support::mariadb::Mariadb;
use crate::support::postgres::{self, Postgres};
use crate::support::sidecar::Sidecar;
use crate::support::{mariadb, raw};

/// A way to a server, which ends with all its connections when it is dropped.
struct Way {
    accepted: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Way {
    async fn new(at: SocketAddr, to: SocketAddr) -> (Self, u16) {
        let listener = TcpListener::bind(at).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, mut tasks) = (accepted.clone(), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut here, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                connections.spawn(async move {
                    let mut there = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                });
            }
        });
        (Self { accepted, _tasks: tasks }, port)
    }
}

/// Has the name mean this address. The file's time is seconds to who reads it: each is a later one.
fn mean(hosts: &Path, address: &str, later: Duration) {
    std::fs::write(hosts, format!("{address} moving.test\n")).unwrap();
    let file = std::fs::File::options().write(true).open(hosts).unwrap();
    file.set_modified(SystemTime::now() + later).unwrap();
}

#[tokio::test]
async fn a_name_that_moves_is_followed_by_the_next_connection() {
    let (postgres, mariadb, redis) = (Postgres::start(), Mariadb::start(&[]), Server::start(&["--save", ""]));
    let app = crate::support::app::App::start().await;
    let servers = [
        ("postgres", postgres.address()),
        ("mysql", mariadb.address()),
        ("redis", ([127, 0, 0, 1], redis.port()).into()),
        ("http", app.address),
        ("tcp", app.address),
    ];
    let (mut former, mut latter, mut checks) = (Vec::new(), Vec::new(), String::new());
    for (kind, to) in servers {
        let (way, port) = Way::new(([127, 0, 0, 1], 0).into(), to).await;
        former.push(way);
        latter.push((kind, Way::new(([127, 0, 0, 2], port).into(), to).await.0));
        let at = format!("moving.test:{port}");
        let what = match kind {
            "postgres" => format!("{{ url: 'postgres://app:{}@{at}/postgres' }}", postgres::PASSWORD),
            "mysql" => format!("{{ url: 'mysql://app:{}@{at}/test' }}", mariadb::PASSWORD),
            "redis" => format!("{{ url: 'redis://{at}' }}"),
            "http" => format!("{{ url: 'http://{at}/' }}"),
            _ => format!("{{ address: '{at}' }}"),
        };
        checks.push_str(&format!("  of-{kind}: {{ {kind}: {what}, interval: 100ms }}\n"));
    }
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    mean(&hosts, "127.0.0.1", Duration::ZERO);
    let proxy = "proxy: [{ listen: '127.0.0.1:0', upstream: 'http://127.0.0.1:9' }]";
    let sidecar = Sidecar::start_with_hosts(&hosts, &format!("{proxy}\nchecks:\n{checks}"));
    sidecar.ready().await;
    assert!(latter.iter().all(|(_, way)| way.accepted.load(Ordering::SeqCst) == 0));

    mean(&hosts, "127.0.0.2", Duration::from_secs(60));
    drop(former);
    for (kind, way) in &latter {
        let why = format!("{kind} is asked where its name leads now");
        eventually(PATIENCE, &why, async || way.accepted.load(Ordering::SeqCst) > 0).await;
    }
    sidecar.ready().await;
    let answer = raw::get(sidecar.ops, "/readyz").await.unwrap().json();
    assert!(answer["checks"].as_object().unwrap().values().all(|state| state == "ok"), "{answer}");
}
