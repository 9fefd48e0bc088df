//! Where `@openfeature/flagd-core` 4.0.1 is known to differ, and why. A difference is explained only by a step that was
//! taken: the deviation's operator, with operands of the kinds that it is about.

use serde_json::Value;
use tidegate::flags::explain::{Explanation, Step};

/// The name of the deviation that explains a difference, if one does.
///
/// It evaluates by json-logic-engine 5, and this crate by json-logic-js 2, whose rules jsonlogic.com tells. The engine
/// refuses operands that JavaScript would convert (an error `GENERAL`) and converts some of them otherwise; flagd's
/// own evaluator, in Go, is another implementation still. Rules over operands of the types they are meant for agree.
pub(super) fn deviation(
    explanation: &Explanation,
    targeting: &Value,
    context: &Value,
    theirs: &str,
) -> Option<&'static str> {
    // Constant parts are computed when a rule is loaded, and make the whole flag an error, even where nothing gets
    // to them.
    if theirs == "PARSE_ERROR" && divides_by_zero(targeting) {
        return Some("division by a literal zero");
    }
    let root = explanation.targeting.as_ref()?;
    // JavaScript's text of a list of one is that of its item. flagd in Go finds no variant either.
    if root.result.as_ref().is_some_and(Value::is_array) {
        return Some("a list for a variant");
    }
    within(root).or_else(|| through_false(root, context).then_some("a path through what is false"))
}

/// Whether a path of the rule leads on from `false`, 0 or the empty text: optimised, it ends there and gives that.
fn through_false(step: &Step, context: &Value) -> bool {
    let leads = |path: &str| {
        let mut names = path.split('.');
        let mut at = names.next().and_then(|name| context.get(name));
        names.any(|name| {
            let value = at.unwrap_or(&Value::Null);
            let ends = value == &Value::Bool(false) || value.as_f64() == Some(0.0) || value == "";
            at = value.get(name);
            ends
        })
    };
    step.reads.iter().any(|read| !read.of_item && leads(&read.attribute))
        || step.steps.iter().any(|step| through_false(step, context))
}

fn divides_by_zero(rule: &Value) -> bool {
    match rule {
        Value::Array(items) => items.iter().any(divides_by_zero),
        Value::Object(fields) => fields.iter().any(|(operator, operands)| {
            let zero = |operand: &Value| operand.as_f64() == Some(0.0);
            operator == "/" && operands.get(1).is_some_and(zero) || divides_by_zero(operands)
        }),
        _ => false,
    }
}

fn within(step: &Step) -> Option<&'static str> {
    of(step).or_else(|| step.steps.iter().find_map(within))
}

fn of(step: &Step) -> Option<&'static str> {
    let empty = |value: &Value| value.as_object().is_some_and(serde_json::Map::is_empty);
    match step.operator {
        // JSONLogic has no empty object in its list of what is false.
        "if" | "and" | "or" | "!" | "!!" if step.steps.iter().any(|step| step.result.as_ref().is_some_and(empty)) => {
            return Some("the truth of an empty object");
        }
        // A computed list alone is taken for the operands, of which the first counts.
        "!" | "!!" if step.steps.iter().any(|step| step.result.as_ref().is_some_and(begins_false)) => {
            return Some("the truth of a list by its first item");
        }
        // JSONLogic counts what is null or the empty text as missing.
        "missing" | "missing_some"
            if step
                .reads
                .iter()
                .any(|read| read.value.as_ref().is_some_and(|value| value.is_null() || value == "")) =>
        {
            return Some("an empty attribute that is missing");
        }
        // Its MurmurHash3 is of UTF-16 units, and only of ASCII the same as of UTF-8, which flagd in Go hashes.
        "fractional" if step.bucketing.as_ref().is_some_and(|told| !told.input.to_string().is_ascii()) => {
            return Some("the hash of a key that is not ASCII");
        }
        // Compiled, its `cat` writes "null", which its interpreter leaves out.
        "cat" if step.reads.iter().any(|read| read.missing || read.value.as_ref().is_some_and(Value::is_null)) => {
            return Some("null in a text");
        }
        // Here nobody asks for shares before there is a key.
        "fractional" if step.bucketing.is_none() && step.steps.is_empty() && computes_shares(step) => {
            return Some("shares that are not looked at");
        }
        _ => {}
    }
    let operands = operands(step)?;
    let first = operands.first()?;
    let numbers = operands.iter().all(Value::is_number);
    match step.operator {
        // `parseFloat` there and here only of numbers the same; the rest is NaN, and an error there.
        "+" | "-" | "*" | "/" | "%" if !numbers => Some("arithmetic on what is no number"),
        "/" | "%" if operands.get(1).is_some_and(|divisor| divisor.as_f64() == Some(0.0)) => Some("division by zero"),
        "min" | "max" if !numbers => Some("the extreme of what is no number"),
        "==" | "!=" | "<" | "<=" | ">" | ">=" => operands.windows(2).find_map(|pair| compared(&pair[0], &pair[1])),
        "substr" if !first.is_string() => Some("a part of what is no text"),
        "some" | "all" | "none" | "map" | "filter" | "reduce" if !first.is_array() => {
            Some("a walk over what is no list")
        }
        "in" if !operands.get(1).is_some_and(|hay| hay.is_string() || hay.is_array() || hay.is_null()) => {
            Some("a search in what can hold nothing")
        }
        // flagd in Go drops a key that is null, and takes a weight that is null for none.
        "fractional" if first.is_null() => Some("a key to spread by that is null"),
        // JavaScript's text of a list of one version is that version; and it takes no notice of spaces around one.
        "sem_ver" if [first, operands.get(2)?].iter().any(|version| version.is_array() || spaced(version)) => {
            Some("a version that is no text")
        }
        _ => None,
    }
}

