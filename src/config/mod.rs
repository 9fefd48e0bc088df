//! From a file, the environment and arguments to the settings of every module. The only reader of the environment.

mod budget;
mod key;
mod machine;
mod node;
mod otel;
mod overlay;
mod problem;
mod reader;
mod reference;
mod resolve;
mod schema;
mod show;
mod substitute;
mod urls;
mod values;
mod variable;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

pub use self::budget::budget;
pub use self::machine::Machine;
pub use self::overlay::ARGUMENTS;
pub(crate) use self::problem::closest;
pub use self::problem::{Problem, Problems};
pub use self::reference::reference;
pub use self::schema::schema;
pub use self::variable::{Variable, variable};
use crate::{flags, fleet, lifecycle, local, net, ops, proxy, readiness, telemetry};

/// Where the configuration is when nobody says: read if it is there.
pub const DEFAULT_FILE: &str = "/etc/tidegate/tidegate.yaml";

/// Bytes of a file that `${file:…}` takes in.
const MAX_SUBSTITUTE: u64 = 64 * 1024;

/// Everything the sidecar is told, legal by construction.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `workload`: whose traffic this is. Default: the host name without a ReplicaSet's and pod's suffix, else `app`.
    pub workload: String,
    /// `state_dir`.
    pub state_dir: Option<PathBuf>,
    /// `log`.
    pub log: telemetry::logging::Settings,
    /// `tracing`; `None` where nothing is traced.
    pub tracing: Option<net::otlp::Settings>,
    /// `proxy`, `workers`, `limits`, `forwarded`, `access_log`.
    pub proxy: proxy::Settings,
    /// `ops`.
    pub ops: ops::Settings,
    /// `local`.
    pub local: local::Settings,
    /// `drain`.
    pub drain: lifecycle::drain::Settings,
    /// `checks`.
    pub checks: readiness::Settings,
    /// `flags`, with `redis` and `state_dir`.
    pub flags: flags::Settings,
    /// `fleet`, with `redis` and `workload`.
    pub fleet: fleet::Settings,
}

/// What a configuration is made from.
#[derive(Clone, Default)]
pub struct Inputs {
    /// The file that was asked for; `None` reads [`DEFAULT_FILE`] if it is there.
    pub file: Option<PathBuf>,
    /// Environment variables, all of them: `${VAR}` may ask for any.
    pub environment: BTreeMap<String, String>,
    /// Names of our variables whose value is not UTF-8.
    pub not_text: Vec<String>,
    /// Pairs of a key's path, as [`ARGUMENTS`] has it, and its value; stronger than everything else. A list's key may
    /// come several times.
    pub overrides: Vec<(String, String)>,
}

impl Inputs {
    /// This process's environment beside what its arguments say. Without `file`, `TIDEGATE_CONFIG` names it.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn from_process(file: Option<PathBuf>, overrides: Vec<(String, String)>) -> Self {
        let mut inputs = Self { file, overrides, ..Self::default() };
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => _ = inputs.environment.insert(name, value),
                Err(_) if name.starts_with("TIDEGATE_") => inputs.not_text.push(name),
                Err(_) => {}
            }
        }
        if inputs.file.is_none() {
            inputs.file = inputs.environment.get("TIDEGATE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        }
        inputs
    }
}

/// What a configuration's text is read against.
#[derive(Clone)]
pub struct Surroundings<'a> {
    /// What problems call the text: its file's name.
    pub name: &'a str,
    /// Environment variables.
    pub environment: &'a BTreeMap<String, String>,
    /// See [`Inputs::overrides`].
    pub overrides: &'a [(String, String)],
    /// Where defaults come from.
    pub machine: &'a Machine,
    /// Answers `${file:PATH}`; an error says why not.
    pub read: fn(&Path) -> Result<String, String>,
}

/// A configuration without problems.
#[derive(Clone)]
pub struct Loaded {
    /// What every module is told.
    pub settings: Settings,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    shown: show::Shown,
}

impl Loaded {
    /// Every key with its value as YAML, secrets taken out.
    pub fn to_yaml(&self) -> String {
        self.shown.to_yaml()
    }

