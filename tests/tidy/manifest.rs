//! What is shipped: the image's and the manifest's promises agree with the sidecar's defaults and with each other.

use serde_json::Value;

use crate::read;

/// The ports of `proxy` and `ops` that the sidecar has without configuration.
const HTTP: u64 = 8080;
const OPS: u64 = 8014;

/// The documents of `deploy/sidecar.yaml`.
fn documents() -> Vec<Value> {
    serde_saphyr::from_multiple(&read("deploy/sidecar.yaml")).expect("deploy/sidecar.yaml is YAML")
}

fn of_kind<'d>(documents: &'d [Value], kind: &str) -> &'d Value {
    let mut found = documents.iter().filter(|document| document["kind"] == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "two documents of kind {kind}");
    first
}

fn named<'d>(list: &'d Value, name: &str) -> &'d Value {
    let list = list.as_array().unwrap_or_else(|| panic!("no list to find {name} in"));
    list.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("no entry named {name}"))
}

#[test]
fn the_sidecar_is_native_and_probed_on_its_ops_port() {
    let documents = documents();
    let pod = &of_kind(&documents, "Deployment")["spec"]["template"]["spec"];
    let sidecar = named(&pod["initContainers"], "tidegate");
    assert_eq!(sidecar["restartPolicy"], "Always", "without it the sidecar is an init container that never ends");
    assert_eq!(named(&sidecar["ports"], "http")["containerPort"], HTTP);
    assert_eq!(named(&sidecar["ports"], "ops")["containerPort"], OPS);
    for (probe, path) in [("startupProbe", "/startupz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")] {
        assert_eq!(sidecar[probe]["httpGet"]["path"], path, "{probe}");
        assert_eq!(sidecar[probe]["httpGet"]["port"], "ops", "{probe}");
    }
}

#[test]
fn the_app_waits_for_the_drain_with_the_sidecars_token() {
    let documents = documents();
    let pod = &of_kind(&documents, "Deployment")["spec"]["template"]["spec"];
    let hook = &pod["containers"][0]["lifecycle"]["preStop"]["httpGet"];
    assert_eq!(hook["path"], "/drain");
    assert_eq!(hook["port"], OPS, "a hook's named port is looked up in its own container, which is the app's");
    let sidecar = named(&pod["initContainers"], "tidegate");
    let token = &named(&sidecar["env"], "TIDEGATE_DRAIN_TOKEN")["value"];
    assert!(token.is_string());
    assert_eq!(&named(&hook["httpHeaders"], "Tidegate-Drain-Token")["value"], token);
}

#[test]
fn the_sidecar_gives_up_every_privilege() {
    let documents = documents();
    let pod = &of_kind(&documents, "Deployment")["spec"]["template"]["spec"];
    let context = &named(&pod["initContainers"], "tidegate")["securityContext"];
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(context["runAsUser"].to_string(), image_user(), "the manifest's user is not the image's");
}

#[test]
fn traffic_reaches_the_sidecar_and_not_the_app() {
    let documents = documents();
    let service = of_kind(&documents, "Service");
    let deployment = of_kind(&documents, "Deployment");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "http");
    assert_eq!(service["spec"]["selector"], deployment["spec"]["template"]["metadata"]["labels"]);
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], deployment["spec"]["template"]["metadata"]["labels"]);
    let app = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert!(app.get("ports").is_none(), "the app names no port that a Service could find");
    assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
}

#[test]
fn every_mount_has_its_volume_and_every_path_its_mount() {
    let documents = documents();
    let pod = &of_kind(&documents, "Deployment")["spec"]["template"]["spec"];
    let sidecar = named(&pod["initContainers"], "tidegate");
    let mounts = sidecar["volumeMounts"].as_array().unwrap();
    for mount in mounts {
        named(&pod["volumes"], mount["name"].as_str().unwrap());
    }
    let config = of_kind(&documents, "ConfigMap");
    assert_eq!(named(&pod["volumes"], "config")["configMap"]["name"], config["metadata"]["name"]);
    let mounted = |path: &str| mounts.iter().any(|mount| path.starts_with(mount["mountPath"].as_str().unwrap()));
    let settings: Value = serde_saphyr::from_str(config["data"]["tidegate.yaml"].as_str().unwrap()).unwrap();
    for path in [&settings["flags"]["files"][0], &settings["state_dir"], &sidecar["args"][1]] {
        assert!(mounted(path.as_str().unwrap()), "{path} is on no volume, and the root file system is read-only");
    }
    for path in [&sidecar["args"][1], &settings["flags"]["files"][0]] {
        let file = path.as_str().unwrap().rsplit('/').next().unwrap();
        assert!(config["data"].get(file).is_some(), "the ConfigMap holds no {file}");
    }
    let _: Value = serde_json::from_str(config["data"]["flags.json"].as_str().unwrap()).expect("flags.json is JSON");
}

/// Instructions of the Dockerfile's last stage, continued lines joined: (instruction, rest).
fn last_stage(dockerfile: &str) -> Vec<(String, String)> {
    let joined = dockerfile.replace("\\\n", " ");
    let mut stage = Vec::new();
    for line in joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (instruction, rest) = line.split_once(' ').unwrap_or((line, ""));
        if instruction == "FROM" {
            stage.clear();
        }
        stage.push((instruction.to_owned(), rest.to_owned()));
    }
    stage
}

fn instruction(stage: &[(String, String)], name: &str) -> String {
    let found: Vec<&str> = stage.iter().filter(|(known, _)| known == name).map(|(_, rest)| rest.as_str()).collect();
    assert_eq!(found.len(), 1, "the last stage of the Dockerfile has one {name}");
    found[0].to_owned()
}

/// The number of the image's user.
fn image_user() -> String {
    let user = instruction(&last_stage(&read("Dockerfile")), "USER");
    user.split(':').next().unwrap_or_default().to_owned()
}

#[test]
fn the_image_is_empty_but_for_us_and_not_root() {
    let stage = last_stage(&read("Dockerfile"));
    assert_eq!(instruction(&stage, "FROM"), "scratch");
    let user: u32 = image_user().parse().expect("a number: the kubelet's runAsNonRoot cannot check a name");
    assert_ne!(user, 0);
    assert!(stage.iter().all(|(name, _)| name != "RUN"), "there is nothing to run in an empty image");
    assert_eq!(instruction(&stage, "ENTRYPOINT"), "[\"/tidegate\"]");
    assert_eq!(instruction(&stage, "CMD"), "[\"run\"]");
    assert_eq!(instruction(&stage, "EXPOSE"), format!("{HTTP} {OPS}"));
}
