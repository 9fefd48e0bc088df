//! Findings by example: what is told, and what is let pass.

use proptest::prelude::*;

use super::super::compile::Format;
use super::*;

/// Level and path of every finding.
fn lint(text: &str) -> Vec<(Level, String)> {
    let read = Document::read(text, Format::Json).unwrap_or_else(|invalid| panic!("{text}: {invalid}"));
    document(&read).into_iter().map(|finding| (finding.level, finding.path)).collect()
}

/// Of a flag with the variants on, off and x, `off` the default.
fn rule(targeting: &str) -> Vec<(Level, String)> {
    let flag = format!(
        r#"{{"state":"ENABLED","variants":{{"on":true,"off":false}},"defaultVariant":"off","targeting":{targeting}}}"#
    );
    let found = lint(&format!(r#"{{"flags":{{"f":{flag}}}}}"#));
    found.into_iter().map(|(level, path)| (level, path.trim_start_matches("flags.f.").to_owned())).collect()
}

fn found(level: Level, path: &str) -> Vec<(Level, String)> {
    vec![(level, path.to_owned())]
}

#[test]
fn sound_rules_are_let_pass() {
    for targeting in [
        "null",
        "{}",
        r#"{"if":[{"==":[{"var":"a"},1]},"on"]}"#,
        r#"{"if":[{"var":"a"},"on","off"]}"#,
        r#"{"fractional":[["on",10],["off",90]]}"#,
        r#"{"fractional":[{"var":"email"},["on",0],["off",90]]}"#.replace("90", "1").replace("\"on\",0", "\"on\",1").as_str(),
        r#"{"if":[{"ends_with":[{"var":"email"},"@x"]},{"fractional":[["on"],["off"]]}]}"#,
        r#"{"if":[{"sem_ver":[{"var":"v"},"^","1.2"]},"on"]}"#,
        r#"{"var":"pick"}"#,
        r#"{"if":[{"var":"a"},{"if":[{"var":"a"},"on","off"]}]}"#,
    ] {
        assert_eq!(rule(targeting), [], "{targeting}");
    }
    assert_eq!(lint(r#"{"flags":{"s":{"state":"ENABLED","variants":{"a":1,"b":2},"defaultVariant":"a"}}}"#), []);
    let booleans =
        r#"{"flags":{"s":{"state":"ENABLED","variants":{"true":1,"false":2},"targeting":{"in":["a",{"var":"x"}]}}}}"#;
    assert_eq!(lint(booleans), []);
}

#[test]
fn a_variant_that_does_not_exist_is_an_error_where_it_stands() {
    use Level::Error;
    assert_eq!(rule(r#"{"if":[{"var":"a"},"on","of"]}"#), found(Error, "targeting.if.2"));
    assert_eq!(rule(r#"{"fractional":[["on",1],["offf",1]]}"#), found(Error, "targeting.fractional.1.0"));
    assert_eq!(rule(r#"{"if":[{"var":"a"},"on",false]}"#), found(Error, "targeting.if.2"));
    let yes = rule(r#"{"==":[{"var":"a"},1]}"#);
    assert!(yes.contains(&(Error, "targeting.==".to_owned())), "{yes:?}");
}

#[test]
fn what_is_never_reached_is_told() {
    use Level::Warning;
    for (targeting, path) in [
        (r#"{"if":[{"var":"a"},"on",true,"off",{"var":"b"},"on"]}"#, "targeting.if.4"),
        (r#"{"if":[{"var":"a"},"on",true,"off","on"]}"#, "targeting.if.4"),
        (r#"{"if":[{"var":"a"},"on",{"var":"a"},"off","on"]}"#, "targeting.if.2"),
        (r#"{"if":[{"var":"a"},"on",{"if":[{"var":"a"},"off"]}]}"#, "targeting.if.2.if.0"),
        (r#"{"if":[{"and":[{"var":"a"},false]},"on",{"var":"b"},"on"]}"#, "targeting.if.1"),
        (r#"{"if":[{"or":[{"var":"a"},{"!":false}]},{"fractional":["on","off"]},"on"]}"#, "targeting.if.2"),
    ] {
        let told = rule(targeting);
        assert!(told.contains(&(Warning, path.to_owned())), "{targeting}: {told:?}");
    }
}

#[test]
fn weights_that_mean_nothing_are_told() {
    use Level::{Hint, Warning};
    for (targeting, level, path) in [
        (r#"{"fractional":[["on",0],["off",0]]}"#, Warning, "targeting.fractional"),
        (r#"{"fractional":[["on",-1],["off",5],["on",1]]}"#, Warning, "targeting.fractional.0.1"),
        (r#"{"fractional":[["on",0.5],["off",5]]}"#, Warning, "targeting.fractional.0.1"),
        (r#"{"fractional":[["on",2000000000],["off",2000000000]]}"#, Warning, "targeting.fractional"),
        (r#"{"fractional":[["on",100],["off",0]]}"#, Hint, "targeting.fractional"),
        (r#"{"fractional":[["on",1],["off",1],["on",1]]}"#, Hint, "targeting.fractional"),
    ] {
        let told = rule(targeting);
        assert!(told.contains(&(level, path.to_owned())), "{targeting}: {told:?}");
    }
}

#[test]
fn rules_that_decide_nothing_and_variants_that_nobody_gets_are_told() {
    use Level::Warning;
    assert_eq!(
        rule(r#"{"if":[{"var":"a"},"off"]}"#),
        [(Warning, "variants.on".to_owned()), (Warning, "targeting".to_owned())]
    );
    assert_eq!(rule(r#"{"if":[{"var":"a"},{"var":"b"},"off"]}"#), [], "b may be anything");
}

#[test]
fn operators_that_can_only_give_nothing_are_told() {
    use Level::Warning;
    for (condition, path) in [
        (r#"{"sem_ver":[{"var":"v"},"=>","1.0.0"]}"#, "targeting.if.0.sem_ver.1"),
        (r#"{"sem_ver":[{"var":"v"},">","1.x"]}"#, "targeting.if.0.sem_ver.2"),
        (r#"{"sem_ver":[{"var":"v"},">"]}"#, "targeting.if.0.sem_ver.0"),
        (r#"{"starts_with":[{"var":"v"},1]}"#, "targeting.if.0.starts_with.1"),
        (r#"{"ends_with":[{"var":"v"}]}"#, "targeting.if.0.ends_with"),
        (r#"{">":[{"var":"$flagd.time"},1]}"#, "targeting.if.0.>.0.var"),
    ] {
        assert_eq!(rule(&format!(r#"{{"if":[{condition},"on"]}}"#)), found(Warning, path), "{condition}");
    }
}

#[test]
fn evaluators_that_nobody_uses_are_told_and_what_they_give_is_known() {
    let document = r#"{"$evaluators":{"a":{"var":"x"},"b":{"if":[{"$ref":"a"},"on","none"]},"c":{"$ref":"d"},"d":{"var":"y"}},
        "flags":{"f":{"state":"ENABLED","variants":{"on":1,"off":2},"defaultVariant":"off","targeting":{"$ref":"b"}}}}"#;
    let told = lint(document);
    for expected in
        [(Level::Error, "flags.f.targeting.$ref"), (Level::Warning, "$evaluators.c"), (Level::Warning, "$evaluators.d")]
    {
        assert!(told.contains(&(expected.0, expected.1.to_owned())), "{told:?}");
    }
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn attributes_that_differ_in_case_alone_are_told() {
    let names = ["userId", "user_id", "userId", "plan", "targeting_key"];
    let rules: Vec<String> = names.iter().map(|name| format!(r#"{{"var":"{name}"}},"on""#)).collect();
    let told = rule(&format!(r#"{{"if":[{}]}}"#, rules.join(",")));
    assert!(told.contains(&(Level::Hint, "targeting.if.2.var".to_owned())), "{told:?}");
    assert!(told.contains(&(Level::Hint, "targeting.if.8.var".to_owned())), "{told:?}");
    assert!(!told.contains(&(Level::Hint, "targeting.if.0.var".to_owned())), "{told:?}");
}

#[test]
fn evaluators_that_multiply_are_bounded() {
    let twice = |n: usize| {
        format!(
            r#""e{n}":{{"if":[{{"$ref":"e{m}"}},{{"$ref":"e{m}"}},{{"and":[{{"$ref":"e{m}"}},{{"$ref":"e{m}"}}]}}]}}"#,
            m = n + 1
        )
    };
    let evaluators: Vec<String> = (0..60).map(twice).collect();
    let document = format!(
        r#"{{"$evaluators":{{{},"e60":true}},"flags":{{"f":{{"state":"ENABLED","variants":{{"true":1}},"targeting":{{"$ref":"e0"}}}}}}}}"#,
        evaluators.join(",")
    );
    lint(&document);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "[a-z$.]{0,6}".prop_map(Into::into)
    ];
    leaf.prop_recursive(6, 48, 4, |inner| {
        let operator = prop_oneof![
            Just("if"),
            Just("fractional"),
            Just("var"),
            Just("sem_ver"),
            Just("$ref"),
            Just("and"),
            Just("!"),
            Just("=="),
            Just("starts_with")
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            (operator, inner).prop_map(|(operator, value)| serde_json::json!({ operator: value })),
        ]
    })
}

proptest! {
    #[test]
    fn no_rule_makes_it_panic(targeting in any_json(), evaluator in any_json()) {
        let flag = serde_json::json!({"variants": {"a": 1, "b": 2}, "defaultVariant": "a", "targeting": targeting});
        let evaluators = serde_json::json!({"a": evaluator, "b": {"$ref": "a"}});
        let read = Document { flags: [("f".to_owned(), flag.to_string())].into(), evaluators: Some(evaluators.to_string()), metadata: None };
        drop(document(&read));
    }
}
