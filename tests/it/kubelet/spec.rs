//! What a pod's template says, as far as processes can play it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

/// What has no meaning for processes on loopback: users, scheduling, images.
const NOT_PLAYED: [&str; 17] = [
    "affinity",
    "automountServiceAccountToken",
    "dnsPolicy",
    "enableServiceLinks",
    "imagePullPolicy",
    "imagePullSecrets",
    "nodeSelector",
    "os",
    "priorityClassName",
    "schedulerName",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tolerations",
    "topologySpreadConstraints",
];

/// A pod's template.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) labels: Map<String, Value>,
    pub(super) annotations: Map<String, Value>,
    pub(super) spec: PodSpec,
}

impl Template {
    /// Reads it; fails the test on anything that would not be played.
    pub(super) fn of(template: &Value) -> Self {
        let object = |path: &str| template.pointer(path).and_then(Value::as_object).cloned().unwrap_or_default();
        let mut spec = template["spec"].clone();
        leave_out(&mut spec);
        for list in ["initContainers", "containers"] {
            spec[list].as_array_mut().into_iter().flatten().for_each(leave_out);
        }
        if spec["initContainers"].is_null() {
            spec["initContainers"] = Value::Array(Vec::new());
        }
        let spec = serde_json::from_value(spec).unwrap_or_else(|error| panic!("not played: {error}\n{template:#}"));
        Self { labels: object("/metadata/labels"), annotations: object("/metadata/annotations"), spec }
    }
}

fn leave_out(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|key, _| !NOT_PLAYED.contains(&key.as_str()));
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PodSpec {
    pub(super) init_containers: Vec<Container>,
    pub(super) containers: Vec<Container>,
    #[serde(default)]
    pub(super) volumes: Vec<Volume>,
    #[serde(default = "seconds::<30>")]
    pub(super) termination_grace_period_seconds: u64,
    #[serde(default)]
    pub(super) restart_policy: RestartPolicy,
    /// Processes of one machine share their processes in any case.
    #[serde(default)]
    pub(super) share_process_namespace: bool,
}

impl PodSpec {
    pub(super) fn grace(&self) -> Duration {
        Duration::from_secs(self.termination_grace_period_seconds)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(super) enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    #[serde(default)]
    pub(super) command: Vec<String>,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<Variable>,
    #[serde(default)]
    pub(super) ports: Vec<ContainerPort>,
    pub(super) restart_policy: Option<RestartPolicy>,
    #[serde(default)]
    pub(super) resources: Value,
    pub(super) startup_probe: Option<Probe>,
    pub(super) readiness_probe: Option<Probe>,
    pub(super) liveness_probe: Option<Probe>,
    #[serde(default)]
    pub(super) lifecycle: Lifecycle,
    #[serde(default)]
    pub(super) volume_mounts: Vec<Mount>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: Option<String>,
    pub(super) value_from: Option<Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ContainerPort {
    pub(super) name: Option<String>,
    pub(super) container_port: u16,
    #[serde(default)]
    pub(super) protocol: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Lifecycle {
    pub(super) pre_stop: Option<Handler>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mount {
    pub(super) name: String,
    pub(super) mount_path: String,
    #[serde(default)]
    pub(super) read_only: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) empty_dir: Option<Value>,
    pub(super) config_map: Option<ConfigMapVolume>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ConfigMapVolume {
    pub(super) name: String,
    #[serde(default)]
    pub(super) optional: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Probe {
    #[serde(flatten)]
    pub(super) handler: Handler,
    #[serde(default)]
    initial_delay_seconds: u64,
    #[serde(default = "seconds::<10>")]
    period_seconds: u64,
    #[serde(default = "seconds::<1>")]
    timeout_seconds: u64,
    #[serde(default = "times::<1>")]
    pub(super) success_threshold: u32,
    #[serde(default = "times::<3>")]
    pub(super) failure_threshold: u32,
    termination_grace_period_seconds: Option<u64>,
}

impl Probe {
    pub(super) fn initial_delay(&self) -> Duration {
        Duration::from_secs(self.initial_delay_seconds)
    }

    pub(super) fn period(&self) -> Duration {
        Duration::from_secs(self.period_seconds.max(1))
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.max(1))
    }

    pub(super) fn grace(&self) -> Option<Duration> {
        self.termination_grace_period_seconds.map(Duration::from_secs)
    }
}

/// What a probe or a hook does.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Handler {
    HttpGet(HttpGet),
    TcpSocket(TcpSocket),
    Grpc(Grpc),
    Exec(Exec),
    Sleep(Sleep),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HttpGet {
    #[serde(default)]
    pub(super) path: String,
    pub(super) port: PortRef,
    pub(super) host: Option<String>,
    pub(super) scheme: Option<String>,
    #[serde(default)]
    pub(super) http_headers: Vec<Field>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TcpSocket {
    pub(super) port: PortRef,
    pub(super) host: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grpc {
    pub(super) port: u16,
    #[serde(default)]
    pub(super) service: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exec {
    pub(super) command: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sleep {
    pub(super) seconds: u64,
}

/// A port by its number or its name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum PortRef {
    Number(u16),
    Name(String),
}

impl PortRef {
    /// The number, where `ports` are those that may be named.
    pub(super) fn resolve<'a>(&self, mut ports: impl Iterator<Item = &'a ContainerPort>) -> Option<u16> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(name) => ports.find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port),
        }
    }
}

fn seconds<const SECONDS: u64>() -> u64 {
    SECONDS
}

fn times<const TIMES: u32>() -> u32 {
    TIMES
}

#[test]
#[should_panic(expected = "unknown field `postStart`")]
fn what_would_not_be_played_is_refused() {
    let lifecycle = serde_json::json!({"postStart": {"exec": {"command": ["true"]}}});
    let container = serde_json::json!({"name": "app", "image": "app", "lifecycle": lifecycle});
    Template::of(&serde_json::json!({"spec": {"containers": [container]}}));
}
