//! Reviews as API servers send them, and what is made of them.

use super::*;

/// A pod of a Deployment, as the ReplicaSet controller asks for it.
const POD: &str = include_str!("../../../../tests/data/admission/pod.json");

fn review(change: impl FnOnce(&mut Value)) -> Value {
    let mut review: Value = serde_json::from_str(POD).expect("it is JSON");
    change(&mut review["request"]);
    review
}

fn ask(review: &Value, on_refusal: OnRefusal) -> (Value, Verdict) {
    let body = review.to_string();
    let token = Secret::new("0123456789abcdef");
    answer(body.as_bytes(), &Options::default(), on_refusal, token).expect("it can be answered")
}

/// The pod after the patch of an answer, applied by RFC 6902 to what was sent.
fn patched(review: &Value, answer: &Value) -> Value {
    let patch = answer["response"]["patch"].as_str().expect("a patch");
    let bytes = STANDARD.decode(patch).expect("base64");
    let patch: json_patch::Patch = serde_json::from_slice(&bytes).expect("a JSON patch");
    let mut pod = review["request"]["object"].clone();
    json_patch::patch(&mut pod, &patch).expect("it applies");
    pod
}

#[test]
fn a_pod_of_a_deployment_gets_the_sidecar() {
    let review = review(|_| {});
    let (answer, verdict) = ask(&review, OnRefusal::Deny);
    let response = &answer["response"];
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(response["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));
    assert_eq!((verdict.kind, verdict.pod.as_str()), (Kind::Injected, "shop/order-api-5d8f7c9b6-"));
    let pod = patched(&review, &answer);
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "tidegate");
    assert_eq!(pod["metadata"].get("namespace"), None, "the API server's to fill in");
    let hook = &pod["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"];
    assert_eq!(hook["httpHeaders"][0]["value"], "0123456789abcdef");
    assert_eq!(pod["spec"]["volumes"][0]["name"], "kube-api-access-x7k2p");
}

#[test]
fn a_pod_that_has_the_sidecar_is_left_as_it_is() {
    let first = review(|_| {});
    let (answer, _) = ask(&first, OnRefusal::Deny);
    let pod = patched(&first, &answer);
    let again = review(|request| request["object"] = pod);
    let (answer, verdict) = ask(&again, OnRefusal::Deny);
    assert_eq!(answer["response"], json!({"uid": answer["response"]["uid"], "allowed": true}));
    assert_eq!(verdict.kind, Kind::Already);
}

#[test]
fn annotations_that_another_object_was_injected_with_hide_nothing() {
    let first = review(|_| {});
    let (answer, _) = ask(&first, OnRefusal::Deny);
    let mut pod = patched(&first, &answer);
    _ = pod["spec"].as_object_mut().expect("a spec").remove("initContainers");
    let (_, verdict) = ask(&review(|request| request["object"] = pod), OnRefusal::Deny);
    assert!(matches!(verdict.kind, Kind::Injected | Kind::Denied), "{verdict:?}");
}

#[test]
fn what_is_no_pod_being_made_goes_on() {
    let check = |change: fn(&mut Value)| {
        let (answer, verdict) = ask(&review(change), OnRefusal::Deny);
        assert_eq!(answer["response"], json!({"uid": answer["response"]["uid"], "allowed": true}));
        assert_eq!(verdict.kind, Kind::Ignored);
    };
    check(|request| request["operation"] = "UPDATE".into());
    check(|request| request["subResource"] = "ephemeralcontainers".into());
    check(|request| request["kind"] = json!({"group": "apps", "version": "v1", "kind": "Deployment"}));
}

#[test]
fn pods_that_do_not_want_it_go_on_without() {
    for place in ["annotations", "labels"] {
        let review = review(|request| request["object"]["metadata"][place]["tidegate.dev/inject"] = "disabled".into());
        let (answer, verdict) = ask(&review, OnRefusal::Deny);
        assert_eq!(answer["response"], json!({"uid": answer["response"]["uid"], "allowed": true}));
        assert_eq!(verdict.kind, Kind::Untouched);
    }
}

#[test]
fn warnings_say_which_field_they_are_about() {
    let review = review(|request| {
        let container = &mut request["object"]["spec"]["containers"][0];
        container["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 15}}});
        container["readinessProbe"] = json!({"exec": {"command": ["/app/ready"]}});
    });
    let (answer, _) = ask(&review, OnRefusal::Deny);
    let warnings = answer["response"]["warnings"].as_array().expect("warnings");
    for expected in ["CONTAINER.lifecycle.preStop: slept 15 s; ", "CONTAINER.readinessProbe: stays with the app"] {
        let expected = format!("tidegate: {}", expected.replace("CONTAINER", "spec.containers[api]"));
        let told = warnings.iter().any(|warning| warning.as_str().is_some_and(|text| text.starts_with(&expected)));
        assert!(told, "{expected}: {warnings:?}");
    }
    assert!(warnings.iter().all(|warning| warning.as_str().is_some_and(|text| text.chars().count() <= WARNING)));
}

#[test]
fn refusals_are_told_to_a_person_who_can_act() {
    let check = |change: fn(&mut Value), part: &str| {
        let review = review(change);
        let (answer, verdict) = ask(&review, OnRefusal::Deny);
        let response = &answer["response"];
        assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(403)), "{part}");
        assert_eq!(verdict.kind, Kind::Denied);
        let message = response["status"]["message"].as_str().expect("a message");
        assert!(message.starts_with("pod shop/order-api-5d8f7c9b6- cannot have the sidecar: "), "{message}");
        assert!(message.contains(part), "{message}");
        assert_eq!(message.matches("tidegate.dev/inject: disabled").count(), 1, "{message}");
        assert_eq!(response.get("patch"), None);
        let (answer, verdict) = ask(&review, OnRefusal::Allow);
        let response = &answer["response"];
        assert_eq!((&response["allowed"], verdict.kind), (&json!(true), Kind::Without));
        let warning = response["warnings"][0].as_str().expect("a warning");
        assert!(
            warning.starts_with("tidegate: made without the sidecar: ") && warning.chars().count() <= WARNING,
            "{warning}"
        );
        assert_eq!(response.get("patch"), None);
    };
    check(|request| request["object"]["spec"]["hostNetwork"] = true.into(), "hostNetwork");
    check(|request| request["object"]["spec"]["os"] = json!({"name": "windows"}), "indows");
    check(
        |request| {
            let hook = json!({"preStop": {"exec": {"command": ["/app/leave", "--now"]}}});
            request["object"]["spec"]["containers"][0]["lifecycle"] = hook;
        },
        "app-prestop",
    );
    check(|request| request["object"]["metadata"]["annotations"]["tidegate.dev/mod"] = "x".into(), "tidegate.dev/mode");
}

