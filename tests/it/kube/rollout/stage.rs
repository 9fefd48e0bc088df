//! What the tests of rollouts have in common: manifests, load, and the update itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::endings::load::{Habit, Load, Protocol, Target};
use crate::endings::tally::Cell;
use crate::kubelet::deployment::Deployment;
use crate::kubelet::manifests::Manifests;
use crate::kubelet::pod::Pod;
use crate::kubelet::service::Service;
use crate::support::raw;
use crate::support::sdk::root;

/// After which a Service knows of a change.
pub(super) const ARRIVAL: Duration = Duration::from_millis(300);

/// Requests, which any listener takes.
pub(super) const HTTP: [Protocol; 3] = [Protocol::Http1Fresh, Protocol::Http1Kept, Protocol::Http2];

/// What the clients of each protocol saw.
pub(super) type Seen = BTreeMap<Protocol, Cell>;

pub(super) fn failures(seen: &Seen) -> u64 {
    seen.values().map(Cell::failures).sum()
}

/// The manifest that is shipped, with shorter times, and four replicas of which two more may come at once.
pub(super) fn shipped() -> Manifests {
    let text = std::fs::read_to_string(root().join("deploy/sidecar.yaml")).unwrap();
    let mut manifests = Manifests::parse(&text);
    let deployment = manifests.object("Deployment");
    deployment["spec"]["replicas"] = json!(4);
    deployment["spec"]["strategy"]["rollingUpdate"] = json!({"maxSurge": 2, "maxUnavailable": 0});
    let sidecar = sidecar(&mut manifests);
    set(sidecar, "TIDEGATE_DRAIN__DELAY", "2s");
    set(sidecar, "TIDEGATE_DRAIN__QUIET", "300ms");
    set(sidecar, "TIDEGATE_CHECKS__APP__INTERVAL", "1s");
    be_patient(sidecar);
    manifests
}

/// A machine that has much to do is no reason to take a pod for a sick one.
fn be_patient(sidecar: &mut Value) {
    set(sidecar, "TIDEGATE_CHECKS__APP__FALL", "10");
    set(sidecar, "TIDEGATE_CHECKS__APP__MAX_STALENESS", "30s");
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        sidecar[probe]["timeoutSeconds"] = json!(10);
    }
}

/// The template's native sidecar.
pub(super) fn sidecar(manifests: &mut Manifests) -> &mut Value {
    &mut manifests.object("Deployment")["spec"]["template"]["spec"]["initContainers"][0]
}

/// The template's app.
pub(super) fn app(manifests: &mut Manifests) -> &mut Value {
    &mut manifests.object("Deployment")["spec"]["template"]["spec"]["containers"][0]
}

/// The same with a second listener, for the app's HTTP/2.
pub(super) fn with_grpc(mut manifests: Manifests) -> Manifests {
    let sidecar = sidecar(&mut manifests);
    set(sidecar, "TIDEGATE_PROXY__1__LISTEN", "0.0.0.0:8081");
    set(sidecar, "TIDEGATE_PROXY__1__UPSTREAM", "h2c://127.0.0.1:3000");
    let ports = manifests.object("Service")["spec"]["ports"].as_array_mut().unwrap();
    ports.push(json!({"name": "grpc", "port": 81, "targetPort": 8081}));
    manifests
}

/// The same with the sidecar as a container as any, for Kubernetes before 1.29.
pub(super) fn contained(mut manifests: Manifests) -> Manifests {
    let spec = &mut manifests.object("Deployment")["spec"]["template"]["spec"];
    let mut sidecar = spec["initContainers"].as_array_mut().unwrap().remove(0);
    sidecar.as_object_mut().unwrap().remove("restartPolicy");
    spec["containers"].as_array_mut().unwrap().push(sidecar);
    manifests
}

/// The same app alone: the Service targets its port, and its own probe tells readiness.
pub(super) fn plain() -> Manifests {
    let mut manifests = shipped();
    manifests.object("Deployment")["spec"]["template"]["spec"]["initContainers"] = json!([]);
    let app = app(&mut manifests);
    app.as_object_mut().unwrap().remove("lifecycle");
    app["ports"] = json!([{"name": "http", "containerPort": 3000}]);
    app["readinessProbe"] = json!({"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1});
    manifests
}

/// Sets a variable of a container, as `kubectl set env` does.
pub(super) fn set(container: &mut Value, name: &str, value: &str) {
    if container["env"].is_null() {
        container["env"] = json!([]);
    }
    let environment = container["env"].as_array_mut().unwrap();
    environment.retain(|variable| variable["name"] != name);
    environment.push(json!({"name": name, "value": value}));
}

/// A Deployment under load through its Service.
pub(super) struct Stage {
    pub(super) deployment: Deployment,
    load: Option<Load>,
}

impl Stage {
    /// Creates it, and the load once all pods are ready. The Service learns of changes after `arrival`.
    pub(super) async fn set(manifests: &Manifests, arrival: Duration, protocols: &[Protocol]) -> Self {
        let service = Service::of(manifests, arrival).await;
        let deployment = Deployment::create(manifests.workload(), service).await;
        let http = deployment.service.address("http").expect("a port `http`");
        let grpc = deployment.service.address("grpc").unwrap_or(http);
        let load = Load::of(protocols, Target { http, grpc }, Habit::Short);
        Self { deployment, load: Some(load) }
    }

    /// Waits until every protocol has moved on.
    pub(super) async fn flows(&self) {
        self.load.as_ref().unwrap().flows().await;
    }

    /// Replaces all pods under load. Requests that take long are on their way when it begins, one for each pod.
    pub(super) async fn rolling_update(&mut self, to: &Manifests) -> Seen {
        self.flows().await;
        let address = self.deployment.service.address("http").unwrap();
        let mut slow = JoinSet::new();
        for _ in 0..4 {
            slow.spawn(async move { raw::get(address, "/work?name=slow&ms=5000").await.map(|answer| answer.status) });
        }
        let gone = self.deployment.update(to.workload()).await;
        let mut cell = Cell { asked: 4, ..Cell::default() };
        while let Some(answer) = slow.join_next().await {
            if let Err(fault) = answer.unwrap().map_err(Into::into).and_then(|status| match status {
                200 => Ok(()),
                status => Err(crate::endings::tally::Fault::Status(status)),
            }) {
                *cell.failed.entry(fault).or_default() += 1;
            }
        }
        let mut seen = self.judge(&gone).await;
        seen.entry(Protocol::Http1Fresh).and_modify(|fresh| fresh.add(&cell));
        seen
    }

    /// Lets the load go on for a while, stops it, and tells what failed; what happened in pods that are gone, too, where
    /// something did.
    pub(super) async fn judge(&mut self, gone: &[Pod]) -> Seen {
        self.flows().await;
        let seen = self.load.take().unwrap().stop().await;
        for (protocol, cell) in &seen {
            eprintln!("{:22} {cell}", protocol.name());
        }
        if failures(&seen) > 0 {
            for pod in gone.iter().chain(self.deployment.pods()) {
                eprintln!("pod {}:\n{}", pod.name, pod.record());
            }
        }
        seen
    }
}
