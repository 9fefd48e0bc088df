//! The operator's guide: every command in it is run, in order, and answers what it says there.

use std::path::Path;

use super::Desk;
use crate::readme;
use crate::support::sidecar::TIDEGATE;

#[test]
fn every_command_of_the_guide_answers_as_it_says() {
    let guide = include_str!("../../../docs/FLAGS.md");
    let kinds = guide.split("\n```").skip(1).step_by(2).filter_map(|block| block.lines().next());
    assert_eq!(
        kinds.filter(|kind| !["console", "yaml"].contains(kind)).count(),
        0,
        "what is shown is run: a block is `console`, or the `yaml` of a file"
    );
    let (steps, files) = (readme::steps(guide), readme::files(guide));
    assert!(steps.len() >= 15 && files.len() >= 4, "the commands and their files have been found");
    let desk = Desk::new();
    for (name, text) in files {
        desk.write(name, format!("{text}\n"));
    }
    let script = readme::script(&steps).replace("redis://127.0.0.1:6379", desk.redis.url().expose());
    let binaries = Path::new(TIDEGATE).parent().unwrap().display().to_string();
    let mut shell = std::process::Command::new("bash");
    shell.arg("-c").arg(script).env_clear().env("PATH", binaries + ":/usr/bin:/bin").env("USER", "ann");
    let session = shell.current_dir(desk.directory.path()).output().unwrap();
    readme::check(&steps, &String::from_utf8(session.stdout).unwrap());
}
