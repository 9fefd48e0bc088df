//! Rules against golden vectors: json-logic-js for its operators, the design for flagd's.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::compile;
use super::super::context::{Base, Context, Value};
use super::super::settings::Bucketing;
use super::Evaluator;
use super::coerce::number_to_string;
use super::interpret::{Halt, Root, Scope};
use super::observe::Unobserved;
use super::val::Val;

fn compiled(rule: &str) -> Evaluator {
    compile::rule_alone(rule).unwrap_or_else(|invalid| panic!("{rule}: {invalid}"))
}

/// A value as the vectors have it: JSON, but the numbers that JSON lacks by name, and any object as `{}`.
fn shown(val: &Val<'_>) -> String {
    match val {
        Val::Undefined => "undefined".to_owned(),
        Val::Null => "null".to_owned(),
        Val::Bool(bool) => bool.to_string(),
        Val::Number(number) => number_to_string(*number),
        Val::Str(text) => format!("{text:?}"),
        Val::Text(text) => format!("{text:?}"),
        Val::List(_) | Val::Items(_) => {
            format!("[{}]", val.items().map(|item| shown(&item)).collect::<Vec<_>>().join(","))
        }
        Val::Object(_) | Val::Root | Val::Flagd | Val::Step(_) => "{}".to_owned(),
    }
}

/// The texts of the vectors, strings as Rust prints them.
fn expected(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('"') {
        out.push_str(&rest[..start]);
        let mut strings = serde_json::Deserializer::from_str(&rest[start..]).into_iter::<String>();
        let string = strings.next().expect("a string begins here").expect("and is sound");
        out.push_str(&format!("{string:?}"));
        rest = &rest[start + strings.byte_offset()..];
    }
    out + rest
}

fn evaluate(rule: &Evaluator, data: &Value<'_>) -> Result<String, Halt> {
    let empty = Context::default();
    let (context, item) = match data {
        Value::Object(attributes) => (Context::new(attributes.clone()), None),
        other => (empty, Some(other)),
    };
    let base = Base::default();
    let root = Root::new(&context, &base, "flag", 1_700_000_000, Bucketing::V2, Unobserved);
    let scope = Scope::new(&root);
    let item = item.map(Val::from);
    let scope = match &item {
        Some(item) => scope.of(item),
        None => scope,
    };
    rule.rule.evaluate(&scope).map(|val| shown(&val))
}

fn agree(rule: &str, data: &Value<'_>, result: &str, wrong: &mut Vec<String>) {
    let got = match evaluate(&compiled(rule), data) {
        Ok(got) => got,
        Err(Halt::Operands(_)) => "throws".to_owned(),
        Err(halt) => halt.to_string(),
    };
    if got != expected(result) {
        wrong.push(format!("{rule} over {data:?}: {got}, not {result}"));
    }
}

