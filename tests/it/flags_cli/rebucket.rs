//! `rebucket`: who would get another variant by another bucketing version.

use serde_json::{Value, json};

use super::{Desk, switch};

/// A flag that spreads keys evenly, one that spreads members by an attribute, one that spreads nothing.
const DOCUMENT: &str = r#"
flags:
  half:
    state: ENABLED
    variants: { on: true, off: false }
    defaultVariant: off
    targeting: { fractional: [ ["on", 50], ["off", 50] ] }
  members:
    state: ENABLED
    variants: { on: true, off: false }
    defaultVariant: off
    targeting: { if: [ { var: member }, { fractional: [ { var: email }, ["on", 50], ["off", 50] ] } ] }
  plain: { state: ENABLED, variants: { on: true, off: false }, defaultVariant: on }
"#;

/// What a report says of a flag.
fn of<'r>(report: &'r Value, flag: &str) -> &'r Value {
    report["flags"].as_array().unwrap().iter().find(|change| change["flag"] == flag).unwrap()
}

/// Of an even split half of the users move, and as many one way as the other.
fn assert_half_moves(report: &Value, flag: &str) {
    let change = of(report, flag);
    let (moved, samples) = (change["moved"].as_u64().unwrap(), report["samples"].as_u64().unwrap());
    assert!((samples * 45..samples * 55).contains(&(moved * 100)), "{change}");
    assert_eq!(change["percent"].as_f64().unwrap(), moved as f64 * 100.0 / samples as f64);
    for (from, to) in [("on", "off"), ("off", "on")] {
        let moves = change["moves"].as_array().unwrap();
        let count = moves.iter().find(|one| one["from"] == from && one["to"] == to).unwrap()["count"].as_u64().unwrap();
        assert!((samples * 20..samples * 30).contains(&(count * 100)), "{change}");
    }
}