fn begins_false(value: &Value) -> bool {
    let nothing =
        |item: &Value| item.is_null() || item == "" || item == &Value::Bool(false) || item.as_f64() == Some(0.0);
    value.as_array().and_then(|items| items.first()).is_some_and(nothing)
}

fn spaced(version: &Value) -> bool {
    version.as_str().is_some_and(|text| text.trim() != text)
}

fn compared(a: &Value, b: &Value) -> Option<&'static str> {
    let structure = |value: &Value| value.is_array() || value.is_object();
    let textual = |value: &Value| value.is_string() || value.is_null();
    let no_number = |value: &Value| {
        value.as_str().is_some_and(|text| text.trim().parse::<f64>().is_err() && !text.trim().is_empty())
    };
    let nothing = |value: &Value| value.as_f64() == Some(0.0) || value == &Value::Bool(false);
    if structure(a) || structure(b) {
        return Some("a comparison of a list or object");
    }
    if textual(a) && textual(b) {
        return None;
    }
    if no_number(a) || no_number(b) {
        return Some("a comparison with what is no number");
    }
    // There null is zero when it is compared with zero; in JavaScript it equals nothing but itself.
    (a.is_null() && nothing(b) || b.is_null() && nothing(a)).then_some("a comparison of null with zero")
}

/// Whether a variant or weight of a `fractional` is computed.
fn computes_shares(step: &Step) -> bool {
    let logic: Option<Value> = serde_json::from_str(&step.logic).ok();
    let computed = |share: &Value| share.as_array().is_some_and(|share| share.iter().any(Value::is_object));
    logic.is_some_and(|logic| logic["fractional"].as_array().is_some_and(|operands| operands.iter().any(computed)))
}

/// What the step's operator was given. `None` for what cannot be told.
fn operands(step: &Step) -> Option<Vec<Value>> {
    let logic: Value = serde_json::from_str(&step.logic).ok()?;
    let arguments = logic.as_object()?.values().next()?;
    let arguments = match arguments {
        Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    };
    let mut steps = step.steps.iter();
    let value = |argument: Value| match argument.as_object().and_then(|fields| fields.iter().next()) {
        None => Some(argument),
        Some((operator, path)) if operator == "var" => {
            let name = path.as_str().or_else(|| path.get(0)?.as_str())?;
            let read = step.reads.iter().find(|read| read.attribute == name)?;
            let default = path.get(1).cloned().unwrap_or_default();
            Some(if read.missing { default } else { read.value.clone()? })
        }
        // What was not needed was not evaluated.
        Some(_) => Some(steps.next()?.result.clone().unwrap_or_default()),
    };
    Some(arguments.into_iter().map_while(value).collect())
}
