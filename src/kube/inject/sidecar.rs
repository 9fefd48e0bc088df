//! The sidecar's own container, as `deploy/sidecar.yaml` has it by hand.

use serde_json::{Map, Value, json};

use super::options::{Mode, Options};
use super::ports::Route;

/// Its name.
pub(super) const CONTAINER: &str = "tidegate";
/// Names of the volumes that it may bring.
pub(super) const VOLUMES: [&str; 3] = ["tidegate-run", "tidegate-state", "tidegate-config"];
/// Where a ConfigMap is mounted.
const CONFIG: &str = "/etc/tidegate/tidegate.yaml";

/// What is known about the sidecar before its container is written.
pub(super) struct Sidecar<'a> {
    pub(super) options: &'a Options,
    pub(super) mode: Mode,
    pub(super) environment: &'a [(String, String)],
    pub(super) routes: &'a [Route],
    /// Entries of the app's `ports` that held a `hostPort`, by the route's number.
    pub(super) host_ports: &'a Map<String, Value>,
    /// Where the kubelet asks.
    pub(super) ops: u16,
    /// `HTTPS` where the ops listener ends TLS.
    pub(super) scheme: Option<&'a str>,
}

impl Sidecar<'_> {
    /// The container.
    pub(super) fn container(&self) -> Value {
        let mut container = json!({
            "name": CONTAINER,
            "image": self.options.image,
            "args": self.command("run"),
            "env": self.variables(),
            "ports": self.ports(),
            // Runs at the same moment as the app's hook, and only when the whole pod ends.
            "lifecycle": { "preStop": { "exec": { "command": self.hook() } } },
            // A native sidecar's keeps the app from starting before flags are loaded.
            "startupProbe": self.probe("/startupz", &json!({ "periodSeconds": 1, "failureThreshold": 60 })),
            "readinessProbe": self.probe("/readyz", &json!({ "periodSeconds": 2, "failureThreshold": 1 })),
            "livenessProbe": self.probe("/healthz", &json!({ "periodSeconds": 10, "timeoutSeconds": 3 })),
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "volumeMounts": self.mounts(),
        });
        let resources = self.resources();
        if !resources.is_empty() {
            container["resources"] = resources.into();
        }
        if self.mode == Mode::Native {
            container["restartPolicy"] = "Always".into();
        }
        container
    }

    /// The volumes that its container mounts.
    pub(super) fn volumes(&self) -> Vec<Value> {
        let mut volumes = vec![
            json!({ "name": "tidegate-run", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }),
            // Lives as long as the pod: a restarted sidecar finds the last known good flags here.
            json!({ "name": "tidegate-state", "emptyDir": { "sizeLimit": "64Mi" } }),
        ];
        if let Some(name) = &self.options.config_map {
            volumes.push(json!({ "name": "tidegate-config", "configMap": { "name": name } }));
        }
        volumes
    }

    fn mounts(&self) -> Vec<Value> {
        let mut mounts = vec![
            json!({ "name": "tidegate-run", "mountPath": "/run/tidegate" }),
            json!({ "name": "tidegate-state", "mountPath": "/var/lib/tidegate" }),
        ];
        if self.options.config_map.is_some() {
            // The directory, not single files: a subPath mount never sees an update of the ConfigMap.
            mounts.push(json!({ "name": "tidegate-config", "mountPath": "/etc/tidegate", "readOnly": true }));
        }
        mounts
    }

    fn command(&self, command: &str) -> Vec<String> {
        let config = ["--config".to_owned(), CONFIG.to_owned()];
        let config = config.into_iter().filter(|_| self.options.config_map.is_some());
        config.chain([command.to_owned()]).collect()
    }

    fn hook(&self) -> Vec<String> {
        let program = ["/tidegate".to_owned()].into_iter();
        program.chain(self.command("drain")).chain(["--self".to_owned()]).collect()
    }

    fn variables(&self) -> Vec<Value> {
        let field =
            |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
        // `$(` begins a reference in a value of Kubernetes, `$$` is a dollar.
        let plain = |(name, value): &(String, String)| json!({ "name": name, "value": value.replace('$', "$$") });
        let mut variables: Vec<Value> = self.environment.iter().map(plain).collect();
        variables.push(field("TIDEGATE_FLEET__POD", "metadata.name"));
        variables.push(field("TIDEGATE_FLEET__POD_UID", "metadata.uid"));
        variables
    }

    fn ports(&self) -> Vec<Value> {
        let mut ports = Vec::new();
        for route in self.routes {
            let mut entry = Map::new();
            entry.extend(route.name.as_ref().map(|name| ("name".to_owned(), Value::from(&**name))));
            entry.insert("containerPort".to_owned(), route.listen.into());
            for key in ["hostPort", "hostIP"] {
                let taken = self.host_ports.get(&route.was.to_string()).and_then(|entry| entry.get(key));
                entry.extend(taken.map(|value| (key.to_owned(), value.clone())));
            }
            ports.push(entry.into());
        }
        ports.push(json!({ "name": "tidegate-ops", "containerPort": self.ops }));
        ports
    }

    fn probe(&self, path: &str, numbers: &Value) -> Value {
        let mut probe = numbers.clone();
        probe["httpGet"] = json!({ "path": path, "port": "tidegate-ops" });
        if let Some(scheme) = self.scheme {
            probe["httpGet"]["scheme"] = scheme.into();
        }
        probe
    }

    fn resources(&self) -> Map<String, Value> {
        let wanted = &self.options.resources;
        let mut resources = Map::new();
        for (kind, cpu, memory) in [
            ("requests", &wanted.cpu_request, &wanted.memory_request),
            ("limits", &wanted.cpu_limit, &wanted.memory_limit),
        ] {
            let given = [("cpu", cpu), ("memory", memory)].into_iter().filter(|(_, text)| !text.is_empty());
            let given: Map<String, Value> = given.map(|(name, text)| (name.to_owned(), text.clone().into())).collect();
            if !given.is_empty() {
                resources.insert(kind.to_owned(), given.into());
            }
        }
        resources
    }
}
