//! Manifests as a person applies them: the workload, its Services and the files of its ConfigMaps.

use serde_json::Value;

use super::files::ConfigMaps;
use super::spec::PortRef;

/// A stream of manifests.
#[derive(Debug, Clone)]
pub(crate) struct Manifests(pub(crate) Vec<Value>);

/// What pods are made of.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) template: Value,
    pub(super) maps: ConfigMaps,
    pub(super) replicas: usize,
    pub(super) surge: usize,
    pub(super) unavailable: usize,
}

impl Manifests {
    pub(crate) fn parse(text: &str) -> Self {
        Self(serde_saphyr::from_multiple(text).unwrap())
    }

    /// The only object of this kind.
    pub(crate) fn object(&mut self, kind: &str) -> &mut Value {
        self.0.iter_mut().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
    }

    /// The only Deployment.
    pub(crate) fn workload(&self) -> Workload {
        let deployment = self.0.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment");
        let count = |path: &str, default: u64| -> usize {
            let value = deployment.pointer(path).unwrap_or(&Value::Null);
            assert!(value.is_null() || value.is_u64(), "{path}: not played: {value}");
            value.as_u64().unwrap_or(default).try_into().unwrap()
        };
        let maps = self.0.iter().filter(|object| object["kind"] == "ConfigMap").map(|map| {
            let name = map["metadata"]["name"].as_str().unwrap().to_owned();
            (name, serde_json::from_value(map["data"].clone()).unwrap())
        });
        Workload {
            name: deployment["metadata"]["name"].as_str().unwrap().to_owned(),
            template: deployment["spec"]["template"].clone(),
            maps: maps.collect(),
            replicas: count("/spec/replicas", 1),
            surge: count("/spec/strategy/rollingUpdate/maxSurge", 1),
            unavailable: count("/spec/strategy/rollingUpdate/maxUnavailable", 1),
        }
    }

    /// Names of the Service's ports, and what each targets.
    pub(super) fn ports(&self) -> Vec<(String, PortRef)> {
        let service = self.0.iter().find(|object| object["kind"] == "Service").expect("a Service");
        let ports = service["spec"]["ports"].as_array().unwrap().iter();
        ports
            .map(|port| {
                let target = port.get("targetPort").unwrap_or(&port["port"]);
                (port["name"].as_str().unwrap_or_default().to_owned(), serde_json::from_value(target.clone()).unwrap())
            })
            .collect()
    }
}