    /// Every key with its value as JSON, secrets taken out.
    pub fn to_json(&self) -> serde_json::Value {
        self.shown.to_json()
    }
}

/// Reads the file, the environment and the arguments.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(inputs: &Inputs) -> Result<Loaded, Problems> {
    let machine = Machine::observe();
    let path = inputs.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    let name = path.display().to_string();
    let mut problems: Vec<_> =
        inputs.not_text.iter().map(|name| Problem::new(name, "not UTF-8").remedy("set it to a text")).collect();
    let (text, file) = match read_bounded(&path, node::MAX_BYTES as u64) {
        Ok(text) => (text, Some(path)),
        Err(Unreadable::Absent) if inputs.file.is_none() => (String::new(), None),
        Err(why) => {
            problems.push(Problem::new(&name, why.to_string()).remedy("correct --config or TIDEGATE_CONFIG"));
            (String::new(), None)
        }
    };
    let surroundings = Surroundings {
        name: &name,
        environment: &inputs.environment,
        overrides: &inputs.overrides,
        machine: &machine,
        read: read_substitute,
    };
    match load_str(&text, &surroundings) {
        Ok(loaded) if problems.is_empty() => Ok(Loaded { file, ..loaded }),
        // Without its file a configuration lacks what the file would have said: only what is certain is reported.
        _ if file.is_none() && !problems.is_empty() => Err(Problems(problems)),
        Ok(_) => Err(Problems(problems)),
        Err(Problems(others)) => {
            problems.extend(others);
            Err(Problems(problems))
        }
    }
}

/// Reads a configuration's text. Does no IO but what `surroundings` answers for.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load_str(text: &str, surroundings: &Surroundings<'_>) -> Result<Loaded, Problems> {
    let mut root = node::parse(surroundings.name, text).map_err(|problem| Problems(vec![problem]))?;
    let mut problems = Vec::new();
    let sources = substitute::Sources { environment: surroundings.environment, read: surroundings.read };
    let asked = substitute::substitute(&mut root, &sources, &mut problems);
    let fields = fields();
    overlay::environment(&mut root, &fields, surroundings.environment, &asked, &mut problems);
    otel::defaults(&mut root, surroundings.environment, &mut problems);
    overlay::arguments(&mut root, &fields, surroundings.overrides, &mut problems);
    // https://no-color.org: present and not empty.
    let plain = surroundings.environment.get("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = surroundings.machine.terminal && !plain;
    let (settings, read) = reader::read(&root, |section| resolve::settings(section, surroundings.machine, colour));
    problems.extend(read.problems);
    if problems.is_empty() { Ok(Loaded { settings, file: None, shown: read.shown }) } else { Err(Problems(problems)) }
}

/// Every key there is.
fn fields() -> Vec<key::Field> {
    reader::describe(|section| resolve::settings(section, &Machine::unknown(), false))
}

/// Why a file was not read.
enum Unreadable {
    Absent,
    TooLong(u64),
    NotText,
    Other(std::io::Error),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("no such file"),
            Self::TooLong(limit) => write!(f, "longer than {} KiB", limit / 1024),
            Self::NotText => f.write_str("not UTF-8"),
            Self::Other(error) if error.kind() == ErrorKind::PermissionDenied => f.write_str("permission denied"),
            Self::Other(error) => write!(f, "{error}"),
        }
    }
}

/// A file's text, as long as it is not longer than `limit` bytes.
fn read_bounded(path: &Path, limit: u64) -> Result<String, Unreadable> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Unreadable::Absent,
        _ => Unreadable::Other(error),
    };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(Unreadable::TooLong(limit));
    }
    String::from_utf8(bytes).map_err(|_| Unreadable::NotText)
}

/// What `${file:PATH}` takes in.
fn read_substitute(path: &Path) -> Result<String, String> {
    match std::fs::metadata(path) {
        // A pipe or a device could keep the start waiting for ever.
        Ok(metadata) if !metadata.is_file() => Err("not a regular file".into()),
        _ => read_bounded(path, MAX_SUBSTITUTE).map_err(|why| why.to_string()),
    }
}
