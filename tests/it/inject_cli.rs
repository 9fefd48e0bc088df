//! `tidegate inject` as people and pipelines use it: the binary itself, files, directories and standard input.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::sidecar::TIDEGATE;

const CONFIG_MAP: &str = "# kept\napiVersion: v1\nkind: ConfigMap\nmetadata:   {name: c}   # so\ndata:\n  on: \"x\"\n";

/// A directory of manifests.
struct Desk {
    directory: TempDir,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Desk {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).unwrap()
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Said {
        let mut command = Command::new(TIDEGATE);
        command.args(arguments).current_dir(self.directory.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that does not read it has left before it is written.
        _ = child.stdin.take().unwrap().write_all(input).is_ok();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

#[test]
fn what_has_no_pods_comes_out_byte_for_byte() {
    let desk = Desk::new();
    for text in [
        CONFIG_MAP.to_owned(),
        format!("\u{feff}{}", CONFIG_MAP.replace('\n', "\r\n")),
        format!("---\n# empty\n---\n{CONFIG_MAP}...\n# after\n"),
        "%YAML 1.2\n--- {a: [1,2], 'b': \"c\"} # no kind\n".to_owned(),
        "{\"kind\":\"Secret\",\n \"x\" : 1}".to_owned(),
        String::new(),
    ] {
        let said = desk.run(&["inject"], text.as_bytes());
        assert_eq!((said.code, said.out.as_str()), (0, text.as_str()), "{}", said.err);
        assert!(said.err.contains("nothing to inject"), "{}", said.err);
        let said = desk.run(&["uninject", "-q", "-"], text.as_bytes());
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, text.as_str(), ""));
    }
}

#[test]
fn files_and_directories_become_one_stream() {
    let desk = Desk::new();
    desk.write("all/b.yaml", "b: 1\n");
    desk.write("all/a.yml", "a: 1");
    desk.write("all/c.json", "{\"c\": 1}\n");
    desk.write("all/notes.txt", ": : :");
    desk.write("all/.hidden.yaml", ": : :");
    desk.write("all/deeper/d.yaml", "---\nd: 1\n");
    let said = desk.run(&["inject", "all", "-"], b"e: 1\n");
    assert_eq!(said.out, "a: 1\n---\nb: 1\n---\n{\"c\": 1}\n---\ne: 1\n");
    let said = desk.run(&["inject", "-R", "all"], b"");
    assert_eq!(said.out, "a: 1\n---\nb: 1\n---\n{\"c\": 1}\n---\nd: 1\n");
    let said = desk.run(&["inject", "all", "--out", "out.yaml"], b"");
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
    assert_eq!(desk.read("out.yaml"), "a: 1\n---\nb: 1\n---\n{\"c\": 1}\n");
}

#[test]
fn what_cannot_be_read_is_told_by_file_line_and_column() {
    let desk = Desk::new();
    desk.write("bad.yaml", "a: 1\nb: 2\na: 3\n");
    desk.write("template.yaml", "a: 1\nb: {{ .Values.b }}\n");
    desk.write("latin.yaml", "");
    fs::write(desk.directory.path().join("latin.yaml"), b"a: \xe9\n").unwrap();
    desk.write("empty/x.txt", "");
    let said = desk.run(&["inject", "bad.yaml", "template.yaml", "latin.yaml", "absent.yaml"], b"");
    assert_eq!((said.code, said.out.as_str()), (64, ""));
    let lines: Vec<&str> = said.err.lines().collect();
    assert_eq!(lines[0], "tidegate: bad.yaml:3:1: the key a comes twice: keep one");
    assert!(
        lines[1].starts_with("tidegate: template.yaml:2:5: ") && lines[1].contains("a template: render it first"),
        "{}",
        lines[1]
    );
    assert_eq!(lines[2], "tidegate: latin.yaml: not UTF-8: save it as that");
    assert!(lines[3].starts_with("tidegate: absent.yaml: No such file"), "{}", lines[3]);
    assert_eq!(lines.len(), 4);
    for (arguments, part) in [
        (&["inject", "empty"][..], "holds no .yaml, .yml or .json; -R"),
        (&["inject", "-i"][..], "standard input has no place"),
        (&["inject", "-", "-"][..], "once"),
        (&["inject", "--output", "json"][..], "add --out FILE, --in-place or --check"),
        (&["inject", "--diff", "--in-place", "x.yaml"][..], "cannot be used with"),
        (&["inject", "--mode", "both"][..], "native or container"),
        (&["inject", "--set", "drain"][..], "drain.delay=5s"),
        (&["inject", "--pod-template", "Rollout"][..], "KIND[.GROUP]=path.to.template"),
        (&["inject", "--drain-token", "a b"][..], "not a token"),
        (&["inject", "--drain-token", "@absent"][..], "No such file"),
    ] {
        let said = desk.run(arguments, b"a: 1\n");
        assert_eq!((said.code, said.out.as_str()), (64, ""), "{arguments:?}: {}", said.err);
        assert!(said.err.contains(part), "{arguments:?}: {}", said.err);
    }
}
