//! Laws over generated pods: what was put in comes out, putting it in twice is putting it in once, and nothing panics.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{DrainToken, Mode, Options, Outcome, PreStop, inject, stream, uninject};
use crate::secret::Secret;

fn port() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        Just(None),
        prop::sample::select(vec!["http", "web", "grpc", "metrics", "http-x", "UPPER"]).prop_map(Some)
    ];
    let number = prop::sample::select(vec![80u16, 3000, 8080, 8081, 9000]);
    let protocol = prop::sample::select(vec![None, None, Some("TCP"), Some("UDP")]);
    let host = prop::sample::select(vec![None, None, Some(8080)]);
    (name, number, protocol, host).prop_map(|(name, number, protocol, host)| {
        let mut entry = json!({ "containerPort": number });
        for (key, value) in [
            ("name", name.map(Value::from)),
            ("protocol", protocol.map(Value::from)),
            ("hostPort", host.map(Value::from)),
        ] {
            if let Some(value) = value {
                entry[key] = value;
            }
        }
        entry
    })
}

fn handler() -> impl Strategy<Value = Value> {
    let target =
        prop::sample::select(vec![json!("http"), json!("web"), json!(3000), json!(8080), json!("nope"), json!(null)]);
    (0..5, target).prop_map(|(kind, port)| match kind {
        0 => json!({ "httpGet": { "path": "/x", "port": port } }),
        1 => json!({ "httpGet": { "port": port, "scheme": "HTTPS" } }),
        2 => json!({ "tcpSocket": { "port": port } }),
        3 => json!({ "grpc": { "port": port } }),
        _ => json!({ "exec": { "command": ["sleep", "5"] } }),
    })
}

/// Absent, null, empty, or something.
fn maybe(strategy: impl Strategy<Value = Value> + 'static, empty: Value) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![Just(None), Just(Some(Value::Null)), Just(Some(empty)), strategy.prop_map(Some)]
}

fn container(name: &'static str) -> impl Strategy<Value = Value> {
    let ports = maybe(prop::collection::vec(port(), 1..3).prop_map(Value::from), json!([]));
    let env = maybe(Just(json!([{ "name": "PORT", "value": "3000" }, { "name": "A" }])), json!([]));
    let hooks = (prop::option::of(handler()), prop::option::of(handler())).prop_map(|(stop, start)| {
        let mut hooks = json!({});
        for (key, hook) in [("preStop", stop), ("postStart", start)] {
            if let Some(hook) = hook {
                hooks[key] = hook;
            }
        }
        hooks
    });
    let fields = (
        ports,
        env,
        maybe(hooks, json!({})),
        maybe(handler(), json!({})),
        maybe(handler(), json!({})),
        maybe(handler(), json!({})),
    );
    fields.prop_map(move |(ports, env, lifecycle, ready, live, start)| {
        let mut container = json!({ "name": name, "image": "x" });
        for (key, value) in [
            ("ports", ports),
            ("env", env),
            ("lifecycle", lifecycle),
            ("readinessProbe", ready),
            ("livenessProbe", live),
            ("startupProbe", start),
        ] {
            if let Some(value) = value {
                container[key] = value;
            }
        }
        container
    })
}

fn object() -> impl Strategy<Value = Value> {
    let annotations = maybe(Just(json!({ "a": "b", "tidegate.dev/listen-port": "9999" })), json!({}));
    let metadata = maybe(
        annotations.prop_map(|annotations| {
            let labels = json!({ "a": "b" });
            annotations.map_or(json!({ "labels": labels }), |a| json!({ "labels": labels, "annotations": a }))
        }),
        json!({}),
    );
    let init = maybe(container("init").prop_map(|container| json!([container])), json!([]));
    let volumes = maybe(Just(json!([{ "name": "v", "emptyDir": {} }])), json!([]));
    let grace = prop::sample::select(vec![None, Some(json!(null)), Some(json!(5)), Some(json!(30)), Some(json!(90))]);
    (metadata, container("app"), prop::option::of(container("other")), init, volumes, grace).prop_map(
        |(metadata, app, other, init, volumes, grace)| {
            let containers: Vec<Value> = [app].into_iter().chain(other).collect();
            let mut spec = json!({ "containers": containers });
            for (key, value) in [("initContainers", init), ("volumes", volumes), ("terminationGracePeriodSeconds", grace)] {
                if let Some(value) = value {
                    spec[key] = value;
                }
            }
            let mut template = json!({ "spec": spec });
            if let Some(metadata) = metadata {
                template["metadata"] = metadata;
            }
            json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "x" }, "spec": { "template": template } })
        },
    )
}

