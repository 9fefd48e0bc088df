//! The dependency tree against `deny.toml`: every licence in it is allowed, no banned crate is.

use std::process::Command;

use serde_json::Value;

use crate::{none, read, root};

/// The quoted strings of the `allow` list under `[licenses]` in `deny.toml`.
fn allowed(deny: &str) -> Vec<&str> {
    let section = deny.split("[licenses]").nth(1).expect("deny.toml has a [licenses] table");
    let list = section.split("allow = [").nth(1).expect("[licenses] has an allow list");
    let list = list.split("\n]").next().expect("the list ends");
    list.lines().filter_map(|line| line.trim().strip_prefix('"')?.split('"').next()).collect()
}

/// Whether an SPDX licence expression can be met with what is allowed (SPDX 2.3 Annex D; AND binds tighter than OR).
/// `/`, which Cargo once took for OR, counts as that.
fn permitted(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let verdict = any(&mut words, allowed);
    assert!(words.next().is_none(), "not an SPDX expression: {expression}");
    verdict
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut verdict = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        // Not `||`: the words must be read even when the verdict is known.
        verdict |= all(words, allowed);
    }
    verdict
}

fn all(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut verdict = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        verdict &= one(words, allowed);
    }
    verdict
}

fn one(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let word = words.next().expect("an expression does not end in an operator");
    if word == "(" {
        let verdict = any(words, allowed);
        assert_eq!(words.next(), Some(")"), "an open parenthesis");
        return verdict;
    }
    if words.next_if_eq(&"WITH").is_some() {
        let exception = words.next().expect("WITH names an exception");
        return allowed.contains(&format!("{word} WITH {exception}").as_str());
    }
    allowed.contains(&word)
}

#[test]
fn every_licence_in_the_tree_is_allowed() {
    let deny = read("deny.toml");
    let allowed = allowed(&deny);
    assert!(allowed.contains(&"MIT"), "the allow list of deny.toml was not understood: {allowed:?}");
    // Only what Linux builds: crates for other systems are never compiled here, nor downloaded.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", &target])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50, "only {} packages: is this the whole tree?", packages.len());
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(|licence| permitted(licence, &allowed)))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    none("a licence that deny.toml does not allow", &refused);
}

#[test]
fn no_banned_crate_is_locked() {
    let (deny, lock) = (read("deny.toml"), read("Cargo.lock"));
    let banned: Vec<&str> = deny.split("{ crate = \"").skip(1).filter_map(|entry| entry.split('"').next()).collect();
    assert!(banned.contains(&"openssl-sys"), "the bans of deny.toml were not understood: {banned:?}");
    assert!(lock.contains("name = \"tidegate\""), "Cargo.lock was not understood");
    let found: Vec<String> =
        banned.iter().filter(|name| lock.contains(&format!("name = \"{name}\"\n"))).map(ToString::to_string).collect();
    none("a crate that deny.toml bans, with the reason there", &found);
}

#[test]
fn licence_expressions_are_read_as_spdx_does() {
    let check = |expression: &str, expected: bool| {
        assert_eq!(permitted(expression, &["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]), expected, "{expression}");
    };
    check("MIT", true);
    check("GPL-3.0-only", false);
    check("GPL-3.0-only OR MIT", true);
    check("MIT/Apache-2.0", true);
    check("MIT AND GPL-3.0-only", false);
    check("GPL-3.0-only AND MIT OR ISC", true);
    check("GPL-3.0-only AND (MIT OR ISC)", false);
    check("(MIT OR Apache-2.0) AND ISC", true);
    check("Apache-2.0 WITH LLVM-exception", true);
    check("MIT WITH LLVM-exception", false);
}
