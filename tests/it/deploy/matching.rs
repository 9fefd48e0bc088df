//! Which pods the API server shows to the webhook, by the selectors and expressions that `deploy/` ships.

use serde_json::{Value, json};

use super::manifests::{objects, rendered};
use super::{run, script};
use crate::support::sdk::root;

const NAMESPACES: &str = "namespaces.inject.tidegate.dev";
const PODS: &str = "pods.inject.tidegate.dev";

/// Each case has the webhook that is asked.
fn check(configuration: &Value, cases: &[(Value, Option<&str>)]) {
    let asked: Vec<&Value> = cases.iter().map(|(case, _)| case).collect();
    let said = run(script("matching.py").arg(configuration.to_string()).arg(serde_json::to_string(&asked).unwrap()));
    let found: Vec<Vec<String>> = serde_json::from_str(&said).unwrap();
    assert_eq!(found.len(), cases.len());
    for ((case, expected), found) in cases.iter().zip(found) {
        assert_eq!(found, expected.iter().copied().collect::<Vec<_>>(), "{case}");
    }
}

#[test]
fn pods_are_shown_to_one_webhook_when_they_or_their_namespace_opt_in() {
    let (on, off) = (json!({ "tidegate.dev/inject": "enabled" }), json!({ "tidegate.dev/inject": "disabled" }));
    let other = json!({ "app": "shop" });
    let cases = [
        // Nobody opted in.
        (json!({ "namespace": "shop" }), None),
        (json!({ "namespace": "shop", "labels": other, "annotations": other }), None),
        (json!({ "namespace": "shop", "annotations": { "tidegate.dev/mode": "native" } }), None),
        (json!({ "namespace": "shop", "annotations": { "tidegate.dev/inject": "true" } }), None),
        // The namespace did.
        (json!({ "namespace": "shop", "namespace_labels": on }), Some(NAMESPACES)),
        (
            json!({ "namespace": "shop", "namespace_labels": on, "labels": other, "annotations": other }),
            Some(NAMESPACES),
        ),
        (json!({ "namespace": "shop", "namespace_labels": on, "labels": on, "annotations": on }), Some(NAMESPACES)),
        (json!({ "namespace": "shop", "namespace_labels": on, "labels": off }), None),
        (json!({ "namespace": "shop", "namespace_labels": on, "annotations": off }), None),
        // The pod did.
        (json!({ "namespace": "shop", "labels": on }), Some(PODS)),
        (json!({ "namespace": "shop", "annotations": on }), Some(PODS)),
        (json!({ "namespace": "shop", "labels": other, "annotations": on }), Some(PODS)),
        (json!({ "namespace": "shop", "labels": off, "annotations": on }), None),
        (json!({ "namespace": "shop", "namespace_labels": off, "annotations": on }), None),
        // Where it must never be.
        (json!({ "namespace": "kube-system", "annotations": on }), None),
        (json!({ "namespace": "kube-system", "namespace_labels": on }), None),
        (json!({ "namespace": "tidegate", "namespace_labels": on, "labels": on }), None),
    ];
    let plain = std::fs::read_to_string(root().join("deploy/webhook.yaml")).unwrap();
    for text in [plain, rendered(&json!({}))] {
        check(&objects(&text)["MutatingWebhookConfiguration/tidegate"], &cases);
    }
}