/// A Service of those pods.
fn service() -> impl Strategy<Value = Value> {
    let target =
        prop::sample::select(vec![None, Some(json!("http")), Some(json!(3000)), Some(json!(8080)), Some(json!(9000))]);
    let number = prop::sample::select(vec![80u16, 3000, 8081]);
    prop::collection::btree_map(number, target, 0..3).prop_map(|entries| {
        let entry = |(port, target): (u16, Option<Value>)| match target {
            Some(target) => json!({ "port": port, "targetPort": target }),
            None => json!({ "port": port }),
        };
        let ports: Vec<Value> = entries.into_iter().map(entry).collect();
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "x" }, "spec": { "selector": { "a": "b" }, "ports": ports } })
    })
}

fn options() -> impl Strategy<Value = Options> {
    let modes = prop::sample::select(vec![None, Some(Mode::Native), Some(Mode::Container)]);
    let variable = prop::sample::select(vec![None, Some("PORT".to_owned()), Some("NEW".to_owned())]);
    let hooks = prop::sample::select(vec![None, Some(PreStop::Keep), Some(PreStop::Replace)]);
    let ports = prop::sample::select(vec![vec![], vec!["3000".to_owned()], vec!["9000".to_owned(), "3000".to_owned()]]);
    (modes, variable, hooks, ports, any::<bool>()).prop_map(|(mode, app_port_env, app_prestop, ports, fresh)| Options {
        mode,
        app_port_env,
        app_prestop,
        ports,
        app_container: Some("app".to_owned()),
        drain_token: if fresh { DrainToken::Fresh(Secret::new("one")) } else { DrainToken::Derived },
        ..Options::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_was_put_in_comes_out_and_twice_is_once(object in object(), options in options(), others in options()) {
        if let Outcome::Injected { object: once, .. } = inject(&object, &[], &options) {
            let plain = uninject(&once);
            prop_assert!(matches!(&plain, Outcome::Injected { object: plain, .. } if *plain == object), "{plain:?}\nof {once}");
            let twice = inject(&once, &[], &options);
            prop_assert!(matches!(&twice, Outcome::Injected { object: twice, .. } if *twice == once), "{twice:?}\nof {once}");
            // A token is kept over other options; everything else is as if it had never been injected.
            let others = Options { drain_token: DrainToken::Derived, ..others };
            let (anew, first) = (inject(&once, &[], &others), inject(&object, &[], &others));
            match (anew, first) {
                (Outcome::Injected { object: anew, .. }, Outcome::Injected { object: first, .. }) => prop_assert_eq!(anew, first),
                (anew, first) => prop_assert_eq!(anew, first),
            }
        }
    }

    #[test]
    fn a_stream_put_in_twice_is_put_in_once_with_its_services(object in object(), service in service(), options in options()) {
        let documents = [service, object];
        let after = |outcomes: &[Outcome], before: &[Value]| -> Vec<Value> {
            outcomes.iter().zip(before).map(|(outcome, before)| match outcome {
                Outcome::Injected { object, .. } => object.clone(),
                _ => before.clone(),
            }).collect()
        };
        let once = after(&stream(&documents, &options), &documents);
        let twice = after(&stream(&once, &options), &once);
        prop_assert_eq!(&twice, &once);
        let plain: Vec<Outcome> = once.iter().map(uninject).collect();
        prop_assert_eq!(after(&plain, &once), documents);
    }

    #[test]
    fn nothing_panics_whatever_stands_anywhere(object in object(), at in any::<prop::sample::Index>(), with in 0..6usize) {
        let values = [Value::Null, json!(5), json!("text"), json!([]), json!({}), json!([{ "name": "tidegate" }, null, 3])];
        let mut places = Vec::new();
        pointers(&object, String::new(), &mut places);
        let mut broken = object;
        *broken.pointer_mut(&places[at.index(places.len())]).expect("there, as written above") = values[with].clone();
        if let Outcome::Injected { object, .. } = inject(&broken, &[], &Options::default()) {
            let plain = uninject(&object);
            prop_assert!(matches!(&plain, Outcome::Injected { object, .. } if *object == broken), "{plain:?}\nof {broken}");
        }
        uninject(&broken);
    }
}

fn pointers(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, below)| pointers(below, format!("{path}/{}", key.replace('/', "~1")), found))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, below)| pointers(below, format!("{path}/{at}"), found))
        }
        _ => {}
    }
    found.push(path);
}
