//! `lint`: as a compiler tells it.

use serde_json::json;

use super::{Desk, switch};

const DOUBTFUL: &str = r#"flags:
  search:
    state: ENABLED
    variants: {on: true, off: false}
    defaultVariant: off
    targeting:
      if:
      - true
      - {fractional: [["on", 100], ["off", 0]]}
      - {var: plan}
      - on
"#;

#[test]
fn findings_have_a_place_and_a_level_and_errors_an_exit_code() {
    let desk = Desk::new();
    desk.write("doubtful.yaml", DOUBTFUL);
    let said = desk.ok(&["lint", "doubtful.yaml"]);
    assert_eq!(
        said,
        "doubtful.yaml:9:10: hint: flags.search.targeting.if.1.fractional: \"on\" has 100 %; who has no targeting key \
         still gets the default\n\
         doubtful.yaml:10:9: warning: flags.search.targeting.if.2: is never reached: the condition before it always \
         holds\n\
         0 errors, 1 warning, 1 hint\n"
    );
    desk.fails(&["lint", "--strict", "doubtful.yaml"], 1);
    desk.write("wrong.json", "{\"flags\": {\n  \"a\": {\"state\": \"ENABLED\", \"variants\": {\"on\": 1},\n    \"targeting\": {\"if\": [{\"var\": \"x\"}, \"of\"]}}}}");
    let said = desk.fails(&["lint", "doubtful.yaml", "wrong.json"], 1);
    assert!(
        said.out.contains("wrong.json:3:40: error: flags.a.targeting.if.1: \"of\" is none of the variants on"),
        "{}",
        said.out
    );
    let said = desk.fails(&["lint", "wrong.json", "--output", "json"], 1).json();
    assert_eq!((&said[0]["line"], &said[0]["column"], &said[0]["level"]), (&json!(2), &json!(42), &json!("warning")));
    assert_eq!(
        desk.fed(&["lint", "-"], "flags: {a: 1}").out.lines().next().unwrap(),
        "standard input:1:9: error: flags.a: must be an object, and is a number"
    );
    desk.write("sound.json", format!(r#"{{"flags":{{"a":{}}}}}"#, switch("on")));
    assert_eq!(desk.ok(&["lint", "sound.json"]), "nothing found\n");
    desk.fails(&["lint", "none.json"], 64);
}

#[test]
fn the_scope_in_redis_is_linted_too() {
    let desk = Desk::new();
    desk.ok(&["apply", "--create", "-f", &desk.write("doubtful.yaml", DOUBTFUL)]);
    let said = desk.ok(&["lint"]);
    assert!(said.contains("scope orders: warning: flags.search.targeting.if.2: is never reached"), "{said}");
    desk.fails(&["lint", "--strict"], 1);
}
