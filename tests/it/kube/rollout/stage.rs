//! What the tests of rollouts have in common: manifests, load, and the update itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::kube;
use tidegate::kube::inject::{Options, Outcome};
use tokio::task::JoinSet;

use crate::endings::load::{Habit, Load, Protocol, Target};
use crate::endings::tally::Cell;
use crate::kubelet::app::GRPC_PORT;
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

/// The manifest that is shipped, with the sidecar written by hand; with shorter times.
pub(super) fn shipped() -> Manifests {
    let text = std::fs::read_to_string(root().join("deploy/sidecar.yaml")).unwrap();
    let mut manifests = Manifests::parse(&text);
    let sidecar = sidecar(&mut manifests);
    set(sidecar, "TIDEGATE_DRAIN__DELAY", "2s");
    set(sidecar, "TIDEGATE_DRAIN__QUIET", "300ms");
    set(sidecar, "TIDEGATE_CHECKS__APP__INTERVAL", "1s");
    set(sidecar, "TIDEGATE_CHECKS__APP__FALL", "10");
    set(sidecar, "TIDEGATE_CHECKS__APP__MAX_STALENESS", "30s");
    be_patient(sidecar);
    manifests
}

/// The example of a workload as its team has it, four replicas of which two more may come at once; what it says of the
/// sidecar are shorter times.
pub(super) fn order_api() -> Manifests {
    let text = std::fs::read_to_string(root().join("deploy/examples/order-api.yaml")).unwrap();
    let mut manifests = Manifests::parse(&text);
    for (key, value) in [("drain.delay", "2s"), ("drain.quiet", "300ms"), ("checks.app.max_staleness", "30s")] {
        annotate(&mut manifests, &format!("config.tidegate.dev/{key}"), value);
    }
    let readiness = &mut app(&mut manifests)["readinessProbe"];
    readiness["periodSeconds"] = json!(1);
    readiness["failureThreshold"] = json!(10);
    manifests
}

/// What `tidegate inject` makes of it.
pub(super) fn injected(manifests: Manifests, options: &Options) -> Manifests {
    let outcomes = kube::inject::stream(&manifests.0, options);
    let objects = manifests.0.into_iter().zip(outcomes).map(|(object, outcome)| match outcome {
        Outcome::Injected { object, .. } => object,
        Outcome::Untouched(_) => object,
        Outcome::Refused(refusals) => panic!("{refusals:#?}"),
    });
    let mut manifests = Manifests(objects.collect());
    be_patient(sidecar(&mut manifests));
    manifests
}

/// A machine that has much to do is no reason to take a pod for a sick one.
fn be_patient(sidecar: &mut Value) {
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        sidecar[probe]["timeoutSeconds"] = json!(10);
    }
}

/// The template's sidecar.
pub(super) fn sidecar(manifests: &mut Manifests) -> &mut Value {
    let spec = manifests.object("Deployment")["spec"]["template"]["spec"].as_object_mut().unwrap();
    let lists = spec.iter_mut().filter(|(key, _)| matches!(key.as_str(), "initContainers" | "containers"));
    let mut all = lists.flat_map(|(_, list)| list.as_array_mut().unwrap());
    all.find(|container| container["name"] == "tidegate").expect("a sidecar")
}

/// The template's app.
pub(super) fn app(manifests: &mut Manifests) -> &mut Value {
    &mut manifests.object("Deployment")["spec"]["template"]["spec"]["containers"][0]
}

/// Annotates the template.
pub(super) fn annotate(manifests: &mut Manifests, name: &str, value: &str) {
    manifests.object("Deployment")["spec"]["template"]["metadata"]["annotations"][name] = json!(value);
}

/// The same with a second port, for gRPC.
pub(super) fn with_grpc(mut manifests: Manifests) -> Manifests {
    let app = app(&mut manifests);
    set(app, GRPC_PORT, "3001");
    app["ports"].as_array_mut().unwrap().push(json!({"name": "grpc", "containerPort": 3001}));
    let ports = manifests.object("Service")["spec"]["ports"].as_array_mut().unwrap();
    ports.push(json!({"name": "grpc", "port": 81, "targetPort": "grpc"}));
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
