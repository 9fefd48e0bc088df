//! Streams and lists of objects.

use serde_json::{Value, json};

use super::super::{Options, Outcome, Reason, inject, stream, uninject};
use super::{deployment, service, with_app};

#[test]
fn a_stream_is_injected_and_its_services_are_led_there() {
    let config = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "x" } });
    let number = service(&json!([{ "port": 80, "targetPort": 3000 }]));
    let documents = [number, config, Value::Null, deployment(|_| {})];
    let outcomes = stream(&documents, &Options::default());
    assert!(
        matches!(&outcomes[0], Outcome::Injected { object, .. } if object["spec"]["ports"][0]["targetPort"] == "http")
    );
    assert_eq!(outcomes[1], Outcome::Untouched(Reason::NoPods));
    assert_eq!(outcomes[2], Outcome::Untouched(Reason::NoPods));
    assert!(matches!(outcomes[3], Outcome::Injected { .. }));
}

#[test]
fn the_services_of_a_stream_tell_the_ports() {
    let object = with_app(|app| {
        app["ports"] =
            json!([{ "containerPort": 3000 }, { "name": "api", "containerPort": 4000 }, { "containerPort": 5 }]);
        app["readinessProbe"]["httpGet"]["port"] = 3000.into();
    });
    let ports = json!([{ "port": 80, "targetPort": "api" }, { "port": 81, "targetPort": 3000, "appProtocol": "grpc" }]);
    let documents = [service(&ports), object];
    let outcomes = stream(&documents, &Options::default());
    let Outcome::Injected { object, .. } = &outcomes[1] else { panic!("{outcomes:?}") };
    let variable = |name| super::variable(object, name);
    assert_eq!(variable("TIDEGATE_PROXY__0__UPSTREAM"), Some("http://127.0.0.1:4000"));
    assert_eq!(variable("TIDEGATE_PROXY__1__UPSTREAM"), Some("h2c://127.0.0.1:3000"));
    assert_eq!(variable("TIDEGATE_PROXY__1__LISTEN"), Some("0.0.0.0:8081"));
    let Outcome::Injected { object, .. } = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(object["spec"]["ports"][0]["targetPort"], "api");
    assert_eq!(object["spec"]["ports"][1]["targetPort"], 8081);
}

#[test]
fn items_of_lists_are_injected_where_they_stand() {
    let number = service(&json!([{ "port": 80, "targetPort": 3000 }]));
    let list =
        json!({ "apiVersion": "v1", "kind": "List", "items": [number, deployment(|_| {}), { "kind": "Secret" }] });
    let outcomes = stream(std::slice::from_ref(&list), &Options::default());
    let Outcome::Injected { object, .. } = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(object["items"][0]["spec"]["ports"][0]["targetPort"], "http");
    assert_eq!(object["items"][1]["spec"]["template"]["spec"]["initContainers"][0]["name"], "tidegate");
    assert_eq!(object["items"][2], json!({ "kind": "Secret" }));
    assert_eq!(uninject(object), Outcome::Injected { object: list.clone(), notes: Vec::new() });
    let nested = json!({ "apiVersion": "v1", "kind": "List", "items": [list] });
    let outcomes = stream(std::slice::from_ref(&nested), &Options::default());
    let Outcome::Injected { object: nested, .. } = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(nested["items"][0], *object);

    let mut bare = deployment(|_| {});
    bare.as_object_mut().expect("there, as written above").remove("kind");
    bare.as_object_mut().expect("there, as written above").remove("apiVersion");
    let typed = json!({ "apiVersion": "apps/v1", "kind": "DeploymentList", "items": [bare] });
    let Outcome::Injected { object, .. } = inject(&typed, &[], &Options::default()) else { panic!("not injected") };
    assert_eq!(object["items"][0].get("kind"), None);
    assert!(object["items"][0].to_string().contains("tidegate.dev/injected"));
    assert!(matches!(uninject(&object), Outcome::Injected { object, .. } if object == typed));
}

#[test]
fn one_refused_item_refuses_its_list() {
    let network = deployment(|object| object["spec"]["template"]["spec"]["hostNetwork"] = true.into());
    let list = json!({ "kind": "List", "items": [deployment(|_| {}), network] });
    assert!(matches!(inject(&list, &[], &Options::default()), Outcome::Refused(refusals) if refusals.len() == 1));
}

