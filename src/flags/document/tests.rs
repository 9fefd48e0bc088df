//! Documents: round trips, merging, and the places of what is wrong.

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Document {
    Document::read(text, guess(text)).unwrap_or_else(|invalid| panic!("{invalid}"))
}

const DOCUMENT: &str = r#"{"$schema":"x","metadata":{"team":"a","n":1.0},
  "$evaluators":{"staff":{"ends_with":[{"var":"email"},"@x.org"]}},
  "flags":{"b":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"$ref":"staff"},"on"]}},
           "a.b":{"state":"DISABLED","variants":{"yes":"no","1":"on"},"defaultVariant":null}}}"#;

#[test]
fn a_document_reads_back_the_same_in_both_formats() {
    let document = read(DOCUMENT);
    assert_eq!(document.check(), Ok(()));
    assert_eq!(document.flags["a.b"], r#"{"state":"DISABLED","variants":{"yes":"no","1":"on"},"defaultVariant":null}"#);
    assert_eq!(document.metadata.as_deref(), Some(r#"{"team":"a","n":1.0}"#));
    let yaml = document.yaml().expect("it can be YAML");
    assert_eq!(read(&yaml), document, "{yaml}");
    assert_eq!(read(&document.json().expect("JSON it is")), document);
    assert_eq!(read(&Document::default().yaml().expect("empty")), Document::default());
}

#[test]
fn what_is_no_document_is_said_to_be_that() {
    let path_of = |text: &str| {
        let invalid = Document::read(text, guess(text)).expect_err(text);
        invalid.0.iter().map(|problem| problem.path.clone()).collect::<Vec<_>>()
    };
    assert_eq!(path_of("{}"), ["flags"]);
    assert_eq!(path_of(r#"{"flags":[],"flag":{},"metadata":1}"#), ["flags", "flag", "metadata"]);
    assert_eq!(path_of("- 1"), [""]);
    assert_eq!(path_of("flags: {a: {}, a: {}}"), [""]);
    let invalid = Document::read("{\n  \"flags\": {,}\n}", Format::Json).expect_err("a comma");
    assert_eq!(invalid.0[0].at, Some(Place { line: 2, column: 13 }));
    let invalid = Document::read("flags:\n  a: b\n   c: d\n", Format::Yaml).expect_err("an indent");
    assert_eq!(invalid.0[0].at.map(|at| at.line), Some(3));
}

#[test]
fn what_a_document_does_not_name_stays_unless_it_is_to_go() {
    let document = read(DOCUMENT);
    let other = read(r#"{"metadata":{"team":"b"},"flags":{"c":{}}}"#);
    let kept = document.with(&other, Unnamed::Keep).expect("objects");
    assert_eq!(kept.flags.keys().collect::<Vec<_>>(), ["a.b", "b", "c"]);
    assert_eq!(kept.metadata.as_deref(), Some(r#"{"team":"b","n":1.0}"#));
    assert_eq!(kept.evaluators, document.evaluators);
    assert_eq!(document.with(&other, Unnamed::Remove), Ok(other));
}

#[test]
fn an_evaluator_that_goes_is_missed_by_the_flags_that_refer_to_it() {
    let mut document = read(DOCUMENT);
    document.evaluators = None;
    let invalid = document.check().expect_err("b refers to it");
    assert!(invalid.to_string().starts_with("flags.b.targeting.if.0.$ref: refers to evaluator \"staff\""), "{invalid}");
}

#[test]
fn equal_is_what_means_the_same() {
    for (one, other, expected) in [
        (r#"{"a":1,"b":[]}"#, r#"{ "b" : [ ], "a" : 1 }"#, true),
        (r#"{"a":1}"#, r#"{"a":1.0}"#, false),
        (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#, false),
        ("broken", "broken", true),
        ("broken", "{}", false),
    ] {
        assert_eq!(same(one, other), expected, "{one} {other}");
    }
}

#[test]
fn every_member_has_its_place() {
    let json = "{\"flags\": {\n  \"a\\u002eb\": {\"state\": 1,\n\t\"ü\": 2, \"targeting\": {\"if\": [\n      {\"var\": [\"x\"]}, \"on\"]}}}}";
    let yaml = "flags:\n  a.b:\n    state: 1\n    ü: 2\n    targeting:\n      if:\n      - {var: [x]}\n      - on\n";
    for (format, text, expected) in [
        (
            Format::Json,
            json,
            [(1, 2), (2, 3), (2, 16), (3, 2), (3, 10), (3, 24), (4, 7), (4, 23), (4, 16), (2, 3), (1, 1), (1, 2)],
        ),
        (
            Format::Yaml,
            yaml,
            [(1, 1), (2, 3), (3, 5), (4, 5), (5, 5), (6, 7), (7, 9), (8, 9), (7, 16), (2, 3), (1, 1), (1, 1)],
        ),
    ] {
        let places = Places::of(text, format);
        let paths = [
            "flags",
            "flags.a.b",
            "flags.a.b.state",
            "flags.a.b.ü",
            "flags.a.b.targeting",
            "flags.a.b.targeting.if",
            "flags.a.b.targeting.if.0",
            "flags.a.b.targeting.if.1",
            "flags.a.b.targeting.if.0.var.0",
            "flags.a.b.variants",
            "",
            "flags.none",
        ];
        for (path, (line, column)) in paths.iter().zip(expected) {
            let found = places.find(path);
            // A tab and ü are one column each.
            assert_eq!((found.line, found.column), (line, column), "{format:?} {path}");
        }
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_filter("JSON has no others", |n| n.is_finite()).prop_map(Into::into),
        "\\PC{0,12}".prop_map(Into::into),
        prop_oneof![
            Just("yes"),
            Just("on"),
            Just("~"),
            Just("1e3"),
            Just("- a"),
            Just("a: b"),
            Just("010"),
            Just(".inf")
        ]
        .prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::btree_map("\\PC{0,8}", inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_the_same(value in json()) {
        let text = value.to_string();
        let tree = compile::tree(&text, Format::Json).expect("it is JSON");
        prop_assert_eq!(&compile::tree(&pretty(&text), Format::Json).expect("it is JSON still"), &tree);
        if let Ok(yaml) = yaml(&text) {
            prop_assert_eq!(&compile::tree(&yaml, Format::Yaml).expect("checked"), &tree);
        }
    }

    #[test]
    fn no_text_makes_places_panic(text in "[\\PC\\n\\t\"{}\\[\\]:,\\\\]{0,64}", path in ".{0,16}") {
        for format in [Format::Json, Format::Yaml] {
            Places::of(&text, format).find(&path);
        }
    }
}
