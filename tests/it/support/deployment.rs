//! Redis as it is deployed for real: three servers with three Sentinels, and a cluster of six nodes, on loopback.

use std::fs;
use std::process::Command;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tidegate::secret::Secret;

use super::eventually;
use super::port::Port;
use super::process::Process;
use super::redis::INSTALL;

/// How long a deployment may take to come together, or to fail over, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One process of Redis on a TCP port. Dropping it kills it and removes its files.
pub(crate) struct Server {
    /// Ends before its directory does.
    process: Option<Process>,
    directory: TempDir,
    port: Port,
    arguments: Vec<String>,
    /// `--port`, or `--tls-port`.
    speaks: &'static str,
}

impl Server {
    /// Starts it; its port joins `arguments`, the first of which may be a configuration file.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::speaking("--port", arguments)
    }

    /// As [`Self::start`], with TLS.
    pub(crate) fn start_tls(arguments: &[&str]) -> Self {
        Self::speaking("--tls-port", arguments)
    }

    fn speaking(speaks: &'static str, arguments: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("redis").tempdir().unwrap();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Self { directory, port: Port::reserve(), arguments, speaks, process: None };
        server.resume();
        server
    }

    /// Starts it, or starts it again after [`Self::kill`], empty.
    pub(crate) fn resume(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut command = Command::new("redis-server");
        if let Some(file) = self.arguments.first().filter(|first| !first.starts_with("--")) {
            command.arg(file);
        }
        let rest = self.arguments.iter().skip_while(|argument| !argument.starts_with("--"));
        command
            .args(if self.speaks == "--port" { &[][..] } else { &["--port", "0"][..] })
            .args([self.speaks, &self.port().to_string(), "--bind", "127.0.0.1"])
            .arg("--dir")
            .arg(self.directory.path())
            .arg("--unixsocket")
            .arg(self.directory.path().join("socket"))
            .args(rest);
        let mut process = Process::start("redis-server", INSTALL, &mut command, self.directory.path().join("log"));
        process.wait_until(|| std::net::TcpStream::connect(self.port.address()).is_ok());
        self.process = Some(process);
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Suspends it: connections stay, and nothing ever answers.
    pub(crate) fn freeze(&self) {
        self.process.as_ref().expect("it runs").freeze();
    }

    /// Undoes [`Self::freeze`].
    pub(crate) fn thaw(&self) {
        self.process.as_ref().expect("it runs").thaw();
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.address().port()
    }

    pub(crate) fn url(&self) -> Secret {
        Secret::new(format!("redis://{}", self.port.address()))
    }

    /// A client of the test's own, knowing nothing of the code under test.
    pub(crate) async fn client(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url().expose()).unwrap();
        let mut client = client.get_multiplexed_async_connection().await.unwrap();
        client.set_response_timeout(PATIENCE);
        client
    }

    /// The same over a unix socket, whatever the port speaks.
    pub(crate) async fn socket_client(&self) -> MultiplexedConnection {
        let client =
            redis::Client::open(format!("redis+unix://{}", self.directory.path().join("socket").display())).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// What it answers to a command; nothing when it is away or refuses.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> Option<T> {
        let client = redis::Client::open(self.url().expose()).unwrap();
        let mut client = client.get_multiplexed_async_connection().await.ok()?;
        client.set_response_timeout(PATIENCE);
        redis::cmd(command[0]).arg(&command[1..]).query_async(&mut client).await.ok()
    }

    /// As [`Self::ask`], which must be done.
    async fn does(&self, command: &[&str]) {
        let mut client = self.client().await;
        let done = redis::cmd(command[0]).arg(&command[1..]).query_async::<redis::Value>(&mut client).await;
        done.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    }
}

const IN_MEMORY: [&str; 6] = ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"];

/// A master called `main`, two replicas and three Sentinels.
pub(crate) struct Sentinels {
    pub(crate) servers: Vec<Server>,
    pub(crate) sentinels: Vec<Server>,
    _directory: TempDir,
}

impl Sentinels {
    /// All of them, knowing each other. The first server is the master.
    pub(crate) async fn start(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut servers = vec![Server::start(&[&IN_MEMORY[..], more].concat())];
        let master = servers[0].port().to_string();
        for _ in 0..2 {
            servers.push(Server::start(&[&IN_MEMORY[..], more, &["--replicaof", "127.0.0.1", &master]].concat()));
        }
        let mut sentinels = Vec::new();
        for number in 0..3 {
            let file = directory.path().join(format!("sentinel-{number}.conf"));
            let text = format!(
                "sentinel monitor main 127.0.0.1 {master} 2\nsentinel down-after-milliseconds main 2500\n\
                 sentinel failover-timeout main 6000\nsentinel parallel-syncs main 2\n"
            );
            fs::write(&file, text).unwrap();
            sentinels.push(Server::start(&[file.to_str().unwrap(), "--sentinel"]));
        }
        let all = Self { servers, sentinels, _directory: directory };
        eventually(PATIENCE, "sentinels know each other and the replicas", async || {
            for sentinel in &all.sentinels {
                let told = sentinel.ask::<Vec<String>>(&["SENTINEL", "MASTER", "main"]).await.unwrap_or_default();
                let field = |name: &str| told.iter().position(|f| f == name).map(|at| told[at + 1].as_str());
                if field("num-slaves") != Some("2") || field("num-other-sentinels") != Some("2") {
                    return false;
                }
            }
            let info = all.servers[0].ask::<String>(&["INFO", "replication"]).await.unwrap_or_default();
            info.matches("state=online").count() == 2
        })
        .await;
        all
    }

