//! What images stand for here: the sidecar's is the binary under test, every other one the app of the tests.

use std::fs;

use serde_json::Value;

use super::app;
use super::environment::{Identity, expand, resolve};
use super::files::Files;
use super::network::Network;
use super::process::Run;
use super::spec::Container;
use crate::support::sidecar::TIDEGATE;

/// What an image has.
pub(super) struct Image {
    entrypoint: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    /// Directories that a process writes to.
    pub(super) layer: &'static [&'static str],
    is_sidecar: bool,
}

/// Where the sidecar listens and asks when nothing is said: keys of its file, variables, defaults. Here its
/// addresses and paths are others, so they must be said.
const DEFAULTS: [(&str, &str, &str); 5] = [
    ("/proxy/0/listen", "TIDEGATE_PROXY__0__LISTEN", "0.0.0.0:8080"),
    ("/proxy/0/upstream", "TIDEGATE_PROXY__0__UPSTREAM", "http://127.0.0.1:3000"),
    ("/ops/listen", "TIDEGATE_OPS__LISTEN", "0.0.0.0:8014"),
    ("/local/listen", "TIDEGATE_LOCAL__LISTEN", "127.0.0.1:8013,127.0.0.1:8015,127.0.0.1:8016"),
    ("/local/socket", "TIDEGATE_LOCAL__SOCKET", "/run/tidegate/tidegate.sock"),
];

/// The directory that the sidecar uses where it exists.
const STATE: (&str, &str, &str) = ("/state_dir", "TIDEGATE_STATE_DIR", "/var/lib/tidegate");

impl Image {
    pub(super) fn of(container: &Container) -> Self {
        let name = container.image.rsplit('/').next().unwrap_or_default();
        match name.split([':', '@']).next() {
            // As in `Dockerfile`.
            Some("tidegate") => Self {
                entrypoint: vec!["/tidegate".to_owned()],
                arguments: vec!["run".to_owned()],
                environment: Vec::new(),
                layer: &["/run/tidegate", "/var/lib/tidegate"],
                is_sidecar: true,
            },
            Some("busybox") => Self {
                entrypoint: Vec::new(),
                arguments: vec!["sh".to_owned()],
                environment: Vec::new(),
                layer: &[],
                is_sidecar: false,
            },
            _ => Self {
                entrypoint: app::command(),
                arguments: Vec::new(),
                environment: vec![(app::LISTEN, "0.0.0.0:3000".to_owned())],
                layer: &[],
                is_sidecar: false,
            },
        }
    }

    /// What the container runs.
    pub(super) fn run(&self, container: &Container, identity: &Identity, files: &Files, network: &Network) -> Run {
        let here = |text: &str| files.rewrite(&network.rewrite(text));
        let environment = resolve(&self.environment, &container.env, identity);
        let (command, arguments) = match (container.command.as_slice(), container.args.as_slice()) {
            ([], []) => (&self.entrypoint, &self.arguments),
            ([], _) => (&self.entrypoint, &container.args),
            _ => (&container.command, &container.args),
        };
        let argv = command.iter().chain(arguments).map(|word| here(&expand(word, &environment))).collect();
        let mut environment: Vec<(String, String)> =
            environment.iter().map(|(name, value)| (name.clone(), here(value))).collect();
        let argv = locate(argv);
        if self.is_sidecar {
            let file = config(&argv, &environment, files);
            let has = |name: &str| container.volume_mounts.iter().any(|mount| mount.mount_path == name);
            for (key, name, default) in DEFAULTS.iter().chain(has(STATE.2).then_some(&STATE)) {
                if file.pointer(key).is_none() && !environment.iter().any(|(known, _)| known == name) {
                    environment.push(((*name).to_owned(), here(default)));
                }
            }
        }
        Run { argv, environment, log: Default::default() }
    }
}

/// A command whose program is where it is on this machine.
pub(super) fn locate(mut argv: Vec<String>) -> Vec<String> {
    if argv[0] == "/tidegate" {
        TIDEGATE.clone_into(&mut argv[0]);
    }
    argv
}

/// The sidecar's file; null without one.
fn config(argv: &[String], environment: &[(String, String)], files: &Files) -> Value {
    let argument = argv.iter().skip_while(|word| *word != "--config").nth(1).cloned();
    let variable = || environment.iter().find(|(name, _)| name == "TIDEGATE_CONFIG").map(|(_, value)| value.clone());
    let usual = || Some(files.find("/etc/tidegate/tidegate.yaml")?.to_str()?.to_owned());
    let text = argument.or_else(variable).or_else(usual).and_then(|path| fs::read_to_string(path).ok());
    text.map_or(Value::Null, |text| serde_saphyr::from_str(&text).unwrap())
}
