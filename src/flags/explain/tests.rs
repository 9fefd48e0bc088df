//! What an explanation says, and that it says what an evaluation does.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::super::compile::{Format, document};
use super::super::context::{Base, Context, Value};
use super::super::store::{Layer, Snapshot};
use super::*;

const EVALUATORS: &str = r#"{"staff":{"ends_with":[{"var":"email"},"@example.com"]}}"#;

fn explained(definition: &str, context: &str) -> Explanation {
    let text = format!(r#"{{"$evaluators":{EVALUATORS},"metadata":{{"team":"search"}},"flags":{{"f":{definition}}}}}"#);
    let set = document(&text, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
    let scope = Some("orders".into());
    let layer = Layer { name: "redis:orders".into(), flag_set_id: scope, revision: 42, set: Arc::new(set) };
    let snapshot = Snapshot::merge(vec![Arc::new(layer)], Arc::new(Base::default()), 7, false);
    let Ok(Value::Object(attributes)) = serde_json::from_str(context) else { panic!("{context} is no object") };
    let now = UNIX_EPOCH + Duration::from_secs(1000);
    explain(&snapshot, "f", &Context::new(attributes), now).expect("the flag exists")
}

fn ruled(targeting: &str, context: &str) -> Explanation {
    explained(
        &format!(
            r#"{{"state":"ENABLED","variants":{{"on":true,"off":false}},"defaultVariant":"off","targeting":{targeting}}}"#
        ),
        context,
    )
}

/// The sentences of a rule, those of its operands indented.
fn sentences(targeting: &str, context: &str) -> Vec<String> {
    fn add(step: &Step, level: usize, all: &mut Vec<String>) {
        all.push(format!("{}{}", " ".repeat(level), step.says));
        step.steps.iter().for_each(|step| add(step, level + 1, all));
    }
    let mut all = Vec::new();
    add(&ruled(targeting, context).targeting.expect("it has a rule"), 0, &mut all);
    all
}

#[test]
fn an_explanation_reads_as_text() {
    let rule = r#"{"if":[{"and":[{"in":[{"var":"plan"},["premium","enterprise"]]},{">=":[{"var":"age"},18]},{"$ref":"staff"}]},{"fractional":[["on",50],["off",50]]},"off"]}"#;
    let text = ruled(rule, r#"{"plan":"premium","age":30,"email":"ann@example.com","targetingKey":"user-1"}"#);
    let expected = r#"f is true, its variant `on`: its rule chose it (TARGETING_MATCH)

The flag
  comes from redis:orders, revision 42 (generation 7 here)
  is switched on (ENABLED) and of type boolean
  has the variant `off`: false, the default
  has the variant `on`: true

The rule, as it was followed
  - the condition holds, so the result is "on"
    - all of these hold: yes
      - `plan` is "premium", which is one of "premium", "enterprise": yes
      - `age` is 30, which is at least 18: yes
      - the shared rule "staff": yes
        - `email` is "ann@example.com", which ends with "@example.com": yes
    - `targetingKey` is "user-1", which falls at 33.3 % of 0–100 %: variant `on` has 0–50 %
        "on": 0–50 %  ← here
        "off": 50–100 %
"#;
    assert_eq!(text.to_string(), expected);
}

#[test]
fn what_is_no_ordinary_result_is_told_first() {
    let head = |definition: &str| explained(definition, "{}").to_string().lines().next().map(str::to_owned);
    let with = |fields: &str| head(&format!(r#"{{"variants":{{"on":{{"a":1}}}},{fields}}}"#));
    for (fields, expected) in [
        (r#""state":"DISABLED""#, "f is left to the application's own default: the flag is switched off (DISABLED)"),
        (
            r#""state":"ENABLED""#,
            "f is left to the application's own default: it has no rule and no default variant (DEFAULT)",
        ),
        (r#""state":"ENABLED","defaultVariant":"on""#, r#"f is {"a":1}, its variant `on`: it has no rule (STATIC)"#),
        (
            r#""state":"ENABLED","targeting":{"var":"x"}"#,
            "f is left to the application's own default: its rule chose nothing (DEFAULT)",
        ),
        (
            r#""state":"ENABLED","targeting":{"cat":"x"}"#,
            "f is an error, and the application's own default holds: flag \"f\": the targeting rule's result is none of the variants (GENERAL)",
        ),
    ] {
        assert_eq!(with(fields).as_deref(), Some(expected));
    }
}

#[test]
fn each_step_has_its_sentence() {
    let context = r#"{"plan":"free","n":7,"v":"4.12.3","list":["a","b"],"mail":"ann@x.org","beta":true,"nothing":null,"targetingKey":"u"}"#;
    for (rule, expected) in [
        (r#"{"var":"plan"}"#, vec![r#"`plan` is "free""#]),
        (r#"{"var":["none","free"]}"#, vec![r#"`none` is missing and "free" stands in for it"#]),
        (r#"{"==":[{"var":"plan"},"pro"]}"#, vec![r#"`plan` is "free", which does not equal "pro": no"#]),
        (r#"{"!=":[{"var":"none"},"pro"]}"#, vec![r#"`none` is missing, so it differs from "pro": yes"#]),
        (r#"{"==":[{"var":"nothing"},null]}"#, vec!["`nothing` is nothing, which equals nothing: yes"]),
        (r#"{"<":[{"var":"n"},{"var":"none"}]}"#, vec!["`n` is 7, which is not below `none` (missing): no"]),
        (r#"{"<=":[1,{"var":"n"},7]}"#, vec!["`n` is 7, which is between 1 and 7: yes"]),
        (r#"{"<":[1,{"var":"n"},7]}"#, vec!["`n` is 7, which is not strictly between 1 and 7: no"]),
        (r#"{"in":[{"var":"n"},[1,7]]}"#, vec!["`n` is 7, which is one of 1, 7: yes"]),
        (r#"{"in":["@x",{"var":"mail"}]}"#, vec![r#"`mail` is "ann@x.org", which contains "@x": yes"#]),
        (r#"{"in":["c",{"var":"list"}]}"#, vec![r#"`list` is ["a","b"], which does not include "c": no"#]),
        (
            r#"{"in":[{"var":"plan"},{"var":"none"}]}"#,
            vec![r#"`plan` is "free", which is not in `none` (missing): no"#],
        ),
        (
            r#"{"starts_with":[{"var":"mail"},"bob"]}"#,
            vec![r#"`mail` is "ann@x.org", which does not start with "bob": no"#],
        ),
        (r#"{"ends_with":[{"var":"n"},"bob"]}"#, vec![r#"`n` is 7 and "bob", and not both are texts: no result"#]),
        (
            r#"{"sem_ver":[{"var":"v"},"^","4.0.0"]}"#,
            vec![r#"`v` is "4.12.3", which has the major version of "4.0.0": yes"#],
        ),
        (
            r#"{"sem_ver":[{"var":"plan"},">","4.0.0"]}"#,
            vec![r#"`plan` is "free" and "4.0.0", and they cannot be compared as versions: no result"#],
        ),
        (
            r#"{"or":[{"var":"none"},{"var":"beta"},false]}"#,
            vec![
                "one of these holds (after 2 of 3 it is decided): yes",
                " `none` is missing: no",
                " `beta` is true: yes",
            ],
        ),
        (r#"{"!":{"var":"beta"}}"#, vec!["the opposite of this: no", " `beta` is true: yes"]),
        (
            r#"{"if":[{"var":"none"},"on",{"var":"beta"},{"var":"plan"},"off"]}"#,
            vec![
                r#"condition 2 of 2 holds, so the result is "free""#,
                " `none` is missing: no",
                " `beta` is true: yes",
            ],
        ),
        (
            r#"{"if":[{"==":[{"+":[{"var":"n"},1]},8]},"on"]}"#,
            vec![
                r#"the condition holds, so the result is "on""#,
                " `+` gives 8, which equals 8: yes",
                "  `n` is 7; `+` gives 8",
            ],
        ),
        (
            r#"{"all":[{"var":"list"},{"==":[{"var":""},"a"]}]}"#,
            vec![
                r#"this holds for every item of `list` (["a","b"]): no"#,
                r#" the item is "a", which equals "a": yes"#,
                r#" the item is "b", which does not equal "a": no"#,
            ],
        ),
        (r#"{"missing":["plan","none"]}"#, vec![r#"missing: "none""#]),
        (
            r#"{"fractional":[{"var":"plan"},["on",1]]}"#,
            vec![r#""free" falls at 31.7 % of 0–100 %: variant `on` has 0–100 %"#],
        ),
        (
            r#"{"fractional":[{"var":"n"},["on",1]]}"#,
            vec!["there is no key to spread by, or the shares are unsound: no result"],
        ),
    ] {
        assert_eq!(sentences(rule, context), expected, "{rule}");
    }
}

#[test]
fn an_explanation_serialises_as_documented() {
    let rule = r#"{"if":[{"==":[{"var":"plan"},"pro"]},{"fractional":[["on",1],["off",3]]}]}"#;
    let explanation = ruled(rule, r#"{"plan":"pro","targetingKey":"user-1"}"#);
    let expected = r#"{
        "flag": "f", "source": "redis:orders", "flagSetId": "orders", "revision": 42, "generation": 7, "stale": false,
        "state": "ENABLED", "type": "boolean", "variants": {"on": true, "off": false}, "defaultVariant": "off",
        "metadata": {"flagSetId": "orders", "source": "redis:orders", "team": "search"},
        "targeting": {
            "operator": "if", "says": "the condition holds, so the result is \"off\"",
            "logic": "{\"if\":[{\"==\":[{\"var\":\"plan\"},\"pro\"]},{\"fractional\":[[\"on\",1],[\"off\",3]]}]}",
            "result": "off",
            "steps": [
                {
                    "operator": "==", "says": "`plan` is \"pro\", which equals \"pro\": yes",
                    "logic": "{\"==\":[{\"var\":\"plan\"},\"pro\"]}", "result": true,
                    "reads": [{"attribute": "plan", "value": "pro"}]
                },
                {
                    "operator": "fractional",
                    "says": "`targetingKey` is \"user-1\", which falls at 33.3 % of 0–100 %: variant `off` has 25–100 %",
                    "logic": "{\"fractional\":[[\"on\",1],[\"off\",3]]}", "result": "off",
                    "reads": [{"attribute": "targetingKey", "value": "user-1"}],
                    "bucketing": {
                        "version": "v2", "input": "fuser-1", "targetingKey": "user-1", "hash": 1431628768,
                        "bucket": 1.0, "percent": 33.33270475268364, "totalWeight": 4,
                        "bands": [
                            {"variant": "on", "weight": 1, "fromPercent": 0.0, "toPercent": 25.0, "chosen": false},
                            {"variant": "off", "weight": 3, "fromPercent": 25.0, "toPercent": 100.0, "chosen": true}
                        ]
                    }
                }
            ]
        },
        "reason": "TARGETING_MATCH", "variant": "off", "value": false
    }"#;
    let expected: Json = serde_json::from_str(expected).expect("the test's JSON is sound");
    assert_eq!(serde_json::to_value(&explanation).expect("plain data"), expected);
    let failed = serde_json::to_value(ruled(r#"{"missing_some":[1,{"var":"list"}]}"#, "{}")).expect("plain data");
    assert_eq!(failed["errorCode"], "PARSE_ERROR");
    assert_eq!(failed["errorDetails"], "flag \"f\": the targeting rule's missing_some cannot work on its operands");
    assert_eq!(failed["targeting"]["error"], "the targeting rule's missing_some cannot work on its operands");
    assert_eq!(failed["targeting"]["result"], Json::Null);
    assert_eq!(failed.get("variant"), None);
}

#[test]
fn a_rule_over_much_data_is_explained_within_bounds() {
    let items: Vec<String> = (0..20_000).map(|n| format!("\"{n}{}\"", "x".repeat(40))).collect();
    let context = format!(r#"{{"list":[{}],"text":"{}"}}"#, items.join(","), "é".repeat(100_000));
    let rule = r#"{"if":[{"some":[{"var":"list"},{"==":[{"var":""},"y"]}]},"on",{"in":["y",{"var":"text"}]},"on"]}"#;
    let explanation = ruled(rule, &context);
    let size = serde_json::to_string(&explanation).expect("plain data").len();
    assert!(explanation.omitted > 10_000 && size < 200_000, "{} left out, {size} bytes", explanation.omitted);
    assert!(explanation.to_string().contains("more parts that are not shown"));
}

#[test]
fn a_position_never_seems_to_be_in_another_band() {
    let position = |percent: f64, from_percent: f64| {
        let band = Band { variant: "a".into(), weight: 1, from_percent, to_percent: 100.0, chosen: true };
        Bucketing {
            version: "v2",
            input: "u".into(),
            targeting_key: None,
            hash: 0,
            bucket: 0.0,
            percent,
            total_weight: 1,
            bands: vec![band],
        }
        .position()
    };
    assert_eq!(position(34.27, 0.0), "34.2");
    assert_eq!(position(49.999, 0.0), "49.9");
    assert_eq!(position(33.34, 33.333_333), "33.34");
    assert_eq!(position(0.0, 0.0), "0");
    assert_eq!(position(12.345_678_9, 12.345_67), "12.34567");
}

#[test]
fn a_flag_that_is_not_there_cannot_be_explained() {
    let failure = explain(&Snapshot::merge(Vec::new(), Arc::default(), 0, false), "f", &Context::default(), UNIX_EPOCH);
    assert_eq!(failure.map_err(|failure| failure.code), Err(ErrorCode::FlagNotFound));
}
