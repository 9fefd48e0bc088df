//! `tidegate inject` as people and pipelines use it: the binary itself, files, directories and standard input.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
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
        (&["inject", "--config", "x.yaml"][..], "--config: not read here; --config-map NAME"),
        (
            &["inject", "--set", "drain.dealy=5s"][..],
            "--set drain.dealy: drain.dealy: unknown key; did you mean drain.delay?",
        ),
        (&["inject", "--set", "drain.delay=5"][..], "--set drain.delay: drain.delay: \"5\": not a duration; write 5s"),
        (&["inject", "--set", "redis.url=redis://x"][..], "--set redis.url: a secret"),
        (&["inject", "--image", " "][..], "--image: empty; write a value"),
        (&["inject", "--image", "a b"][..], "--image: \"a b\" is no image"),
        (&["inject", "--memory-request", "1Gi"][..], "--memory-limit: the limit 256Mi is below the request 1Gi"),
        (&["inject", "--config-map", "A_b"][..], "--config-map: \"A_b\" is no name of a ConfigMap"),
        (&["inject", "--app-port-env", "1X"][..], "--app-port-env: \"1X\" is no name of a variable"),
        (&["inject", "--app-container", "A b"][..], "--app-container: \"A b\" is no name of a container"),
        (&["inject", "--port", "70000"][..], "--port: \"70000\" is neither a port's name nor its number"),
        (&["inject", "--cpu-request", "lots"][..], "--cpu-request: \"lots\" is no quantity"),
    ] {
        let said = desk.run(arguments, b"a: 1\n");
        assert_eq!((said.code, said.out.as_str()), (64, ""), "{arguments:?}: {}", said.err);
        assert!(said.err.contains(part), "{arguments:?}: {}", said.err);
    }
}

const APP: &str = "# The shop's orders.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: order-api   # as in the article
spec:
  replicas: 4
  selector: { matchLabels: { app: order-api } }
  strategy: { rollingUpdate: { maxSurge: 2, maxUnavailable: 0 } }
  template:
    metadata:
      labels: { app: order-api }
    spec:
      terminationGracePeriodSeconds: 60
      containers:
        # The app.
        - name: api
          image: \"orders:1.0.0\"   # pinned
          ports:
            - name: http
              containerPort: 3000
          # how it is stopped
          resources: { requests: { cpu: 100m, memory: 128Mi } }
";

/// Not one that the sidecar can share a pod with.
const HOST: &str = "apiVersion: v1\nkind: Pod\nmetadata: { name: h }\nspec:\n  hostNetwork: true\n  containers: [{ name: c, image: i, ports: [{ containerPort: 1 }] }]\n";

#[test]
fn a_deployment_gets_the_sidecar_and_keeps_its_lines() {
    let desk = Desk::new();
    let stream = format!("{CONFIG_MAP}---\n{APP}");
    let said = desk.run(&["inject"], stream.as_bytes());
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.starts_with(&format!("{CONFIG_MAP}---\n# The shop's orders.\n")), "{}", said.out);
    for line in APP.lines().filter(|line| !line.contains("name: http")) {
        assert!(said.out.lines().any(|there| there == line), "{line}\nin\n{}", said.out);
    }
    assert!(
        said.out.contains("\n      initContainers:\n        - name: tidegate\n          image: tidegate:"),
        "{}",
        said.out
    );
    assert!(said.err.contains("standard input:9: Deployment order-api: injected\n"), "{}", said.err);
    assert!(said.err.contains("standard input:9: note: Deployment order-api: "), "{}", said.err);
    // Once more changes nothing, and the way back ends where it began.
    let again = desk.run(&["inject", "-q"], said.out.as_bytes());
    assert_eq!((again.code, again.out.as_str(), again.err.as_str()), (0, said.out.as_str(), ""));
    let back = desk.run(&["uninject", "-q"], said.out.as_bytes());
    assert_eq!((back.code, back.out.as_str()), (0, stream.as_str()), "{}", back.err);
}

