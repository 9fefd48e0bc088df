//! What is changed in a pod.

use serde_json::{Value, json};

use super::super::{DrainToken, Mode, Options, Outcome, PodTemplate, inject};
use super::{annotated, container_mode, deployment, injected, pods, sidecar, variable, with_app};
use crate::secret::Secret;

fn given() -> Options {
    Options { drain_token: DrainToken::Given(Secret::new("token")), ..Options::default() }
}

#[test]
fn a_deployment_with_one_port_gets_a_native_sidecar() {
    let (object, _) = injected(&deployment(|_| {}), &given());
    let app = &pods(&object)["containers"][0];
    assert_eq!(app["ports"], json!([{ "name": "app-http", "containerPort": 3000 }]));
    assert_eq!(app.get("readinessProbe"), None);
    let header = json!([{ "name": "Tidegate-Drain-Token", "value": "token" }]);
    let hook = json!({ "httpGet": { "path": "/drain", "port": 8014, "httpHeaders": header } });
    assert_eq!(app["lifecycle"], json!({ "preStop": hook }));
    let expected = json!({
        "name": "tidegate",
        "image": concat!("tidegate:", env!("CARGO_PKG_VERSION")),
        "args": ["run"],
        "restartPolicy": "Always",
        "env": [
            { "name": "TIDEGATE_WORKLOAD", "value": "orders" },
            { "name": "TIDEGATE_PROXY__0__LISTEN", "value": "0.0.0.0:8080" },
            { "name": "TIDEGATE_PROXY__0__UPSTREAM", "value": "http://127.0.0.1:3000" },
            { "name": "TIDEGATE_OPS__DRAIN_TOKEN", "value": "token" },
            { "name": "TIDEGATE_CHECKS__APP__HTTP__URL", "value": "http://127.0.0.1:3000/healthz" },
            { "name": "TIDEGATE_CHECKS__APP__INTERVAL", "value": "10s" },
            { "name": "TIDEGATE_CHECKS__APP__TIMEOUT", "value": "1s" },
            { "name": "TIDEGATE_CHECKS__APP__RISE", "value": "1" },
            { "name": "TIDEGATE_CHECKS__APP__FALL", "value": "3" },
            { "name": "TIDEGATE_DRAIN__GRACE", "value": "30s" },
            { "name": "TIDEGATE_FLEET__POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
            { "name": "TIDEGATE_FLEET__POD_UID", "valueFrom": { "fieldRef": { "fieldPath": "metadata.uid" } } },
        ],
        "ports": [{ "name": "http", "containerPort": 8080 }, { "name": "tidegate-ops", "containerPort": 8014 }],
        "lifecycle": { "preStop": { "exec": { "command": ["/tidegate", "drain", "--self"] } } },
        "startupProbe": {
            "httpGet": { "path": "/startupz", "port": "tidegate-ops" }, "periodSeconds": 1, "failureThreshold": 60,
        },
        "readinessProbe": {
            "httpGet": { "path": "/readyz", "port": "tidegate-ops" }, "periodSeconds": 2, "failureThreshold": 1,
        },
        "livenessProbe": {
            "httpGet": { "path": "/healthz", "port": "tidegate-ops" }, "periodSeconds": 10, "timeoutSeconds": 3,
        },
        "resources": { "requests": { "cpu": "50m", "memory": "32Mi" }, "limits": { "memory": "256Mi" } },
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "volumeMounts": [
            { "name": "tidegate-run", "mountPath": "/run/tidegate" },
            { "name": "tidegate-state", "mountPath": "/var/lib/tidegate" },
        ],
    });
    assert_eq!(pods(&object)["initContainers"], json!([expected]));
    let volumes = json!([
        { "name": "tidegate-run", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
        { "name": "tidegate-state", "emptyDir": { "sizeLimit": "64Mi" } },
    ]);
    assert_eq!(pods(&object)["volumes"], volumes);
    assert_eq!(pods(&object).get("terminationGracePeriodSeconds"), None, "30 s are enough");
}

#[test]
fn beside_other_init_containers_the_sidecar_is_the_first() {
    let object = deployment(|object| {
        let others =
            json!([{ "name": "migrate", "image": "m" }, { "name": "db", "image": "d", "restartPolicy": "Always" }]);
        object["spec"]["template"]["spec"]["initContainers"] = others;
        object["spec"]["template"]["spec"]["shareProcessNamespace"] = true.into();
        object["spec"]["template"]["spec"]["ephemeralContainers"] = json!([{ "name": "debug", "image": "d" }]);
    });
    let (object, _) = injected(&object, &given());
    let names: Vec<&Value> = pods(&object)["initContainers"]
        .as_array()
        .expect("there, as written above")
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["tidegate", "migrate", "db"]);
}

#[test]
fn in_container_mode_the_sidecar_is_the_last_container() {
    let (object, _) = injected(&deployment(|_| {}), &container_mode());
    assert_eq!(pods(&object).get("initContainers"), None);
    assert_eq!(pods(&object)["containers"][1]["name"], "tidegate");
    assert_eq!(sidecar(&object).get("restartPolicy"), None);
}

#[test]
fn readiness_probes_become_the_check_that_means_the_same() {
    let check = |probe: Value, expected: &[(&str, &str)]| {
        let (object, _) = injected(&with_app(|app| app["readinessProbe"] = probe.clone()), &given());
        assert_eq!(pods(&object)["containers"][0].get("readinessProbe"), None, "{probe}");
        for (name, value) in expected {
            assert_eq!(variable(&object, &format!("TIDEGATE_CHECKS__APP__{name}")), Some(*value), "{probe}");
        }
    };
    let headers = json!([{ "name": "Host", "value": "orders.example" }]);
    check(
        json!({
            "httpGet": { "port": 3001, "path": "ready?full=1", "httpHeaders": headers },
            "periodSeconds": 5, "timeoutSeconds": 2, "successThreshold": 2, "failureThreshold": 4,
        }),
        &[
            ("HTTP__URL", "http://127.0.0.1:3001/ready?full=1"),
            ("HTTP__HOST", "orders.example"),
            ("INTERVAL", "5s"),
            ("TIMEOUT", "2s"),
            ("RISE", "2"),
            ("FALL", "4"),
        ],
    );
    check(json!({ "tcpSocket": { "port": "http" } }), &[("TCP__ADDRESS", "127.0.0.1:3000")]);
    check(json!({ "grpc": { "port": 3000 } }), &[("GRPC__URL", "http://127.0.0.1:3000")]);
    check(json!({ "grpc": { "port": 3000, "service": "orders" } }), &[("GRPC__SERVICE", "orders")]);
}

#[test]
fn readiness_probes_that_no_check_can_stand_for_stay_with_numbers() {
    for (probe, stays, why) in [
        (json!({ "exec": { "command": ["true"] } }), json!({ "exec": { "command": ["true"] } }), "command"),
        (
            json!({ "httpGet": { "port": "http", "host": "db" } }),
            json!({ "httpGet": { "port": 3000, "host": "db" } }),
            "another host",
        ),
        (
            json!({ "tcpSocket": { "port": "http" }, "timeoutSeconds": 20 }),
            json!({ "tcpSocket": { "port": 3000 }, "timeoutSeconds": 20 }),
            "longer than its period",
        ),
        (
            json!({ "httpGet": { "port": "http", "path": "/a b" } }),
            json!({ "httpGet": { "port": 3000, "path": "/a b" } }),
            "path",
        ),
    ] {
        let (object, notes) = injected(&with_app(|app| app["readinessProbe"] = probe), &given());
        assert_eq!(pods(&object)["containers"][0]["readinessProbe"], stays);
        assert!(notes.iter().any(|note| note.path.ends_with("readinessProbe") && note.text.contains(why)), "{notes:?}");
        assert_eq!(variable(&object, "TIDEGATE_CHECKS__APP__INTERVAL"), None);
    }
}

#[test]
fn liveness_startup_and_post_start_stay_and_find_their_port() {
    let probe = json!({ "httpGet": { "path": "/live", "port": "http", "scheme": "HTTPS" }, "periodSeconds": 7 });
    let object = with_app(|app| {
        app["livenessProbe"] = probe.clone();
        app["startupProbe"] = json!({ "grpc": { "port": 3000 } });
        app["lifecycle"] = json!({ "postStart": { "httpGet": { "path": "/warm", "port": "http" } } });
        app["ports"]
            .as_array_mut()
            .expect("there, as written above")
            .push(json!({ "name": "admin", "containerPort": 9000 }));
    });
    let options = Options { ports: vec!["http".to_owned()], ..given() };
    let (object, _) = injected(&object, &options);
    let app = &pods(&object)["containers"][0];
    let expected = json!({ "httpGet": { "path": "/live", "port": 3000, "scheme": "HTTPS" }, "periodSeconds": 7 });
    assert_eq!(app["livenessProbe"], expected);
    assert_eq!(app["startupProbe"], json!({ "grpc": { "port": 3000 } }));
    assert_eq!(app["lifecycle"]["postStart"], json!({ "httpGet": { "path": "/warm", "port": 3000 } }));
    assert_eq!(app["ports"][1], json!({ "name": "admin", "containerPort": 9000 }));
}

#[test]
fn a_sleeping_hook_is_replaced_and_a_long_sleep_keeps_its_length() {
    for (seconds, delay, grace) in [(5, None, "30s"), (25, Some("25s"), "34s")] {
        let object = with_app(|app| app["lifecycle"] = json!({ "preStop": { "sleep": { "seconds": seconds } } }));
        let (object, notes) = injected(&object, &given());
        assert_eq!(pods(&object)["containers"][0]["lifecycle"]["preStop"]["httpGet"]["path"], "/drain");
        assert_eq!(variable(&object, "TIDEGATE_DRAIN__DELAY"), delay);
        assert_eq!(variable(&object, "TIDEGATE_DRAIN__GRACE"), Some(grace));
        assert!(notes.iter().any(|note| note.text.starts_with(&format!("slept {seconds} s"))), "{notes:?}");
    }
}

#[test]
fn another_hook_is_replaced_or_kept_as_its_owner_says() {
    let hook = json!({ "exec": { "command": ["nginx", "-s", "quit"] } });
    let object = |choice: &str| {
        let mut object = annotated(&[("tidegate.dev/app-prestop", choice)]);
        object["spec"]["template"]["spec"]["containers"][0]["lifecycle"] = json!({ "preStop": hook });
        injected(&object, &given()).0
    };
    let app = |object: &Value| pods(object)["containers"][0]["lifecycle"]["preStop"].clone();
    assert_eq!(app(&object("keep")), hook);
    assert_eq!(app(&object("replace"))["httpGet"]["path"], "/drain");
}

#[test]
fn the_grace_period_is_raised_to_what_the_settings_ask_for_and_never_lowered() {
    for (settings, grace, expected) in [
        (&[][..], None, 30),
        (&[], Some(20), 20),
        (&[], Some(15), 19),
        (&[], Some(600), 600),
        (&[("drain.app_stop", "60s")], None, 74),
        (&[("drain.delay", "5s"), ("limits.request_timeout", "2m")], Some(30), 134),
        (&[("drain.deadline", "100s")], None, 107),
        (&[("drain.delay", "50s")], None, 59),
        (&[("drain.delay", "2m")], Some(5), 129),
    ] {
        let options = Options {
            settings: settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..given()
        };
        let object = deployment(|object| {
            if let Some(grace) = grace {
                object["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = Value::from(grace);
            }
        });
        let (object, notes) = injected(&object, &options);
        let told = notes.iter().any(|note| note.text.starts_with(&format!("raised from {} s", grace.unwrap_or(30))));
        assert_eq!(told, grace.unwrap_or(30) < expected, "{notes:?}");
        let written = pods(&object).get("terminationGracePeriodSeconds").and_then(Value::as_u64);
        assert_eq!(written.unwrap_or(30), expected, "{settings:?}");
        assert_eq!(variable(&object, "TIDEGATE_DRAIN__GRACE"), Some(&*format!("{expected}s")), "{settings:?}");
    }
}

#[test]
fn annotations_stand_above_options() {
    let object = annotated(&[
        ("tidegate.dev/image", "registry.example/tidegate:9"),
        ("tidegate.dev/mode", "container"),
        ("tidegate.dev/listen-port", "9000"),
        ("tidegate.dev/config-map", "orders-tidegate"),
        ("tidegate.dev/cpu-limit", "1"),
        ("tidegate.dev/memory-limit", ""),
        ("config.tidegate.dev/drain.delay", "2s"),
        ("config.tidegate.dev/checks.orders-db.tcp.address", "db:5432"),
        ("config.tidegate.dev/access_log.sample", "$(x)"),
        ("other.example/x", "y"),
    ]);
    let options = Options {
        mode: Some(Mode::Native),
        image: "tidegate:1".to_owned(),
        settings: vec![("drain.delay".to_owned(), "7s".to_owned()), ("drain.quiet".to_owned(), "2s".to_owned())],
        ..given()
    };
    let wrong = super::refused(&object, &options);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    let object = {
        let mut object = object;
        let annotations =
            object["spec"]["template"]["metadata"]["annotations"].as_object_mut().expect("there, as written above");
        annotations.remove("config.tidegate.dev/access_log.sample");
        object
    };
    let (object, _) = injected(&object, &options);
    let sidecar = sidecar(&object);
    assert_eq!(sidecar["image"], "registry.example/tidegate:9");
    assert_eq!(sidecar["ports"][0], json!({ "name": "http", "containerPort": 9000 }));
    assert_eq!(sidecar["args"], json!(["--config", "/etc/tidegate/tidegate.yaml", "run"]));
    let hook = json!(["/tidegate", "--config", "/etc/tidegate/tidegate.yaml", "drain", "--self"]);
    assert_eq!(sidecar["lifecycle"]["preStop"]["exec"]["command"], hook);
    let requests = json!({ "cpu": "50m", "memory": "32Mi" });
    assert_eq!(sidecar["resources"], json!({ "limits": { "cpu": "1" }, "requests": requests }));
    assert_eq!(variable(&object, "TIDEGATE_DRAIN__DELAY"), Some("2s"));
    assert_eq!(variable(&object, "TIDEGATE_DRAIN__QUIET"), Some("2s"));
    assert_eq!(variable(&object, "TIDEGATE_CHECKS__ORDERS-DB__TCP__ADDRESS"), Some("db:5432"));
    assert_eq!(variable(&object, "TIDEGATE_WORKLOAD"), None, "the file may name it");
    let volume = json!({ "name": "tidegate-config", "configMap": { "name": "orders-tidegate" } });
    assert_eq!(pods(&object)["volumes"][2], volume);
}

#[test]
fn listeners_may_have_another_address_and_no_other_port() {
    let object = annotated(&[
        ("config.tidegate.dev/proxy.0.listen", "[::]:8080"),
        ("config.tidegate.dev/ops.listen", "[::]:8014"),
    ]);
    let (object, _) = injected(&object, &given());
    assert_eq!(variable(&object, "TIDEGATE_PROXY__0__LISTEN"), Some("[::]:8080"));
    assert_eq!(variable(&object, "TIDEGATE_OPS__LISTEN"), Some("[::]:8014"));
}

#[test]
fn a_dollar_in_a_value_stays_one() {
    let object = annotated(&[("config.tidegate.dev/checks.x.http.url", "http://db/?q=$(HOME)")]);
    let (object, _) = injected(&object, &given());
    // Kubernetes expands `$(VAR)` in values, and makes a dollar of two.
    assert_eq!(variable(&object, "TIDEGATE_CHECKS__X__HTTP__URL"), Some("http://db/?q=$$(HOME)"));
}

#[test]
fn with_app_port_env_the_sidecar_takes_the_apps_number() {
    let object = with_app(|app| {
        app["livenessProbe"] = json!({ "tcpSocket": { "port": 3000 } });
        app["env"] = json!([{ "name": "PORT", "value": "3000" }, { "name": "A", "value": "b" }]);
        app["ports"][0]["hostPort"] = 80.into();
    });
    let options = Options { app_port_env: Some("PORT".to_owned()), ..given() };
    let (object, _) = injected(&object, &options);
    let app = &pods(&object)["containers"][0];
    assert_eq!(app["env"], json!([{ "name": "PORT", "value": "13000" }, { "name": "A", "value": "b" }]));
    assert_eq!(app["ports"], json!([{ "name": "app-http", "containerPort": 13000 }]));
    assert_eq!(app["livenessProbe"], json!({ "tcpSocket": { "port": 13000 } }));
    assert_eq!(sidecar(&object)["ports"][0], json!({ "name": "http", "containerPort": 3000, "hostPort": 80 }));
    assert_eq!(variable(&object, "TIDEGATE_PROXY__0__UPSTREAM"), Some("http://127.0.0.1:13000"));
    assert_eq!(variable(&object, "TIDEGATE_CHECKS__APP__HTTP__URL"), Some("http://127.0.0.1:13000/healthz"));
}

#[test]
fn a_host_port_goes_where_the_name_goes() {
    let entry = json!({ "name": "http", "containerPort": 3000, "hostPort": 80, "hostIP": "10.0.0.1" });
    let (object, _) = injected(&with_app(|app| app["ports"] = json!([entry])), &container_mode());
    assert_eq!(pods(&object)["containers"][0]["ports"], json!([{ "name": "app-http", "containerPort": 3000 }]));
    let expected = json!({ "name": "http", "containerPort": 8080, "hostPort": 80, "hostIP": "10.0.0.1" });
    assert_eq!(sidecar(&object)["ports"][0], expected);
}

#[test]
fn ports_are_chosen_by_name_or_by_what_serves() {
    let check = |ports: Value, chosen: &[&str], expected: &[(&str, &str)]| {
        let object = with_app(|app| app["ports"] = ports.clone());
        let options = Options { ports: chosen.iter().map(|&port| port.to_owned()).collect(), ..given() };
        let (object, _) = injected(&object, &options);
        for (index, (listen, upstream)) in expected.iter().enumerate() {
            let key = |key: &str| variable(&object, &format!("TIDEGATE_PROXY__{index}__{key}"));
            assert_eq!((key("LISTEN"), key("UPSTREAM")), (Some(*listen), Some(*upstream)), "{ports}");
        }
        let next = format!("TIDEGATE_PROXY__{}__LISTEN", expected.len());
        assert_eq!(variable(&object, &next), None, "{ports}");
    };
    let port = |name: &str, number: u16| json!({ "name": name, "containerPort": number });
    let grpc = "h2c://127.0.0.1:5000";
    check(json!([{ "containerPort": 3000 }]), &[], &[("0.0.0.0:8080", "http://127.0.0.1:3000")]);
    check(json!([port("http", 8080)]), &[], &[("0.0.0.0:8081", "http://127.0.0.1:8080")]);
    check(json!([port("grpc", 5000), port("http-metrics", 9090)]), &[], &[("0.0.0.0:8080", grpc)]);
    check(json!([port("web", 3000), port("admin", 9)]), &[], &[("0.0.0.0:8080", "http://127.0.0.1:3000")]);
    check(json!([port("http", 3000), port("http-x", 9)]), &[], &[("0.0.0.0:8080", "http://127.0.0.1:3000")]);
    check(
        json!([port("http", 3000), port("grpc-x", 5000)]),
        &["http", "5000"],
        &[("0.0.0.0:8080", "http://127.0.0.1:3000"), ("0.0.0.0:8081", grpc)],
    );
    check(json!([port("https", 8443)]), &["https"], &[("0.0.0.0:8080", "http://127.0.0.1:8443")]);
    check(json!([]), &["3000"], &[("0.0.0.0:8080", "http://127.0.0.1:3000")]);
}

#[test]
fn a_pod_without_a_port_gets_a_sidecar_that_nobody_reaches() {
    let object = with_app(|app| app["ports"] = json!([{ "containerPort": 53, "protocol": "UDP" }]));
    let (object, notes) = injected(&object, &given());
    assert_eq!(variable(&object, "TIDEGATE_PROXY__0__LISTEN"), Some("127.0.0.1:8080"));
    assert_eq!(sidecar(&object)["ports"], json!([{ "name": "tidegate-ops", "containerPort": 8014 }]));
    assert!(notes.iter().any(|note| note.text.starts_with("no port is declared")), "{notes:?}");
}

#[test]
fn every_kind_with_pods_is_injected_and_others_stay() {
    let template = deployment(|_| {})["spec"]["template"].clone();
    let of = |kind: &str, version: &str, spec: Value| json!({ "kind": kind, "apiVersion": version, "metadata": { "name": "x" }, "spec": spec });
    let mut ending = template.clone();
    ending["spec"]["restartPolicy"] = "Never".into();
    let held = json!({ "template": template });
    let rollout = of("Rollout", "argoproj.io/v1alpha1", held.clone());
    let options = Options {
        pod_templates: vec![
            "Rollout.argoproj.io=spec.template".parse::<PodTemplate>().expect("there, as written above"),
        ],
        ..given()
    };
    for object in [
        of("Deployment", "apps/v1", held.clone()),
        of("StatefulSet", "apps/v1", held.clone()),
        of("DaemonSet", "apps/v1", held.clone()),
        of("ReplicaSet", "apps/v1", held.clone()),
        of("ReplicationController", "v1", held.clone()),
        of("Job", "batch/v1", json!({ "template": ending })),
        of("CronJob", "batch/v1", json!({ "jobTemplate": { "spec": { "template": ending } } })),
        of("Pod", "v1", template["spec"].clone()),
        rollout.clone(),
    ] {
        let kind = object["kind"].as_str().expect("there, as written above").to_owned();
        let text = injected(&object, &options).0.to_string();
        assert!(text.contains(r#""name":"tidegate""#) && text.contains("tidegate.dev/injected"), "{kind}: {text}");
    }
    for object in [
        of("Deployment", "example.com/v1", held.clone()),
        of("Service", "v1", json!({})),
        of("ConfigMap", "v1", json!({})),
        json!({ "kind": 5 }),
        json!("text"),
        Value::Null,
        json!([]),
    ] {
        assert!(matches!(inject(&object, &[], &options), Outcome::Untouched(_)), "{object}");
    }
    assert!(matches!(inject(&rollout, &[], &Options::default()), Outcome::Untouched(_)));
}

#[test]
fn a_pods_workload_is_its_owners() {
    for (owner, labels, expected) in [
        (
            json!({ "kind": "ReplicaSet", "name": "orders-6b7c9d5f4" }),
            json!({ "pod-template-hash": "6b7c9d5f4" }),
            Some("orders"),
        ),
        (json!({ "kind": "StatefulSet", "name": "db" }), json!({}), Some("db")),
        (json!({ "kind": "Job", "name": "x-1" }), json!({}), None),
    ] {
        let metadata = json!({ "generateName": "x-", "labels": labels, "ownerReferences": [owner] });
        let spec = pods(&deployment(|_| {})).clone();
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec });
        let (object, _) = injected(&pod, &given());
        let env = object["spec"]["initContainers"][0]["env"].as_array().expect("there, as written above");
        let found =
            env.iter().find(|entry| entry["name"] == "TIDEGATE_WORKLOAD").and_then(|entry| entry["value"].as_str());
        assert_eq!(found, expected);
    }
}
