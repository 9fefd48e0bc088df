//! A Service: each new connection goes to one of its endpoints at random, and stays there, as with kube-proxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::manifests::Manifests;
use super::pod::{Conditions, Pod};
use super::spec::PortRef;

/// A Service and the node's part of it; stopped on drop.
pub(crate) struct Service {
    ports: BTreeMap<String, SocketAddr>,
    targets: Vec<(String, PortRef)>,
    endpoints: Arc<Mutex<Vec<Endpoint>>>,
    /// How long a change takes to arrive.
    delay: Duration,
    tasks: Mutex<JoinSet<()>>,
}

/// A pod of the Service, as it is known.
struct Endpoint {
    pod: String,
    addresses: BTreeMap<String, SocketAddr>,
    conditions: Conditions,
}

impl Service {
    /// The Service of the stream. It learns of changes of its pods after `delay`.
    pub(crate) async fn of(manifests: &Manifests, delay: Duration) -> Self {
        let endpoints: Arc<Mutex<Vec<Endpoint>>> = Arc::default();
        let mut tasks = JoinSet::new();
        let mut ports = BTreeMap::new();
        for (name, _) in manifests.ports() {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            ports.insert(name.clone(), listener.local_addr().unwrap());
            tasks.spawn(serve(listener, name, endpoints.clone()));
        }
        Self { ports, targets: manifests.ports(), endpoints, delay, tasks: Mutex::new(tasks) }
    }

    /// Where clients of a port connect.
    pub(crate) fn address(&self, port: &str) -> Option<SocketAddr> {
        self.ports.get(port).copied()
    }

    /// Makes a pod one of its endpoints whenever it is ready.
    pub(crate) fn follow(&self, pod: &Pod) {
        let addresses = self.targets.iter().map(|(name, target)| (name.clone(), pod.port(target))).collect();
        let mut endpoint = Some(Endpoint { pod: pod.name.clone(), addresses, conditions: Conditions::default() });
        let (endpoints, delay, name) = (self.endpoints.clone(), self.delay, pod.name.clone());
        let mut seen = pod.watch();
        self.tasks.lock().unwrap().spawn(async move {
            loop {
                let conditions = *seen.borrow_and_update();
                sleep(delay).await;
                {
                    let mut endpoints = endpoints.lock().unwrap();
                    endpoints.extend(endpoint.take());
                    for known in endpoints.iter_mut().filter(|known| known.pod == name) {
                        known.conditions = conditions;
                    }
                    if conditions.is_over {
                        endpoints.retain(|known| known.pod != name);
                    }
                }
                if conditions.is_over || seen.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// Pods that new connections go to at the moment.
    pub(crate) fn serving(&self) -> Vec<String> {
        chosen(&self.endpoints.lock().unwrap()).iter().map(|endpoint| endpoint.pod.clone()).collect()
    }
}

/// Ready pods that stay; without any, those that terminate and are ready still (KEP-1669).
fn chosen(endpoints: &[Endpoint]) -> Vec<&Endpoint> {
    let of = |is_deleted: bool| {
        let wanted = Conditions { is_ready: true, is_deleted, is_over: false };
        endpoints.iter().filter(|endpoint| endpoint.conditions == wanted).collect::<Vec<_>>()
    };
    let staying = of(false);
    if staying.is_empty() { of(true) } else { staying }
}

async fn serve(listener: TcpListener, port: String, endpoints: Arc<Mutex<Vec<Endpoint>>>) {
    let mut open = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let target = {
            let endpoints = endpoints.lock().unwrap();
            let chosen = chosen(&endpoints);
            fastrand::choice(&chosen).map(|endpoint| endpoint.addresses[&port])
        };
        open.spawn(async move {
            let opened = match target {
                Some(address) => TcpStream::connect(address).await.ok(),
                None => None,
            };
            let Some(mut pod) = opened else {
                // Refused by the node or by the pod: here the client sees a reset.
                let _ = client.set_zero_linger();
                return;
            };
            let _ = pod.set_nodelay(true);
            let _ = client.set_nodelay(true);
            let _ = copy_bidirectional(&mut client, &mut pod).await;
        });
        while open.try_join_next().is_some() {}
    }
}

#[test]
fn new_connections_go_to_pods_that_stay_and_else_to_those_that_still_can() {
    let check = |pods: &[(bool, bool)], expected: &[usize]| {
        let endpoint = |(at, (is_ready, is_deleted)): (usize, &(bool, bool))| Endpoint {
            pod: at.to_string(),
            addresses: BTreeMap::new(),
            conditions: Conditions { is_ready: *is_ready, is_deleted: *is_deleted, is_over: false },
        };
        let endpoints: Vec<Endpoint> = pods.iter().enumerate().map(endpoint).collect();
        let found: Vec<usize> = chosen(&endpoints).iter().map(|endpoint| endpoint.pod.parse().unwrap()).collect();
        assert_eq!(found, expected, "(ready, deleted): {pods:?}");
    };
    check(&[(true, false), (true, true), (false, false)], &[0]);
    check(&[(false, false), (true, true), (false, true)], &[1]);
    check(&[(false, false), (false, true)], &[]);
}
