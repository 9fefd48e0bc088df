//! What happens to single containers: a failed liveness probe, a crash of the sidecar, a grace period that is too short.

use serde_json::json;
use tidegate::kube::inject::Options;

use super::order::deleted;
use super::stage::{ARRIVAL, HTTP, Stage, annotate, app, failures, injected, order_api, set, shipped};
use crate::kubelet::app::ON_TERM;
use crate::kubelet::network::node;
use crate::kubelet::pod::Pod;
use crate::kubelet::record::{Exit, What};
use crate::kubelet::service::Service;
use crate::kubelet::spec::PortRef;
use crate::support::{eventually, raw};

const LONG: std::time::Duration = std::time::Duration::from_secs(60);

/// The app's own port, past the sidecar.
const APP: PortRef = PortRef::Number(3000);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_its_liveness_probe_restarts_loses_no_request() {
    let mut manifests = order_api();
    manifests.object("Deployment")["spec"]["replicas"] = json!(2);
    let get = json!({"path": "/livez", "port": "http"});
    app(&mut manifests)["livenessProbe"] = json!({"httpGet": get, "periodSeconds": 1, "failureThreshold": 2});
    // As long as a slow machine may take to start the app again.
    annotate(&mut manifests, "config.tidegate.dev/hold.max_wait", "25s");
    let manifests = injected(manifests, &Options::default());
    let mut stage = Stage::set(&manifests, ARRIVAL, &HTTP).await;
    stage.flows().await;
    let pod = stage.deployment.pods().next().unwrap();
    assert_eq!(raw::get(pod.port(&APP), "/break").await.unwrap().status, 200);
    eventually(LONG, "the app is restarted", async || pod.restarts("order-api") == 1 && pod.conditions().is_ready)
        .await;
    // Its hook was answered well before the pod could have been drained: the sidecar took it for a restart.
    let hook = |what: &What| matches!(what, What::HookEnded(Ok(said)) if said.starts_with("200"));
    let record = pod.record();
    assert!(record.place("order-api", hook) < record.place("order-api", |what| *what == What::Terminated));
    assert_eq!(record.count("tidegate", |what| *what == What::HookBegan), 0);
    let seen = stage.judge(&[]).await;
    assert_eq!(failures(&seen), 0, "{seen:#?}");
    let restarts: Vec<u32> = stage.deployment.pods().map(|pod| pod.restarts("tidegate")).collect();
    assert_eq!(restarts, [0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_crashes_is_restarted_alone() {
    let manifests = shipped();
    let service = Service::of(&manifests, ARRIVAL).await;
    let pod = Pod::start(&manifests.workload(), "orders-1", "node-a");
    service.follow(&pod);
    let address = service.address("http").unwrap();
    let answers = async || raw::get(address, "/work?name=1").await.is_ok_and(|answer| answer.status == 200);
    eventually(LONG, "the pod serves", answers).await;
    let app = pod.pid("orders");
    pod.kill("tidegate");
    eventually(LONG, "it is noticed", async || pod.restarts("tidegate") == 1).await;
    pod.ready().await;
    eventually(LONG, "the pod serves again", answers).await;
    assert_eq!((pod.pid("orders"), pod.restarts("orders")), (app, 0), "the app saw nothing of it");
    assert_eq!(pod.record().exits("tidegate"), [Exit::Signal(9)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_outlasts_the_grace_period_is_killed_and_that_is_told() {
    let mut manifests = shipped();
    set(app(&mut manifests), ON_TERM, "ignore");
    manifests.object("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(3);
    let pod = deleted(&manifests).await;
    assert_eq!(pod.record().count("orders", |what| *what == What::Killed), 1, "{}", pod.record());
    assert_eq!(pod.record().exits("orders"), [Exit::Signal(9)]);
}

/// The kubelet calls from the node, which the sidecar trusts no more than anybody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_without_the_right_token_drains_nothing() {
    let mut manifests = shipped();
    let field = "/lifecycle/preStop/httpGet/httpHeaders/0/value";
    *app(&mut manifests).pointer_mut(field).unwrap() = json!("another");
    let pod = deleted(&manifests).await;
    // A machine whose only address is loopback has no node to call from.
    let status = if node().is_loopback() { "200" } else { "403" };
    let refused = |what: &What| matches!(what, What::HookEnded(Ok(said)) if said.starts_with(status));
    pod.record().place("orders", refused);
}
