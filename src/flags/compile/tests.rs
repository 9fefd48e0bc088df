//! What compiles, what is refused, and that everything that is wrong is named.

use super::*;

fn problems(text: &str, format: Format) -> Vec<String> {
    match document(text, format) {
        Ok(_) => Vec::new(),
        Err(Invalid(problems)) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// A document of one flag `f` with two variants and these fields besides.
fn with(fields: &str) -> String {
    format!(r#"{{"flags":{{"f":{{"state":"ENABLED","variants":{{"on":true,"off":false}},{fields}}}}}}}"#)
}

#[test]
fn a_document_compiles_whole() {
    let text = r#"{
        "$schema": "https://flagd.dev/schema/v0/flags.json",
        "metadata": {"team": "search", "version": 2},
        "$evaluators": {"staff": {"ends_with": [{"var": "email"}, "@example.com"]}},
        "flags": {
            "ratio": {"state": "ENABLED", "variants": {"low": 1, "high": 2.50, "top": 1e3}, "defaultVariant": "low"},
            "search": {
                "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
                "targeting": {"if": [{"$ref": "staff"}, "on"]}, "metadata": {"owner": "ann"}
            },
            "theme": {"state": "DISABLED", "variants": {"dark": {"bg": "black", "n": 1.0}}, "defaultVariant": null, "targeting": {}}
        }
    }"#;
    let set = document(text, Format::Json).expect("sound");
    assert_eq!(set.flags.keys().map(|key| &**key).collect::<Vec<_>>(), ["ratio", "search", "theme"]);
    assert_eq!(set.metadata.json(), r#"{"team":"search","version":2}"#);
    assert_eq!(set.evaluators.json(), r#"{"staff":{"ends_with":[{"var":"email"},"@example.com"]}}"#);
    let values = |key: &str| set.flags[key].variants().iter().map(|v| v.value_json().to_owned()).collect::<Vec<_>>();
    assert_eq!(values("ratio"), ["1", "2.5", "1000.0"], "floats keep a decimal point, integers get none");
    assert_eq!(values("theme"), [r##"{"bg":"black","n":1.0}"##], "in objects too");
    let search = &set.flags["search"];
    assert!(search.enabled() && search.targeted());
    assert_eq!(search.default_variant().map(|variant| variant.name()), Some("off"));
    assert_eq!(search.metadata().get("owner"), Some(r#""ann""#));
    let theme = &set.flags["theme"];
    assert!(!theme.enabled() && !theme.targeted() && theme.default_variant().is_none());
}

#[test]
fn a_definition_survives_being_compiled_again() {
    let text = r#"{"state":"ENABLED","variants":{"z":1.0,"a":12345678901234567890,"m":-0.1},"defaultVariant":"z","targeting":{"if":[true,"a"]}}"#;
    let flag = super::flag("k", text, &Evaluators::default()).expect("sound");
    assert_eq!(flag.definition(), text, "order, integers and floats are kept");
}

#[test]
fn yaml_says_the_same_as_json() {
    let yaml = "
flags:
  search:
    state: ENABLED
    variants:
      on: true
      off: false
      'yes': true
    defaultVariant: on
    targeting:
      if:
        - in: [{var: country}, [de, no, yes]]
        - off
        - null
  ratio:
    state: ENABLED
    variants: {one: 1, half: 0.5, whole: 1.0, text: 7}
";
    let json = r#"{"flags":{
        "search":{"state":"ENABLED","variants":{"on":true,"off":false,"yes":true},"defaultVariant":"on","targeting":{"if":[{"in":[{"var":"country"},["de","no","yes"]]},"off",null]}},
        "ratio":{"state":"ENABLED","variants":{"one":1,"half":0.5,"whole":1.0,"text":7}}}}"#;
    let (yaml, json) = (document(yaml, Format::Yaml), document(json, Format::Json));
    let texts = |set: Result<FlagSet, Invalid>| {
        let set = set.unwrap_or_else(|invalid| panic!("{invalid}"));
        set.flags.values().map(|flag| flag.definition().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(texts(yaml), texts(json));
}

#[test]
fn an_operator_that_is_like_none_is_told_all_there_are() {
    let text = r#"{"flags":{"a":{"state":"ENABLED","variants":{"on":true},"targeting":{"xyzzy":[{"var":"k"}]}}}}"#;
    let said = document(text, Format::Json).expect_err("it has a problem").to_string();
    let expected = "flags.a.targeting.xyzzy: there is no operator \"xyzzy\"; there are: var missing ";
    assert!(said.starts_with(expected) && said.ends_with(" starts_with ends_with $ref"), "{said}");
}

#[test]
fn every_problem_is_named_with_its_path() {
    let text = r#"{
        "flag": {}, "metadata": {"list": []},
        "$evaluators": {"a": {"nope": 1}},
        "flags": {
            "": {"state": "ENABLED", "variants": {"on": true}},
            "bad": {"state": "on", "variants": {}, "defaultVariant": 5, "targetting": {}, "metadata": 1},
            "mixed": {"state": "ENABLED", "variants": {"a": 1, "b": "x", "c": null}, "defaultVariant": "d"},
            "rule": {"state": "ENABLED", "variants": {"on": true}, "targeting": {"if": [{"iff": [1]}, {"a": 1, "b": 2}, {"$ref": "gone"}]}},
            "list": [],
            "bare": {}
        }
    }"#;
    let expected = [
        "flag: is unknown here; `flags` may be meant",
        "metadata.list: must be a boolean, a string or a number, and is an array",
        "$evaluators.a.nope: there is no operator \"nope\"; `none` may be meant",
        "flags.: its key must have 1 to 512 bytes and no control characters",
        "flags.bad.targetting: is unknown here; `targeting` may be meant",
        "flags.bad.state: must be \"ENABLED\" or \"DISABLED\", and is \"on\"",
        "flags.bad.variants: must hold at least one variant",
        "flags.bad.defaultVariant: must be a variant's name or null, and is 5",
        "flags.bad.metadata: must be an object, and is a number",
        "flags.mixed.variants.b: is a string, but variant \"a\" is of type integer",
        "flags.mixed.variants.c: must be a boolean, string, number or object, and is null",
        "flags.mixed.defaultVariant: \"d\" is none of the variants \"a\", \"b\"",
        "flags.rule.targeting.if.0.iff: there is no operator \"iff\"; `if` may be meant",
        "flags.rule.targeting.if.1: must hold one operator, and holds 2",
        "flags.rule.targeting.if.2.$ref: refers to evaluator \"gone\", which does not exist",
        "flags.list: must be an object, and is an array",
        "flags.bare.state: is missing; it is \"ENABLED\" or \"DISABLED\"",
        "flags.bare.variants: is missing",
    ];
    assert_eq!(problems(text, Format::Json), expected);
}

#[test]
fn documents_that_are_none_are_refused() {
    for (text, format, part) in [
        ("", Format::Json, "is not sound JSON"),
        (r#"{"flags":{}"#, Format::Json, "is not sound JSON"),
        ("[]", Format::Json, "must be an object with `flags`, and is an array"),
        ("{}", Format::Json, "flags: is missing"),
        (r#"{"flags":[]}"#, Format::Json, "flags: must be an object by flag key"),
        (r#"{"flags":{"a":{},"a":{}}}"#, Format::Json, "\"a\" is given twice"),
        ("flags: {a: {}, a: {}}", Format::Yaml, "is not sound YAML"),
        ("flags: {a: [}", Format::Yaml, "is not sound YAML"),
        ("flags: {a: &x [*x]}", Format::Yaml, "is not sound YAML"),
        ("flags: {f: {state: ENABLED, variants: {a: 1, b: 010}}}", Format::Yaml, "flags.f.variants.b: is a string"),
        ("", Format::Yaml, "must be an object with `flags`, and is null"),
        (&with(r#""targeting":"on""#), Format::Json, "flags.f.targeting: must be an object with one operator"),
        (&with(r#""targeting":{"*":[]}"#), Format::Json, "flags.f.targeting.*: needs at least one operand"),
        (&with(r#""targeting":{"$ref":1}"#), Format::Json, "flags.f.targeting.$ref: must be an evaluator's name"),
        ("flags: {f: {state: ENABLED, variants: {a: .nan}}}", Format::Yaml, "is not sound YAML"),
    ] {
        let found = problems(text, format).join("\n");
        assert!(found.contains(part), "{text:?}: {found:?} does not say {part:?}");
    }
}

#[test]
fn a_key_given_twice_is_found_however_many_there_are() {
    for count in [1, 15, 16, 17, 40] {
        let flags: Vec<String> = (0..count).map(|n| format!(r#""f{n}":{{}}"#)).collect();
        for twice in [0, count - 1] {
            let text = format!(r#"{{"flags":{{{},"f{twice}":{{}}}}}}"#, flags.join(","));
            let found = problems(&text, Format::Json).join("\n");
            assert!(found.contains(&format!("\"f{twice}\" is given twice")), "{count}: {found}");
        }
    }
}

#[test]
fn evaluators_may_use_one_another_but_not_themselves() {
    let sound = r#"{"b":{"and":[{"$ref":"a"},true]},"a":{"==":[1,1]},"c":{"or":[{"$ref":"a"},{"$ref":"b"}]}}"#;
    assert_eq!(evaluators(sound).expect("sound").names().collect::<Vec<_>>(), ["a", "b", "c"]);
    for (text, expected) in [
        (r#"{"a":{"!":{"$ref":"a"}}}"#, "$evaluators.a.!.0.$ref: refers to itself: a → a"),
        (r#"{"a":{"!":{"$ref":"b"}},"b":{"$ref":"a"}}"#, "$evaluators.b.$ref: refers to itself: a → b → a"),
        (r#"{"a":{"$ref":"c"}}"#, "$evaluators.a.$ref: refers to evaluator \"c\", which does not exist"),
        ("[]", "$evaluators: must be an object of rules by name, and is an array"),
    ] {
        assert_eq!(evaluators(text).expect_err(text).to_string(), expected);
    }
}

#[test]
fn depth_is_bounded_wherever_it_is_hidden() {
    let nested = |levels: usize, inner: &str| format!("{}{inner}{}", r#"{"!":"#.repeat(levels), "}".repeat(levels));
    assert_eq!(problems(&with(&format!(r#""targeting":{}"#, nested(63, "1"))), Format::Json), Vec::<String>::new());
    let found = problems(&with(&format!(r#""targeting":{}"#, nested(64, "1"))), Format::Json).join("\n");
    assert!(found.contains("nests deeper than 64 levels"), "{found}");
    // Beyond the parser's own bound, in both formats, and far beyond it.
    for levels in [200, 100_000] {
        assert!(!problems(&with(&format!(r#""targeting":{}"#, nested(levels, "1"))), Format::Json).is_empty());
        assert!(!problems(&format!("flags: {}", "[".repeat(levels)), Format::Yaml).is_empty());
        assert!(!problems(&format!("flags:\n{}", "- ".repeat(levels)), Format::Yaml).is_empty());
    }
    // Over references, and in variants.
    let chain: Vec<String> =
        (0..40).map(|n| format!(r#""e{n}":{}"#, nested(2, &format!(r#"{{"$ref":"e{}"}}"#, n + 1)))).collect();
    let chain = format!(r#"{{{},"e40":true}}"#, chain.join(","));
    let found = evaluators(&chain).expect_err("too deep").to_string();
    assert!(found.contains("nests deeper than 64 levels, evaluators included"), "{found}");
    let value = format!("{}1{}", r#"{"a":"#.repeat(70), "}".repeat(70));
    let text = format!(r#"{{"flags":{{"f":{{"state":"ENABLED","variants":{{"on":{value}}}}}}}}}"#);
    assert_eq!(problems(&text, Format::Json), ["flags.f.variants.on: nests deeper than 64 levels"]);
}

#[test]
fn references_that_multiply_stay_small() {
    // Each evaluator uses the one before ten times: 10^20 rules, were they copied.
    let ten = |n: usize| format!(r#""e{n}":{{"or":[{}]}}"#, vec![format!(r#"{{"$ref":"e{}"}}"#, n - 1); 10].join(","));
    let all: Vec<String> = (1..=20).map(ten).collect();
    let evaluators = evaluators(&format!(r#"{{"e0":false,{}}}"#, all.join(","))).expect("sound");
    let text = r#"{"state":"ENABLED","variants":{"on":true},"targeting":{"$ref":"e20"}}"#;
    super::flag("f", text, &evaluators).expect("sound");
}

#[test]
fn many_problems_are_counted_beyond_a_hundred() {
    let flags: Vec<String> = (0..150).map(|n| format!(r#""f{n}":1"#)).collect();
    let found = problems(&format!(r#"{{"flags":{{{}}}}}"#, flags.join(",")), Format::Json);
    assert_eq!(found.len(), 101);
    assert_eq!(found[100], "and 50 more problems");
}

#[test]
fn metadata_reads_alone() {
    assert_eq!(metadata(r#"{"b":1.0,"a":"x"}"#).expect("sound").json(), r#"{"a":"x","b":1.0}"#);
    assert_eq!(metadata("{").map_err(|_| ()), Err(()));
}

#[test]
fn yaml_may_hold_what_thousands_of_flags_do() {
    let list = "1,".repeat(300_000);
    let text = format!("flags: {{f: {{state: ENABLED, variants: {{a: {{l: [{list}]}}}}}}}}");
    assert_eq!(document(&text, Format::Yaml).expect("sound").flags.len(), 1);
}
