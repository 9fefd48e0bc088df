//! OpenFeature SDKs as an app uses them: a script in their own language, run against a sidecar.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// No step of a script takes longer.
const LIMIT: Duration = Duration::from_secs(90);

/// A language that has an official SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    Node,
}

impl Language {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Node => "node",
        }
    }
}

/// The root of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Something that `scripts/setup.sh sdk` installs below `target/sdk`.
pub(crate) fn installed(path: &str) -> PathBuf {
    let path = root().join("target/sdk").join(path);
    assert!(path.exists(), "{} is missing; install it with: scripts/setup.sh sdk", path.display());
    path
}

/// The modules of Node.js, with the scripts of the tests beside them for as long as it lives: Node.js looks for
/// modules in the directories above a script.
pub(crate) fn node_scripts() -> TempDir {
    let modules = installed("node/node_modules");
    let directory = tempfile::tempdir_in(modules.parent().unwrap()).unwrap();
    for entry in std::fs::read_dir(root().join("tests/sdk/node")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "mjs") {
            std::fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    directory
}

/// A script that runs, killed on drop.
pub(crate) struct Script {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    said: Arc<Mutex<Vec<String>>>,
    steps: mpsc::Receiver<String>,
    _readers: JoinSet<()>,
    _directory: Option<TempDir>,
}

impl Script {
    /// Starts `tests/sdk/LANGUAGE/NAME` with settings for its provider.
    pub(crate) fn start(language: Language, name: &str, settings: &Value) -> Self {
        let (mut command, directory) = match language {
            Language::Python => {
                let mut command = Command::new(installed("python/bin/python"));
                // Compiled scripts would litter the checkout.
                command.arg("-B").arg(root().join("tests/sdk/python").join(format!("{name}.py")));
                (command, None)
            }
            Language::Node => {
                let directory = node_scripts();
                let mut command = Command::new("node");
                command.arg(directory.path().join(format!("{name}.mjs")));
                (command, Some(directory))
            }
        };
        command.arg(settings.to_string());
        Self::run(&format!("{} {name} {settings}", language.name()), command, directory)
    }

    fn run(name: &str, mut command: Command, directory: Option<TempDir>) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A proxy of the machine is not for addresses of its own.
            .env("NO_PROXY", "*")
            .env("no_proxy", "*")
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("{name}: {e}; install what it needs with: scripts/setup.sh sdk"));
        let said = Arc::new(Mutex::new(Vec::new()));
        let (sender, steps) = mpsc::channel(1);
        let mut readers = JoinSet::new();
        readers.spawn(read(child.stdout.take().unwrap(), said.clone(), Some(sender)));
        readers.spawn(read(child.stderr.take().unwrap(), said.clone(), None));
        let stdin = child.stdin.take();
        Self { name: name.to_owned(), child, stdin, said, steps, _readers: readers, _directory: directory }
    }

    /// Waits until the script has come to this step, and no other.
    pub(crate) async fn reaches(&mut self, step: &str) {
        match timeout(LIMIT, self.steps.recv()).await {
            Ok(Some(reached)) if reached == step => {}
            Ok(Some(reached)) => panic!("{}: at {reached:?} instead of {step:?}\n{}", self.name, self.said()),
            Ok(None) => panic!("{}: ended before {step:?}\n{}", self.name, self.said()),
            Err(_) => panic!("{}: not at {step:?} within {LIMIT:?}\n{}", self.name, self.said()),
        }
    }

    /// Lets it go on from the step it has reached.
    pub(crate) async fn go(&mut self) {
        let stdin = self.stdin.as_mut().expect("open until it is dropped");
        stdin.write_all(b"\n").await.unwrap_or_else(|e| panic!("{}: {e}\n{}", self.name, self.said()));
    }

    /// Waits for its end, which must be a success, and returns what it gave as its result: the JSON of a line that
    /// begins with `= `.
    pub(crate) async fn passes(mut self) -> Value {
        let ended: Option<ExitStatus> = timeout(LIMIT, self.child.wait()).await.ok().map(|status| status.unwrap());
        // What it wrote last may still be under way.
        let readers = std::mem::take(&mut self._readers);
        let _ = timeout(LIMIT, readers.join_all()).await;
        let said = self.said();
        assert!(ended.is_some_and(|status| status.success()), "{}: {ended:?}\n{said}", self.name);
        let result = said.lines().rev().find_map(|line| line.strip_prefix("= "));
        result.map_or(Value::Null, |result| serde_json::from_str(result).unwrap())
    }

    /// What it has written so far, to either output.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }
}

/// Collects what a script writes, and passes its steps (`@ NAME`) on.
async fn read(from: impl AsyncRead + Unpin, said: Arc<Mutex<Vec<String>>>, steps: Option<mpsc::Sender<String>>) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let step = line.strip_prefix("@ ").map(str::to_owned);
        said.lock().unwrap().push(line);
        if let (Some(step), Some(steps)) = (step, &steps)
            && steps.send(step).await.is_err()
        {
            return;
        }
    }
}
