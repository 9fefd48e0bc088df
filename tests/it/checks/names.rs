//! Names that come to mean another server.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::readiness::PATIENCE;
use crate::support::deployment::Server;
use crate::support::eventually;
use crate::support::health::Health;
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
    let mut health = Health::start(&json!({}));
    health.set("", "SERVING");
    let (client, _tasks) = postgres.client().await;
    client.batch_execute("CREATE TABLE orders (id int)").await.unwrap();
    mariadb.sql("CREATE TABLE test.orders (id int)");
    let servers = [
        ("postgres", postgres.address()),
        ("mysql", mariadb.address()),
        ("redis", ([127, 0, 0, 1], redis.port()).into()),
        ("http", app.address),
        ("tcp", app.address),
        ("grpc", health.address()),
        ("schema", postgres.address()),
        ("schema-mysql", mariadb.address()),
        ("app", app.address),
    ];
    let (mut former, mut latter, mut checks) = (Vec::new(), Vec::new(), String::new());
    let mut upstream = String::new();
    for (label, to) in servers {
        let (way, port) = Way::new(([127, 0, 0, 1], 0).into(), to).await;
        former.push(way);
        latter.push((label, Way::new(([127, 0, 0, 2], port).into(), to).await.0));
        let at = format!("moving.test:{port}");
        let (pg, my) = (postgres::PASSWORD, mariadb::PASSWORD);
        let what = match label {
            "postgres" => format!("{{ url: 'postgres://app:{pg}@{at}/postgres' }}"),
            "schema" => format!("{{ url: 'postgres://app:{pg}@{at}/postgres', tables: orders }}"),
            "schema-mysql" => format!("{{ url: 'mysql://app:{my}@{at}/test', tables: orders }}"),
            "mysql" => format!("{{ url: 'mysql://app:{my}@{at}/test' }}"),
            "redis" => format!("{{ url: 'redis://{at}' }}"),
            "http" => format!("{{ url: 'http://{at}/' }}"),
            "grpc" => format!("{{ url: 'http://{at}' }}"),
            "app" => {
                upstream = format!("http://{at}");
                "{}".to_owned()
            }
            _ => format!("{{ address: '{at}' }}"),
        };
        let kind = label.split('-').next().unwrap();
        checks.push_str(&format!("  of-{label}: {{ {kind}: {what}, interval: 100ms }}\n"));
    }
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    mean(&hosts, "127.0.0.1", Duration::ZERO);
    let proxy = format!("proxy: [{{ listen: '127.0.0.1:0', upstream: '{upstream}' }}]");
    let sidecar = Sidecar::start_with_hosts(&hosts, &format!("{proxy}\nchecks:\n{checks}"));
    sidecar.ready().await;
    assert!(latter.iter().all(|(_, way)| way.accepted.load(Ordering::SeqCst) == 0));

    mean(&hosts, "127.0.0.2", Duration::from_secs(60));
    drop(former);
    for (label, way) in &latter {
        let why = format!("{label} is asked where its name leads now");
        eventually(PATIENCE, &why, async || way.accepted.load(Ordering::SeqCst) > 0).await;
    }
    sidecar.ready().await;
    let answer = raw::get(sidecar.ops, "/readyz").await.unwrap().json();
    assert!(answer["checks"].as_object().unwrap().values().all(|state| state == "ok"), "{answer}");
}
