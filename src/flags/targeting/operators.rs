//! Operators on text and numbers, and those that ask what is missing.

use std::borrow::Cow;

use super::interpret::{Halt, Scope, all, operand};
use super::observe::Observer;
use super::val::Val;
use super::{Affix, Arithmetic, Rule, coerce, semver};

/// `missing`: which of the keys the data lacks. One argument that is a list is the list of keys.
pub(super) fn missing<'v>(rules: &'v [Rule], scope: &Scope<'_, 'v, impl Observer>) -> Result<Val<'v>, Halt> {
    let values = all(rules, scope)?;
    let keys = match values.first() {
        Some(list) if list.is_list() => list.items().collect(),
        _ => values,
    };
    scope.list(lacking(keys, scope)?)
}

/// `missing_some`: none if at least so many of the keys are there, else those that are not.
pub(super) fn missing_some<'v>(pair: &'v [Rule; 2], scope: &Scope<'_, 'v, impl Observer>) -> Result<Val<'v>, Halt> {
    let [need, options] = pair;
    let need = operand(need, scope)?;
    let options = operand(options, scope)?;
    let count = match &options {
        Val::Undefined | Val::Null => return Err(Halt::Operands("missing_some")),
        list if list.is_list() => list.list_len().map_or(f64::NAN, |len| len as f64),
        // json-logic-js reads `.length` of whatever is there: of a text that is a number, else NaN.
        text => text.as_str().map_or(f64::NAN, |text| text.encode_utf16().count() as f64),
    };
    let keys = if options.is_list() { options.items().collect() } else { vec![options] };
    let lacking = lacking(keys, scope)?;
    if count - lacking.len() as f64 >= coerce::number(&need) { scope.list(Vec::new()) } else { scope.list(lacking) }
}

fn lacking<'v>(keys: Vec<Val<'v>>, scope: &Scope<'_, 'v, impl Observer>) -> Result<Vec<Val<'v>>, Halt> {
    let mut lacking = Vec::new();
    for key in keys {
        scope.charge(1)?;
        let found = if key.is_list() {
            // `{"var": ["a", "default"]}`
            match scope.var(&key.item(0))? {
                Val::Undefined => key.item(1),
                found => found,
            }
        } else {
            scope.var(&key)?
        };
        if matches!(found, Val::Undefined | Val::Null) || found.as_str() == Some("") {
            lacking.push(key);
        }
    }
    Ok(lacking)
}

/// `*`: the first operand as it is when it is alone, for json-logic-js parses numbers only when it multiplies.
pub(super) fn multiply<'v>(rules: &'v [Rule], scope: &Scope<'_, 'v, impl Observer>) -> Result<Val<'v>, Halt> {
    let (first, rest) = rules.split_first().ok_or(Halt::Operands("*"))?;
    let first = operand(first, scope)?;
    if rest.is_empty() {
        return Ok(first);
    }
    let mut product = coerce::parse_float(&first);
    for rule in rest {
        product *= coerce::parse_float(&operand(rule, scope)?);
    }
    Ok(Val::Number(product))
}

/// `-`, `/`, `%` of two operands.
pub(super) fn arithmetic<'v>(
    arithmetic: Arithmetic,
    pair: &'v [Rule; 2],
    scope: &Scope<'_, 'v, impl Observer>,
) -> Result<Val<'v>, Halt> {
    let [a, b] = pair;
    let (a, b) = (operand(a, scope)?, operand(b, scope)?);
    if let (Arithmetic::Subtract, Val::Undefined) = (arithmetic, &b) {
        return Ok(Val::Number(-coerce::number(&a)));
    }
    Ok(Val::Number(arithmetic.of(coerce::number(&a), coerce::number(&b))))
}

/// `cat`
pub(super) fn cat<'v>(rules: &'v [Rule], scope: &Scope<'_, 'v, impl Observer>) -> Result<Val<'v>, Halt> {
    let mut joined = String::new();
    for rule in rules {
        coerce::join(&mut joined, &operand(rule, scope)?);
        scope.charge(joined.len() / 64)?;
    }
    Ok(Val::from(joined))
}

/// `substr`, counting UTF-16 units from `start` (from the end when negative); a negative `end` leaves off so many.
pub(super) fn substr<'v>(source: &Val<'v>, start: &Val<'v>, end: &Val<'v>) -> Val<'v> {
    let source = coerce::text(source);
    let start = coerce::integer(start);
    let from_start = |len: usize| {
        let len = len as f64;
        if start < 0.0 { (len + start).max(0.0) } else { start.min(len) }
    };
    // How many units to take of those that are left.
    let take = |left: f64| match end {
        Val::Undefined => left,
        Val::Number(end) if *end < 0.0 => (left + end).trunc(),
        // A length of another type is added to a text, as JavaScript does it, and that is no number.
        end if coerce::number(end) < 0.0 => 0.0,
        end => coerce::integer(end),
    };
    if source.is_ascii() {
        let from = from_start(source.len());
        let left = source.len() as f64 - from;
        let to = from + take(left).clamp(0.0, left);
        return Val::from(source[from as usize..to as usize].to_owned());
    }
    let units: Vec<u16> = source.encode_utf16().collect();
    let from = from_start(units.len());
    let left = units.len() as f64 - from;
    let to = from + take(left).clamp(0.0, left);
    Val::from(String::from_utf16_lossy(&units[from as usize..to as usize]))
}

/// `sem_ver`: `null` unless two versions and an operator are given.
pub(super) fn sem_ver<'v>(rules: &'v [Rule], scope: &Scope<'_, 'v, impl Observer>) -> Result<Val<'v>, Halt> {
    let [a, operator, b] = rules else { return Ok(Val::Null) };
    let (a, operator, b) = (operand(a, scope)?, operand(operator, scope)?, operand(b, scope)?);
    let version = |val: &Val<'v>| match val {
        // `{"version": 2}` and `1.2` are versions too, as partial ones.
        Val::Str(_) | Val::Text(_) | Val::Number(_) => Some(coerce::text(val).into_owned()),
        _ => None,
    };
    let compared = match (a.as_str(), operator.as_str(), b.as_str()) {
        (Some(a), Some(operator), Some(b)) => semver::compare(a, operator, b),
        (_, Some(operator), _) => version(&a).zip(version(&b)).and_then(|(a, b)| semver::compare(&a, operator, &b)),
        _ => None,
    };
    Ok(compared.map_or(Val::Null, Val::Bool))
}

/// `starts_with` and `ends_with`: `null` unless two texts are given.
pub(super) fn affix<'v>(
    affix: Affix,
    rules: &'v [Rule],
    scope: &Scope<'_, 'v, impl Observer>,
) -> Result<Val<'v>, Halt> {
    let [text, part] = rules else { return Ok(Val::Null) };
    let (text, part) = (operand(text, scope)?, operand(part, scope)?);
    let (Some(text), Some(part)) = (text.as_str(), part.as_str()) else { return Ok(Val::Null) };
    Ok(Val::Bool(match affix {
        Affix::Start => text.starts_with(part),
        Affix::End => text.ends_with(part),
    }))
}

/// The key that names a variant: text, a boolean or a number; nothing else can.
pub(in crate::flags) fn variant_name<'t>(val: &'t Val<'_>) -> Option<Cow<'t, str>> {
    match val {
        Val::Str(_) | Val::Text(_) | Val::Bool(_) | Val::Number(_) => Some(coerce::text(val)),
        _ => None,
    }
}
