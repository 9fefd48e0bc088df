//! What is refused or left alone, and the words for it.

use serde_json::{Value, json};

use super::super::{DrainToken, Options, Outcome, Reason, Selection, Version, inject, uninject};
use super::{annotated, container_mode, deployment, injected, pods, refused, with_app};
use crate::secret::Secret;

/// One refusal, whose line is this.
fn check(object: &Value, options: &Options, expected: &str) {
    let lines: Vec<String> = refused(object, options).iter().map(ToString::to_string).collect();
    assert_eq!(lines, [format!("Deployment shop/orders: spec.template.{expected}")]);
}

fn with_spec(key: &str, value: Value) -> Value {
    deployment(|object| object["spec"]["template"]["spec"][key] = value)
}

#[test]
fn pods_that_a_sidecar_would_break_are_refused_with_what_to_do() {
    let default = &Options::default();
    let network = "spec.hostNetwork: the sidecar's ports (8013 to 8016 and its proxy's) would be the node's; leave \
                   hostNetwork out, or these pods by tidegate.dev/inject: disabled";
    check(&with_spec("hostNetwork", true.into()), default, network);
    let windows = "spec.os: the sidecar's image is for Linux, and the pod is for Windows; leave these pods out by \
                   tidegate.dev/inject: disabled";
    check(&with_spec("os", json!({ "name": "windows" })), default, windows);
    check(&with_spec("nodeSelector", json!({ "kubernetes.io/os": "windows" })), default, windows);
    let grace = "spec.terminationGracePeriodSeconds: 0 kills the pod without any hook or signal; leave it out, or write the \
                 seconds that the pod may take to end";
    check(&with_spec("terminationGracePeriodSeconds", 0.into()), default, grace);
    let volume = "spec.volumes: a volume is named tidegate-run already; give it another name";
    check(&with_spec("volumes", json!([{ "name": "tidegate-run" }])), default, volume);
    let hook = "spec.containers[app].lifecycle.preStop: the app has a hook of its own, and a container has only one; choose \
                tidegate.dev/app-prestop: replace, or keep, with which the sidecar cannot hold the app's SIGTERM back";
    let exec = json!({ "preStop": { "exec": { "command": ["nginx", "-s", "quit"] } } });
    check(&with_app(|app| app["lifecycle"] = exec), default, hook);
    let mut job = with_spec("restartPolicy", "Never".into());
    job["kind"] = "Job".into();
    job["apiVersion"] = "batch/v1".into();
    let lines: Vec<String> = refused(&job, &container_mode()).iter().map(ToString::to_string).collect();
    let ends = "Job shop/orders: spec.template.spec.restartPolicy: beside a container that does not end the pod would never \
                end; choose tidegate.dev/mode: native";
    assert_eq!(lines, [ends]);
}

