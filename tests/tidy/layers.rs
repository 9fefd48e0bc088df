//! The layers of `src/lib.rs`: who may use whom, read from the table under `# Layout` there.

use crate::{files, none, read};

/// Domains that stand side by side: they meet through plain values that `app` carries between them.
const SIBLINGS: [&str; 4] = ["flags", "fleet", "proxy", "readiness"];
/// What knows no other room of the house.
const ALONE: [&str; 2] = ["secret", "telemetry"];

/// Modules from the lowest layer to the highest.
fn layout(lib: &str) -> Vec<&str> {
    lib.lines().filter_map(|line| line.strip_prefix("//! | [`")?.split_once('`')).map(|(module, _)| module).collect()
}

/// The top modules that `text` names by `crate::…`, with the line of each; comments do not count.
fn uses(text: &str) -> Vec<(usize, String)> {
    // Joined into one text, because rustfmt breaks long `use crate::{…}` groups into lines.
    let mut code = String::new();
    for line in text.lines() {
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(heads(group).into_iter().map(|head| (line, head))),
            None => found.push((line, identifier(rest))),
        }
    }
    found
}

/// The first part of each path in a `{a::b, c::{d, e}, f}` group, whose opening brace is gone already.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut heads) = (1, 0, Vec::new());
    for (at, sign) in group.char_indices() {
        match sign {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (sign == ',' && depth == 1) || depth == 0 {
            heads.push(identifier(group[start..at].trim_start()));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|sign| sign.is_alphanumeric() || *sign == '_').collect()
}

/// What is wrong with `user` naming `used`, if anything.
fn breach(layout: &[&str], user: &str, used: &str) -> Option<String> {
    let place = |module: &str| layout.iter().position(|known| *known == module);
    let used_at = place(used)?; // else a macro or item at the root of the crate
    if user == used {
        return None;
    }
    if ALONE.contains(&user) {
        return Some(format!("{user} uses {used}, but must know no other module"));
    }
    if SIBLINGS.contains(&user) && SIBLINGS.contains(&used) {
        return Some(format!("{user} uses {used}, its sibling"));
    }
    (place(user)? < used_at).then(|| format!("{user} uses {used}, which lies above it"))
}

/// The top module that a file of `src` belongs to.
fn module(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

#[test]
fn layers_point_downward_only() {
    let lib = read("src/lib.rs");
    let layout = layout(&lib);
    let mut findings = Vec::new();
    for path in files("src", &[".rs"]) {
        let user = module(&path);
        if matches!(user, "lib" | "main") {
            continue;
        }
        for (line, used) in uses(&read(&path)) {
            findings.extend(breach(&layout, user, &used).map(|what| format!("{path}:{line}: {what}")));
        }
    }
    none("a module uses what its layer must not know (src/lib.rs, Layout)", &findings);
}

#[test]
fn the_layout_names_every_module() {
    let lib = read("src/lib.rs");
    let mut named = layout(&lib);
    let mut declared: Vec<&str> =
        lib.lines().filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    named.sort_unstable();
    declared.sort_unstable();
    assert_eq!(named, declared, "the table in src/lib.rs and its `pub mod` lines differ");
    for known in SIBLINGS.iter().chain(&ALONE) {
        assert!(named.contains(known), "{known} is gone from src/lib.rs: this test's rules are about it");
    }
}

#[test]
fn paths_are_found_in_every_form() {
    let check = |text: &str, expected: &[(usize, &str)]| {
        let found = uses(text);
        let found: Vec<(usize, &str)> = found.iter().map(|(line, name)| (*line, name.as_str())).collect();
        assert_eq!(found, expected, "in {text:?}");
    };
    check("use crate::net::tls;", &[(1, "net")]);
    check("\nuse crate::{flags, net::{tls, redis}, secret::Secret};", &[(2, "flags"), (2, "net"), (2, "secret")]);
    check("use crate::{\n    flags::Store,\n    proxy,\n};\n", &[(1, "flags"), (1, "proxy")]);
    check("let board = crate::readiness::board();", &[(1, "readiness")]);
    check("pub(in crate::flags) fn f() {}", &[(1, "flags")]);
    check("/// See [`crate::proxy`].\n// use crate::app;\nfn f() {}", &[]);
    check("use my_crate::app; use $crate::net; use other::crate::x;", &[(1, "net")]);
}

#[test]
fn breaches_are_told_from_what_is_allowed() {
    let layout = ["secret", "telemetry", "lifecycle", "net", "readiness", "flags", "proxy", "local", "ops", "config"];
    let check = |user: &str, used: &str, allowed: bool| {
        assert_eq!(breach(&layout, user, used).is_none(), allowed, "{user} using {used}");
    };
    check("proxy", "net", true);
    check("proxy", "proxy", true);
    check("config", "proxy", true);
    check("ops", "readiness", true);
    check("lifecycle", "telemetry", true);
    check("proxy", "VERSION", true);
    check("net", "proxy", false);
    check("proxy", "flags", false);
    check("flags", "readiness", false);
    check("proxy", "config", false);
    check("telemetry", "secret", false);
    check("lifecycle", "net", false);
}
