//! The files of `deploy/` and the image, held against the tools that people load them with.

mod image;
mod manifests;
mod matching;

use std::path::PathBuf;
use std::process::Command;

use crate::support::sdk::root;

/// Something that `scripts/setup.sh kube` installs below `target/kube`.
fn installed(path: &str) -> PathBuf {
    let path = root().join("target/kube").join(path);
    assert!(path.exists(), "{} is missing; install it with: scripts/setup.sh kube", path.display());
    path
}

/// Runs a command from the root of the checkout, and returns whether it succeeded and all that it wrote.
fn ran(command: &mut Command) -> (bool, String) {
    let told = command
        .current_dir(root())
        .env("NO_PROXY", "*")
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}; install it with: scripts/setup.sh kube"));
    let said = format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    (told.status.success(), said)
}

/// Runs a command that must succeed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let (well, said) = ran(command);
    assert!(well, "{command:?}\n{said}");
    said
}

/// A script of `tests/kube/python` by its name.
fn script(name: &str) -> Command {
    let mut command = Command::new(installed("python/bin/python"));
    // Compiled scripts would litter the checkout.
    command.arg("-B").arg(root().join("tests/kube/python").join(name));
    command
}
