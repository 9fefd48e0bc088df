//! `apply`, `diff` and `export`.

use redis::AsyncCommands as _;
use serde_json::json;

use super::{Desk, switch};

const DOCUMENT: &str = r##"# Who is one of us.
$evaluators:
  staff: { ends_with: [ { var: email }, "@example.com" ] }
metadata: { team: web }
flags:
  search:
    state: ENABLED
    variants: { on: true, off: false }
    defaultVariant: off
    targeting: { if: [ { $ref: staff }, on ] }
  ratio:
    state: ENABLED
    variants: { half: 0.5, whole: 1.0 }
    defaultVariant: half
"##;

#[test]
fn a_scope_is_made_what_files_say_in_one_revision() {
    let desk = Desk::new();
    let file = desk.write("flags.yaml", DOCUMENT);
    let said = desk.fails(&["apply", "-f", &file], 1);
    assert!(said.err.contains("--create makes it"), "{}", said.err);
    let said = desk.ok(&["apply", "-f", &file, "--create", "--note", "first"]);
    assert!(said.contains("+++ search (") && said.contains("+defaultVariant: \"off\"\n"), "{said}");
    assert!(
        said.ends_with(
            "4 added, 0 changed, 0 removed in scope orders, revision 1\nscope orders did not exist and was created\n"
        ),
        "{said}"
    );
    assert_eq!(desk.ok(&["apply", "-f", &file]), "nothing to do: scope orders is as the files say, at revision 1\n");
    let log = desk.json(&["log"]);
    assert_eq!(log.as_array().unwrap().len(), 4, "{log}");
    assert!(log.as_array().unwrap().iter().all(|entry| entry["rev"] == 1 && entry["note"] == "first"), "{log}");
    assert!(log[0]["actor"].as_str().unwrap().starts_with("ann@"), "{log}");

    let changed = desk.write("changed.yaml", DOCUMENT.replace("defaultVariant: half", "defaultVariant: whole"));
    let said = desk.ok(&["apply", "-f", &changed, "--dry-run"]);
    assert!(said.contains("-defaultVariant: half\n+defaultVariant: whole\n"), "{said}");
    assert!(said.ends_with("0 to add, 1 to change, 0 to remove in scope orders; nothing was written\n"), "{said}");
    assert_eq!(desk.json(&["log", "-n", "1"])[0]["rev"], 1);
    let said = desk.run(&["apply", "-f", &changed, "--output", "json"]).json();
    assert_eq!((&said["rev"], &said["prev"], &said["changed"]), (&json!(2), &json!(1), &json!(true)));
    assert_eq!((&said["changes"][0]["op"], &said["changes"][0]["key"]), (&json!("change"), &json!("ratio")));
    assert_eq!(said["changes"][0]["after"]["defaultVariant"], "whole");
    assert!(desk.ok(&["get", "ratio"]).contains(r#""whole":1.0"#));
}

#[test]
fn what_files_do_not_name_stays_unless_pruned_and_pruning_asks() {
    let desk = Desk::new();
    desk.ok(&["apply", "--create", "-f", &desk.write("a.yaml", DOCUMENT)]);
    let one = desk.write("one.json", format!(r#"{{"flags":{{"new":{}}}}}"#, switch("off")));
    desk.ok(&["apply", "-f", &one]);
    assert_eq!(desk.json(&["ls"]).as_array().unwrap().len(), 3);
    let said = desk.fails(&["apply", "-f", &one, "--prune"], 64);
    assert!(said.err.contains("write --yes"), "{}", said.err);
    assert_eq!(desk.json(&["ls"]).as_array().unwrap().len(), 3);
    let said = desk.ok(&["apply", "-f", &one, "--prune", "--yes"]);
    assert!(said.contains("--- $evaluators ("), "{said}");
    assert!(said.ends_with("0 added, 0 changed, 4 removed in scope orders, revision 3\n"), "{said}");
    assert_eq!(
        desk.json(&["export"]),
        json!({"flags":{"new": serde_json::from_str::<serde_json::Value>(&switch("off")).unwrap()}})
    );

    let two = desk.write("two.json", r#"{"flags":{}}"#);
    let said = desk.at_terminal(&["apply", "-f", &two, "--prune"], &[], &[("[y/N]", "n\n")]);
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.out.contains("0 to add, 0 to change, 1 to remove in scope orders? [y/N]"), "{}", said.out);
    assert!(said.out.contains("nothing was written"), "{}", said.out);
    let said = desk.at_terminal(&["apply", "-f", &two, "--prune"], &[], &[("[y/N]", "y\n")]);
    assert_eq!((said.code, desk.ok(&["ls"]).as_str()), (0, "scope orders has no flags\n"), "{}", said.out);
}

#[test]
fn what_is_exported_is_applied_to_the_same() {
    let desk = Desk::new();
    desk.ok(&["apply", "--create", "-f", &desk.write("a.yaml", DOCUMENT)]);
    for (form, name) in [("json", "e.json"), ("yaml", "e.yaml"), ("table", "e")] {
        let exported = desk.write(name, desk.ok(&["export", "--output", form]));
        let said = desk.ok(&["apply", "--prune", "-f", &exported]);
        assert_eq!(said, "nothing to do: scope orders is as the files say, at revision 1\n", "{form}");
        assert_eq!(desk.ok(&["diff", "--prune", "-f", &exported]), "", "{form}");
        desk.ok(&["apply", "--create", "-f", &exported, "--scope", form]);
        assert_eq!(desk.ok(&["diff", "orders", form]), "", "{form}");
        assert_eq!(desk.ok(&["export", "--scope", form]), desk.ok(&["export"]), "{form}");
        let piped = desk.fed(&["apply", "--prune", "-f", "-"], &desk.ok(&["export", "--output", form]));
        assert_eq!(piped.code, 0, "{form}: {}", piped.err);
    }
    let said = desk.fails(&["export", "--scope", "none"], 1);
    assert!(said.err.contains("there is no scope none"), "{}", said.err);
}

#[test]
fn differences_exit_1_and_equal_things_0() {
    let desk = Desk::new();
    let file = desk.write("a.yaml", DOCUMENT);
    desk.ok(&["apply", "--create", "-f", &file]);
    desk.ok(&["on", "search"]);
    let said = desk.fails(&["diff", "-f", &file], 1);
    assert!(said.out.contains("-defaultVariant: \"on\"\n+defaultVariant: \"off\"\n"), "{}", said.out);
    assert_eq!(said.err, "");
    let said = desk.fails(&["diff", "1", "2"], 1);
    assert!(said.out.starts_with("--- search (revision 1)\n+++ search (revision 2)\n"), "{}", said.out);
    assert_eq!(desk.fails(&["diff", "1"], 1).out, said.out);
    assert_eq!(desk.ok(&["diff", "2", "2"]), "");
    desk.ok(&["set", "--create", "--scope", "other", "search", &switch("on")]);
    let said = desk.fails(&["diff", "orders", "other", "--output", "json"], 1).json();
    let told: Vec<_> =
        said.as_array().unwrap().iter().map(|c| (c["op"].as_str().unwrap(), c["key"].as_str().unwrap())).collect();
    assert_eq!(told, [("remove", "$evaluators"), ("remove", "$metadata"), ("remove", "ratio"), ("change", "search")]);
    desk.fails(&["diff"], 64);
    desk.fails(&["diff", "orders"], 64);
}

#[test]
fn what_is_wrong_is_told_by_file_line_and_column_and_nothing_is_written() {
    let desk = Desk::new();
    desk.ok(&["apply", "--create", "-f", &desk.write("a.yaml", DOCUMENT)]);
    for (name, text, expected) in [
        ("syntax.json", "{\"flags\": {\n  \"a\": {,}}}".as_bytes(), "syntax.json:2:9: error: "),
        ("syntax.yaml", b"flags:\n  a: [\n", "syntax.yaml:"),
        (
            "state.yaml",
            b"flags:\n  a:\n    state: ON\n    variants: {on: true}\n",
            "state.yaml:3:5: error: flags.a.state: must be",
        ),
        (
            "ref.yaml",
            b"flags:\n  a:\n    state: ENABLED\n    variants: {on: true}\n    targeting: {$ref: stuff}\n",
            "ref.yaml:5:17: error: flags.a.targeting.$ref",
        ),
        ("shape.json", b"[]", "shape.json:1:1: error: must be an object with `flags`"),
        ("utf8.json", b"{\n\"\xff\"", "utf8.json:2: error: is not UTF-8"),
        ("twice.json", br#"{"flags":{"a":{},"a":{}}}"#, "twice.json:1:"),
    ] {
        desk.write(name, text);
        let said = desk.fails(&["apply", "-f", name], 64);
        assert!(said.err.starts_with(&format!("tidegate: {expected}")), "{name}: {}", said.err);
    }
    let deep =
        desk.write("deep.json", format!(r#"{{"flags":{{"a":{}1{}}}}}"#, r#"{"!":"#.repeat(5000), "}".repeat(5000)));
    desk.fails(&["apply", "-f", &deep], 64);
    let cycle = r#"{"$evaluators":{"a":{"$ref":"b"},"b":{"$ref":"a"}},"flags":{}}"#;
    let said = desk.fails(&["apply", "-f", &desk.write("cycle.json", cycle)], 64);
    assert!(
        said.err.contains("cycle.json:1:39: error: $evaluators.b.$ref: refers to itself: a → b → a"),
        "{}",
        said.err
    );
    let said = desk.fails(&["apply", "-f", "none.yaml"], 64);
    assert!(said.err.starts_with("tidegate: none.yaml: No such file"), "{}", said.err);

    // An evaluator goes that a flag beside the files still refers to.
    let said = desk.fails(
        &[
            "apply",
            "--prune",
            "--yes",
            "-f",
            &desk.write("b.yaml", DOCUMENT.split("metadata").nth(1).map(|rest| format!("metadata{rest}")).unwrap()),
        ],
        64,
    );
    assert!(
        said.err.contains("b.yaml:7:26: error: flags.search.targeting.if.0.$ref: refers to evaluator \"staff\""),
        "{}",
        said.err
    );
    assert_eq!(desk.json(&["log"])[0]["rev"], 1);
}

#[test]
fn a_directory_is_applied_as_one_and_a_flag_is_in_one_file_only() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("flags")).unwrap();
    let flag = |key: &str| format!(r#"{{"flags":{{"{key}":{}}}}}"#, switch("off"));
    for name in ["a.json", "b.json", ".hidden.json"] {
        desk.write(&format!("flags/{name}"), flag(name.trim_start_matches('.')));
    }
    desk.write("flags/notes.txt", "no flags");
    let said = desk.ok(&["apply", "--create", "-f", "flags"]);
    assert!(said.contains("2 added, 0 changed, 0 removed in scope orders, revision 1"), "{said}");
    desk.write("flags/c.json", flag("a.json"));
    let said = desk.fails(&["apply", "-f", "flags"], 64);
    assert!(said.err.contains("flags/c.json:1:11: error: flags.a.json: is in flags/a.json too"), "{}", said.err);
}

#[tokio::test]
async fn ten_thousand_flags_are_one_change() {
    let desk = Desk::new();
    let flags: Vec<String> = (0..10_000)
        .map(|n| {
            format!(
                r#""flag-{n:05}":{{"state":"ENABLED","variants":{{"a":"{n}{}","b":"y"}},"defaultVariant":"a"}}"#,
                "x".repeat(430)
            )
        })
        .collect();
    let document = format!("{{\"flags\":{{{}}}}}", flags.join(","));
    assert!(document.len() > 5_000_000);
    let file = desk.write("many.json", &document);
    let said = desk.ok(&["apply", "--create", "-f", &file, "--output", "json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["rev"], said["changes"].as_array().unwrap().len()), (&json!(1), 10_000));
    let changed = desk.write("changed.json", document.replace(r#""b":"y""#, r#""b":"z""#));
    let said = desk.ok(&["apply", "-f", &changed]);
    assert!(said.ends_with("0 added, 10000 changed, 0 removed in scope orders, revision 2\n"), "{}", said.len());
    assert_eq!(said.matches("\n+++ ").count(), 100, "the rest is told by name");
    let exported = desk.write("exported.json", desk.ok(&["export", "--output", "json"]));
    assert_eq!(
        desk.ok(&["apply", "--prune", "-f", &exported]),
        "nothing to do: scope orders is as the files say, at revision 2\n"
    );
    assert_eq!(
        desk.ok(&["revert", "flag-00007@1"]).lines().last().unwrap(),
        "flag-00007 is as it was at revision 1: 0 added, 1 changed, 0 removed in revision 3"
    );
    let mut client = desk.redis.client().await;
    let kept: u64 = client.xlen("tidegate:{orders}:log").await.unwrap();
    assert!((20_000..20_200).contains(&kept), "the log is bounded: {kept}");
    // And still long enough to undo the change of all flags.
    let said = desk.ok(&["revert", "1", "--yes"]);
    assert!(said.ends_with("0 added, 9999 changed, 0 removed in revision 4\n"));
    assert_eq!(desk.ok(&["diff", "-f", &file]), "");
}

#[test]
fn a_scope_beyond_what_sidecars_read_is_not_made() {
    let desk = Desk::new();
    let flags: Vec<String> =
        (0..50_001).map(|n| format!(r#""f{n}":{{"state":"ENABLED","variants":{{"a":1}}}}"#)).collect();
    let file = desk.write("many.json", format!("{{\"flags\":{{{}}}}}", flags.join(",")));
    let said = desk.fails(&["apply", "--create", "-f", &file], 1);
    assert!(said.err.contains("50001 flags") && said.err.contains("at most 50000"), "{}", said.err);
}

#[test]
fn a_redis_that_is_away_or_holds_something_else_is_said_to() {
    let mut desk = Desk::new();
    let file = desk.write("a.yaml", DOCUMENT);
    desk.ok(&["apply", "--create", "-f", &file]);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut client = desk.redis.client().await;
        let _: () = client.del("tidegate:{orders}:log").await.unwrap();
        let _: () = client.set("tidegate:{orders}:log", "text").await.unwrap();
    });
    let changed = desk.write("changed.yaml", DOCUMENT.replace("defaultVariant: half", "defaultVariant: whole"));
    let said = desk.fails(&["apply", "-f", &changed], 1);
    assert!(said.err.contains("is not what writers of flags make: WRONGTYPE"), "{}", said.err);
    desk.redis.kill();
    let said = desk.fails(&["apply", "-f", &file], 69);
    assert!(said.err.starts_with("tidegate: redis is not available: "), "{}", said.err);
    for line in [&["export"][..], &["diff", "1"], &["revert", "1", "--yes"], &["watch"], &["lint"], &["eval", "search"]]
    {
        desk.fails(line, 69);
    }
    desk.fails(&["apply"], 64);
}