fn none_wrong(wrong: &[String], of: usize) {
    assert!(of > 100, "only {of} vectors were read");
    assert!(wrong.is_empty(), "{} of {of} wrong, the first:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}

#[test]
fn operators_agree_with_json_logic_js() {
    #[derive(Deserialize)]
    struct File<'f> {
        #[serde(borrow)]
        data: Value<'f>,
        #[serde(borrow)]
        cases: Vec<Vec<&'f RawValue>>,
    }
    let text = include_str!("../../../tests/data/flags/json_logic.json");
    let file: File<'_> = serde_json::from_str(text).expect("the vectors are sound");
    let mut wrong = Vec::new();
    for case in &file.cases {
        let result: String = serde_json::from_str(case[1].get()).expect("a result is a text");
        let data = case.get(2).map(|data| serde_json::from_str(data.get()).expect("data is JSON"));
        if case[0].get().contains("{\"*\":[]}") {
            assert!(compile::rule_alone(case[0].get()).is_err(), "a rule that always throws was accepted");
            continue;
        }
        agree(case[0].get(), data.as_ref().unwrap_or(&file.data), &result, &mut wrong);
    }
    none_wrong(&wrong, file.cases.len());
}

#[test]
fn adversarial_pairs_agree_with_json_logic_js() {
    use std::collections::BTreeMap;
    #[derive(Deserialize)]
    struct File<'f> {
        #[serde(borrow)]
        values: Vec<&'f RawValue>,
        binary: BTreeMap<String, Vec<Vec<String>>>,
        unary: BTreeMap<String, Vec<String>>,
    }
    let text = include_str!("../../../tests/data/flags/pairs.json");
    let file: File<'_> = serde_json::from_str(text).expect("the vectors are sound");
    let mut wrong = Vec::new();
    let mut count = 0;
    for (operator, rows) in &file.binary {
        let rule = format!(r#"{{"{operator}":[{{"var":"a"}},{{"var":"b"}}]}}"#);
        for (a, row) in file.values.iter().zip(rows) {
            for (b, result) in file.values.iter().zip(row) {
                let data = format!(r#"{{"a":{a},"b":{b}}}"#);
                agree(&rule, &serde_json::from_str(&data).expect("sound"), result, &mut wrong);
                // The same as literals, where the compiler may have a form of its own; a literal object of one
                // field would be an operator.
                if !a.get().contains('{') && !b.get().contains('{') {
                    let rule = format!(r#"{{"{operator}":[{a},{b}]}}"#);
                    agree(&rule, &Value::Null, result, &mut wrong);
                }
                count += 1;
            }
        }
    }
    for (operator, row) in &file.unary {
        let rule = format!(r#"{{"{operator}":[{{"var":"a"}}]}}"#);
        for (a, result) in file.values.iter().zip(row) {
            // json-logic-js runs a key that looks like a rule as one; here data never is code.
            if operator == "missing" && a.get() == r#"{"a":1}"# {
                continue;
            }
            let data = format!(r#"{{"a":{a}}}"#);
            agree(&rule, &serde_json::from_str(&data).expect("sound"), result, &mut wrong);
            count += 1;
        }
    }
    none_wrong(&wrong, count);
}

fn in_flag(flag: &str, rule: &str, data: &Value<'_>) -> String {
    by_version(Bucketing::V2, flag, rule, data)
}

fn by_version(version: Bucketing, flag: &str, rule: &str, data: &Value<'_>) -> String {
    let Value::Object(attributes) = data else { panic!("a context is an object") };
    let context = Context::new(attributes.clone());
    let base = Base::default();
    let root = Root::new(&context, &base, flag, 1_700_000_000, version, Unobserved);
    compiled(rule).rule.evaluate(&Scope::new(&root)).map(|val| shown(&val)).expect("no vector halts")
}

#[test]
fn fractional_puts_keys_into_the_buckets_of_version_2() {
    #[derive(Deserialize)]
    struct File<'f> {
        #[serde(borrow)]
        cases: Vec<(&'f str, &'f RawValue, &'f RawValue, Option<u32>, &'f RawValue)>,
    }
    let text = include_str!("../../../tests/data/flags/fractional.json");
    let file: File<'_> = serde_json::from_str(text).expect("the vectors are sound");
    assert!(file.cases.len() > 500);
    assert_eq!(file.cases[0].3, Some(692_567_502), "the design's own vector comes first");
    for (flag, context, args, _, result) in &file.cases {
        let context = serde_json::from_str(context.get()).expect("a context is JSON");
        let rule = format!(r#"{{"fractional":{args}}}"#);
        assert_eq!(in_flag(flag, &rule, &context), expected(result.get()), "{flag}: {rule} over {context:?}");
        // The same, computed: what is literal above is evaluated here.
        let computed = args.get().replace(r#"["a","#, r#"[{"cat":["","a"]},"#).replace(r#"["a"]"#, r#"[{"cat":"a"}]"#);
        let rule = format!(r#"{{"fractional":{computed}}}"#);
        assert_eq!(in_flag(flag, &rule, &context), expected(result.get()), "{flag}: {rule} over {context:?}");
    }
}

#[test]
fn fractional_puts_keys_into_the_buckets_of_versions_1_and_3() {
    #[derive(Deserialize)]
    struct File<'f> {
        #[serde(borrow)]
        cases: Vec<Case<'f>>,
    }
    type Case<'f> = (u8, &'f str, &'f RawValue, &'f RawValue, Option<u32>, &'f RawValue);
    let text = include_str!("../../../tests/data/flags/versions.json");
    let file: File<'_> = serde_json::from_str(text).expect("the vectors are sound");
    assert!(file.cases.len() > 500);
    for (version, flag, context, args, _, result) in &file.cases {
        let version = if *version == 1 { Bucketing::V1 } else { Bucketing::V3 };
        let context = serde_json::from_str(context.get()).expect("a context is JSON");
        let rule = format!(r#"{{"fractional":{args}}}"#);
        // A value as a rule's literal would be an operator if it were an object of one field; as data it never is.
        let mut items: Vec<&RawValue> = serde_json::from_str(args.get()).expect("arguments are a list");
        let literal = !items.first().is_some_and(|first| first.get().starts_with('{'));
        if literal {
            assert_eq!(
                by_version(version, flag, &rule, &context),
                expected(result.get()),
                "{version:?} {flag}: {rule}"
            );
        }
        if items.first().is_some_and(|first| !first.get().starts_with('[')) {
            let Value::Object(attributes) = &context else { panic!("a context is an object") };
            let key: Value<'_> = serde_json::from_str(items.remove(0).get()).expect("sound");
            let mut fields: Vec<_> = attributes.iter().map(|(name, value)| (name.into(), value.clone())).collect();
            fields.push(("key".into(), key));
            let arguments: Vec<&str> =
                std::iter::once(r#"{"var":"key"}"#).chain(items.iter().map(|item| item.get())).collect();
            let rule = format!(r#"{{"fractional":[{}]}}"#, arguments.join(","));
            let context = Value::Object(super::super::context::Object::new(fields));
            assert_eq!(
                by_version(version, flag, &rule, &context),
                expected(result.get()),
                "{version:?} {flag}: {rule}"
            );
        }
    }
}

#[test]
fn fractional_takes_its_key_from_a_rule_and_drops_it_when_it_is_null() {
    let context = serde_json::from_str(r#"{"targetingKey":"user-1","email":"x","n":5}"#).expect("sound");
    let check = |key: &str, same_as: &str| {
        let rule = |key: &str| format!(r#"{{"fractional":[{key}["a",1],["b",1],["c",1],["d",1],["e",1],["f",1]]}}"#);
        let (got, expected) = (rule(key), rule(same_as));
        assert_eq!(in_flag("flag", &got, &context), in_flag("flag", &expected, &context), "{got}");
    };
    check(r#"{"var":"email"},"#, r#""x","#);
    check(r#"{"cat":[{"var":"$flagd.flagKey"},{"var":"email"}]},"#, r#""flagx","#);
    check(r#"{"var":"none"},"#, "");
    check("", r#""flaguser-1","#);
    let rule = r#"{"fractional":[{"var":"n"},["a",1],["b",1]]}"#;
    assert_eq!(in_flag("flag", rule, &context), "null", "a number is no key");
    let rule = r#"{"fractional":[{"merge":["a",1]},["a",1]]}"#;
    assert_eq!(in_flag("flag", rule, &context), r#""a""#, "a computed list in the first place is a bucket");
    let rule = r#"{"map":[[1],{"fractional":[["a",1]]}]}"#;
    assert_eq!(in_flag("flag", rule, &context), r#"["a"]"#, "the targeting key is seen from within a list");
}

#[test]
fn versions_compare_by_precedence() {
    #[derive(Deserialize)]
    struct File<'f> {
        #[serde(borrow)]
        cases: Vec<(&'f RawValue, &'f RawValue, &'f RawValue, Option<bool>)>,
    }
    let text = include_str!("../../../tests/data/flags/sem_ver.json");
    let file: File<'_> = serde_json::from_str(text).expect("the vectors are sound");
    assert!(file.cases.len() > 50);
    for (a, operator, b, result) in &file.cases {
        let rule = format!(r#"{{"sem_ver":[{a},{operator},{b}]}}"#);
        let expected = result.map_or("null".to_owned(), |result| result.to_string());
        assert_eq!(evaluate(&compiled(&rule), &Value::Null).as_ref(), Ok(&expected), "{rule}");
    }
    for rule in [r#"{"sem_ver":["1.0.0","="]}"#, r#"{"sem_ver":["1.0.0","=","1.0.0","x"]}"#, r#"{"sem_ver":[]}"#] {
        assert_eq!(evaluate(&compiled(rule), &Value::Null).as_deref(), Ok("null"), "{rule}");
    }
}

#[test]
fn starts_with_and_ends_with_take_two_texts() {
    let context = serde_json::from_str(r#"{"email":"ann@example.com","n":1}"#).expect("sound");
    for (rule, result) in [
        (r#"{"starts_with":[{"var":"email"},"ann"]}"#, "true"),
        (r#"{"starts_with":[{"var":"email"},"bob"]}"#, "false"),
        (r#"{"starts_with":[{"var":"email"},""]}"#, "true"),
        (r#"{"ends_with":[{"var":"email"},"@example.com"]}"#, "true"),
        (r#"{"ends_with":[{"var":"email"},".org"]}"#, "false"),
        (r#"{"ends_with":[{"var":"none"},".org"]}"#, "null"),
        (r#"{"ends_with":[{"var":"n"},"1"]}"#, "null"),
        (r#"{"ends_with":["a"]}"#, "null"),
        (r#"{"starts_with":["a","a","a"]}"#, "null"),
        (r#"{"starts_with":"a"}"#, "null"),
    ] {
        assert_eq!(in_flag("flag", rule, &context), result, "{rule}");
    }
}

#[test]
fn flagd_properties_are_there_and_cannot_be_set() {
    let context = serde_json::from_str(r#"{"$flagd":{"flagKey":"forged","x":1},"list":[{"a":1}]}"#).expect("sound");
    for (rule, result) in [
        (r#"{"var":"$flagd.flagKey"}"#, r#""my-flag""#),
        (r#"{"var":"$flagd.timestamp"}"#, "1700000000"),
        (r#"{"var":"$flagd.x"}"#, "null"),
        (r#"{"var":["$flagd.x","dflt"]}"#, r#""dflt""#),
        (r#"{"var":"$flagd"}"#, "{}"),
        (r#"{"map":[{"var":"list"},{"var":"$flagd.flagKey"}]}"#, "[null]"),
        (r#"{"<":[1600000000,{"var":"$flagd.timestamp"},1800000000]}"#, "true"),
    ] {
        assert_eq!(in_flag("my-flag", rule, &context), result, "{rule}");
    }
}

#[test]
fn a_rule_that_would_cost_too_much_halts() {
    let long: Vec<String> = (0..40_000).map(|n| n.to_string()).collect();
    let data = format!(r#"{{"list":[{}],"text":"{}"}}"#, long.join(","), "x".repeat(200_000));
    let data: Value<'_> = serde_json::from_str(&data).expect("sound");
    for rule in [
        // As deep as the list is long, as text and as list and as the data of a step.
        r#"{"reduce":[{"var":"list"},[{"var":"accumulator"}],0]}"#,
        r#"{"reduce":[{"var":"list"},{"var":""},0]}"#,
        // Doubling at each step.
        r#"{"reduce":[{"var":"list"},{"cat":[{"var":"accumulator"},{"var":"accumulator"}]},"x"]}"#,
        r#"{"reduce":[{"var":"list"},{"merge":[{"var":"accumulator"},{"var":"accumulator"}]},[1]]}"#,
        // A long text or list, read at each step.
        r#"{"reduce":[{"var":"list"},{"if":[{"in":["y",{"var":"accumulator"}]},1,{"var":"accumulator"}]},{"var":"text"}]}"#,
        r#"{"map":[{"var":"list"},{"map":[[1,2,3,4],{"+":[{"var":""},1]}]}]}"#,
        r#"{"==":[{"map":[{"var":"list"},{"var":""}]},{"map":[{"var":"list"},[1,{"var":""}]]}]}"#,
    ] {
        assert_eq!(evaluate(&compiled(rule), &data), Err(Halt::Budget), "{rule}");
    }
    // While what rules do with as long a list is no trouble.
    let rule = r#"{"in":[39999,{"var":"list"}]}"#;
    assert_eq!(evaluate(&compiled(rule), &data).as_deref(), Ok("true"));
}
