//! Steps in plain words, for whoever decides what a flag should do and reads no JSONLogic.

use serde_json::Value as Json;

use super::super::targeting::{Affix, Each, Equality, Order, Rule};
use super::bands::{Bucketing, plain};
use super::logic;
use super::trace::{Operand, Read, Step, What};

/// Values of a list that are named.
const LISTED: usize = 10;

/// How many operands, from the first, are conditions of their own.
pub(super) fn conditions(rule: &Rule, operands: &[Operand]) -> usize {
    match rule {
        Rule::If(rules) => met(rules, operands).map_or(rules.len() / 2, |at| at + 1),
        Rule::And(_) | Rule::Or(_) | Rule::Not(_) | Rule::Truthy(_) => operands.len(),
        _ => 0,
    }
}

/// An attribute that is a condition by itself, as a step.
pub(super) fn condition(operand: Operand) -> Step {
    let says = format!("{}: {}", subject(&operand), if operand.truthy { "yes" } else { "no" });
    match operand.what {
        What::Attribute(read) => Step { says, ..attribute(read, operand.value) },
        _ => attribute(Read::default(), operand.value),
    }
}

/// An attribute that stands alone, as a step.
pub(super) fn attribute(read: Read, value: Json) -> Step {
    let operand = Operand { what: What::Attribute(read.clone()), truthy: false, value: value.clone() };
    Step {
        operator: "var",
        says: subject(&operand),
        logic: serde_json::json!({ "var": read.attribute }).to_string(),
        result: Some(value),
        error: None,
        reads: vec![read],
        bucketing: None,
        steps: Vec::new(),
    }
}

/// What `rule` did with its operands; `result` is absent when it halted.
pub(super) fn sentence(
    rule: &Rule,
    operands: &[Operand],
    result: Option<&Json>,
    bucketing: Option<&Bucketing>,
) -> String {
    let Some(result) = result else { return format!("{}: could not be evaluated to its end", name(rule)) };
    let holds = result == &Json::Bool(true);
    match (rule, operands) {
        (Rule::If(rules), _) => format!("{}, so the result is {}", decided(rules, operands), shown(result)),
        (Rule::And(rules), _) => {
            let all = if operands.iter().all(|operand| operand.truthy) {
                "all of these hold"
            } else {
                "not all of these hold"
            };
            format!("{all}{}: {}", looked_at(rules, operands), answer(result))
        }
        (Rule::Or(rules), _) => {
            let any = if operands.iter().any(|operand| operand.truthy) {
                "one of these holds"
            } else {
                "none of these holds"
            };
            format!("{any}{}: {}", looked_at(rules, operands), answer(result))
        }
        (Rule::Not(_), _) => format!("the opposite of this: {}", answer(result)),
        (Rule::Truthy(_), _) => format!("this counts as true: {}", answer(result)),
        (Rule::Equality(equality, _), [a, b]) => {
            let (yes, no) = match equality {
                Equality::Loose => ("equals", "does not equal"),
                Equality::NotLoose => ("differs from", "does not differ from"),
                Equality::Strict => ("is exactly", "is not exactly"),
                Equality::NotStrict => ("is not exactly", "is exactly"),
            };
            relation(a, b, if holds { yes } else { no }, result)
        }
        (Rule::Order(order, _), [a, b]) => {
            let (yes, no) = match order {
                Order::Less => ("is below", "is not below"),
                Order::LessOrEqual => ("is at most", "is not at most"),
                Order::Greater => ("is above", "is not above"),
                Order::GreaterOrEqual => ("is at least", "is not at least"),
            };
            relation(a, b, if holds { yes } else { no }, result)
        }
        (Rule::Between(order, _), [low, middle, high]) => {
            let within = if matches!(order, Order::Less) { "strictly between" } else { "between" };
            let is = if holds { "is" } else { "is not" };
            let (low, high) = (object(low), object(high));
            format!("{} {is} {within} {low} and {high}: {}", linked(middle), answer(result))
        }
        (Rule::InStrings(_, texts), [needle]) => {
            let is = if holds { "is one of" } else { "is none of" };
            let texts: Vec<Json> = texts.iter().map(|text| Json::from(&**text)).collect();
            format!("{} {is} {}: {}", linked(needle), listed(&texts), answer(result))
        }
        (Rule::In(_), [needle, hay]) => within(needle, hay, result),
        (Rule::Affix(affix, _), [text, part]) => {
            let verb = match (affix, result) {
                (_, Json::Null) => return format!("{}, and not both are texts: no result", both(text, part)),
                (Affix::Start, Json::Bool(true)) => "starts with",
                (Affix::Start, _) => "does not start with",
                (Affix::End, Json::Bool(true)) => "ends with",
                (Affix::End, _) => "does not end with",
            };
            relation(text, part, verb, result)
        }
        (Rule::SemVer(_), [a, operator, b]) => versions(a, operator, b, result),
        (Rule::Fractional(_), _) => match bucketing {
            Some(bucketing) => share(bucketing),
            None => "there is no key to spread by, or the shares are unsound: no result".to_owned(),
        },
        (Rule::Shared(evaluator), _) => format!("the shared rule \"{}\": {}", evaluator.name, answer(result)),
        (Rule::Each(Each::All, _), [list, ..]) => quantified(list, "every item of", result),
        (Rule::Each(Each::Some, _), [list, ..]) => quantified(list, "at least one item of", result),
        (Rule::Each(Each::None, _), [list, ..]) => quantified(list, "no item of", result),
        (Rule::Missing(_) | Rule::MissingSome(_), _) => match result.as_array().map(Vec::as_slice) {
            Some([]) | None => "no attribute that is asked for is missing".to_owned(),
            Some(missing) => format!("missing: {}", listed(missing)),
        },
        _ => computed(rule, operands, result),
    }
}