#[test]
fn ports_that_collide_or_leave_a_choice_are_refused() {
    let default = &Options::default();
    for (port, key) in [(8013, "local.listen"), (8014, "ops.listen"), (8016, "local.listen")] {
        let expected = format!(
            "spec.containers: port {port} is taken by a container, and the sidecar needs it; move the sidecar's by \
             config.tidegate.dev/{key}, or the container's"
        );
        check(
            &with_app(|app| {
                app["ports"]
                    .as_array_mut()
                    .expect("there, as written above")
                    .push(json!({ "name": "x-metrics", "containerPort": port }))
            }),
            default,
            &expected,
        );
    }
    // It moves.
    let mut object = annotated(&[("config.tidegate.dev/ops.listen", "0.0.0.0:9014")]);
    let metrics = json!({ "name": "metrics", "containerPort": 8014 });
    object["spec"]["template"]["spec"]["containers"][0]["ports"]
        .as_array_mut()
        .expect("there, as written above")
        .push(metrics);
    let (object, _) = injected(&object, default);
    assert_eq!(pods(&object)["containers"][0]["lifecycle"]["preStop"]["httpGet"]["port"], 9014);

    let two = json!([{ "containerPort": 3000 }, { "name": "x", "containerPort": 3001 }]);
    let choice = "spec.containers[app].ports: traffic may come on any of 3000, x (3001); choose by tidegate.dev/port or \
                  --port, or add the Service to the stream";
    check(&with_app(|app| app["ports"] = two), default, choice);
    let twice = json!([{ "name": "http", "containerPort": 3000 }, { "name": "web", "containerPort": 3000 }]);
    let one = "spec.containers[app].ports: port 3000 is declared as http and web, and only one of them can lead to the \
               sidecar; keep one name, and let every Service target it";
    check(&with_app(|app| app["ports"] = twice), default, one);
    let other = "spec.containers[app].ports: port 6379 by its name speaks something else than HTTP; if it is HTTP, choose it by \
                 tidegate.dev/port; else leave these pods out by tidegate.dev/inject: disabled";
    check(
        &with_app(|app| {
            app["ports"] = json!([{ "name": "redis", "containerPort": 6379 }]);
            app["readinessProbe"] = Value::Null;
        }),
        default,
        other,
    );
    let tls = "spec.containers[app].ports: port 443 speaks TLS to the app, where the sidecar cannot look inside; let the \
               sidecar end TLS (config.tidegate.dev/proxy.0.tls…) or, if it is plain HTTP, choose it by tidegate.dev/port";
    check(&with_app(|app| app["ports"] = json!([{ "name": "https", "containerPort": 443 }])), default, tls);
    let listen = Options { listen_port: Some(3000), ..Options::default() };
    let taken = "spec.containers: the sidecar's port 3000 is taken by a container or by the sidecar itself; choose another: \
                 8080 is free";
    check(&deployment(|_| {}), &listen, taken);
    for (env, wrong) in [
        (
            json!([{ "name": "PORT", "value": ":3000" }]),
            "\":3000\" is more than a port, and would become the number of another; let the variable be the port's number and no more, or leave app-port-env out",
        ),
        (json!([{ "name": "PORT", "value": "1" }, { "name": "PORT", "value": "2" }]), "there twice; keep one of them"),
    ] {
        let options = Options { app_port_env: Some("PORT".to_owned()), ..Options::default() };
        check(&with_app(|app| app["env"] = env), &options, &format!("spec.containers[app].env[PORT]: {wrong}"));
    }
    let low = Options { app_port_env: Some("PORT".to_owned()), ..Options::default() };
    let privilege = "spec.securityContext.sysctls: the sidecar has no privilege for port 80; choose a port from 1024 on, or \
                     set the sysctl net.ipv4.ip_unprivileged_port_start for the pod";
    let port = |app: &mut Value| app["ports"][0]["containerPort"] = 80.into();
    check(&with_app(port), &low, privilege);
    let none = Options { ports: vec!["web".to_owned()], ..Options::default() };
    let named = "spec.containers[app].ports: no port is named \"web\"; choose by tidegate.dev/port or --port";
    check(&deployment(|_| {}), &none, named);
}

