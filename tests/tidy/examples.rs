//! The examples work with each other: the demo's flags, ports and paths are the same in every file that names them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use tidegate::config;
use tidegate::flags::compile::{Format, document};

use crate::{files, none, read};

/// The configuration of `make run`.
fn config() -> Value {
    serde_saphyr::from_str(&read("examples/tidegate.yaml")).expect("examples/tidegate.yaml is YAML")
}

/// What stands in `text` between each `before` and the next `after`.
fn between<'t>(text: &'t str, before: &str, after: char) -> Vec<&'t str> {
    text.split(before).skip(1).filter_map(|rest| rest.split_once(after)).map(|(word, _)| word).collect()
}

#[test]
fn every_flag_file_shipped_compiles() {
    for path in files("examples", &[".json"]) {
        if let Err(invalid) = document(&read(&path), Format::Json) {
            panic!("{path}: {invalid}");
        }
    }
    let manifests: Vec<Value> = serde_saphyr::from_multiple(&read("deploy/sidecar.yaml")).unwrap();
    let flags = manifests[0]["data"]["flags.json"].as_str().expect("the first document is the ConfigMap");
    if let Err(invalid) = document(flags, Format::Json) {
        panic!("deploy/sidecar.yaml, flags.json: {invalid}");
    }
}

#[test]
fn every_configuration_shipped_is_accepted() {
    let manifests: Vec<Value> = serde_saphyr::from_multiple(&read("deploy/sidecar.yaml")).unwrap();
    let mounted = manifests[0]["data"]["tidegate.yaml"].as_str().expect("the first document is the ConfigMap");
    let example = read("examples/tidegate.yaml");
    for (name, text, variable, value) in [
        ("examples/tidegate.yaml", example.as_str(), "PWD", "/somewhere"),
        ("deploy/sidecar.yaml", mounted, "TIDEGATE_DRAIN_TOKEN", "replace-me-with-a-random-value"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file: PathBuf = dir.path().join("tidegate.yaml");
        std::fs::write(&file, text).unwrap();
        let environment = BTreeMap::from([(variable.to_owned(), value.to_owned())]);
        let inputs = config::Inputs { file: Some(file.clone()), environment, ..config::Inputs::default() };
        if let Err(problems) = config::load(&inputs) {
            panic!("{name}: {problems}");
        }
        std::fs::write(&file, format!("{text}\nsurprise: 1\n")).unwrap();
        assert!(config::load(&inputs).is_err(), "{name}: a key that nobody knows is refused");
    }
}

#[test]
fn the_demo_asks_for_flags_that_exist() {
    let flags = document(&read("examples/flags.json"), Format::Json).unwrap();
    let (app, script) = (read("examples/demo_app.rs"), read("scripts/run-demo.sh"));
    let mut asked = between(&app, "enabled(sidecar, \"", '"');
    asked.extend(between(&script, ":8013/v1/flags/", '/'));
    asked.extend(between(&script, ":8013/ofrep/v1/evaluate/flags/", ' '));
    assert_eq!(asked.len(), 3, "the flags asked for were not found: {asked:?}");
    let missing: Vec<String> =
        asked.iter().filter(|key| !flags.flags.contains_key(**key)).map(ToString::to_string).collect();
    none("examples/flags.json lacks", &missing);
    assert!(read("examples/flags.json").contains("\"defaultVariant\": \"off\""), "what the demo's sed line looks for");
}

#[test]
fn the_demo_script_and_its_configuration_name_the_same_places() {
    let (config, script) = (config(), read("scripts/run-demo.sh"));
    let ports = between(&script, "for port in ", ';');
    let app = config["proxy"][0]["upstream"].as_str().unwrap().trim_start_matches("http://");
    let local = config["local"]["listen"].as_array().unwrap().iter().map(|address| address.as_str().unwrap());
    let mut listeners = vec![app, config["proxy"][0]["listen"].as_str().unwrap()];
    listeners.extend(local);
    listeners.push(config["ops"]["listen"][0].as_str().unwrap());
    let expected: Vec<&str> = listeners.iter().map(|address| address.trim_start_matches("127.0.0.1:")).collect();
    assert_eq!(ports[0].split(' ').collect::<Vec<_>>(), expected, "ports: examples/tidegate.yaml, scripts/run-demo.sh");
    assert!(script.contains(&format!("--listen {app}")), "the demo app does not listen where the proxy looks for it");
    let state = config["state_dir"].as_str().unwrap();
    assert!(script.contains(&format!("state={state}\n")), "the script prepares another directory than {state}");
    assert_eq!(config["flags"]["files"][0], format!("{state}/flags.json"));
}