#[test]
fn files_are_changed_in_place_all_or_none() {
    let desk = Desk::new();
    let app = desk.write("app.yaml", APP);
    fs::set_permissions(&app, fs::Permissions::from_mode(0o640)).unwrap();
    desk.write("map.yaml", CONFIG_MAP);
    std::os::unix::fs::symlink("app.yaml", desk.directory.path().join("link.yaml")).unwrap();
    desk.write("host.yaml", HOST);
    let said = desk.run(&["inject", "-i", "app.yaml", "host.yaml"], b"");
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains("host.yaml:1: Pod h: spec.hostNetwork: "), "{}", said.err);
    assert!(said.err.ends_with("tidegate: nothing was written\n"), "{}", said.err);
    assert_eq!(desk.read("app.yaml"), APP, "nothing is written when one is refused");

    let said = desk.run(&["inject", "-i", "link.yaml", "map.yaml"], b"");
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
    assert!(desk.read("app.yaml").contains("name: tidegate"), "the link's file is changed");
    assert!(desk.directory.path().join("link.yaml").is_symlink());
    assert_eq!(fs::metadata(&app).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(desk.read("map.yaml"), CONFIG_MAP);
    let names: Vec<_> = fs::read_dir(desk.directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "nothing is left over: {names:?}");
    let said = desk.run(&["uninject", "--in-place", "app.yaml"], b"");
    assert_eq!((said.code, desk.read("app.yaml").as_str()), (0, APP), "{}", said.err);
}

#[test]
fn what_would_change_is_shown_or_told_by_the_exit_code() {
    let desk = Desk::new();
    desk.write("app.yaml", APP);
    let said = desk.run(&["inject", "--diff", "app.yaml"], b"");
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.starts_with("--- a/app.yaml\n+++ b/app.yaml\n@@ -"), "{}", said.out);
    assert!(said.out.contains("\n+      initContainers:\n+        - name: tidegate\n"), "{}", said.out);
    assert!(said.out.contains("\n-            - name: http\n+            - name: app-http\n"), "{}", said.out);
    let said = desk.run(&["inject", "--check", "--diff", "app.yaml"], b"");
    assert!(said.code == 1 && said.out.starts_with("--- a/app.yaml"), "{}", said.out);
    let said = desk.run(&["inject", "--check", "app.yaml"], b"");
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert_eq!(desk.read("app.yaml"), APP);
    desk.run(&["inject", "-i", "app.yaml"], b"");
    let said = desk.run(&["inject", "--check", "app.yaml"], b"");
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
    assert!(said.err.contains("app.yaml:2: Deployment order-api: injected, as it was"), "{}", said.err);
}

#[test]
fn comments_that_go_with_what_is_moved_are_told() {
    let desk = Desk::new();
    let probe = "          readinessProbe: # asks the app\n            # and nobody else\n            httpGet: {path: /ready, port: http}\n";
    desk.write("app.yaml", &format!("{APP}{probe}"));
    let said = desk.run(&["inject", "app.yaml"], b"");
    assert_eq!(said.code, 0, "{}", said.err);
    let line = "app.yaml: note: comments are gone with what they stood beside: # asks the app, # and nobody else";
    assert!(said.err.contains(line), "{}", said.err);
    let said = desk.run(&["inject", "-i", "--output", "json", "app.yaml"], b"");
    let lost = serde_json::json!([{ "file": "app.yaml", "comments": ["asks the app", "and nobody else"] }]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&said.out).unwrap()["lost"], lost);
}

#[test]
fn programs_are_told_what_became_of_each_object() {
    let desk = Desk::new();
    desk.write("all.yaml", &format!("{APP}---\n{CONFIG_MAP}---\n{HOST}"));
    let said = desk.run(&["inject", "--check", "--output", "json", "all.yaml"], b"");
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let outcomes: Vec<_> =
        report["objects"].as_array().unwrap().iter().map(|o| (&o["object"], &o["outcome"])).collect();
    let expected = [("Deployment order-api", "injected"), ("ConfigMap c", "untouched"), ("Pod h", "refused")];
    assert!(outcomes.iter().zip(expected).all(|(a, b)| a.0 == b.0 && a.1 == b.1), "{outcomes:?}");
    assert_eq!(
        (&report["objects"][0]["changed"], &report["objects"][1]["reason"]["name"]),
        (&true.into(), &"no-pods".into())
    );
    assert_eq!(report["objects"][2]["refusals"][0]["path"], "spec.hostNetwork");
    assert_eq!(said.code, 1);
}

#[test]
fn json_stays_json_and_crlf_stays_crlf() {
    let desk = Desk::new();
    let value = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 3000}]}]}});
    for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
        let said = desk.run(&["inject", "-q"], text.as_bytes());
        let made: Value = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {}", said.out));
        assert_eq!(made["spec"]["initContainers"][0]["name"], "tidegate");
        assert_eq!(said.err, "");
    }
    let said = desk.run(&["inject", "-q"], APP.replace('\n', "\r\n").as_bytes());
    assert!(said.out.contains("initContainers:\r\n") && said.out.lines().count() == said.out.matches("\r\n").count());
}