#[test]
fn what_cannot_be_answered_is_told_apart() {
    let check = |body: &[u8], expected: &Malformed| {
        let answered = answer(body, &Options::default(), OnRefusal::Deny, Secret::new("t"));
        assert_eq!(answered.as_ref().map(|_| ()), Err(expected));
    };
    assert!(matches!(answer(b"{", &Options::default(), OnRefusal::Deny, Secret::new("t")), Err(Malformed::Json(_))));
    let nested = "[".repeat(10_000);
    assert!(matches!(
        answer(nested.as_bytes(), &Options::default(), OnRefusal::Deny, Secret::new("t")),
        Err(Malformed::Json(_))
    ));
    check("[],".repeat(20_000).as_bytes(), &Malformed::Large);
    // What stands in a text is no value.
    check(format!("[\"{}\"]", r#"\",[{"#.repeat(20_000)).as_bytes(), &Malformed::Kind);
    check(b"[]", &Malformed::Kind);
    check(br#"{"kind":"Pod","apiVersion":"v1"}"#, &Malformed::Kind);
    check(
        br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"x"}}"#,
        &Malformed::Version,
    );
    check(br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#, &Malformed::Request);
    check(review(|request| request["uid"] = "".into()).to_string().as_bytes(), &Malformed::Request);
    check(review(|request| request["uid"] = 7.into()).to_string().as_bytes(), &Malformed::Request);
    check(review(|request| request["uid"] = "x".repeat(300).into()).to_string().as_bytes(), &Malformed::Request);
    check(review(|request| request["object"] = Value::Null).to_string().as_bytes(), &Malformed::Object);
    check(review(|request| request["object"]["spec"] = "x".into()).to_string().as_bytes(), &Malformed::Object);
}

#[test]
fn odd_pods_are_answered_and_never_panic() {
    for (pointer, value) in [
        ("/object/metadata", json!(null)),
        ("/object/metadata", json!([])),
        ("/object/metadata/annotations", json!("x")),
        ("/object/spec/containers", json!([])),
        ("/object/spec/containers", json!({"a": 1})),
        ("/object/spec/containers/0", json!(null)),
        ("/object/spec/containers/0/ports", json!([{"containerPort": "x"}])),
        ("/object/spec/containers/0/ports/0/containerPort", json!(-1)),
        ("/object/spec/initContainers", json!("x")),
        ("/object/spec/terminationGracePeriodSeconds", json!(1e300)),
        ("/namespace", json!(["x"])),
    ] {
        let odd = review(|request| {
            let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
            let slot = request.pointer_mut(parent).expect("it is there");
            match key.parse::<usize>() {
                Ok(index) if slot.is_array() => slot[index] = value.clone(),
                _ => slot[key] = value.clone(),
            }
        });
        let (answer, _) = ask(&odd, OnRefusal::Deny);
        assert!(answer["response"]["allowed"].is_boolean(), "{pointer} {value}");
    }
}
