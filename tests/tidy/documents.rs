//! Documents: their links lead somewhere, and their lists are the lists they describe.

use std::collections::BTreeSet;

use crate::{files, none, read, root};

/// Every Markdown document of the project, relative to the root.
fn documents() -> Vec<String> {
    let mut found = files(".", &[".md"]);
    found.retain(|path| !path.contains('/') || path.starts_with("docs/") || path.starts_with("deploy/"));
    found
}

/// The targets of `[text](target)` outside code fences, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let (mut fenced, mut found) = (false, Vec::new());
    for (line, text) in text.lines().enumerate() {
        if text.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', ' ']).next().unwrap_or_default();
            found.push((line + 1, target));
        }
    }
    found
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|sign| sign.is_alphanumeric() || " -_".contains(*sign));
    kept.map(|sign| if sign == ' ' { '-' } else { sign }).collect()
}

#[test]
fn relative_links_lead_somewhere() {
    let mut dead = Vec::new();
    for document in documents() {
        let text = read(&document);
        for (line, target) in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            let full = match path {
                "" => root().join(&document),
                _ => root().join(&document).parent().expect("a file has a directory").join(path),
            };
            if !full.exists() {
                dead.push(format!("{document}:{line}: {target}: no such file"));
            } else if !fragment.is_empty() && full.extension().is_some_and(|end| end == "md") {
                let there = std::fs::read_to_string(&full).unwrap();
                if !there.lines().any(|line| line.starts_with('#') && anchor(line) == fragment) {
                    dead.push(format!("{document}:{line}: {target}: no such heading"));
                }
            }
        }
    }
    none("links in documents resolve", &dead);
}

#[test]
fn links_and_anchors_are_read_as_github_does() {
    assert_eq!(links("see [a](x.md) and [b](y.md#z \"t\")\n```\n[c](no)\n```\n"), [(1, "x.md"), (1, "y.md#z")]);
    assert_eq!(anchor("## What `drain` does, in 2 steps"), "what-drain-does-in-2-steps");
}

/// The keys of the tables of `Cargo.toml` whose heading is one of `headings`.
fn dependencies(manifest: &str, headings: &[&str]) -> BTreeSet<String> {
    let (mut inside, mut found) = (false, BTreeSet::new());
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = headings.contains(&line.trim());
        } else if inside && let Some((name, _)) = line.split_once('=') {
            found.insert(name.trim().to_owned());
        }
    }
    found
}

/// The first cells of the table rows of a document's section.
fn rows(document: &str, heading: &str) -> Vec<String> {
    let section =
        document.lines().skip_while(|line| line.trim() != heading).skip(1).take_while(|l| !l.starts_with('#'));
    let cells = section.filter_map(|line| Some(line.strip_prefix("| ")?.split_once(" |")?.0.to_owned()));
    cells.filter(|cell| cell != "crate").collect()
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = read("Cargo.toml");
    assert!(!manifest.contains("dependencies."), "write dependencies as `name = {{ … }}`: this test reads lines");
    let document = read("docs/DEPENDENCIES.md");
    let product = dependencies(&manifest, &["[dependencies]", "[build-dependencies]"]);
    let tests = &dependencies(&manifest, &["[dev-dependencies]"]) - &product;
    for (heading, expected) in [("## In the binary", product), ("## In tests, benches and examples", tests)] {
        let listed = rows(&document, heading);
        let unique: BTreeSet<String> = listed.iter().cloned().collect();
        assert_eq!(unique.len(), listed.len(), "docs/DEPENDENCIES.md names a crate twice under {heading}");
        let missing: Vec<_> = expected.difference(&unique).cloned().collect();
        let gone: Vec<_> = unique.difference(&expected).cloned().collect();
        none(&format!("docs/DEPENDENCIES.md, {heading}, lacks"), &missing);
        none(&format!("docs/DEPENDENCIES.md, {heading}, names what Cargo.toml no longer does"), &gone);
    }
}

#[test]
fn the_licence_is_the_one_the_manifest_names() {
    assert!(read("Cargo.toml").contains("license = \"Apache-2.0\""));
    let licence = read("LICENSE");
    assert!(licence.contains("Apache License") && licence.contains("Version 2.0, January 2004"));
    assert!(licence.contains("END OF TERMS AND CONDITIONS"), "LICENSE is not the whole text");
}
