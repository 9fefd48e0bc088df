//! What the command line says about the sidecar, the same that annotations say.

use std::fs::File;
use std::io::Read as _;

use clap::Args as ClapArgs;

use crate::cli::flags::Failure;
use crate::kube::inject::{self, DrainToken, Mode, Options, PodTemplate, PreStop, Resources, Selection, Version};
use crate::secret::Secret;

/// Bytes of a token.
const MAX_TOKEN: usize = 4096;

/// How the sidecar is to be. Annotations of a pod template are stronger.
#[derive(Debug, Clone, ClapArgs)]
pub struct Chosen {
    /// native: an init container that stays, from Kubernetes 1.29 on; container: beside the app's [default: native]
    #[arg(long)]
    mode: Option<Mode>,
    /// The sidecar's image
    #[arg(long, default_value = concat!("tidegate:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// The container that serves, where a pod has several
    #[arg(long, value_name = "NAME")]
    app_container: Option<String>,
    /// A port of that container that the sidecar takes over, by name or number
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<String>,
    /// The sidecar's own port [default: 8080, or the next one that is free]
    #[arg(long, value_name = "PORT")]
    listen_port: Option<u16>,
    /// The variable that tells the app where to listen: the sidecar then takes the app's own port
    #[arg(long, value_name = "VARIABLE")]
    app_port_env: Option<String>,
    /// What becomes of a preStop hook of the app that does more than sleep: replace or keep
    #[arg(long, value_name = "WHAT")]
    app_prestop: Option<PreStop>,
    /// A ConfigMap with tidegate.yaml, mounted at /etc/tidegate
    #[arg(long, value_name = "NAME")]
    config_map: Option<String>,
    /// A key of the configuration, as drain.delay=5s
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// resources.requests.cpu of the sidecar; an empty one is left out, as with the others
    #[arg(long, value_name = "QUANTITY", default_value_t = Resources::default().cpu_request)]
    cpu_request: String,
    /// resources.limits.cpu [default: none, for throttling is added latency]
    #[arg(long, value_name = "QUANTITY", default_value_t = Resources::default().cpu_limit, hide_default_value = true)]
    cpu_limit: String,
    /// resources.requests.memory
    #[arg(long, value_name = "QUANTITY", default_value_t = Resources::default().memory_request)]
    memory_request: String,
    /// resources.limits.memory
    #[arg(long, value_name = "QUANTITY", default_value_t = Resources::default().memory_limit)]
    memory_limit: String,
    /// The token of the app's preStop, or @FILE to read it from a file [default: made of the object]
    #[arg(long, value_name = "TOKEN", value_parser = |text: &str| Ok::<_, String>(Secret::new(text.to_owned())))]
    drain_token: Option<Secret>,
    /// The cluster's version, as 1.32
    #[arg(long, value_name = "VERSION")]
    kubernetes_version: Option<Version>,
    /// Where objects of another kind have their pods, as Rollout.argoproj.io=spec.template
    #[arg(long = "pod-template", value_name = "KIND[.GROUP]=PATH")]
    pod_templates: Vec<PodTemplate>,
    /// Takes those alone that say tidegate.dev/inject: enabled
    #[arg(long)]
    only_enabled: bool,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("not a key and its value; write it as drain.delay=5s".to_owned()),
    }
}

impl Chosen {
    pub(in crate::cli) fn has_drain_token(&self) -> bool {
        self.drain_token.is_some()
    }

    pub(in crate::cli) fn options(&self) -> Result<Options, Failure> {
        let drain_token = match &self.drain_token {
            None => DrainToken::Derived,
            Some(token) => DrainToken::Given(given(token.expose())?),
        };
        let options = Options {
            selection: if self.only_enabled { Selection::OnlyEnabled } else { Selection::UnlessDisabled },
            image: self.image.clone(),
            mode: self.mode,
            app_container: self.app_container.clone(),
            ports: self.ports.clone(),
            listen_port: self.listen_port,
            app_port_env: self.app_port_env.clone(),
            app_prestop: self.app_prestop,
            config_map: self.config_map.clone(),
            settings: self.settings.clone(),
            resources: Resources {
                cpu_request: self.cpu_request.clone(),
                cpu_limit: self.cpu_limit.clone(),
                memory_request: self.memory_request.clone(),
                memory_limit: self.memory_limit.clone(),
            },
            drain_token,
            kubernetes: self.kubernetes_version,
            pod_templates: self.pod_templates.clone(),
        };
        let wrong = inject::check(&options);
        if wrong.is_empty() { Ok(options) } else { Err(Failure::usage(wrong.join("\n"))) }
    }
}

/// A token, or that of a file.
fn given(token: &str) -> Result<Secret, Failure> {
    let read = match token.strip_prefix('@') {
        None => token.to_owned(),
        Some(path) => {
            let mut text = String::new();
            let file = File::open(path).and_then(|file| file.take(MAX_TOKEN as u64 + 1).read_to_string(&mut text));
            file.map_err(|e| Failure::usage(format!("--drain-token: {path}: {e}")))?;
            text.trim().to_owned()
        }
    };
    let visible = read.bytes().all(|byte| byte.is_ascii_graphic());
    if read.is_empty() || read.len() > MAX_TOKEN || !visible {
        return Err(Failure::usage(
            "--drain-token: not a token; write visible ASCII characters, as openssl rand -hex 16 does",
        ));
    }
    Ok(Secret::new(read))
}