/// What an API server adds, and what a person edits, between one injection and the next.
#[test]
fn what_has_been_edited_since_is_injected_and_taken_out_all_the_same() {
    let number = service(&json!([{ "port": 80, "targetPort": 3000 }]));
    let bare = with_app(|app| {
        app["ports"] = json!([{ "containerPort": 3000 }]);
        app["readinessProbe"]["httpGet"]["port"] = 3000.into();
    });
    let after = |documents: &[Value]| -> Vec<Value> {
        let injected = |outcome| match outcome {
            Outcome::Injected { object, .. } => object,
            other => panic!("{other:?}"),
        };
        stream(documents, &Options::default()).into_iter().map(injected).collect()
    };
    // Defaults of the API server.
    let named = deployment(|_| {});
    let mut read = after(std::slice::from_ref(&named)).remove(0);
    let app = |object: &mut Value| object["spec"]["template"]["spec"]["containers"][0].take();
    let mut defaulted = read.clone();
    defaulted["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"] = "TCP".into();
    let Outcome::Injected { object: mut plain, .. } = uninject(&defaulted) else { panic!("not uninjected") };
    assert_eq!(app(&mut plain)["ports"], json!([{ "name": "http", "containerPort": 3000, "protocol": "TCP" }]));
    let mut anew = after(std::slice::from_ref(&defaulted)).remove(0);
    assert_eq!(after(std::slice::from_ref(&anew)), std::slice::from_ref(&anew));
    assert_eq!(super::variable(&anew, "TIDEGATE_CHECKS__APP__HTTP__URL"), Some("http://127.0.0.1:3000/healthz"));
    assert_eq!(app(&mut anew)["ports"], json!([{ "name": "app-http", "containerPort": 3000, "protocol": "TCP" }]));
    // Another number: the probe, which is in the annotation, still has the one before.
    read["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = 4000.into();
    let refused = |outcome: &Outcome| {
        let expected = "that the sidecar stands before has been renamed, renumbered or removed; write it as it was";
        matches!(outcome, Outcome::Refused(refusals) if refusals[0].to_string().contains(expected))
    };
    assert!(refused(&uninject(&read)) && refused(&inject(&read, &[], &Options::default())));
    // The Service's own port.
    let mut both = after(&[number, bare]);
    both[0]["spec"]["ports"][0]["port"] = 81.into();
    let anew = after(&both);
    assert_eq!(super::variable(&anew[1], "TIDEGATE_PROXY__0__UPSTREAM"), Some("http://127.0.0.1:3000"));
    assert_eq!(anew[0]["spec"]["ports"], json!([{ "port": 81, "targetPort": 8080 }]));
    let mut unnamed = both[1].clone();
    unnamed["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = 4000.into();
    assert!(refused(&uninject(&unnamed)));
    // Led elsewhere, and dropped.
    for (ports, plain) in [
        (json!([{ "port": 80, "targetPort": "admin" }]), json!([{ "port": 80, "targetPort": "admin" }])),
        (json!([{ "port": 82, "targetPort": 9 }]), json!([{ "port": 82, "targetPort": 9 }])),
        (
            json!([{ "port": 82, "targetPort": 8080 }, { "port": 83, "targetPort": 9 }]),
            json!([{ "port": 82, "targetPort": 3000 }, { "port": 83, "targetPort": 9 }]),
        ),
    ] {
        both[0]["spec"]["ports"] = ports;
        let Outcome::Injected { object, .. } = uninject(&both[0]) else { panic!("not uninjected") };
        assert_eq!(object["spec"]["ports"], plain);
    }
}

#[test]
fn a_number_that_leads_to_pods_without_a_sidecar_too_stays() {
    let number = service(&json!([{ "port": 80, "targetPort": 3000 }]));
    let without = deployment(|object| {
        object["metadata"]["name"] = "other".into();
        object["spec"]["template"]["metadata"]["annotations"] = json!({ "tidegate.dev/inject": "disabled" });
    });
    let outcomes = stream(&[number.clone(), deployment(|_| {}), without], &Options::default());
    let Outcome::Injected { object, notes } = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(*object, number);
    assert!(notes[0].text.contains("have no sidecar"), "{notes:?}");
}
