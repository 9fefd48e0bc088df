//! What the manifests tell `tidegate` to do, told to `tidegate`.

use std::process::Command;

use serde_json::{Value, json};

use super::manifests::{objects, rendered};
use super::ran;
use crate::support::sdk::root;

/// The arguments of every container, by who has it.
fn told(text: &str) -> Vec<(String, Vec<String>)> {
    let mut all = Vec::new();
    for (name, object) in objects(text) {
        let spec = &object["spec"];
        for pod in [&spec["template"]["spec"], &spec["jobTemplate"]["spec"]["template"]["spec"]] {
            for container in pod["containers"].as_array().into_iter().flatten() {
                let arguments = container["args"].as_array().unwrap().iter();
                all.push((name.clone(), arguments.map(|argument| argument.as_str().unwrap().to_owned()).collect()));
            }
        }
    }
    all
}

/// Whether `tidegate` knows these arguments: with `--help` it says so and does nothing.
fn known(arguments: &[String]) -> (bool, String) {
    ran(Command::new(env!("CARGO_BIN_EXE_tidegate")).args(arguments).arg("--help").env_clear())
}

#[test]
fn every_container_is_told_what_there_is() {
    let plain = std::fs::read_to_string(root().join("deploy/webhook.yaml")).unwrap();
    for text in [plain, rendered(&json!({}))] {
        let all = told(&text);
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let certificates =
            ["CronJob/tidegate-webhook-cert", "Deployment/tidegate-webhook", "Job/tidegate-webhook-cert-1"];
        assert_eq!(names, certificates);
        for (name, arguments) in all {
            let (well, said) = known(&arguments);
            assert!(well, "{name}: {said}");
            let wrong = [arguments, vec!["--nonsense".to_owned()]].concat();
            assert!(!known(&wrong).0, "{name}: an argument that there is not");
        }
    }
}

#[test]
fn the_certificates_account_may_do_what_is_asked_of_the_api_server_and_no_more() {
    let plain = std::fs::read_to_string(root().join("deploy/webhook.yaml")).unwrap();
    let all = objects(&plain);
    let rules = |name: &str| -> Vec<(Value, Value, Value)> {
        let rules = all[name]["rules"].as_array().unwrap().iter();
        rules.map(|rule| (rule["resources"].clone(), rule["resourceNames"].clone(), rule["verbs"].clone())).collect()
    };
    let secret = &all["Deployment/tidegate-webhook"]["spec"]["template"]["spec"]["volumes"][0]["secret"]["secretName"];
    assert_eq!(
        rules("Role/tidegate-webhook-cert"),
        [
            (json!(["secrets"]), json!([secret]), json!(["get", "update"])),
            (json!(["secrets"]), Value::Null, json!(["create"])),
        ]
    );
    assert_eq!(
        rules("ClusterRole/tidegate-webhook-cert"),
        [(json!(["mutatingwebhookconfigurations"]), json!(["tidegate"]), json!(["get", "patch"]))]
    );
}