/// Any operator that has no sentence of its own.
fn computed(rule: &Rule, operands: &[Operand], result: &Json) -> String {
    let looked: Vec<String> = operands
        .iter()
        .filter(|operand| matches!(operand.what, What::Attribute(_)))
        .take(LISTED)
        .map(subject)
        .collect();
    let given = format!("{} gives {}", name(rule), shown(result));
    if looked.is_empty() { given } else { format!("{}; {given}", looked.join(", ")) }
}

/// The first condition of an `if` that holds.
fn met(rules: &[Rule], operands: &[Operand]) -> Option<usize> {
    operands.iter().take(rules.len() / 2).position(|operand| operand.truthy)
}

/// Which condition of an `if` decided.
fn decided(rules: &[Rule], operands: &[Operand]) -> String {
    let count = rules.len() / 2;
    match (met(rules, operands), count) {
        (_, 0) => "there is no condition".to_owned(),
        (Some(_), 1) => "the condition holds".to_owned(),
        (Some(at), _) => format!("condition {} of {count} holds", at + 1),
        (None, 1) => "the condition does not hold".to_owned(),
        (None, _) => format!("none of the {count} conditions holds"),
    }
}

fn looked_at(rules: &[Rule], operands: &[Operand]) -> String {
    match (operands.len(), rules.len()) {
        (looked, all) if looked < all => format!(" (after {looked} of {all} it is decided)"),
        _ => String::new(),
    }
}

fn relation(a: &Operand, b: &Operand, verb: &str, result: &Json) -> String {
    format!("{} {verb} {}: {}", linked(a), object(b), answer(result))
}

fn within(needle: &Operand, hay: &Operand, result: &Json) -> String {
    let holds = result == &Json::Bool(true);
    match (&needle.what, &hay.value) {
        // What is written down is sought in what is given.
        (What::Literal, Json::String(_)) => {
            relation(hay, needle, if holds { "contains" } else { "does not contain" }, result)
        }
        (What::Literal, _) if !matches!(hay.what, What::Literal) => {
            relation(hay, needle, if holds { "includes" } else { "does not include" }, result)
        }
        (_, Json::Array(items)) if matches!(hay.what, What::Literal) => {
            let is = if holds { "is one of" } else { "is none of" };
            format!("{} {is} {}: {}", linked(needle), listed(items), answer(result))
        }
        _ => relation(needle, hay, if holds { "is in" } else { "is not in" }, result),
    }
}

