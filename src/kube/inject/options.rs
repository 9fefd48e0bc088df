//! What may be chosen for all objects of a run; annotations of a pod template say otherwise for its pods.

use std::str::FromStr;

use crate::secret::Secret;

/// What may be chosen.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which objects are injected.
    pub selection: Selection,
    /// The sidecar's image.
    pub image: String,
    /// How the sidecar stands in the pod; `None` chooses by [`Options::kubernetes`]: native where it can be.
    pub mode: Option<Mode>,
    /// The container that serves, where a pod has several.
    pub app_container: Option<String>,
    /// Names or numbers of its ports that the sidecar takes over; none: found out.
    pub ports: Vec<String>,
    /// The sidecar's own port for the first of them; `None`: 8080, or the next that nobody declares.
    pub listen_port: Option<u16>,
    /// The app's environment variable that tells it where to listen: the sidecar then takes the app's own port.
    pub app_port_env: Option<String>,
    /// What becomes of a `preStop` hook of the app that does more than sleep; `None` refuses.
    pub app_prestop: Option<PreStop>,
    /// A ConfigMap with `tidegate.yaml`, mounted at `/etc/tidegate`.
    pub config_map: Option<String>,
    /// Keys of the configuration and their values, as `drain.delay` and `5s`.
    pub settings: Vec<(String, String)>,
    /// What the sidecar asks of its node.
    pub resources: Resources,
    /// Where the token of `/drain` comes from.
    pub drain_token: DrainToken,
    /// The cluster's version, where it is known.
    pub kubernetes: Option<Version>,
    /// Pod templates of kinds that Kubernetes itself does not have.
    pub pod_templates: Vec<PodTemplate>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            selection: Selection::UnlessDisabled,
            image: concat!("tidegate:", env!("CARGO_PKG_VERSION")).to_owned(),
            mode: None,
            app_container: None,
            ports: Vec::new(),
            listen_port: None,
            app_port_env: None,
            app_prestop: None,
            config_map: None,
            settings: Vec::new(),
            resources: Resources::default(),
            drain_token: DrainToken::Derived,
            kubernetes: None,
            pod_templates: Vec::new(),
        }
    }
}

/// Which objects are injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// All but those with `tidegate.dev/inject: disabled`.
    UnlessDisabled,
    /// Those with `tidegate.dev/inject: enabled` alone.
    OnlyEnabled,
}

/// How the sidecar stands in the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// An init container that is restarted always: starts before the app, ends after it. Kubernetes 1.29 or newer.
    Native,
    /// A container beside the app's.
    Container,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "native" => Ok(Self::Native),
            "container" => Ok(Self::Container),
            _ => Err("not a mode; write native or container".to_owned()),
        }
    }
}

/// What becomes of the app's own `preStop` hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreStop {
    /// The sidecar's takes its place.
    Replace,
    /// It stays, and the app gets SIGTERM when it returns, whatever is in flight.
    Keep,
}

impl FromStr for PreStop {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "replace" => Ok(Self::Replace),
            "keep" => Ok(Self::Keep),
            _ => Err("not what can become of a hook; write replace or keep".to_owned()),
        }
    }
}

/// Quantities of Kubernetes, as `50m` and `32Mi`; an empty text is no entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// `requests.cpu`.
    pub cpu_request: String,
    /// `limits.cpu`: none by default, because throttling is added latency.
    pub cpu_limit: String,
    /// `requests.memory`.
    pub memory_request: String,
    /// `limits.memory`.
    pub memory_limit: String,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu_request: "50m".to_owned(),
            cpu_limit: String::new(),
            memory_request: "32Mi".to_owned(),
            memory_limit: "256Mi".to_owned(),
        }
    }
}

/// Where the token of `/drain` comes from.
#[derive(Debug, Clone)]
pub enum DrainToken {
    /// Made of the object as it was before, so that the same input has the same output. Whoever may read the object knows it.
    Derived,
    /// This one.
    Given(Secret),
    /// This one, unless the object has one already.
    Fresh(Secret),
}

/// A version of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1 in 1.32.
    pub major: u32,
    /// 32 in 1.32.
    pub minor: u32,
}

/// `1.32`, `v1.32.4` or `v1.32.4-gke.100`.
impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
        let mut number = || parts.next().and_then(|part| part.trim_end_matches('+').parse().ok());
        match (number(), number()) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err("not a version of Kubernetes; write it as 1.32".to_owned()),
        }
    }
}

/// Where objects of a kind have the template of their pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTemplate {
    /// The kind.
    pub kind: String,
    /// Its API group; `None` for any.
    pub group: Option<String>,
    /// The keys that lead to the template.
    pub path: Vec<String>,
}

/// `KIND[.GROUP]=path.to.template`.
impl FromStr for PodTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "not a pod template; write KIND[.GROUP]=path.to.template".to_owned();
        let (kind, path) = text.split_once('=').ok_or_else(wrong)?;
        let (kind, group) = kind.split_once('.').map_or((kind, None), |(kind, group)| (kind, Some(group.to_owned())));
        let path: Vec<String> = path.trim_start_matches('.').split('.').map(str::to_owned).collect();
        if kind.is_empty() || group.as_deref() == Some("") || path.iter().any(String::is_empty) {
            return Err(wrong());
        }
        Ok(Self { kind: kind.to_owned(), group, path })
    }
}