    pub(crate) fn url(&self) -> Secret {
        let hosts: Vec<String> = self.sentinels.iter().map(|s| format!("127.0.0.1:{}", s.port())).collect();
        Secret::new(format!("redis+sentinel://{}/main", hosts.join(",")))
    }

    /// Which server says that it is the master, of those that answer and are not `but`.
    pub(crate) async fn master_but(&self, but: usize) -> usize {
        let mut found = None;
        eventually(PATIENCE, "another server is the master", async || {
            for (at, server) in self.servers.iter().enumerate().filter(|(at, _)| *at != but) {
                let role = server.ask::<Vec<redis::Value>>(&["ROLE"]).await.unwrap_or_default();
                if role.first() == Some(&redis::Value::BulkString(b"master".to_vec())) {
                    found = Some(at);
                    return true;
                }
            }
            false
        })
        .await;
        found.unwrap()
    }
}

/// Three masters and a replica of each.
pub(crate) struct Cluster {
    /// Masters at 0, 1 and 2; the replica of each three places on.
    pub(crate) nodes: Vec<Server>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let mut nodes = Vec::new();
        let mut buses = Vec::new();
        for _ in 0..6 {
            let bus = Port::reserve();
            let number = bus.address().port().to_string();
            let cluster = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", &number];
            // A replica that was away for long stands for election all the same.
            let lenient = ["--cluster-replica-validity-factor", "0"];
            nodes.push(Server::start(&[&IN_MEMORY[..], &cluster, &lenient].concat()));
            buses.push(bus);
        }
        let cluster = Self { nodes };
        for (at, (first, last)) in [("0", "5460"), ("5461", "10922"), ("10923", "16383")].into_iter().enumerate() {
            cluster.nodes[at].does(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]).await;
            cluster.nodes[at].does(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await;
        }
        for (node, bus) in cluster.nodes.iter().zip(&buses).skip(1) {
            let (port, bus) = (node.port().to_string(), bus.address().port().to_string());
            cluster.nodes[0].does(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        }
        for replica in 3..6 {
            let master = cluster.id(replica - 3).await;
            eventually(PATIENCE, "the replica knows its master", async || {
                cluster.nodes[replica].ask::<String>(&["CLUSTER", "REPLICATE", &master]).await.is_some()
            })
            .await;
        }
        eventually(PATIENCE, "the cluster is whole", async || {
            for node in &cluster.nodes {
                let info = node.ask::<String>(&["CLUSTER", "INFO"]).await.unwrap_or_default();
                let nodes = node.ask::<String>(&["CLUSTER", "NODES"]).await.unwrap_or_default();
                let replicas = nodes.lines().filter(|line| line.contains("slave ")).count();
                if !info.contains("cluster_state:ok") || nodes.lines().count() != 6 || replicas != 3 {
                    return false;
                }
            }
            for replica in &cluster.nodes[3..] {
                let info = replica.ask::<String>(&["INFO", "replication"]).await.unwrap_or_default();
                if !info.contains("master_link_status:up") {
                    return false;
                }
            }
            true
        })
        .await;
        cluster
    }

    pub(crate) fn url(&self) -> Secret {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        Secret::new(format!("redis+cluster://{}", hosts.join(",")))
    }

    pub(crate) async fn id(&self, at: usize) -> String {
        self.nodes[at].ask(&["CLUSTER", "MYID"]).await.expect("it runs in a cluster")
    }

    /// The slot of `key`, and which of the nodes has it.
    pub(crate) async fn place(&self, key: &str) -> (u16, usize) {
        for (at, node) in self.nodes.iter().enumerate() {
            let Some(slot) = node.ask::<u16>(&["CLUSTER", "KEYSLOT", key]).await else { continue };
            let role = node.ask::<Vec<redis::Value>>(&["ROLE"]).await.unwrap_or_default();
            let master = role.first() == Some(&redis::Value::BulkString(b"master".to_vec()));
            if master && node.ask::<redis::Value>(&["EXISTS", key]).await.is_some() {
                return (slot, at);
            }
        }
        panic!("no master has {key}");
    }

    /// Moves a slot, key by key, while everybody goes on; `each` runs after every key.
    pub(crate) async fn reshard(&self, slot: u16, from: usize, to: usize, mut each: impl AsyncFnMut()) {
        let (source, target) = (self.id(from).await, self.id(to).await);
        let slot = slot.to_string();
        self.nodes[to].does(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]).await;
        self.nodes[from].does(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]).await;
        let port = self.nodes[to].port().to_string();
        loop {
            let keys: Vec<String> =
                self.nodes[from].ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"]).await.expect("it runs");
            let Some(key) = keys.first() else { break };
            self.nodes[from].does(&["MIGRATE", "127.0.0.1", &port, key, "0", "10000"]).await;
            each().await;
        }
        each().await;
        for at in [to, from, 0, 1, 2] {
            self.nodes[at].does(&["CLUSTER", "SETSLOT", &slot, "NODE", &target]).await;
        }
    }
}
