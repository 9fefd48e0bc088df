//! House rules that neither the compiler nor clippy can hold: what a source file must and must not contain.

use crate::{files, none, read, root};

/// Lines of a source file beyond which nobody finds anything in it.
const LINES: usize = 450;

/// The files of `src` that are part of the product: not those that a parent declares under `#[cfg(test)]`.
fn product_files() -> Vec<String> {
    let mut paths = files("src", &[".rs"]);
    paths.retain(|path| {
        let (name, parents) = home(path, &["src/lib.rs", "src/main.rs"]);
        !parents.iter().any(|parent| root().join(parent).is_file() && tests_alone(&read(parent), &name))
    });
    paths
}

/// Whether `parent` declares the module `name` for tests alone.
fn tests_alone(parent: &str, name: &str) -> bool {
    let lines: Vec<&str> = parent.lines().collect();
    lines.windows(2).any(|pair| pair[0].trim() == "#[cfg(test)]" && declares(pair[1], name))
}

/// The part of a source file before its unit tests, which stand at its end.
fn product(text: &str) -> &str {
    let tests = text.match_indices("\n#[cfg(test)]\n").map(|(at, _)| at).find(|at| {
        let mut after = text[at + 1..].lines().filter(|line| !line.starts_with("#["));
        after.next().is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
    });
    tests.map_or(text, |at| &text[..at])
}

/// Places in `paths` where the product's code, comments aside, contains `what`.
fn places(paths: &[String], what: &str) -> Vec<String> {
    let mut found = Vec::new();
    for path in paths {
        for (line, text) in product(&read(path)).lines().enumerate() {
            if !text.trim_start().starts_with("//") && text.contains(what) {
                found.push(format!("{path}:{}: {}", line + 1, text.trim()));
            }
        }
    }
    found
}

#[test]
fn every_file_says_what_it_owns() {
    let mut paths = files("src", &[".rs"]);
    for dir in ["tests", "benches", "examples"] {
        if root().join(dir).is_dir() {
            paths.extend(files(dir, &[".rs"]));
        }
    }
    let silent: Vec<String> = paths.into_iter().filter(|path| !read(path).starts_with("//! ")).collect();
    none("a file opens with `//! ` and a sentence on what it owns", &silent);
}

#[test]
fn no_file_grows_beyond_reading() {
    let mut long = Vec::new();
    for path in files("src", &[".rs"]) {
        let lines = read(&path).lines().count();
        if lines > LINES {
            long.push(format!("{path}: {lines} lines, more than {LINES}"));
        }
    }
    none("a file is split by what it owns before it grows too long", &long);
}

#[test]
fn no_task_is_detached() {
    let mut paths = product_files();
    paths.retain(|path| path != "src/lifecycle/tasks.rs");
    let mut found = Vec::new();
    for spawn in ["tokio::spawn(", "task::spawn(", "spawn_local("] {
        found.extend(places(&paths, spawn));
    }
    none("tasks are spawned through lifecycle::tasks, which owns and names them", &found);
}

#[test]
fn no_unwrap_outside_tests() {
    none(
        "an invariant is an `expect` that says why it holds; anything else is an error to return",
        &places(&product_files(), ".unwrap()"),
    );
}

#[test]
fn no_bare_allow() {
    none(
        "a lint is switched off by #[expect(…, reason = …)], which also tells when it is no longer needed",
        &places(&product_files(), "#[allow("),
    );
}

#[test]
fn every_rust_file_is_part_of_a_build() {
    let mut orphans = Vec::new();
    for (dir, roots) in [("src", vec!["src/lib.rs", "src/main.rs"]), ("tests/it", vec!["tests/it/main.rs"])] {
        for path in files(dir, &[".rs"]) {
            if roots.contains(&path.as_str()) {
                continue;
            }
            let (name, parents) = home(&path, &roots);
            let declared = parents.iter().any(|parent| root().join(parent).is_file() && declares(&read(parent), &name));
            if !declared {
                orphans.push(format!("{path}: no `mod {name};` in {}", parents.join(" or ")));
            }
        }
    }
    none("a file that nothing declares is never compiled, and its tests never run", &orphans);
}

