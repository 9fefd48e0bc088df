//! Pods with their sidecar as the kubelet plays them: rolling updates, drains of nodes, restarts and ends by force, under
//! load through a Service.

mod accidents;
mod order;
mod stage;

use serde_json::json;
use tidegate::kube::inject::{Mode, Options};

use self::stage::{ARRIVAL, HTTP, Stage, annotate, app, failures, injected, order_api, with_grpc};
use crate::endings::load::Protocol;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_with_the_sidecar_loses_no_request_of_any_protocol() {
    let manifests = injected(with_grpc(order_api()), &Options::default());
    let mut stage = Stage::set(&manifests, ARRIVAL, &Protocol::ALL).await;
    let seen = stage.rolling_update(&manifests).await;
    assert_eq!(failures(&seen), 0, "{seen:#?}");
}

/// As for Kubernetes before 1.29: SIGTERM reaches the sidecar while the app still serves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_with_the_sidecar_among_the_containers_loses_no_request() {
    let manifests = injected(order_api(), &Options { mode: Some(Mode::Container), ..Options::default() });
    let mut stage = Stage::set(&manifests, ARRIVAL, &HTTP).await;
    let seen = stage.rolling_update(&manifests).await;
    assert_eq!(failures(&seen), 0, "{seen:#?}");
}

/// The negative control: the same Deployment, load and update, and no sidecar.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_without_the_sidecar_loses_requests() {
    let manifests = order_api();
    let mut stage = Stage::set(&manifests, ARRIVAL, &HTTP).await;
    let seen = stage.rolling_update(&manifests).await;
    assert!(failures(&seen) > 0, "{seen:#?}");
}

/// Pods of before, whose app is kept alive by a `preStop` that sleeps, and pods with the sidecar stand behind one Service,
/// which finds each by the name of its port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_rollout_with_the_sidecar_loses_no_request() {
    let mut before = order_api();
    app(&mut before)["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 2}}});
    // Connections that are kept end with the app in any case: there is nobody yet to part from them.
    let mut stage = Stage::set(&before, ARRIVAL, &[Protocol::Http1Fresh]).await;
    let seen = stage.rolling_update(&injected(before, &Options::default())).await;
    assert_eq!(failures(&seen), 0, "{seen:#?}");
}

/// Here the sidecar has the app's own port, and the app another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drain_of_a_node_loses_no_request() {
    let mut manifests = order_api();
    annotate(&mut manifests, "tidegate.dev/app-port-env", "PORT");
    let mut stage = Stage::set(&injected(manifests, &Options::default()), ARRIVAL, &HTTP).await;
    stage.flows().await;
    let gone = stage.deployment.drain("node-a").await;
    assert_eq!(gone.len(), 2, "half of the pods");
    let seen = stage.judge(&gone).await;
    assert_eq!(failures(&seen), 0, "{seen:#?}");
}