#[test]
fn half_of_an_even_split_moves_to_v3_and_nobody_to_the_same_version() {
    let desk = Desk::new();
    desk.ok(&["apply", "--create", "-f", &desk.write("flags.yaml", DOCUMENT)]);
    let report = desk.json(&["rebucket", "--from", "v2", "--to", "v3"]);
    assert_eq!(
        (&report["from"], &report["to"], &report["samples"], &report["unaffected"]),
        (&json!("v2"), &json!("v3"), &json!(10_000), &json!(1))
    );
    assert_eq!(report["flags"].as_array().unwrap().len(), 2, "who spreads nothing is not listed");
    for flag in ["half", "members"] {
        assert_half_moves(&report, flag);
        assert_eq!(of(&report, flag)["source"], "redis:orders");
    }
    let same = desk.json(&["rebucket", "--from", "v3", "--to", "v3", "--sample", "500"]);
    assert_eq!((&same["samples"], &of(&same, "half")["moved"]), (&json!(500), &json!(0)));
    assert_eq!(of(&same, "half")["moves"], json!([]));
    let table = desk.ok(&["rebucket", "--to", "v3"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["FLAG", "SOURCE", "MOVE", "OF", "FROM", "→", "TO"]);
    assert_eq!((&lines[1][..2], lines[1][4]), (&["half", "redis:orders"][..], "10000"), "{table}");
    assert!(table.ends_with("\n1 flag spreads no keys and stays as it is, v2 to v3\n"), "{table}");
    assert_eq!(desk.run(&["rebucket", "--to", "v3", "--output", "yaml"]).out.lines().next(), Some("flags:"));
}

#[test]
fn the_version_in_use_is_that_of_the_configuration() {
    let desk = Desk::new();
    let url = desk.redis.url();
    desk.write(
        "tidegate.yaml",
        format!("workload: orders\nredis: {{ url: '{}' }}\nflags: {{ bucketing: v3 }}\n", url.expose()),
    );
    desk.ok(&["apply", "--create", "-f", &desk.write("flags.yaml", DOCUMENT)]);
    let report = desk.json(&["rebucket", "--to", "v3"]);
    assert_eq!((&report["from"], &of(&report, "half")["moved"]), (&json!("v3"), &json!(0)));
    assert_half_moves(&desk.json(&["rebucket", "--to", "v2"]), "half");
}

#[test]
fn files_are_reported_on_without_redis() {
    let mut desk = Desk::new();
    desk.redis.kill();
    let file = desk.write("flags.yaml", DOCUMENT);
    let report = desk.json(&["rebucket", "--to", "v3", "--file", &file]);
    assert_half_moves(&report, "half");
    assert_eq!(of(&report, "half")["source"], format!("file:{file}"));
    let plain = desk.write("plain.json", format!(r#"{{"flags":{{"a":{},"b":{}}}}}"#, switch("on"), switch("off")));
    assert_eq!(
        desk.ok(&["rebucket", "--to", "v1", "-f", &plain]),
        "2 flags spread no keys and stay as they are, v2 to v1\n"
    );
    let said = desk.fails(&["rebucket", "--to", "v3"], 69);
    assert!(said.err.starts_with("tidegate: redis is not available: "), "{}", said.err);
}

#[test]
fn users_of_ones_own_are_tried_by_key_or_by_context() {
    let desk = Desk::new();
    let file = desk.write("flags.yaml", DOCUMENT);
    let value = |bucketing: &str, user: &str| {
        desk.write("tidegate.yaml", format!("flags: {{ bucketing: {bucketing} }}\n"));
        desk.json(&["eval", "half", "-f", &file, "-k", user])["variant"].as_str().unwrap().to_owned()
    };
    // What the report counts is what evaluation does.
    let users = ["ann", "bob", "cleo", "dan", "eve", "fay", "gus", "hal"];
    let moved = users.iter().filter(|user| value("v2", user) != value("v3", user)).count();
    assert!(0 < moved && moved < users.len(), "{moved} of them move: the names make it a test");
    desk.write("tidegate.yaml", "");
    let keys = desk.write("keys", users.join("\n") + "\n\n");
    let report = desk.json(&["rebucket", "--to", "v3", "-f", &file, "--keys", &keys]);
    assert_eq!((&report["samples"], &of(&report, "half")["moved"]), (&json!(users.len()), &json!(moved)));

    let contexts = |member: bool| -> String {
        users
            .iter()
            .map(|user| format!("{}\n", json!({"targetingKey": user, "email": user, "member": member})))
            .collect()
    };
    let by = |input: &str| {
        let said = desk.fed(&["rebucket", "--to", "v3", "-f", &file, "--keys", "-", "--output", "json"], input);
        assert_eq!(said.code, 0, "{}", said.err);
        said.json()
    };
    assert_eq!(
        of(&by(&contexts(false)), "members")["moved"],
        0,
        "the rule is followed: who is no member is not spread"
    );
    assert_eq!(of(&by(&contexts(false)), "half")["moved"], json!(moved));
    assert!(of(&by(&contexts(true)), "members")["moved"].as_u64().unwrap() > 0);
}

#[test]
fn what_makes_no_sense_is_refused_before_anybody_is_asked() {
    let mut desk = Desk::new();
    desk.redis.kill();
    let keys = desk.write("keys", "ann\n{\"targetingKey\":\n");
    let empty = desk.write("empty", "\n\n");
    let binary = desk.write("binary", b"ann\n\xff\n");
    let broken = desk.write("broken.yaml", "flags: {a: 1}");
    for (line, part) in [
        (&["--to", "v4"][..], "possible values: v1, v2, v3"),
        (&["--to", "2"], "possible values: v1, v2, v3"),
        (&["--from", "murmur", "--to", "v3"], "possible values: v1, v2, v3"),
        (&[], "--to"),
        (&["--to", "v3", "--sample", "0"], "0 is not in 1..=1000000"),
        (&["--to", "v3", "--keys", &keys, "--sample", "5"], "cannot be used with"),
        (&["--to", "v3", "--keys", &keys], "line 2 of the keys: a line that begins with a brace must be a JSON object"),
        (&["--to", "v3", "--keys", &empty], "there is nobody to try; write a key a line"),
        (&["--to", "v3", "--keys", &binary], "binary:2: error: is not UTF-8"),
        (&["--to", "v3", "--keys", "none"], "none: No such file"),
        (&["--to", "v3", "--file", &broken], "broken.yaml:1:9: error: flags.a: must be an object"),
    ] {
        let said = desk.fails(&[&["rebucket"], line].concat(), 64);
        assert!(said.err.contains(part) && said.out.is_empty(), "{line:?}: {} {}", said.out, said.err);
    }
    desk.redis.resume();
    let said = desk.fails(&["rebucket", "--to", "v3"], 1);
    assert!(said.err.contains("there are no definitions: no scope in redis, no file"), "{}", said.err);
}
