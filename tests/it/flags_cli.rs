//! `tidegate flags` as operators and pipelines use it: the binary itself, a real Redis, and where an editor is needed, a
//! terminal.

mod apply;
mod asking;
mod document;
mod edit;
mod evaluate;
mod lint;
mod races;
mod rebucket;
mod revert;
mod watch;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::redis::Redis;
use crate::support::sidecar::TIDEGATE;

/// A person's machine: a configuration that leads to a Redis, and a directory for files.
struct Desk {
    redis: Redis,
    directory: TempDir,
}

/// What a command came to.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {} {}", self.out, self.err))
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Desk {
    fn new() -> Self {
        Self::with(Redis::start())
    }

    fn with(redis: Redis) -> Self {
        let desk = Self { redis, directory: tempfile::tempdir().unwrap() };
        let url = desk.redis.url();
        desk.write("tidegate.yaml", format!("workload: orders\nredis: {{ url: '{}' }}\n", url.expose()));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file and returns its path.
    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(TIDEGATE);
        command.arg("--config").arg(self.path("tidegate.yaml")).arg("flags").args(line).env_clear();
        command.env("PATH", std::env::var("PATH").unwrap()).env("USER", "ann").env("TMPDIR", self.directory.path());
        command.current_dir(self.directory.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, line: &[&str]) -> Said {
        self.command(line).output().unwrap().into()
    }

    /// With something on standard input.
    fn fed(&self, line: &[&str], input: &str) -> Said {
        let mut child = self.command(line).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }

    #[track_caller]
    fn ok(&self, line: &[&str]) -> String {
        let said = self.run(line);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{line:?}: {}", said.out);
        said.out
    }

    #[track_caller]
    fn fails(&self, line: &[&str], code: i32) -> Said {
        let said = self.run(line);
        assert_eq!(said.code, code, "{line:?}: {} {}", said.out, said.err);
        said
    }

    fn json(&self, line: &[&str]) -> Value {
        self.run(&[line, &["--output", "json"]].concat()).json()
    }

    fn start(&self, line: &[&str]) -> Child {
        self.command(line).spawn().unwrap()
    }

    /// Runs a command on a terminal of its own. Whenever the screen shows the first of a pair, its second is typed. What
    /// the screen showed in the end, and the exit code.
    fn at_terminal(&self, line: &[&str], environment: &[(&str, &str)], typed: &[(&str, &str)]) -> Said {
        let quoted: Vec<String> = line.iter().map(|word| format!("'{word}'")).collect();
        let command =
            format!("exec '{TIDEGATE}' --config '{}' flags {}", self.path("tidegate.yaml").display(), quoted.join(" "));
        let mut script = Command::new("script");
        script.args(["-q", "-e", "-f", "-c", &command, "/dev/null"]).env_clear();
        script.env("PATH", std::env::var("PATH").unwrap()).env("USER", "ann").env("TMPDIR", self.directory.path());
        script.env("SHELL", "/bin/sh").envs(environment.iter().copied()).current_dir(self.directory.path());
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let started = script.spawn();
        let mut child = started.unwrap_or_else(|e| panic!("script: {e}; install it with: apt-get install -y bsdutils"));
        let mut keyboard = child.stdin.take().unwrap();
        let mut screen = child.stdout.take().unwrap();
        let (mut shown, mut seen, mut typed) = (Vec::new(), 0, typed.iter());
        let mut next = typed.next();
        let mut part = [0; 4096];
        loop {
            let read = screen.read(&mut part).unwrap();
            if read == 0 {
                break;
            }
            shown.extend_from_slice(&part[..read]);
            while let Some((question, answer)) = next {
                let text = String::from_utf8_lossy(&shown[seen..]).into_owned();
                let Some(at) = text.find(question) else { break };
                seen += at + question.len();
                keyboard.write_all(answer.as_bytes()).unwrap();
                next = typed.next();
            }
        }
        let code = child.wait().unwrap().code().unwrap_or(-1);
        Said { code, out: String::from_utf8(shown).unwrap().replace('\r', ""), err: String::new() }
    }

    /// An editor that runs these lines of shell with the file as `$1`.
    fn editor(&self, name: &str, lines: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.write(name, format!("#!/bin/sh\n{lines}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Drafts that were left behind.
    fn drafts(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| name(path).starts_with("tidegate-")).collect()
    }
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// A boolean flag that is off, or with `on` on.
fn switch(default: &str) -> String {
    format!(r#"{{"state":"ENABLED","variants":{{"on":true,"off":false}},"defaultVariant":"{default}"}}"#)
}
