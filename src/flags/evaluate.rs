//! One evaluation: a flag of the snapshot, its rule over the context, and the variant or error that comes of it. Pure:
//! the time is an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use super::context::Context;
use super::model::{Kind, Variant};
use super::settings::Bucketing;
use super::store::{Entry, Snapshot};
use super::targeting::{Halt, Observer, Root, Scope, Unobserved, Val, variant_name};

/// Why a flag has the value it has (OpenFeature specification, Types, Resolution Reason).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It has no targeting, and a default variant.
    Static,
    /// Its targeting decided nothing, or there is neither targeting nor a default variant.
    Default,
    /// Its targeting decided.
    TargetingMatch,
    /// It is switched off; the application's own default holds.
    Disabled,
    /// Its source has not confirmed it of late.
    Stale,
}

impl Reason {
    /// The reason by its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Static => "STATIC",
            Reason::Default => "DEFAULT",
            Reason::TargetingMatch => "TARGETING_MATCH",
            Reason::Disabled => "DISABLED",
            Reason::Stale => "STALE",
        }
    }
}

/// What kind of error an evaluation ended in (OpenFeature specification, Types, Error Code).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// No flag has this key.
    FlagNotFound,
    /// The request or the rule could not be read or applied.
    ParseError,
    /// The flag is of another type than asked for.
    TypeMismatch,
    /// The context is no object.
    InvalidContext,
    /// Anything else.
    General,
}

impl ErrorCode {
    /// The code by its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            ErrorCode::FlagNotFound => "FLAG_NOT_FOUND",
            ErrorCode::ParseError => "PARSE_ERROR",
            ErrorCode::TypeMismatch => "TYPE_MISMATCH",
            ErrorCode::InvalidContext => "INVALID_CONTEXT",
            ErrorCode::General => "GENERAL",
        }
    }
}

/// An evaluation that gave no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{details}")]
pub struct Failure {
    /// The kind of error.
    pub code: ErrorCode,
    /// What is wrong, for people.
    pub details: String,
}

/// What an evaluation gave.
#[derive(Debug, Clone, Copy)]
pub struct Resolution<'s> {
    /// The flag, its layer and metadata.
    pub entry: &'s Entry,
    /// The variant, and with it the value; `None` leaves the application its own default.
    pub variant: Option<&'s Variant>,
    /// Why.
    pub reason: Reason,
}

impl Resolution<'_> {
    /// The value of a boolean flag; `false` where the application's own default would hold.
    ///
    /// # Errors
    /// [`ErrorCode::TypeMismatch`] for a flag of another type.
    pub fn boolean(&self) -> Result<bool, Failure> {
        let kind = self.entry.flag().kind();
        if kind != Kind::Boolean {
            let details = format!("flag {:?} is of type {}, not boolean", self.entry.flag().key(), kind.name());
            return Err(Failure { code: ErrorCode::TypeMismatch, details });
        }
        Ok(self.variant.is_some_and(|variant| variant.value_json() == "true"))
    }
}

/// Evaluates the flag `key` of `snapshot`.
///
/// # Errors
/// [`Failure`]: no such flag, or a rule that fails or gives what is no variant.
pub fn evaluate<'s>(
    snapshot: &'s Snapshot,
    key: &str,
    context: &Context<'_>,
    now: SystemTime,
) -> Result<Resolution<'s>, Failure> {
    match snapshot.get(key) {
        Some(entry) => evaluate_entry(snapshot, entry, context, now),
        None => Err(Failure { code: ErrorCode::FlagNotFound, details: format!("flag {key:?} does not exist") }),
    }
}

/// Evaluates one entry of `snapshot`, as [`evaluate`] does after it has found it.
///
/// # Errors
/// [`Failure`]: a rule that fails or gives what is no variant.
pub fn evaluate_entry<'s>(
    snapshot: &'s Snapshot,
    entry: &'s Entry,
    context: &Context<'_>,
    now: SystemTime,
) -> Result<Resolution<'s>, Failure> {
    decide(snapshot, entry, context, now, snapshot.bucketing(), Unobserved)
}

