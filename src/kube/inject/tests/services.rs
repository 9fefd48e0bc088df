//! Services, and the pods of the first rollout that have no sidecar yet.

use serde_json::{Value, json};

use super::super::{Mode, Options, Outcome, Version, service, uninject};
use super::{deployment, injected, service as before, with_app};

/// What becomes of a Service's ports before pods injected with `options`.
fn ports(ports: &Value, pods: &Value, options: &Options) -> (Value, Vec<String>) {
    let (workload, _) = injected(pods, options);
    match service(&before(ports), &[workload], options) {
        Outcome::Injected { object, notes } => {
            let (again, _) = injected(pods, options);
            let twice = service(&object, &[again], options);
            assert!(matches!(&twice, Outcome::Injected { object: same, .. } if *same == object), "{twice:?}");
            let plain = uninject(&object);
            assert!(matches!(&plain, Outcome::Injected { object, .. } if *object == before(ports)), "{plain:?}");
            (object["spec"]["ports"].clone(), notes.into_iter().map(|note| note.text).collect())
        }
        Outcome::Untouched(_) => (ports.clone(), Vec::new()),
        Outcome::Refused(refusals) => panic!("{refusals:?}"),
    }
}

fn unnamed() -> Value {
    with_app(|app| {
        app["ports"] = json!([{ "containerPort": 3000 }]);
        app["readinessProbe"]["httpGet"]["port"] = 3000.into();
    })
}

#[test]
fn a_target_by_name_is_right_for_old_and_new_pods() {
    let given = json!([{ "port": 80, "targetPort": "http" }]);
    assert_eq!(ports(&given, &deployment(|_| {}), &Options::default()), (given.clone(), vec![]));
}

#[test]
fn a_number_becomes_the_name_of_the_port() {
    let options = &Options::default();
    let expected = json!([{ "port": 80, "targetPort": "http" }, { "port": 9, "targetPort": 9 }]);
    let given = json!([{ "port": 80, "targetPort": 3000 }, { "port": 9, "targetPort": 9 }]);
    let chosen = Options { ports: vec!["http".to_owned()], ..Options::default() };
    assert_eq!(ports(&given, &deployment(|_| {}), &chosen), (expected, vec![]));
    let (led, _) = ports(&json!([{ "port": 3000 }]), &deployment(|_| {}), options);
    assert_eq!(led, json!([{ "port": 3000, "targetPort": "http" }]));
    let udp = json!([{ "port": 3000, "protocol": "UDP" }]);
    assert_eq!(ports(&udp, &deployment(|_| {}), options), (udp.clone(), vec![]));
}

#[test]
fn a_number_without_a_name_becomes_the_sidecars_with_a_warning() {
    let (led, notes) = ports(&json!([{ "port": 80, "targetPort": 3000 }]), &unnamed(), &Options::default());
    assert_eq!(led, json!([{ "port": 80, "targetPort": 8080 }]));
    assert!(notes[0].contains("give the port a name, target that, roll out once and then inject"), "{notes:?}");
}

#[test]
fn with_app_port_env_no_service_changes() {
    let options = Options { app_port_env: Some("PORT".to_owned()), ..Options::default() };
    for given in [json!([{ "port": 80, "targetPort": 3000 }]), json!([{ "port": 80, "targetPort": "http" }])] {
        assert_eq!(ports(&given, &deployment(|_| {}), &options), (given.clone(), vec![]));
    }
    let given = json!([{ "port": 80, "targetPort": 3000 }]);
    assert_eq!(ports(&given, &unnamed(), &options), (given.clone(), vec![]));
}

#[test]
fn where_services_do_not_find_names_of_native_sidecars_they_get_a_number() {
    let options =
        Options { mode: Some(Mode::Native), kubernetes: Some(Version { major: 1, minor: 30 }), ..Options::default() };
    let (led, notes) = ports(&json!([{ "port": 80, "targetPort": "http" }]), &deployment(|_| {}), &options);
    assert_eq!(led, json!([{ "port": 80, "targetPort": 8080 }]));
    assert!(notes[0].contains("tidegate.dev/mode: container"), "{notes:?}");
}

#[test]
fn services_of_other_pods_and_namespaces_stay() {
    let (workload, _) = injected(&deployment(|_| {}), &Options::default());
    let given = before(&json!([{ "port": 80, "targetPort": 3000 }]));
    for (pointer, value) in [
        ("/spec/selector", json!({ "app": "other" })),
        ("/spec/selector", json!({})),
        ("/metadata/namespace", json!("elsewhere")),
        ("/apiVersion", json!("serving.knative.dev/v1")),
    ] {
        let mut other = given.clone();
        *other.pointer_mut(pointer).expect("there, as written above") = value;
        let outcome = service(&other, std::slice::from_ref(&workload), &Options::default());
        assert!(matches!(outcome, Outcome::Untouched(_)), "{pointer}: {outcome:?}");
    }
}

#[test]
fn pods_that_disagree_are_said_and_not_guessed() {
    let (one, _) = injected(&deployment(|_| {}), &Options::default());
    let (other, _) = injected(&unnamed(), &Options::default());
    match service(&before(&json!([{ "port": 80, "targetPort": 3000 }])), &[one, other], &Options::default()) {
        Outcome::Injected { object, notes } => {
            assert_eq!(object["spec"]["ports"][0]["targetPort"], 3000);
            assert!(notes[0].text.contains("ports differ"), "{notes:?}");
        }
        outcome => panic!("{outcome:?}"),
    }
}
