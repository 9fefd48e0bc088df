//! The image that `make image` writes, read by skopeo, umoci and tar, and its bill of materials by CycloneDX's schema.

use std::collections::BTreeSet;
use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use super::{ran, run, script};
use crate::support::sdk::root;

/// What images call the machine that this runs on.
const HERE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
const THERE: &str = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The static binary without what a debugger needs, which is three quarters of it.
fn binary(directory: &Path) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let target = own.ancestors().nth(3).unwrap();
    let built = target.join(format!("{ARCH}-unknown-linux-musl/debug/tidegate"));
    assert!(built.exists(), "{} is missing; `make test` builds it before the tests", built.display());
    let stripped = directory.join("tidegate");
    run(Command::new("strip").arg("-o").args([&stripped, &built]));
    stripped
}

/// What the tests of one archive look at, written once.
struct Written {
    directory: TempDir,
    binary: PathBuf,
}

impl Written {
    fn of(ending: &str) -> PathBuf {
        static WRITTEN: OnceLock<Written> = OnceLock::new();
        let written = WRITTEN.get_or_init(|| {
            let directory = tempfile::tempdir().unwrap();
            let binary = binary(directory.path());
            run(image(&binary, directory.path()).args(["--arch", HERE]));
            Written { directory, binary }
        });
        match ending {
            "binary" => written.binary.clone(),
            _ => written.directory.path().join(format!("tidegate-{VERSION}-{HERE}.{ending}")),
        }
    }
}

/// `scripts/image.py` as the Makefile runs it.
fn image(binary: &Path, output: &Path) -> Command {
    let mut command = Command::new("python3");
    command
        .env_remove("SOURCE_DATE_EPOCH")
        .args(["-B", "scripts/image.py", "--binary"])
        .arg(binary)
        .arg("--output")
        .arg(output);
    command
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The file of `dir` below `blobs` that a descriptor names.
fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    layout.join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
}

#[test]
fn the_image_is_loaded_by_real_tools_and_its_binary_runs() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (binary, archive) = (Written::of("binary"), Written::of("tar"));

    // skopeo reads both descriptions of the archive, and copies it: every digest and size holds.
    for transport in ["oci-archive", "docker-archive"] {
        let name = format!("{transport}:{}", archive.display());
        let config: Value =
            serde_json::from_str(&run(Command::new("skopeo").args(["inspect", "--config", &name]))).unwrap();
        assert_eq!(config["architecture"], HERE);
        assert_eq!(config["os"], "linux");
        assert_eq!(config["config"]["User"], "65532:65532", "a number, or runAsNonRoot cannot be checked");
        assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/tidegate"]));
        assert_eq!(config["config"]["Cmd"], serde_json::json!(["run"]));
        assert_eq!(config["config"]["Labels"]["org.opencontainers.image.version"], VERSION);
        assert_eq!(config["created"], "1970-01-01T00:00:00Z");
        let copy = format!("dir:{}", at(transport).display());
        run(Command::new("skopeo").args(["--insecure-policy", "copy", "--quiet", &name, &copy]));
    }

    // umoci unpacks the layout as a runtime would.
    let layout = at("layout");
    std::fs::create_dir(&layout).unwrap();
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&layout));
    let tagged = format!("{}:{VERSION}", layout.display());
    run(Command::new("umoci").args(["unpack", "--rootless", "--image", &tagged]).arg(at("bundle")));
    let runtime = json(&at("bundle").join("config.json"));
    assert_eq!(runtime["process"]["args"], serde_json::json!(["/tidegate", "run"]));
    let unpacked = at("bundle").join("rootfs/tidegate");
    assert_eq!(std::fs::read(&unpacked).unwrap(), std::fs::read(&binary).unwrap());
    let said = run(Command::new(&unpacked).arg("--version").env_clear());
    assert_eq!(said.trim(), format!("tidegate {VERSION}"));

    // What is in the layer, and whose: the process may write two directories and nothing else.
    let index = json(&layout.join("index.json"));
    let manifest = json(&blob(&layout, &index["manifests"][0]));
    let layer = blob(&layout, &manifest["layers"][0]);
    let listed = run(Command::new("tar").args(["--numeric-owner", "-tvzf"]).arg(&layer));
    let listed: Vec<(&str, &str, &str)> = listed
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[0], words[1], *words.last().unwrap())
        })
        .collect();
    assert_eq!(
        listed,
        [
            ("drwxr-xr-x", "0/0", "run/"),
            ("drwxr-xr-x", "65532/65532", "run/tidegate/"),
            ("-r--r--r--", "0/0", "sbom.cdx.json"),
            ("-r-xr-xr-x", "0/0", "tidegate"),
            ("drwxr-xr-x", "0/0", "var/"),
            ("drwxr-xr-x", "0/0", "var/lib/"),
            ("drwxr-xr-x", "65532/65532", "var/lib/tidegate/"),
        ]
    );
}