fn versions(a: &Operand, operator: &Operand, b: &Operand, result: &Json) -> String {
    let holds = match result {
        Json::Bool(holds) => *holds,
        _ => return format!("{}, and they cannot be compared as versions: no result", both(a, b)),
    };
    let relation = match (operator.value.as_str().unwrap_or_default(), holds) {
        ("=", true) => "is the same version as",
        ("=", false) => "is not the same version as",
        ("!=", true) => "is another version than",
        ("!=", false) => "is no other version than",
        ("<", true) => "is a version below",
        ("<", false) => "is no version below",
        ("<=", true) => "is a version of at most",
        ("<=", false) => "is no version of at most",
        (">", true) => "is a version above",
        (">", false) => "is no version above",
        (">=", true) => "is a version of at least",
        (">=", false) => "is no version of at least",
        ("^", true) => "has the major version of",
        ("^", false) => "has not the major version of",
        (_, true) => "has the major and minor version of",
        (_, false) => "has not the major and minor version of",
    };
    self::relation(a, b, relation, result)
}

fn share(bucketing: &Bucketing) -> String {
    let who = match &bucketing.targeting_key {
        Some(key) => format!("`targetingKey` is {}, which falls", shown(&Json::from(key.as_str()))),
        None => format!("{} falls", shown(&bucketing.input)),
    };
    let place = format!("{who} at {} % of 0–100 %", bucketing.position());
    match bucketing.chosen() {
        Some(band) => {
            let (from, to) = (plain(band.from_percent), plain(band.to_percent));
            format!("{place}: variant {} has {from}–{to} %", named(&band.variant))
        }
        None => format!("{place}: no variant has it"),
    }
}

fn named(variant: &Json) -> String {
    match variant {
        Json::String(name) => format!("`{name}`"),
        other => other.to_string(),
    }
}

fn quantified(list: &Operand, which: &str, result: &Json) -> String {
    format!("this holds for {which} {}: {}", object(list), answer(result))
}

/// The first operand of a relation, with what joins it to the verb.
fn linked(operand: &Operand) -> String {
    let joint = match &operand.what {
        What::Attribute(read) if read.missing => ", so it",
        _ => ", which",
    };
    format!("{}{joint}", subject(operand))
}

fn both(a: &Operand, b: &Operand) -> String {
    format!("{} and {}", subject(a), subject(b))
}

/// An operand as the beginning of a sentence.
fn subject(operand: &Operand) -> String {
    match &operand.what {
        What::Attribute(read) if read.missing && operand.value.is_null() => format!("{} is missing", path(read)),
        What::Attribute(read) if read.missing => {
            format!("{} is missing and {} stands in for it", path(read), shown(&operand.value))
        }
        What::Attribute(read) => format!("{} is {}", path(read), shown(&operand.value)),
        What::Step(step) => format!("{} gives {}", step_name(step), shown(&operand.value)),
        What::Literal | What::Unkept => shown(&operand.value),
    }
}

/// An operand after the verb.
fn object(operand: &Operand) -> String {
    match &operand.what {
        What::Attribute(read) if read.missing => format!("{} (missing)", path(read)),
        What::Attribute(read) => format!("{} ({})", path(read), shown(&operand.value)),
        What::Step(step) => format!("{} ({})", shown(&operand.value), step_name(step)),
        What::Literal | What::Unkept => shown(&operand.value),
    }
}

fn step_name(step: &Step) -> String {
    format!("`{}`", step.operator)
}

fn path(read: &Read) -> String {
    match (read.of_item, read.attribute.is_empty()) {
        (false, true) => "the whole context".to_owned(),
        (false, false) => format!("`{}`", read.attribute),
        (true, true) => "the item".to_owned(),
        (true, false) => format!("`{}` of the item", read.attribute),
    }
}

fn name(rule: &Rule) -> String {
    match logic::operator(rule) {
        "" => "a list".to_owned(),
        operator => format!("`{operator}`"),
    }
}

/// A value in a sentence, briefly.
fn shown(value: &Json) -> String {
    match value {
        Json::Null => "nothing".to_owned(),
        other => {
            let text = other.to_string();
            match text.char_indices().nth(120) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
    }
}

fn listed(values: &[Json]) -> String {
    let named: Vec<String> = values.iter().take(LISTED).map(shown).collect();
    let more = values.len().saturating_sub(LISTED);
    match more {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// What a step comes to.
fn answer(result: &Json) -> String {
    match result {
        Json::Bool(true) => "yes".to_owned(),
        Json::Bool(false) => "no".to_owned(),
        Json::Null => "no result".to_owned(),
        other => shown(other),
    }
}
