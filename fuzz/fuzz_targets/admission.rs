//! A review as the webhook gets it, and pods of arbitrary shape within a sound one. What is answered is a review, and its
//! patch applies to what was sent.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tidegate::kube::inject::Options;
use tidegate::kube::webhook::review::{OnRefusal, answer};
use tidegate::secret::Secret;

fuzz_target!(|body: &[u8]| {
    check(body);
    let Ok(object) = serde_json::from_slice::<Value>(body) else { return };
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let request = json!({"uid": "u", "kind": kind, "operation": "CREATE", "namespace": "n", "object": object});
    check(
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
            .to_string()
            .as_bytes(),
    );
});

fn check(body: &[u8]) {
    let Ok((review, _)) = answer(body, &Options::default(), OnRefusal::Deny, Secret::new("token")) else { return };
    let sent: Value = serde_json::from_slice(body).expect("it was read");
    assert_eq!(review["response"]["uid"], sent["request"]["uid"]);
    let Some(patch) = review["response"]["patch"].as_str() else { return };
    let patch = STANDARD.decode(patch).expect("it is base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("it is a patch");
    let mut pod = sent["request"]["object"].clone();
    json_patch::patch(&mut pod, &patch).expect("it applies");
}