/// A file's module name, and the files that may declare it.
fn home(path: &str, roots: &[&str]) -> (String, Vec<String>) {
    let stem = path.trim_end_matches(".rs");
    let module = stem.strip_suffix("/mod").unwrap_or(stem);
    let (dir, name) = module.rsplit_once('/').expect("every path lies in a directory");
    let mut parents: Vec<String> = roots
        .iter()
        .filter(|file| file.rsplit_once('/').is_some_and(|(at, _)| at == dir))
        .map(ToString::to_string)
        .collect();
    if parents.is_empty() {
        parents = vec![format!("{dir}/mod.rs"), format!("{dir}.rs")];
    }
    (name.to_owned(), parents)
}

fn declares(parent: &str, name: &str) -> bool {
    parent.lines().any(|line| {
        let line = line.split("//").next().unwrap_or_default().trim();
        line.strip_suffix(';').is_some_and(|line| line.ends_with(&format!("mod {name}")))
    })
}

#[test]
fn declarations_are_told_from_mentions() {
    for line in ["mod drain;", "pub mod drain;", "    pub(crate) mod drain; // why"] {
        assert!(declares(line, "drain"), "{line}");
    }
    for line in ["// mod drain;", "mod drains;", "mod drain {", "use mod_drain;"] {
        assert!(!declares(line, "drain"), "{line}");
    }
    assert_eq!(home("src/net/mod.rs", &["src/lib.rs"]), ("net".to_owned(), vec!["src/lib.rs".to_owned()]));
    assert_eq!(
        home("src/flags/sources/file.rs", &["src/lib.rs"]),
        ("file".to_owned(), vec!["src/flags/sources/mod.rs".to_owned(), "src/flags/sources.rs".to_owned()]),
    );
}

#[test]
fn tests_are_told_from_the_product() {
    assert_eq!(product("fn f() {}\n#[cfg(test)]\nmod tests {\n}\n"), "fn f() {}");
    assert_eq!(product("fn f() {}\n#[cfg(test)]\n#[expect(x)]\nmod tests {\n}\n"), "fn f() {}");
    let early = "\n#[cfg(test)]\nuse std::fs;\nfn f() {}\n";
    assert_eq!(product(early), early, "what follows a line for tests alone is still the product");
    assert!(tests_alone("mod a;\n#[cfg(test)]\nmod scripted;\n", "scripted"));
    assert!(!tests_alone("#[cfg(test)]\nmod scripted;\nmod a;\n", "a"));
}

#[test]
fn no_path_of_one_machine() {
    let mut paths = files(".", &[".rs", ".md", ".toml", ".sh", ".yaml", ".json", ".proto", "Makefile", "Dockerfile"]);
    paths.push(".ci/run".to_owned());
    let mut found = Vec::new();
    for path in paths {
        for (line, text) in read(&path).lines().enumerate() {
            if private(text) {
                found.push(format!("{path}:{}: {}", line + 1, text.trim()));
            }
        }
    }
    none("an absolute path into somebody's home or work directory means nothing elsewhere", &found);
}

/// Whether a line names a directory of a person or a build machine by its absolute path.
fn private(line: &str) -> bool {
    // Split, so that this file does not find itself.
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")].iter().any(|dir| {
        line.match_indices(dir).any(|(at, _)| {
            // `/v1/work/{id}` is a route: only a path that begins here counts.
            !line[..at].ends_with(|before: char| before.is_alphanumeric() || "_-.}*~".contains(before))
        })
    })
}

#[test]
fn machine_paths_are_told_from_routes() {
    for line in [concat!("cd /wo", "rk/x"), concat!("\"/ro", "ot/.cargo\""), concat!("see `/ho", "me/ann/src`")] {
        assert!(private(line), "{line}");
    }
    for line in ["DELETE /v1/work/17", "src/work/mod.rs", "https://example.com/home/", "/var/lib/tidegate"] {
        assert!(!private(line), "{line}");
    }
}