#[test]
fn of_several_containers_the_one_that_serves_is_found_or_asked_for() {
    let two = |ports: Value| {
        deployment(|object| {
            let second = json!({ "name": "other", "image": "o", "ports": ports });
            object["spec"]["template"]["spec"]["containers"]
                .as_array_mut()
                .expect("there, as written above")
                .push(second);
        })
    };
    let app = |object: &Value| {
        let original = &object["spec"]["template"]["metadata"]["annotations"]["tidegate.dev/original"];
        serde_json::from_str::<Value>(original.as_str().expect("there, as written above"))
            .expect("there, as written above")["container"]
            .clone()
    };
    let default = &Options::default();
    assert_eq!(app(&injected(&two(json!([])), default).0), "app", "it alone has a port");
    let ambiguous = two(json!([{ "containerPort": 9000 }]));
    let choice = "spec.containers: any of app, other may be the app; name it by tidegate.dev/app-container or \
                  --app-container";
    check(&ambiguous, default, choice);
    let mut annotated = ambiguous.clone();
    let annotations = json!({ "kubectl.kubernetes.io/default-container": "other" });
    annotated["spec"]["template"]["metadata"]["annotations"] = annotations;
    assert_eq!(app(&injected(&annotated, default).0), "other");
    let chosen = |name: &str| Options { app_container: Some(name.to_owned()), ..Options::default() };
    assert_eq!(app(&injected(&ambiguous, &chosen("other")).0), "other");
    let unknown = "spec.containers: no container is named \"x\"; choose one of app, other";
    check(&ambiguous, &chosen("x"), unknown);
    let stream = [super::service(&json!([{ "port": 80, "targetPort": 9000 }]))];
    match inject(&ambiguous, &stream, default) {
        Outcome::Injected { object, .. } => assert_eq!(app(&object), "other"),
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn annotations_and_settings_are_judged_before_anything_is_written() {
    for (key, value, expected) in [
        ("tidegate.dev/imgae", "x", "unknown annotation; did you mean tidegate.dev/image?"),
        (
            "tidegate.dev/xyzzy",
            "x",
            "unknown annotation; docs/KUBERNETES.md names all of them; keys of the configuration begin with \
             config.tidegate.dev/",
        ),
        ("tidegate.dev/mode", "both", "\"both\" is not a mode; write native or container"),
        ("tidegate.dev/inject", "yes", "\"yes\" is neither; write enabled or disabled"),
        ("tidegate.dev/listen-port", "0", "\"0\" is no port; write a number from 1 to 65535"),
        ("tidegate.dev/image", " ", "empty; write a value, or remove it"),
        (
            "tidegate.dev/cpu-limit",
            "lots",
            "\"lots\" is no quantity; write it as 50m or 0.5 for cpu, as 32Mi for memory",
        ),
        ("tidegate.dev/memory-limit", "1Mi", "the limit 1Mi is below the request 32Mi; raise it, or lower the request"),
        (
            "tidegate.dev/config-map",
            "A_b",
            "\"A_b\" is no name of a ConfigMap; use lower-case letters, digits, - and .",
        ),
        (
            "tidegate.dev/drain-token",
            "x",
            "not taken from an annotation; remove it: a token is made, or given by --drain-token",
        ),
        ("config.tidegate.dev/drain.dealy", "5s", "drain.dealy: unknown key; did you mean drain.delay?"),
        ("config.tidegate.dev/drain.delay", "5", "drain.delay: \"5\": not a duration; write 5s"),
        ("config.tidegate.dev/drain.grace", "5s", "taken from the pod; set terminationGracePeriodSeconds"),
        (
            "config.tidegate.dev/proxy.0.listen",
            "0.0.0.0:1",
            "chosen with the ports of the pod; set tidegate.dev/listen-port",
        ),
        (
            "config.tidegate.dev/redis.url",
            "redis://:hunter2@redis",
            "a secret, which everybody could read here; put it into the file of tidegate.dev/config-map as ${file:…}, or into \
             a Secret",
        ),
        ("config.tidegate.dev/ops.listen", "127.0.0.1:8014", "out of the kubelet's reach; listen on 0.0.0.0 or [::]"),
    ] {
        let lines: Vec<String> =
            refused(&annotated(&[(key, value)]), &Options::default()).iter().map(ToString::to_string).collect();
        let place = format!("Deployment shop/orders: spec.template.metadata.annotations[{key}]");
        assert_eq!(lines, [format!("{place}: {expected}")], "{key}");
        assert!(!lines[0].contains("hunter2"));
    }
}

#[test]
fn annotations_that_are_no_texts_are_refused() {
    for (key, value) in [("tidegate.dev/mode", json!(true)), ("config.tidegate.dev/drain.delay", json!(3))] {
        let object = deployment(|object| object["spec"]["template"]["metadata"]["annotations"] = json!({ key: value }));
        let expected = format!("metadata.annotations[{key}]: no text, which every annotation is; put quotes around it");
        check(&object, &Options::default(), &expected);
    }
}

#[test]
fn a_claim_of_our_volumes_name_is_refused() {
    let object = deployment(|object| {
        object["kind"] = "StatefulSet".into();
        object["spec"]["volumeClaimTemplates"] = json!([{ "metadata": { "name": "tidegate-state" } }]);
    });
    let lines: Vec<String> = refused(&object, &Options::default()).iter().map(ToString::to_string).collect();
    let expected = "StatefulSet shop/orders: spec.template.spec.volumes: a volume is named tidegate-state already; give it \
                    another name";
    assert_eq!(lines, [expected]);
}

#[test]
fn a_container_that_was_renamed_since_is_told_and_nothing_is_half_undone() {
    let (mut object, _) = injected(&deployment(|_| {}), &Options::default());
    object["spec"]["template"]["spec"]["containers"][0]["name"] = "renamed".into();
    let Outcome::Refused(refusals) = uninject(&object) else { panic!("not refused") };
    let expected = "Deployment shop/orders: spec.template.spec.containers: no container is named \"app\", whose probe and hook \
                    were moved; name it so, take the sidecar out, and then rename it";
    assert_eq!(refusals.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
}

#[test]
fn what_is_disabled_or_not_asked_for_stays() {
    let default = &Options::default();
    let only = Options { selection: Selection::OnlyEnabled, ..Options::default() };
    let outcome = |object: &Value, options| match inject(object, &[], options) {
        Outcome::Untouched(reason) => Some(reason),
        Outcome::Injected { .. } => None,
        Outcome::Refused(refusals) => panic!("{refusals:?}"),
    };
    assert_eq!(outcome(&annotated(&[("tidegate.dev/inject", "disabled")]), default), Some(Reason::Disabled));
    assert_eq!(outcome(&annotated(&[("tidegate.dev/inject", "enabled")]), &only), None);
    assert_eq!(outcome(&deployment(|_| {}), &only), Some(Reason::NotEnabled));
    let own = deployment(|object| object["metadata"]["annotations"] = json!({ "tidegate.dev/inject": "disabled" }));
    assert_eq!(outcome(&own, default), Some(Reason::Disabled));
    let label =
        deployment(|object| object["spec"]["template"]["metadata"]["labels"]["tidegate.dev/inject"] = "enabled".into());
    assert_eq!(outcome(&label, &only), None);
    let hand = with_spec("initContainers", json!([{ "name": "tidegate", "image": "x" }]));
    assert_eq!(outcome(&hand, default), Some(Reason::ByHand));
}

#[test]
fn the_clusters_version_decides_about_the_mode() {
    let at = |minor| Options { kubernetes: Some(Version { major: 1, minor }), ..Options::default() };
    for (minor, native) in [(28, false), (31, false), (32, true)] {
        let (object, _) = injected(&deployment(|_| {}), &at(minor));
        assert_eq!(pods(&object).get("initContainers").is_some(), native, "1.{minor}");
    }
    let native = Options { mode: Some(super::Mode::Native), ..at(28) };
    let expected =
        "spec.initContainers: native sidecars need Kubernetes 1.29 or newer; choose tidegate.dev/mode: container";
    check(&deployment(|_| {}), &native, expected);
}

#[test]
fn a_token_that_no_header_carries_is_refused() {
    for token in ["", "a b", "ä"] {
        let options = Options { drain_token: DrainToken::Given(Secret::new(token)), ..Options::default() };
        assert_eq!(refused(&deployment(|_| {}), &options).len(), 1, "{token}");
    }
}

#[test]
fn an_unreadable_original_is_refused_and_not_guessed() {
    let (mut object, _) = injected(&deployment(|_| {}), &Options::default());
    object["spec"]["template"]["metadata"]["annotations"]["tidegate.dev/original"] = "{".into();
    let expected = "metadata.annotations[tidegate.dev/original]: not what injection writes; inject the manifest from before, \
                    or take the sidecar out by hand";
    check(&object, &Options::default(), expected);
}