#[test]
fn the_dockerfile_says_the_same() {
    let dockerfile = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    let last = dockerfile.rsplit("\nFROM ").next().unwrap();
    let words = |instruction: &str| {
        let mut lines = last.lines().filter_map(|line| line.strip_prefix(instruction));
        lines.next_back().unwrap_or_else(|| panic!("no {instruction}")).trim().to_owned()
    };
    let name = format!("oci-archive:{}", Written::of("tar").display());
    let config: Value =
        serde_json::from_str(&run(Command::new("skopeo").args(["inspect", "--config", &name]))).unwrap();
    let config = &config["config"];
    assert_eq!(words("USER"), config["User"]);
    let list = |instruction: &str| serde_json::from_str::<Value>(&words(instruction)).unwrap();
    assert_eq!(list("ENTRYPOINT"), config["Entrypoint"]);
    assert_eq!(list("CMD"), config["Cmd"]);
    let ports: BTreeSet<String> = words("EXPOSE").split(' ').map(|port| format!("{port}/tcp")).collect();
    assert_eq!(ports, config["ExposedPorts"].as_object().unwrap().keys().cloned().collect());
}

#[test]
fn the_same_binary_gives_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // Another file of the same content, another user's habits, another clock.
    std::fs::copy(Written::of("binary"), at("other")).unwrap();
    std::fs::set_permissions(at("other"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut second = image(&at("other"), &at("out"));
    second.args(["--arch", HERE]).envs([("TZ", "Pacific/Apia"), ("LC_ALL", "C"), ("PYTHONHASHSEED", "7")]);
    run(second.env("SOURCE_DATE_EPOCH", "0"));
    let all = std::fs::read_dir(at("out")).unwrap();
    let all: BTreeSet<_> = all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let endings = ["cdx.json", "tar"];
    assert_eq!(all, endings.map(|ending| format!("tidegate-{VERSION}-{HERE}.{ending}")).into());
    for (ending, name) in endings.iter().zip(all) {
        let same = std::fs::read(Written::of(ending)).unwrap() == std::fs::read(at("out").join(&name)).unwrap();
        assert!(same, "{name} differs");
    }
}

#[test]
fn the_bill_of_materials_is_what_is_in_the_binary() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (binary, beside) = (Written::of("binary"), Written::of("cdx.json"));
    run(script("sbom.py").arg(&beside));
    // A schema that let everything pass would say nothing.
    let text = std::fs::read_to_string(&beside).unwrap();
    std::fs::write(at("broken.json"), text.replacen("\"SHA-256\"", "\"SHA-255\"", 1)).unwrap();
    let (well, said) = ran(script("sbom.py").arg(at("broken.json")));
    assert!(!well && said.contains("SHA-255"), "{said}");

    let bill: Value = serde_json::from_str(&text).unwrap();
    let own = &bill["metadata"]["component"];
    let sum = run(Command::new("sha256sum").arg(&binary));
    assert_eq!(own["hashes"][0]["content"].as_str().unwrap(), sum.split_whitespace().next().unwrap());
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let parts = bill["components"].as_array().unwrap();
    let mut names = BTreeSet::new();
    for part in parts {
        let (name, version) = (part["name"].as_str().unwrap(), part["version"].as_str().unwrap());
        names.insert(name);
        let checksum = part["hashes"][0]["content"].as_str().unwrap();
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")), "{name} {version}");
        assert!(lock.contains(checksum), "{name}'s checksum");
        assert!(part["licenses"][0]["expression"].is_string(), "{name} has no licence");
    }
    for inside in ["ring", "hyper", "tokio", "tikv-jemalloc-sys"] {
        assert!(names.contains(inside), "{inside} is missing");
    }
    for outside in ["proptest", "protox", "serde_derive", "tidegate", "windows-sys"] {
        assert!(!names.contains(outside), "{outside} is not in the binary");
    }
}

#[test]
fn what_an_empty_image_could_not_run_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let own = std::env::current_exe().unwrap();
    std::fs::write(at("script"), "#!/bin/sh\n").unwrap();
    let whole = std::fs::read(Written::of("binary")).unwrap();
    for (file, length) in [("magic", 6), ("header", 64), ("half", whole.len() / 2)] {
        std::fs::write(at(file), &whole[..length]).unwrap();
    }
    for (file, arch, reason) in [
        (&own, HERE, "asks for a dynamic loader"),
        (&own, THERE, "is built for another machine"),
        (&at("script"), HERE, "is not a 64-bit little-endian ELF file"),
        (&at("magic"), HERE, "magic is cut off"),
        (&at("header"), HERE, "header is cut off"),
        (&at("half"), HERE, "half is cut off"),
        (&at("nowhere"), HERE, "No such file or directory; `make image` builds it"),
    ] {
        let (well, said) = ran(image(file, &at("out")).args(["--arch", arch]));
        assert!(!well && said.contains(reason), "{said}");
        assert!(!said.contains("Traceback"), "{said}");
    }
    for epoch in ["yesterday", "-5", "99999999999"] {
        let (well, said) = ran(image(&own, &at("out")).env("SOURCE_DATE_EPOCH", epoch));
        assert!(!well && said.contains("SOURCE_DATE_EPOCH is not a number of seconds since 1970"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert!(!at("out").exists(), "nothing is written");
}

#[test]
fn an_image_that_cannot_be_written_is_told_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    for output in [file.clone(), file.join("below")] {
        let (well, said) = ran(image(&Written::of("binary"), &output).args(["--arch", HERE]));
        assert!(!well && said.lines().count() == 1, "{said}");
        assert!(said.starts_with("image: ") && said.contains("name by --output a directory"), "{said}");
    }
}
