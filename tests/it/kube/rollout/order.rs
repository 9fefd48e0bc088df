//! The order of a pod's life, which the driver keeps to, and the sidecar's part in it.

use serde_json::json;

use super::stage::{app, set, shipped, sidecar};
use crate::kubelet::manifests::Manifests;
use crate::kubelet::pod::Pod;
use crate::kubelet::record::{Exit, What};
use crate::support::authority::Authority;

fn began(what: &What) -> bool {
    *what == What::Started
}

fn hooked(what: &What) -> bool {
    *what == What::HookBegan
}

fn returned(what: &What) -> bool {
    matches!(what, What::HookEnded(_))
}

fn told(what: &What) -> bool {
    *what == What::Terminated
}

fn exited(what: &What) -> bool {
    matches!(what, What::Exited(_))
}

fn drained(what: &What) -> bool {
    matches!(what, What::HookEnded(Ok(said)) if said.starts_with("200") && said.contains("clean"))
}

/// Plays one pod from its start to its deletion.
pub(super) async fn deleted(manifests: &Manifests) -> Pod {
    let pod = Pod::start(&manifests.workload(), "orders-1", "node-a");
    pod.ready().await;
    pod.delete();
    pod.ended().await;
    pod
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_begins_and_ends_in_the_order_of_the_kubelet() {
    let pod = deleted(&shipped()).await;
    let place = |container: &str, what: fn(&What) -> bool| pod.record().place(container, what);
    // KEP-753: the app begins once the sidecar is up.
    assert!(place("tidegate", |what| *what == What::Up) < place("orders", began));
    // Both hooks at the same moment, before either is done.
    let first = place("tidegate", returned).min(place("orders", returned));
    assert!(place("tidegate", hooked) < first && place("orders", hooked) < first);
    // SIGTERM after its own hook; the sidecar's after the app is gone.
    assert!(place("orders", returned) < place("orders", told));
    assert!(place("orders", exited) < place("tidegate", told));
    place("orders", drained);
    assert_eq!(pod.record().exits("orders"), [Exit::Signal(15)]);
    assert_eq!(pod.record().exits("tidegate"), [Exit::Code(0)]);
    assert_eq!(pod.record().count("tidegate", |what| *what == What::Killed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_containers_run_one_by_one_and_sidecars_end_in_reverse() {
    let mut manifests = shipped();
    let template = &mut manifests.object("Deployment")["spec"]["template"]["spec"];
    template["volumes"].as_array_mut().unwrap().push(json!({"name": "shared", "emptyDir": {}}));
    let shell = |name: &str, script: &str| {
        json!({
            "name": name, "image": "busybox:1.37", "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
        })
    };
    let mut second = shell("second", "echo second >> /shared/order; trap 'exit 3' TERM; while :; do sleep 0.1; done");
    second["restartPolicy"] = json!("Always");
    second["startupProbe"] =
        json!({"exec": {"command": ["grep", "-q", "second", "/shared/order"]}, "periodSeconds": 1});
    let inits = template["initContainers"].as_array_mut().unwrap();
    inits.insert(0, shell("first", "echo first >> /shared/order"));
    inits.push(second);
    // The first time it fails.
    inits.push(shell(
        "last",
        "test -f /shared/once || { touch /shared/once; exit 7; }; diff /shared/order - <<E\nfirst\nsecond\nE",
    ));
    let pod = deleted(&manifests).await;
    let place = |container: &str, what: fn(&What) -> bool| pod.record().place(container, what);
    let begun = ["first", "tidegate", "second", "last", "orders"].map(|container| place(container, began));
    assert!(begun.is_sorted(), "{}", pod.record());
    assert!(place("first", exited) < place("tidegate", began));
    assert_eq!(pod.record().exits("last"), [Exit::Code(7), Exit::Code(0)]);
    assert!(place("orders", exited) < place("second", told));
    assert!(place("second", exited) < place("tidegate", told));
    assert_eq!(pod.record().exits("second"), [Exit::Code(3)]);
    place("orders", drained);
}

/// The kubelet asks over TLS without looking at the certificate, and by gRPC and TCP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_and_hooks_of_every_kind_reach_the_sidecar() {
    let authority = Authority::new();
    let issued = authority.issue("ops", 1);
    let mut manifests = shipped();
    let part = sidecar(&mut manifests);
    set(part, "TIDEGATE_OPS__TLS__CERTIFICATES__0__CHAIN", &issued.certificate);
    set(part, "TIDEGATE_OPS__TLS__CERTIFICATES__0__KEY", &issued.key);
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        part[probe]["httpGet"]["scheme"] = json!("HTTPS");
    }
    app(&mut manifests)["lifecycle"]["preStop"]["httpGet"]["scheme"] = json!("HTTPS");
    app(&mut manifests)["readinessProbe"] = json!({"tcpSocket": {"port": 3000}, "periodSeconds": 1});
    let secured = deleted(&manifests);

    let mut manifests = shipped();
    sidecar(&mut manifests)["readinessProbe"] = json!({"grpc": {"port": 8014}, "periodSeconds": 1});
    let asked = deleted(&manifests);
    let (secured, asked) = tokio::join!(secured, asked);
    for pod in [secured, asked] {
        pod.record().place("orders", drained);
        assert_eq!(pod.record().exits("tidegate"), [Exit::Code(0)]);
    }
}