/// Evaluates one entry by a bucketing version, while `observer` looks on.
pub(super) fn decide<'s>(
    snapshot: &'s Snapshot,
    entry: &'s Entry,
    context: &Context<'_>,
    now: SystemTime,
    bucketing: Bucketing,
    observer: impl Observer,
) -> Result<Resolution<'s>, Failure> {
    let flag = entry.flag();
    if !flag.enabled {
        return Ok(Resolution { entry, variant: None, reason: Reason::Disabled });
    }
    let resolution = |variant: Option<&'s Variant>, reason| {
        // Without a variant the application's own default holds, and SDKs know that by the reason: to them STALE
        // would be a value.
        let stale = variant.is_some() && snapshot.is_stale(entry);
        Resolution { entry, variant, reason: if stale { Reason::Stale } else { reason } }
    };
    let Some(rule) = &flag.targeting else {
        let variant = flag.default_variant();
        // What the application falls back to is no value of the flag's own, and so not static.
        let reason = if variant.is_some() { Reason::Static } else { Reason::Default };
        return Ok(resolution(variant, reason));
    };
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let root = Root::new(context, snapshot.context(), flag.key(), seconds, bucketing, observer);
    let val = rule.evaluate(&Scope::new(&root)).map_err(|halt| {
        let code = match halt {
            Halt::Budget => ErrorCode::General,
            Halt::Operands(_) => ErrorCode::ParseError,
        };
        Failure { code, details: format!("flag {:?}: {halt}", flag.key()) }
    })?;
    if matches!(val, Val::Null | Val::Undefined) {
        return Ok(resolution(flag.default_variant(), Reason::Default));
    }
    let variant = match val.as_str() {
        Some(name) => flag.variant(name),
        None => variant_name(&val).and_then(|name| flag.variant(&name)),
    };
    match variant {
        Some(_) => Ok(resolution(variant, Reason::TargetingMatch)),
        // The result itself stays out of the message: it may be part of the context, and so personal data.
        None => Err(Failure {
            code: ErrorCode::General,
            details: format!("flag {:?}: the targeting rule's result is none of the variants", flag.key()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::compile::{self, Format};
    use super::super::context::{Base, Value};
    use super::super::store::Layer;
    use super::*;

    fn snapshot(stale: bool) -> Snapshot {
        let text = r#"{"flags":{
            "static":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"},
            "empty":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on","targeting":{}},
            "off":{"state":"DISABLED","variants":{"on":true},"defaultVariant":"on","targeting":{"if":[true,"on"]}},
            "code":{"state":"ENABLED","variants":{"on":true}},
            "fallen":{"state":"ENABLED","variants":{"on":true},"targeting":{"if":[false,"on"]}},
            "plan":{"state":"ENABLED","variants":{"a":"A","b":"B"},"defaultVariant":"a","targeting":{"var":"pick"}},
            "bool":{"state":"ENABLED","variants":{"true":"yes","false":"no","1":"one","1.5":"x"},"defaultVariant":"true","targeting":{"var":"pick"}},
            "throws":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on","targeting":{"missing_some":[1,{"var":"none"}]}},
            "env":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"==":[{"var":"environment"},"production"]},"on"]}},
            "late":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{">=":[{"var":"$flagd.timestamp"},1000]},"on"]}}
        }}"#;
        let set = compile::document(text, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
        let layer = Layer { name: "file:x".into(), flag_set_id: None, revision: 1, set: Arc::new(set) };
        let mut base = serde_json::Map::new();
        base.insert("environment".to_owned(), "production".into());
        Snapshot::merge(vec![Arc::new(layer)], Arc::new(Base::new(&base)), 7, stale)
    }

    /// Reason and variant, or error code.
    fn outcome(snapshot: &Snapshot, key: &str, context: &str) -> (&'static str, Option<String>) {
        let Ok(Value::Object(attributes)) = serde_json::from_str(context) else { panic!("{context} is no object") };
        match evaluate(snapshot, key, &Context::new(attributes), UNIX_EPOCH + Duration::from_secs(1000)) {
            Ok(resolution) => (resolution.reason.name(), resolution.variant.map(|variant| variant.name().to_owned())),
            Err(failure) => (failure.code.name(), None),
        }
    }

    #[test]
    fn reasons_and_errors_are_as_designed() {
        let snapshot = snapshot(false);
        for (key, context, reason, variant) in [
            ("static", "{}", "STATIC", Some("on")),
            ("empty", "{}", "STATIC", Some("on")),
            ("off", "{}", "DISABLED", None),
            ("code", "{}", "DEFAULT", None),
            ("fallen", "{}", "DEFAULT", None),
            ("plan", r#"{"pick":"b"}"#, "TARGETING_MATCH", Some("b")),
            ("plan", r#"{"pick":null}"#, "DEFAULT", Some("a")),
            ("plan", "{}", "DEFAULT", Some("a")),
            ("plan", r#"{"pick":"c"}"#, "GENERAL", None),
            ("plan", r#"{"pick":""}"#, "GENERAL", None),
            ("plan", r#"{"pick":["a"]}"#, "GENERAL", None),
            ("plan", r#"{"pick":{}}"#, "GENERAL", None),
            ("bool", r#"{"pick":true}"#, "TARGETING_MATCH", Some("true")),
            ("bool", r#"{"pick":false}"#, "TARGETING_MATCH", Some("false")),
            ("bool", r#"{"pick":1.0}"#, "TARGETING_MATCH", Some("1")),
            ("bool", r#"{"pick":1.5}"#, "TARGETING_MATCH", Some("1.5")),
            ("bool", r#"{"pick":2}"#, "GENERAL", None),
            ("throws", "{}", "PARSE_ERROR", None),
            ("none", "{}", "FLAG_NOT_FOUND", None),
            ("env", "{}", "TARGETING_MATCH", Some("on")),
            ("env", r#"{"environment":"test"}"#, "DEFAULT", Some("off")),
            ("env", r#"{"environment":null}"#, "DEFAULT", Some("off")),
            ("late", "{}", "TARGETING_MATCH", Some("on")),
        ] {
            let expected = (reason, variant.map(str::to_owned));
            assert_eq!(outcome(&snapshot, key, context), expected, "{key} over {context}");
        }
    }

    #[test]
    fn what_no_source_confirms_is_stale_but_disabled_and_failed_remain_so() {
        let snapshot = snapshot(true);
        assert_eq!(outcome(&snapshot, "static", "{}"), ("STALE", Some("on".to_owned())));
        assert_eq!(outcome(&snapshot, "plan", r#"{"pick":"b"}"#), ("STALE", Some("b".to_owned())));
        assert_eq!(outcome(&snapshot, "code", "{}"), ("DEFAULT", None), "the app's default is nobody's stale value");
        assert_eq!(outcome(&snapshot, "off", "{}"), ("DISABLED", None));
        assert_eq!(outcome(&snapshot, "plan", r#"{"pick":"c"}"#), ("GENERAL", None));
    }

    #[test]
    fn edges_of_definitions_are_as_designed() {
        let text = r#"{"$evaluators":{
            "inner":{"==":[{"var":"plan"},"pro"]}, "outer":{"and":[{"$ref":"inner"},{"var":"beta"}]},
            "choice":{"if":[{"$ref":"outer"},"on","off"]}, "weight":{"if":[{"$ref":"inner"},100,0]}
        },"flags":{
            "no":{"state":"ENABLED","variants":{"on":true},"defaultVariant":null,"targeting":null},
            "blank":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"","targeting":{}},
            "ref":{"state":"ENABLED","variants":{"on":true,"off":false},"targeting":{"$ref":"choice"}},
            "share":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",
                "targeting":{"fractional":[["on",{"$ref":"weight"}],[{"$ref":"choice"},1]]}},
            "static key":{"state":"ENABLED","variants":{"on":true},"targeting":{"fractional":[["on"]]}},
            "forged":{"state":"ENABLED","variants":{"forged":1},"targeting":{"if":[{"==":[{"var":"$flagd.flagKey"},"forged"]},"forged"]}}
        }}"#;
        let set = compile::document(text, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
        let layer = Layer { name: "file:x".into(), flag_set_id: None, revision: 1, set: Arc::new(set) };
        let base = serde_json::json!({"targetingKey": "t", "plan": "pro", "$flagd": {"flagKey": "x"}});
        let base = Base::new(base.as_object().expect("an object"));
        let snapshot = Snapshot::merge(vec![Arc::new(layer)], Arc::new(base), 1, false);
        for (key, context, reason, variant) in [
            ("no", "{}", "DEFAULT", None),
            ("blank", "{}", "DEFAULT", None),
            ("ref", r#"{"beta":true}"#, "TARGETING_MATCH", Some("on")),
            ("ref", r#"{"beta":0}"#, "TARGETING_MATCH", Some("off")),
            ("ref", r#"{"beta":true,"plan":"free"}"#, "TARGETING_MATCH", Some("off")),
            ("share", r#"{"beta":true}"#, "TARGETING_MATCH", Some("on")),
            ("share", r#"{"plan":"free"}"#, "TARGETING_MATCH", Some("off")),
            ("share", r#"{"targetingKey":""}"#, "DEFAULT", Some("off")),
            ("share", r#"{"targetingKey":7}"#, "DEFAULT", Some("off")),
            ("share", r#"{"targetingKey":null}"#, "DEFAULT", Some("off")),
            ("static key", "{}", "TARGETING_MATCH", Some("on")),
            ("forged", r#"{"$flagd":{"flagKey":"y"}}"#, "TARGETING_MATCH", Some("forged")),
        ] {
            assert_eq!(outcome(&snapshot, key, context), (reason, variant.map(str::to_owned)), "{key} over {context}");
        }
    }

    #[test]
    fn a_context_of_megabytes_costs_no_more_than_what_is_looked_at() {
        let fields: Vec<String> = (0..100_000).map(|n| format!(r#""field-{n}":"{}""#, "x".repeat(40))).collect();
        let context = format!(r#"{{{},"pick":"b","pick":"a","list":[{}1]}}"#, fields.join(","), "1,".repeat(500_000));
        assert!(context.len() > 6_000_000);
        assert_eq!(outcome(&snapshot(false), "plan", &context), ("TARGETING_MATCH", Some("a".to_owned())));
        // A rule that wants to see all of it is told that it is too much.
        let text = r#"{"flags":{"all":{"state":"ENABLED","variants":{"on":true},
            "targeting":{"if":[{"some":[{"var":"list"},{"==":[{"var":""},2]}]},"on"]}}}}"#;
        let set = compile::document(text, Format::Json).unwrap_or_else(|invalid| panic!("{invalid}"));
        let layer = Layer { name: "file:x".into(), flag_set_id: None, revision: 1, set: Arc::new(set) };
        let snapshot = Snapshot::merge(vec![Arc::new(layer)], Arc::default(), 1, false);
        assert_eq!(outcome(&snapshot, "all", &context), ("GENERAL", None));
        // Deeper than the parser goes there is no context at all.
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
        assert!(serde_json::from_str::<Value<'_>>(&deep).is_err());
    }

    #[test]
    fn a_failure_does_not_repeat_the_context() {
        let snapshot = snapshot(false);
        let Ok(Value::Object(attributes)) = serde_json::from_str(r#"{"pick":"ann@example.com"}"#) else {
            panic!("sound")
        };
        let failure = evaluate(&snapshot, "plan", &Context::new(attributes), UNIX_EPOCH).expect_err("no variant");
        assert!(!failure.to_string().contains("ann"), "{failure}");
    }
}
