//! The README's tour: every command in it is run, in order, and answers what it says there.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::port::Port;
use crate::support::redis::Redis;
use crate::support::sidecar::{Sidecar, TIDEGATE};

/// One `$ command` of a `console` block and the lines that follow it.
pub(crate) struct Step {
    pub(crate) command: String,
    expected: Vec<String>,
}

/// The steps of a document.
pub(crate) fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, _) => match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command: command.to_owned(), expected: Vec::new() }),
                None => steps.last_mut().expect("a command comes first").expected.push(line.to_owned()),
            },
            _ => {}
        }
    }
    steps
}

/// Whether a line is as expected: white space counts as one space, and `…` stands for anything.
fn alike(expected: &str, line: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, line) = (squeeze(expected), squeeze(line));
    let mut parts = expected.split('…').map(str::trim);
    let Some(mut rest) = line.strip_prefix(parts.next().expect("split gives one part at least")) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    rest.is_empty() || last == Some("")
}

/// The tour's shell session: one bash, so that `export` and `alias` last.
pub(crate) fn script(steps: &[Step]) -> String {
    let mut script = SESSION.to_owned();
    for step in steps {
        let lines = step.expected.iter().filter(|line| !line.trim().is_empty()).count();
        // Whatever the two wrote first, what a command says stands before what one in the background says to it.
        let command = match step.command.strip_suffix('&') {
            // Before it, so that a redirection of its own counts.
            Some(aside) => format!(">>\"$aside\" 2>&1 {aside}&"),
            None => step.command.clone(),
        };
        script.push_str(&format!("{command}\nanswered {lines}\n"));
    }
    script
}

/// Commands write to files, so that what one in the background says is waited for where the document shows it. Each
/// answer ends with a line of its own, whatever was printed last.
const SESSION: &str = r#"shopt -s expand_aliases
front=$(mktemp) aside=$(mktemp)
exec 3>&1 >>"$front" 2>&1
trap 'kill $(jobs -p); rm "$front" "$aside"' EXIT
answered() {
    for _ in {1..300}; do
        [ "$(cat "$front" "$aside" | grep -c '[^[:space:]]')" -ge "$1" ] && break
        [ -z "$(jobs -pr)" ] && break
        sleep 0.1
    done
    # The rest of a tour does not race with a write that a command made, for a reader of it does not either.
    sleep 0.3
    cat "$front" "$aside" >&3
    printf '\n@@@\n' >&3
    : >"$front" >"$aside"
}
"#;

/// The files of a document by name: its `yaml` blocks that begin with a comment of one word.
pub(crate) fn files<'d>(document: &'d str) -> Vec<(&'d str, &'d str)> {
    let file = |rest: &'d str| {
        let text = rest.split_once("\n```").expect("a block ends").0;
        let name = text.strip_prefix("# ")?.lines().next()?;
        (!name.contains(' ')).then_some((name, text))
    };
    document.split("\n```yaml\n").skip(1).filter_map(file).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_the_tour_answers_as_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let steps = steps(&readme);
    assert!(steps.len() >= 20, "the tour has been found");
    let redis_at =
        steps.iter().position(|step| step.command.starts_with("export TIDEGATE_REDIS")).expect("a Redis part");

    // Beside the checkout, so that the tour's own paths lead to files of the test.
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("target/demo")).unwrap();
    std::fs::create_dir_all(directory.path().join("target/release")).unwrap();
    std::os::unix::fs::symlink(TIDEGATE, directory.path().join("target/release/tidegate")).unwrap();
    std::os::unix::fs::symlink(root.join("deploy"), directory.path().join("deploy")).unwrap();
    std::fs::copy(root.join("examples/flags.json"), directory.path().join("target/demo/flags.json")).unwrap();

    let redis = Redis::start();
    for (part, steps) in [&steps[..redis_at], &steps[redis_at..]].into_iter().enumerate() {
        let app_port = Port::reserve();
        let redis_settings =
            if part == 1 { format!("redis: {{ url: '{}' }}", redis.url().expose()) } else { String::new() };
        // The settings of `make run`, on ports of the test's own; `/` of the paths in it is the tour's directory.
        let sidecar = Sidecar::start_with(&format!(
            "proxy: [{{ listen: '127.0.0.1:0', upstream: 'http://{app}' }}]\n\
             drain: {{ delay: 1s, quiet: 500ms, deadline: 30s }}\n\
             checks: {{ app: {{ http: {{ url: 'http://{app}/healthz' }}, interval: 1s }} }}\n\
             flags: {{ files: ['{flags}'] }}\n{redis_settings}",
            app = app_port.address(),
            flags = directory.path().join("target/demo/flags.json").display(),
        ));
        let _app = Demo::start(app_port.address(), sidecar.local);
        sidecar.ready().await;
        let script = script(steps)
            .replace("127.0.0.1:8080", &sidecar.proxy().to_string())
            .replace("127.0.0.1:8014", &sidecar.ops.to_string())
            .replace("127.0.0.1:8013", &sidecar.local.to_string())
            .replace("redis://127.0.0.1:6379", redis.url().expose())
            .replace("examples/tidegate.yaml", sidecar.config().to_str().unwrap());
        let session =
            Command::new("bash").arg("-c").arg(script).current_dir(directory.path()).stdin(Stdio::null()).output();
        let output = String::from_utf8(session.unwrap().stdout).unwrap();
        // What names the machine's own paths and names in the answers is named as in the README.
        let root_of_tour = format!("{}/", directory.path().display());
        let output = output.replace(&root_of_tour, "").replace(" test", " demo").replace("scope test", "scope demo");
        check(steps, &output);
    }
}

/// Holds that every step of a session answered as it says.
pub(crate) fn check(steps: &[Step], output: &str) {
    assert_eq!(output.matches("\n@@@\n").count(), steps.len(), "every command has ended: {output}");
    for (step, answer) in steps.iter().zip(output.split("\n@@@\n")) {
        let lines: Vec<&str> = answer.lines().filter(|line| is_answer(line)).collect();
        let expected: Vec<&String> = step.expected.iter().filter(|line| !line.trim().is_empty()).collect();
        let told = lines.len() == expected.len() && expected.iter().zip(&lines).all(|(e, l)| alike(e, l));
        assert!(told, "$ {}\nexpected {expected:#?}\ngot {lines:#?}", step.command);
    }
}

/// Neither an empty line nor curl's progress.
fn is_answer(line: &str) -> bool {
    let noise = ["  % Total", "                                 Dload", "\r"];
    !line.trim().is_empty() && !noise.iter().any(|start| line.starts_with(start)) && !line.contains("--:--")
}

/// The demo app of `make run`, killed on drop.
struct Demo(Child);

impl Demo {
    fn start(listen: SocketAddr, sidecar: SocketAddr) -> Self {
        // Cargo builds examples beside the tests.
        let binary = Path::new(TIDEGATE).with_file_name("examples").join("demo_app");
        let mut command = Command::new(&binary);
        command.arg("--listen").arg(listen.to_string()).arg("--sidecar").arg(sidecar.to_string());
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self(started.unwrap_or_else(|e| panic!("{}: {e}; cargo build --examples", binary.display())))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_ellipsis_stands_for_anything() {
    assert!(alike("a …", "a   b c") && alike("…b", "a b") && alike("a … c", "a b c") && alike("a  b", "a b"));
    assert!(!alike("a …", "b") && !alike("a", "a b") && !alike("a … d", "a b c"));
}
